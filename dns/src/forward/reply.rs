//! What an upstream server said, after everything that did not belong was dropped.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, Record};

use crate::counters::Kind;

/// Seconds that a reply past its end may be kept by clients (RFC 8767 section 4).
const STALE_TTL: u32 = 30;

/// An answer to a forwarded question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    /// NOERROR or NXDOMAIN.
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    /// The SOA of a negative answer, and its proofs for a client that wants signatures.
    pub(crate) authorities: Vec<Record>,
    /// Where a chain of CNAMEs leaves the zones these servers may tell about.
    pub(crate) rest: Option<Name>,
    /// Seconds it may be kept; `None` when nothing says so.
    pub(crate) ttl: Option<u32>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoReply {
    /// The name's rule has no servers.
    NoServer,
    /// The question has been here before.
    Loop,
    /// Too many questions wait already.
    Busy,
    /// No server answered, or none with anything usable.
    Failed,
}

impl NoReply {
    /// REFUSED where asking again here is of no use now, so that a client with several servers asks the next at once.
    pub(crate) fn code(self) -> ResponseCode {
        match self {
            Self::NoServer | Self::Loop | Self::Busy => ResponseCode::Refused,
            Self::Failed => ResponseCode::ServFail,
        }
    }

    /// How the server counts it.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::NoServer | Self::Loop | Self::Busy => Kind::Refused,
            Self::Failed => Kind::Failed,
        }
    }
}

/// How old a reply is when it is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// So long in the cache, still valid.
    Fresh(Duration),
    /// Past its end.
    Stale,
}

impl Reply {
    /// As it is given to a client that spelled the name `asked`.
    pub(crate) fn given(&self, asked: &Name, age: Age) -> Self {
        let ttl = |ttl: u32| match age {
            Age::Fresh(age) => ttl.saturating_sub(u32::try_from(age.as_secs()).unwrap_or(u32::MAX)),
            Age::Stale => STALE_TTL,
        };
        let mut reply = self.clone();
        for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
            record.ttl = ttl(record.ttl);
            if record.name == *asked {
                record.name = asked.clone();
            }
        }
        reply
    }

    /// Adds what was found behind [`Reply::rest`].
    pub(crate) fn append(&mut self, behind: Self) {
        self.code = behind.code;
        self.answers.extend(behind.answers);
        self.authorities.extend(behind.authorities);
        self.rest = behind.rest;
    }

    /// Bytes it takes in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        let records = self.answers.iter().chain(&self.authorities);
        size_of::<Self>()
            + records
                .map(|record| size_of::<Record>() + record.name.len() + extra(&record.data))
                .sum::<usize>()
    }
}

/// Bytes of a record's data outside of the record itself.
fn extra(data: &RData) -> usize {
    match data {
        RData::A(_) | RData::AAAA(_) => 0,
        RData::CNAME(name) => name.0.len(),
        RData::Unknown { rdata, .. } => rdata.anything.len(),
        // Texts, keys, service parameters: the wire form is a fair measure and these are few.
        other => other.to_string().len(),
    }
}
