//! From a question to the records of its answer, by our zones alone.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, HINFO, NS, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable as _;

use crate::counters::Kind;
use crate::zones::{Found, Lookup, SPARTAN, ZoneInfo, Zones};

/// Bytes of header and question beyond the question's name, and of an OPT record without options.
const FIXED_SIZE: usize = 12 + 4 + 11;
/// Bytes of a record beyond its owner and data.
const RECORD_SIZE: usize = 10;
/// An owner that repeats the one before it is a pointer.
const POINTER_SIZE: usize = 2;

/// Aliases that lead one to the next; more is a mistake, or a circle.
pub(crate) const MAX_CHAIN: usize = 8;

/// Sections of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) answers: Vec<Record>,
    /// The SOA of a negative answer.
    pub(crate) soa: Option<Record>,
    /// Signatures and proofs of a forwarded answer, for a client that checks them.
    pub(crate) proofs: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) truncated: bool,
}

/// Answers from our zones; `None` for a name outside of them. `turn` rotates the records, so that clients that take the
/// first one spread over all.
pub(crate) fn answer(zones: &Zones, name: &Name, rtype: RecordType, turn: usize) -> Option<Answer> {
    let found = match zones.lookup(&key(name)) {
        Lookup::NotOurs => return None,
        Lookup::NoName(zone) => return Some(negative(zones, zone, name, Kind::NoName)),
        Lookup::Name(found) => found,
    };
    let ttl = found.zone.ttl;
    let mut answers: Vec<Record> = match rtype {
        RecordType::SOA if found.is_apex => vec![soa(zones, found.zone, name)],
        RecordType::NS if found.is_apex => vec![Record::from_rdata(name.clone(), ttl, RData::NS(NS(server_name())))],
        // RFC 8482: one small record instead of everything.
        RecordType::ANY => vec![Record::from_rdata(
            name.clone(),
            ttl,
            RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new())),
        )],
        RecordType::SRV => services(&found, name),
        RecordType::PTR => other_name(found.ptr, name, ttl, |target| RData::PTR(PTR(target))),
        _ => addresses(&found, name, rtype),
    };
    if answers.is_empty()
        && let [alias] = &other_name(found.cname, name, ttl, |target| RData::CNAME(CNAME(target)))[..]
    {
        return Some(follow(zones, alias.clone(), rtype, turn));
    }
    if answers.is_empty() {
        return Some(negative(zones, found.zone, name, Kind::NoData));
    }
    let turn = turn % answers.len();
    answers.rotate_left(turn);
    let additionals = additionals(zones, &answers);
    Some(Answer {
        answers,
        additionals,
        ..Answer::empty(Kind::Answered)
    })
}

/// The answer that begins with `alias`: on from name to name within our zones, to the records of the last (RFC 1034 section
/// 3.6.2). What comes of the last name is what comes of the question (RFC 6604). A chain that leaves our zones, or is longer
/// than it should be, is told as far as it goes.
fn follow(zones: &Zones, alias: Record, rtype: RecordType, turn: usize) -> Answer {
    let mut chain = vec![alias];
    let mut last = Answer::empty(Kind::Answered);
    while chain.len() < MAX_CHAIN && rtype != RecordType::CNAME {
        let Some(RData::CNAME(target)) = chain.last().map(|record| &record.data) else {
            break;
        };
        let target = target.0.clone();
        let next = match zones.lookup(&key(&target)) {
            Lookup::Name(found) => found.cname.map(|_| found.zone.ttl).zip(found.cname.and_then(fqdn)),
            _ => None,
        };
        if let Some((ttl, next)) = next {
            chain.push(Record::from_rdata(target, ttl, RData::CNAME(CNAME(next))));
        } else {
            last = answer(zones, &target, rtype, turn).unwrap_or(last);
            break;
        }
    }
    chain.append(&mut last.answers);
    last.answers = chain;
    last
}

impl Answer {
    /// No records at all.
    pub(crate) fn empty(kind: Kind) -> Self {
        Self {
            kind,
            answers: Vec::new(),
            soa: None,
            proofs: Vec::new(),
            additionals: Vec::new(),
            truncated: false,
        }
    }

    /// Cuts the answer to `limit` bytes: additional records go first and unannounced (RFC 2181 section 9), then answers,
    /// with TC set. Sizes are upper bounds, so that the OPT record always finds its place.
    pub(crate) fn fit(&mut self, question: &Name, limit: usize) {
        let mut used = self.before_answers(question);
        // Cut as a whole: a proof with a part missing proves nothing.
        let proofs: usize = self.proofs.iter().map(|proof| record_len(proof, question)).sum();
        if used + proofs > limit {
            self.proofs.clear();
            self.truncated = true;
        } else {
            used += proofs;
        }
        let kept = keep(&self.answers, &mut used, limit, question);
        if kept < self.answers.len() {
            self.answers.truncate(kept);
            self.truncated = true;
            self.additionals.clear();
        }
        let kept = keep(&self.additionals, &mut used, limit, question);
        self.additionals.truncate(kept);
    }

    /// Upper bound of the whole message: a limit not below it cuts nothing.
    pub(crate) fn bound(&self, question: &Name) -> usize {
        let records = self.answers.iter().chain(&self.additionals);
        self.before_answers(question) + records.map(|record| record_len(record, question)).sum::<usize>()
    }

    /// What is there whatever is cut: header, question, SOA, OPT.
    fn before_answers(&self, question: &Name) -> usize {
        // hickory's encoder writes the first owner in full; only the later ones become pointers to it.
        FIXED_SIZE + 2 * wire_len(question) + self.soa.iter().map(|soa| record_len(soa, question)).sum::<usize>()
    }
}

/// How many of `records` fit; adds their size to `used`.
fn keep(records: &[Record], used: &mut usize, limit: usize, question: &Name) -> usize {
    for (index, record) in records.iter().enumerate() {
        let next = *used + record_len(record, question);
        if next > limit {
            return index;
        }
        *used = next;
    }
    records.len()
}

/// Upper bound of a record's size in a message that begins with `question`.
fn record_len(record: &Record, question: &Name) -> usize {
    let data = match &record.data {
        RData::A(_) => 4,
        RData::AAAA(_) => 16,
        RData::SRV(srv) => 6 + wire_len(&srv.target),
        // The rarer ones are simply written once without compression, owner included.
        _ => return record.to_bytes().map_or(0, |bytes| bytes.len()),
    };
    let owner = if record.name.eq_case(question) {
        POINTER_SIZE
    } else {
        wire_len(&record.name)
    };
    owner + RECORD_SIZE + data
}

fn wire_len(name: &Name) -> usize {
    name.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

fn addresses(found: &Found<'_>, name: &Name, rtype: RecordType) -> Vec<Record> {
    let data = found.addrs.iter().filter_map(|addr| match (addr, rtype) {
        (IpAddr::V4(addr), RecordType::A) => Some(RData::A(A(*addr))),
        (IpAddr::V6(addr), RecordType::AAAA) => Some(RData::AAAA(AAAA(*addr))),
        _ => None,
    });
    data.map(|data| Record::from_rdata(name.clone(), found.zone.ttl, data))
        .collect()
}

fn other_name(target: Option<&str>, name: &Name, ttl: u32, data: impl Fn(Name) -> RData) -> Vec<Record> {
    let target = target.and_then(fqdn);
    let record = target.map(|target| Record::from_rdata(name.clone(), ttl, data(target)));
    record.into_iter().collect()
}

fn services(found: &Found<'_>, name: &Name) -> Vec<Record> {
    // Every target was checked when the zones were built; one that still is no name is left out.
    let targets = found.srvs.iter().filter_map(|srv| Some((fqdn(&srv.target)?, srv.port)));
    targets
        .map(|(target, port)| {
            Record::from_rdata(name.clone(), found.zone.ttl, RData::SRV(SRV::new(0, 1, port, target)))
        })
        .collect()
}

/// Addresses of the targets among `answers`, each target once.
fn additionals(zones: &Zones, answers: &[Record]) -> Vec<Record> {
    let mut seen: Vec<&Name> = Vec::new();
    let mut out = Vec::new();
    for record in answers {
        let target = match &record.data {
            RData::SRV(srv) => &srv.target,
            RData::NS(ns) => &ns.0,
            _ => continue,
        };
        seen.push(target);
    }
    seen.sort_unstable();
    seen.dedup();
    for target in seen {
        if let Lookup::Name(found) = zones.lookup(&key(target)) {
            out.extend(addresses(&found, target, RecordType::A));
            out.extend(addresses(&found, target, RecordType::AAAA));
        }
    }
    out
}

fn negative(zones: &Zones, zone: &ZoneInfo, name: &Name, kind: Kind) -> Answer {
    // The zone as the client spelled it, which may be an alias of ours or in its own case.
    let labels = zones.zone_labels(&key(name), zone);
    let mut soa = soa(zones, zone, &name.trim_to(labels));
    soa.ttl = zone.negative_ttl;
    Answer {
        soa: Some(soa),
        ..Answer::empty(kind)
    }
}

fn soa(zones: &Zones, zone: &ZoneInfo, owner: &Name) -> Record {
    let data = SOA::new(
        server_name(),
        mailbox(),
        serial(zones),
        60,
        180,
        86_400,
        zone.negative_ttl,
    );
    Record::from_rdata(owner.clone(), zone.ttl, RData::SOA(data))
}

/// The serial of all zones, which wraps as RFC 1982 wants it to.
pub(crate) fn serial(zones: &Zones) -> u32 {
    u32::try_from(zones.generation().0 & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn server_name() -> Name {
    fqdn(&format!("ns.{SPARTAN}")).unwrap_or_else(Name::root)
}

fn mailbox() -> Name {
    fqdn(&format!("root.{SPARTAN}")).unwrap_or_else(Name::root)
}

fn fqdn(text: &str) -> Option<Name> {
    let mut name = Name::from_labels(text.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The text form our zones are keyed by. Bytes that no name of ours holds stay apart from those that some do.
pub(crate) fn key(name: &Name) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, label) in name.iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        for byte in label {
            match byte {
                // A dot inside a label must not look like one between labels.
                b'.' => out.push_str("\\."),
                _ => out.push(char::from(byte.to_ascii_lowercase())),
            }
        }
    }
    out
}
