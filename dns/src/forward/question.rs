//! A question as the forwarder knows it, and the way it has come.

use std::io;

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};

use super::ports::random;

/// The EDNS option that names the servers a question passed: the first of those free for local use (RFC 6891 section 9).
const OPTION: u16 = 65_001;
/// Servers a question may pass; a chain of forwarders this long is no chain anybody built on purpose.
const MAX_HOPS: usize = 8;
/// Bytes of one server's name.
const ID_SIZE: usize = 8;

/// One server's name on the way: random, new at every start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerId([u8; ID_SIZE]);

impl ServerId {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(random()?))
    }
}

/// The servers a question passed before this one; empty for one that comes from an ordinary client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Hops(Vec<ServerId>);

impl Hops {
    /// From the client's OPT record.
    pub(crate) fn read(edns: &Edns) -> Self {
        let Some(EdnsOption::Unknown(_, bytes)) = edns.option(EdnsCode::Unknown(OPTION)) else {
            return Self::default();
        };
        let ids = bytes.chunks_exact(ID_SIZE).filter_map(|chunk| chunk.try_into().ok());
        // One more than allowed is enough to know that there are too many.
        Self(ids.map(ServerId).take(MAX_HOPS + 1).collect())
    }

    /// Adds this server; `None` if the question has been here before or went round too long.
    pub(crate) fn through(&self, here: ServerId) -> Option<Self> {
        if self.0.contains(&here) || self.0.len() >= MAX_HOPS {
            return None;
        }
        let mut hops = self.clone();
        hops.0.push(here);
        Some(hops)
    }

    /// As an option of a question to an upstream server.
    pub(crate) fn option(&self) -> EdnsOption {
        EdnsOption::Unknown(OPTION, self.0.iter().flat_map(|id| id.0).collect())
    }
}

/// What is asked: equal questions get equal answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// In lower case, with its last dot.
    pub(crate) name: Name,
    pub(crate) rtype: RecordType,
    /// The client wants signatures (the DO bit).
    pub(crate) signatures: bool,
    /// The client checks them itself (the CD bit).
    pub(crate) unchecked: bool,
}

/// A client's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// As the client spelled it.
    pub(crate) name: Name,
    pub(crate) rtype: RecordType,
    pub(crate) signatures: bool,
    pub(crate) unchecked: bool,
    pub(crate) hops: Hops,
}

impl Asked {
    /// A plain question.
    pub(crate) fn new(name: Name, rtype: RecordType) -> Self {
        Self {
            name,
            rtype,
            signatures: false,
            unchecked: false,
            hops: Hops::default(),
        }
    }

    /// With what the client's OPT record says.
    pub(crate) fn with_edns(mut self, edns: Option<&Edns>) -> Self {
        if let Some(edns) = edns {
            self.signatures = edns.flags().dnssec_ok;
            self.hops = Hops::read(edns);
        }
        self
    }

    pub(crate) fn key(&self) -> Key {
        let mut name = self.name.to_lowercase();
        name.set_fqdn(true);
        Key {
            name,
            rtype: self.rtype,
            signatures: self.signatures,
            unchecked: self.unchecked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(hops: &Hops) -> Hops {
        let mut edns = Edns::new();
        edns.options_mut().insert(hops.option());
        Hops::read(&edns)
    }

    #[test]
    fn a_question_comes_by_once_and_goes_round_at_most_eight_servers() {
        let ids: Vec<ServerId> = (0..9).map(|_| ServerId::new().expect("random")).collect();
        let mut hops = Hops::read(&Edns::new());
        assert_eq!(hops, Hops::default());
        for id in &ids[..MAX_HOPS] {
            hops = carried(&hops.through(*id).expect("new"));
            assert_eq!(hops.through(*id), None, "again");
        }
        assert_eq!(hops.through(ids[8]), None, "too long");
    }
}
