//! Which records of a reply belong to its question; all others are dropped, whoever sent them.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::question::Key;
use super::reply::Reply;

/// CNAMEs followed within one reply, as long as resolvers follow them elsewhere.
const MAX_CHAIN: usize = 16;
/// Longest time a positive reply is kept, whatever it says.
const MAX_TTL: u32 = 86_400;
/// Longest time a negative reply is kept: new names of other zones should not be missing for hours (RFC 2308 section 5
/// allows up to three).
const MAX_NEGATIVE_TTL: u32 = 900;

/// A reply that is no answer; the better ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Poor {
    /// An error of the server's, with whether it may be for want of EDNS.
    Error(bool),
    /// Points elsewhere or contradicts itself.
    Lame,
    /// Nothing at all, not even a SOA that says so.
    Bare,
}

/// What a reply is worth.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) verdict: Result<Reply, Poor>,
    /// Records that did not belong.
    pub(crate) dropped: usize,
}

/// Judges a reply that passed the screen. `may_tell` says for which names records of this server count.
pub(crate) fn judge(key: &Key, message: Message, may_tell: &dyn Fn(&Name) -> bool) -> Judged {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        let edns = message.edns.is_none() && matches!(code, ResponseCode::FormErr | ResponseCode::NotImp);
        return poor(Poor::Error(edns));
    }
    let total = message.answers.len();
    let mut chain = Chain::new(key, message.answers);
    let complete = chain.follow(may_tell);
    let dropped = total.saturating_sub(chain.taken.len());
    let verdict = if !complete || (chain.found && code == ResponseCode::NXDomain) {
        Err(Poor::Lame)
    } else if chain.found || chain.rest.is_some() {
        Ok(positive(key, chain, &message.authorities))
    } else {
        negative(key, code, chain, message.authorities)
    };
    Judged { verdict, dropped }
}

fn poor(poor: Poor) -> Judged {
    Judged {
        verdict: Err(poor),
        dropped: 0,
    }
}

/// The way from the question's name to its records.
struct Chain<'a> {
    key: &'a Key,
    records: Vec<Record>,
    taken: Vec<Record>,
    /// The name reached.
    name: Name,
    /// Records of the type asked for are there.
    found: bool,
    rest: Option<Name>,
}

impl<'a> Chain<'a> {
    fn new(key: &'a Key, records: Vec<Record>) -> Self {
        let records = records.into_iter().filter(|record| record.dns_class == DNSClass::IN);
        Self {
            key,
            records: records.collect(),
            taken: Vec::new(),
            name: key.name.clone(),
            found: false,
            rest: None,
        }
    }

    /// Whether it came to an end, with or without records, rather than going round.
    fn follow(&mut self, may_tell: &dyn Fn(&Name) -> bool) -> bool {
        for _ in 0..MAX_CHAIN {
            let (name, wanted) = (self.name.clone(), self.key.rtype);
            let asked = |record: &Record| record.name == name && (record.record_type() == wanted || wanted.is_any());
            if self.records.iter().any(asked) {
                self.take(asked);
                self.signatures(&name, |covered| covered == wanted || wanted.is_any());
                self.found = true;
                return true;
            }
            let alias = self.records.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == name => Some(target.0.to_lowercase()),
                _ => None,
            });
            let Some(target) = alias else { return true };
            // A CNAME made from a DNAME is only proven with it.
            self.take(|record| {
                record.record_type() == RecordType::DNAME && record.name != name && record.name.zone_of(&name)
            });
            let mut first = true;
            self.take(|record| {
                record.name == name && record.record_type() == RecordType::CNAME && std::mem::take(&mut first)
            });
            self.signatures(&name, |covered| covered == RecordType::CNAME);
            self.name = target;
            self.name.set_fqdn(true);
            if self.taken.iter().any(|record| record.name == self.name) {
                return false;
            }
            if !may_tell(&self.name) {
                self.rest = Some(self.name.clone());
                return true;
            }
        }
        false
    }

    fn take(&mut self, mut which: impl FnMut(&Record) -> bool) {
        let (taken, left) = std::mem::take(&mut self.records)
            .into_iter()
            .partition(|record| which(record));
        self.taken.extend::<Vec<_>>(taken);
        self.records = left;
    }

    fn signatures(&mut self, owner: &Name, covers: impl Fn(RecordType) -> bool) {
        if self.key.signatures {
            self.take(|record| record.name == *owner && covered(record).is_some_and(&covers));
        }
    }
}

/// The type a signature is for.
fn covered(record: &Record) -> Option<RecordType> {
    match &record.data {
        RData::Unknown { code, rdata } if *code == RecordType::RRSIG => {
            let bytes = rdata.anything.get(..2)?.try_into().ok()?;
            Some(RecordType::from(u16::from_be_bytes(bytes)))
        }
        _ => None,
    }
}

fn is_proof(record: &Record) -> bool {
    matches!(
        record.record_type(),
        RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3
    )
}

fn positive(key: &Key, chain: Chain<'_>, authorities: &[Record]) -> Reply {
    let mut answers = chain.taken;
    let ttl = answers.iter_mut().map(clean).min();
    // Proofs that a wildcard was rightly used.
    let proofs = authorities
        .iter()
        .filter(|record| key.signatures && is_proof(record) && covered(record) != Some(RecordType::NS));
    Reply {
        code: ResponseCode::NoError,
        answers,
        authorities: proofs.cloned().collect(),
        rest: chain.rest,
        ttl: ttl.map(|ttl| ttl.min(MAX_TTL)),
    }
}

fn negative(key: &Key, code: ResponseCode, chain: Chain<'_>, authorities: Vec<Record>) -> Result<Reply, Poor> {
    let lame = authorities.iter().any(|record| record.record_type() == RecordType::NS);
    let mut soas = authorities
        .iter()
        .filter(|record| record.record_type() == RecordType::SOA && record.name.zone_of(&chain.name));
    let soa = soas.next().cloned();
    if soa.is_none() && code == ResponseCode::NoError {
        return match (chain.taken.is_empty(), lame) {
            (true, true) => Err(Poor::Lame),
            (true, false) => Err(Poor::Bare),
            // A server that knows the alias only, not what it stands for: to be asked about by itself.
            (false, _) => {
                let rest = Some(chain.name.clone());
                Ok(positive(key, Chain { rest, ..chain }, &[]))
            }
        };
    }
    let mut answers = chain.taken;
    let mut ttl = answers.iter_mut().map(clean).min();
    let mut kept = Vec::new();
    match soa {
        Some(mut soa) => {
            let minimum = match &soa.data {
                RData::SOA(data) => data.minimum,
                _ => 0,
            };
            soa.ttl = clean(&mut soa).min(minimum).min(MAX_NEGATIVE_TTL);
            ttl = Some(ttl.unwrap_or(u32::MAX).min(soa.ttl));
            let zone = soa.name.clone();
            kept.push(soa);
            if key.signatures {
                kept.extend(
                    authorities
                        .into_iter()
                        .filter(|record| is_proof(record) && zone.zone_of(&record.name)),
                );
            }
        }
        // RFC 2308 section 5: a negative answer without SOA is not kept.
        None => ttl = None,
    }
    Ok(Reply {
        code,
        answers,
        authorities: kept,
        rest: None,
        ttl,
    })
}

/// Owner in lower case, TTL in bounds; gives the TTL.
fn clean(record: &mut Record) -> u32 {
    record.name = record.name.to_lowercase();
    // RFC 2181 section 8: one with the highest bit set counts as zero.
    record.ttl = if i32::try_from(record.ttl).is_ok() {
        record.ttl.min(MAX_TTL)
    } else {
        0
    };
    lower_targets(&mut record.data);
    record.ttl
}

/// Names in the data may be written with the letters of the question, which were mixed.
fn lower_targets(data: &mut RData) {
    let name = match data {
        RData::CNAME(name) => &mut name.0,
        RData::NS(name) => &mut name.0,
        RData::PTR(name) => &mut name.0,
        RData::MX(mx) => &mut mx.exchange,
        RData::SRV(srv) => &mut srv.target,
        RData::SOA(soa) => {
            soa.rname = soa.rname.to_lowercase();
            &mut soa.mname
        }
        _ => return,
    };
    *name = name.to_lowercase();
}

#[cfg(test)]
#[path = "accept/tests.rs"]
mod tests;
