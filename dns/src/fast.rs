//! The short way from a plain question to its answer, for one thread: prepared answers, no locks, no allocation.
//!
//! Everything that is not a plain question about a name of ours goes the long way; both give the same answers, which
//! the tests compare.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use crate::Zones;
use crate::access::Client;
use crate::answer::answer;
use crate::counters::{Kind, Tally};
use crate::handler::Shared;
use crate::limit::Verdict;
use crate::template::{Manner, Template};
use crate::wire::{self, Code, Plain, Screened};

/// Bytes of prepared answers that one thread keeps; beyond, it begins anew. Enough for 50,000 names.
const KEPT_BYTES: usize = 24 << 20;

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The answer is written.
    Answered,
    /// No answer.
    Silent,
    /// For the long way.
    Long,
}

struct Kept {
    age: u64,
    template: Template,
}

/// The short way of one thread.
pub(crate) struct Fast {
    shared: Arc<Shared>,
    zones: Arc<Zones>,
    /// Counts the zones seen.
    age: u64,
    kept: HashMap<Box<[u8]>, Kept>,
    kept_bytes: usize,
    turn: usize,
    /// Lower-case name and type.
    key: Vec<u8>,
    tally: Tally,
}

impl Fast {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            zones: shared.zones.load_full(),
            shared,
            age: 0,
            kept: HashMap::new(),
            kept_bytes: 0,
            turn: 0,
            key: Vec::with_capacity(260),
            tally: Tally::default(),
        }
    }

    /// Before each batch: takes the zones published last.
    pub(crate) fn refresh(&mut self) {
        let now = self.shared.zones.load();
        if !Arc::ptr_eq(&now, &self.zones) {
            self.zones = Arc::clone(&now);
            self.age += 1;
        }
    }

    /// After each batch: makes its counts known.
    pub(crate) fn flush(&mut self) {
        self.shared.counts.take(&mut self.tally);
    }

    /// One UDP message of `second`. The answer, if any, is in `out`.
    pub(crate) fn step(&mut self, message: &[u8], source: IpAddr, second: u64, out: &mut Vec<u8>) -> Step {
        let screened = wire::screen(message);
        if screened == Screened::Ignore {
            return Step::Silent;
        }
        let client = self.shared.config.client(source);
        let rate = match client {
            Client::Own => self.shared.config.client_rate,
            _ => self.shared.config.rate,
        };
        match self.shared.limiter.check(source, rate, second) {
            Verdict::Answer => {}
            verdict => return self.limited(verdict, &screened, out),
        }
        if client == Client::Denied {
            self.tally.add(Kind::Refused);
            match screened {
                Screened::Plain(question) => wire::short(&question, 0, Code::Refused, out),
                _ => wire::header_only(message, Code::Refused, out),
            }
            return Step::Answered;
        }
        match screened {
            Screened::Header(code) => {
                self.tally.add(Kind::Unsupported);
                wire::header_only(message, code, out);
                Step::Answered
            }
            Screened::Plain(question) => self.plain(&question, client, out),
            Screened::Ignore | Screened::Other => Step::Long,
        }
    }

    fn limited(&mut self, verdict: Verdict, screened: &Screened<'_>, out: &mut Vec<u8>) -> Step {
        self.tally.add_limited();
        match (verdict, screened) {
            (Verdict::Truncate, Screened::Plain(question)) => {
                wire::truncated(question, out);
                Step::Answered
            }
            _ => Step::Silent,
        }
    }

    fn plain(&mut self, question: &Plain<'_>, client: Client, out: &mut Vec<u8>) -> Step {
        let payload = question.edns.map(|edns| edns.payload);
        let manner = Manner {
            payload: self.shared.config.udp_limit(payload),
            room: self.shared.config.udp_room(client, payload, question.message.len()),
            recursion_available: self.shared.recursion(client),
            turn: self.turn,
        };
        self.turn = self.turn.wrapping_add(1);
        self.key.clear();
        self.key.extend(question.name.iter().map(u8::to_ascii_lowercase));
        self.key.extend(question.rtype.to_be_bytes());
        let kept = self.kept.get(self.key.as_slice()).filter(|kept| kept.age == self.age);
        if let Some(Kept { template, .. }) = kept {
            return send(template, question, manner, &mut self.tally, out);
        }
        let Some(template) = self.prepare(question) else {
            return Step::Long;
        };
        let step = send(&template, question, manner, &mut self.tally, out);
        // Names that do not exist are without number: they are not kept.
        if template.kind != Kind::NoName {
            self.keep(template);
        }
        step
    }

    /// Makes the answer; `None` for names that are not ours and answers that are not prepared.
    fn prepare(&self, question: &Plain<'_>) -> Option<Template> {
        if self.zones.is_empty() {
            return None;
        }
        let mut labels = Vec::new();
        let mut rest = self.key.get(..question.name.len())?;
        while let Some((length, more)) = rest.split_first().filter(|(length, _)| **length != 0) {
            let (label, more) = more.split_at_checked(usize::from(*length))?;
            labels.push(label);
            rest = more;
        }
        let mut name = Name::from_labels(labels).ok()?;
        name.set_fqdn(true);
        let answer = answer(&self.zones, &name, RecordType::from(question.rtype), 0)?;
        // Aliases stay in their order and may lead outside.
        if answer
            .answers
            .iter()
            .any(|record| record.record_type() == RecordType::CNAME)
        {
            return None;
        }
        Template::new(&name, &answer)
    }

    fn keep(&mut self, template: Template) {
        if self.kept_bytes > KEPT_BYTES {
            self.kept.clear();
            self.kept_bytes = 0;
        }
        self.kept_bytes += template.weight() + self.key.len();
        let kept = Kept {
            age: self.age,
            template,
        };
        if let Some(old) = self.kept.insert(self.key.as_slice().into(), kept) {
            self.kept_bytes -= old.template.weight() + self.key.len();
        }
    }
}

fn send(template: &Template, question: &Plain<'_>, manner: Manner, tally: &mut Tally, out: &mut Vec<u8>) -> Step {
    if template.bound > manner.room {
        // The long way cuts it.
        return Step::Long;
    }
    tally.add(template.kind);
    template.write(question, manner, out);
    Step::Answered
}

#[cfg(test)]
#[path = "fast/tests.rs"]
mod tests;
