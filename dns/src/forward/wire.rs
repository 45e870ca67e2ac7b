//! The bytes of a question to an upstream server, and which bytes may be its answer.

use std::io;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

use super::ports::random;
use super::question::{Hops, Key};
use super::settings::CaseMixing;

/// Largest UDP reply asked for: passes every path unfragmented, and fragments are what off-path forgers use best.
const PAYLOAD: u16 = 1232;
const HEADER: usize = 12;
/// Type and class, behind the name of a question.
const TYPE_AND_CLASS: usize = 4;

/// Whether a question carries an OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dress {
    /// None: the server does not understand them.
    Plain,
    /// With size, DO bit and the way the question has come.
    Edns,
}

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    /// Where the question's name ends.
    name_end: usize,
}

/// What bytes from the server's address are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A reply to this question.
    Reply,
    /// An error of this id without the question, as servers send that could not read it.
    Headless,
    /// Right in all but the case of letters: a forger who guessed the id, or a server that does not keep the case.
    CaseOff,
    /// Of another question or none: a forger, or late.
    Foreign,
}

impl Sent {
    /// A question with a random id, in letters of random case when `case` says so.
    pub(crate) fn new(key: &Key, hops: &Hops, dress: Dress, case: CaseMixing) -> io::Result<Self> {
        let mut message = Message::new(u16::from_ne_bytes(random()?), MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = key.unchecked;
        let name = match case {
            CaseMixing::Off => key.name.clone(),
            CaseMixing::On => mixed(&key.name)?,
        };
        let name_end = HEADER + wire_len(&name);
        message.add_query(Query::query(name, key.rtype));
        if dress == Dress::Edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            edns.set_dnssec_ok(key.signatures);
            edns.options_mut().insert(hops.option());
            message.set_edns(edns);
        }
        let mut bytes = Vec::with_capacity(128);
        message
            .emit(&mut BinEncoder::new(&mut bytes))
            .map_err(io::Error::other)?;
        Ok(Self { bytes, name_end })
    }

    /// Compares header and question; nothing else of the bytes is looked at, so that a forgery costs little.
    pub(crate) fn screen(&self, bytes: &[u8]) -> Screen {
        let (Some(header), Some(id)) = (bytes.get(..HEADER), self.bytes.get(..2)) else {
            return Screen::Foreign;
        };
        let is_answer = header[2] & 0x80 != 0 && header[2] & 0x78 == 0;
        if &header[..2] != id || !is_answer {
            return Screen::Foreign;
        }
        let questions = u16::from_be_bytes([header[4], header[5]]);
        if questions == 0 && header[3] & 0x0f != 0 && bytes.len() == HEADER {
            return Screen::Headless;
        }
        let end = self.name_end + TYPE_AND_CLASS;
        let (Some(name), Some(kind)) = (bytes.get(HEADER..self.name_end), bytes.get(self.name_end..end)) else {
            return Screen::Foreign;
        };
        let (own_name, own_kind) = (&self.bytes[HEADER..self.name_end], &self.bytes[self.name_end..end]);
        if questions != 1 || kind != own_kind || !name.eq_ignore_ascii_case(own_name) {
            Screen::Foreign
        } else if name == own_name {
            Screen::Reply
        } else {
            Screen::CaseOff
        }
    }
}

/// Whether the TC bit is set in a reply that passed the screen.
pub(crate) fn is_truncated(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

fn wire_len(name: &Name) -> usize {
    name.iter().map(|label| label.len() + 1).sum::<usize>() + 1
}

/// The same name, each letter at random large or small.
fn mixed(name: &Name) -> io::Result<Name> {
    // A name has at most 255 bytes.
    let dice: [u8; 32] = random()?;
    let mut at = 0;
    let labels: Vec<Vec<u8>> = name
        .iter()
        .map(|label| {
            let flip = |byte: &u8| {
                let heads = dice[at / 8 % 32] >> (at % 8) & 1 == 1;
                at += 1;
                if heads { byte.to_ascii_uppercase() } else { *byte }
            };
            label.iter().map(flip).collect()
        })
        .collect();
    let mut name = Name::from_labels(labels.iter().map(Vec::as_slice)).map_err(io::Error::other)?;
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;
    use crate::forward::question::Asked;

    fn sent(name: &str, rtype: RecordType, case: CaseMixing) -> Sent {
        let asked = Asked::new(Name::from_ascii(name).expect("a name"), rtype);
        Sent::new(&asked.key(), &Hops::default(), Dress::Edns, case).expect("encodes")
    }

    fn reply(sent: &Sent) -> Vec<u8> {
        let mut bytes = sent.bytes.clone();
        bytes[2] |= 0x80;
        bytes
    }

    #[test]
    fn only_the_exact_question_with_its_id_passes() {
        // HTTPS is 65, an `A` in letters: types have no case.
        let sent = sent("www.example.com.", RecordType::HTTPS, CaseMixing::On);
        let good = reply(&sent);
        assert_eq!(sent.screen(&good), Screen::Reply);
        assert_eq!(sent.screen(&sent.bytes), Screen::Foreign, "a question is no answer");
        for at in [0, 1, 5, 12, 13, 17, 30, 31, 32] {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            assert_eq!(sent.screen(&bad), Screen::Foreign, "byte {at}");
        }
        for at in [2, 30] {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            assert_eq!(sent.screen(&bad), Screen::Foreign, "byte {at}");
        }
        let mut case = good.clone();
        case[14] ^= 0x20;
        assert_eq!(sent.screen(&case), Screen::CaseOff);
        for length in 0..sent.name_end + TYPE_AND_CLASS {
            assert_eq!(sent.screen(&good[..length]), Screen::Foreign, "cut to {length}");
        }
        let mut error = good[..HEADER].to_vec();
        (error[3], error[5]) = (1, 0);
        assert_eq!(sent.screen(&error), Screen::Headless);
        error[3] = 0;
        assert_eq!(sent.screen(&error), Screen::Foreign, "no error");
    }

    #[test]
    fn ids_and_letters_differ_from_question_to_question() {
        let name = "abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.";
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            let sent = sent(name, RecordType::A, CaseMixing::On);
            ids.push(sent.bytes[..2].to_vec());
            names.push(sent.bytes[HEADER..sent.name_end].to_vec());
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 200, "52 letters, 200 draws");
        ids.sort();
        ids.dedup();
        // Two of 200 draws from 65,536 are equal about 0.3 times.
        assert!(ids.len() >= 190, "{}", ids.len());
        let plain = sent(name, RecordType::A, CaseMixing::Off);
        assert!(
            plain.bytes[HEADER..plain.name_end]
                .iter()
                .all(|byte| !byte.is_ascii_uppercase())
        );
    }
}
