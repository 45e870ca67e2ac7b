//! An answer made once and sent often: its sections in wire form, to follow any spelling of the question's name.

use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder, NameEncoding};

use crate::answer::Answer;
use crate::counters::Kind;
use crate::wire::{Code, HEADER, Plain};

/// Pointer to the question's name, which repeats its spelling.
const QUESTION: u16 = 0xc000 | 12;
/// Answers longer than this are not worth keeping: most clients could not take them by UDP.
pub(crate) const MAX_KEPT: usize = 1232;

/// What a client of this question shall see beside the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Size that the answer's own OPT record states, if it has one.
    pub(crate) payload: u16,
    /// Longest answer it may have.
    pub(crate) room: usize,
    /// The RA flag.
    pub(crate) recursion_available: bool,
    /// Which answer record comes first, modulo their number.
    pub(crate) turn: usize,
}

/// A prepared answer.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) kind: Kind,
    /// Upper bound of the whole message, by the same rule that cuts answers.
    pub(crate) bound: usize,
    code: Code,
    /// Records in answer, authority and additional section.
    counts: [u16; 3],
    /// Where each answer record that may change places begins in `body`, and where the last one ends. Never empty.
    starts: Box<[u16]>,
    body: Box<[u8]>,
}

impl Template {
    /// `None` for an answer of a kind that is not prepared: too long, or with records of rare types.
    pub(crate) fn new(question: &Name, answer: &Answer) -> Option<Self> {
        let bound = answer.bound(question);
        if bound > MAX_KEPT || !answer.kind.is_ours() || answer.truncated {
            return None;
        }
        let question = wire_name(question);
        let mut body = Vec::new();
        let mut starts = vec![0];
        for record in &answer.answers {
            emit(record, &question, &mut body)?;
            starts.push(u16::try_from(body.len()).ok()?);
        }
        for record in answer.soa.iter().chain(&answer.additionals) {
            emit(record, &question, &mut body)?;
        }
        // An alias stands before what it leads to.
        if matches!(answer.answers.first().map(|record| &record.data), Some(RData::CNAME(_))) {
            starts = vec![0, *starts.last()?];
        }
        let count = |number: usize| u16::try_from(number).ok();
        Some(Self {
            kind: answer.kind,
            bound,
            code: match answer.kind {
                Kind::NoName => Code::NxDomain,
                _ => Code::NoError,
            },
            counts: [
                count(answer.answers.len())?,
                u16::from(answer.soa.is_some()),
                count(answer.additionals.len())?,
            ],
            starts: starts.into(),
            body: body.into(),
        })
    }

    /// Its counts and all that follows the question, if no turn changes their order.
    pub(crate) fn unturned(&self) -> Option<([u16; 3], &[u8])> {
        (self.starts.len() <= 2).then_some((self.counts, &self.body))
    }

    /// Bytes it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.body.len() + 2 * self.starts.len()
    }

    /// The whole answer to `question`.
    pub(crate) fn write(&self, question: &Plain<'_>, manner: Manner, out: &mut Vec<u8>) {
        out.clear();
        let Some(header) = question.message.first_chunk::<HEADER>() else {
            return;
        };
        let [answers, authorities, mut additionals] = self.counts;
        additionals += u16::from(question.edns.is_some());
        // QR, AA, RD as it came; RA, CD as it came.
        let flags = [
            0x84 | header[2] & 0x01,
            u8::from(manner.recursion_available) << 7 | header[3] & 0x10 | self.code as u8,
        ];
        out.extend([header[0], header[1], flags[0], flags[1], 0, 1]);
        for count in [answers, authorities, additionals] {
            out.extend(count.to_be_bytes());
        }
        out.extend_from_slice(question.question());
        let movable = self.starts.len() - 1;
        let turn = manner.turn.checked_rem(movable).unwrap_or(0);
        let place = |index: usize| self.starts.get(index).map_or(0, |start| usize::from(*start));
        let (first, end) = (place(turn), place(movable));
        for part in [first..end, 0..first, end..self.body.len()] {
            out.extend_from_slice(self.body.get(part).unwrap_or_default());
        }
        if let Some(edns) = question.edns {
            let [high, low] = manner.payload.to_be_bytes();
            out.extend([0, 0, 41, high, low, 0, 0, u8::from(edns.dnssec_ok) << 7, 0, 0, 0]);
        }
    }
}

/// One record. Owners that the question's name ends in become pointers into it, all other names are written in full, so
/// that records can change places.
fn emit(record: &Record, question: &[u8], body: &mut Vec<u8>) -> Option<()> {
    let owner = wire_name(&record.name);
    match suffix(question, &owner) {
        Some(offset) => body.extend((QUESTION + u16::try_from(offset).ok()?).to_be_bytes()),
        None => body.extend_from_slice(&owner),
    }
    body.extend(u16::from(record.record_type()).to_be_bytes());
    body.extend(u16::from(record.dns_class).to_be_bytes());
    body.extend(record.ttl.to_be_bytes());
    let mut data = Vec::with_capacity(64);
    let mut encoder = BinEncoder::new(&mut data);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    record.data.emit(&mut encoder).ok()?;
    body.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    body.extend_from_slice(&data);
    Some(())
}

/// Where in `name` its end `owner` begins, whatever the case; both in wire form. Not for the root, a byte by itself.
fn suffix(name: &[u8], owner: &[u8]) -> Option<usize> {
    if owner.len() <= 1 {
        return None;
    }
    let mut at = 0;
    while let Some(length) = name.get(at).filter(|length| **length != 0) {
        let rest = name.get(at..)?;
        if rest.eq_ignore_ascii_case(owner) {
            return Some(at);
        }
        at += 1 + usize::from(*length);
    }
    None
}

pub(crate) fn wire_name(name: &Name) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend_from_slice(label);
    }
    out.push(0);
    out
}
