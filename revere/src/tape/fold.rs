//! What a recorded stream means: the same fold as a node's, with the file's clock in place of the machine's.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ServiceTable, Snapshot, TaskEvent, VipRange};

use super::{Said, Tape};
use crate::hold::Hold;
use crate::mesos::decode::{Decoded, Message, decode_as};
use crate::mesos::encode;

/// What came of a stream.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The services, tasks and nodes at the end.
    pub snapshot: Snapshot,
    /// Records by type.
    pub records: BTreeMap<String, usize>,
    /// What was left out of the records, by kind.
    pub rejects: BTreeMap<&'static str, usize>,
    /// Records that could not be read at all; a node would have started the stream anew.
    pub unreadable: Vec<String>,
    /// What the picture leaves out, and why.
    pub left_out: Vec<String>,
}

/// The table with its hold, on the file's clock.
struct Running<W> {
    table: ServiceTable,
    hold: Hold,
    watch: W,
}

impl<W: FnMut(Duration, &Snapshot)> Running<W> {
    fn apply(&mut self, at: Duration, event: TaskEvent) {
        if self.hold.apply(at, &mut self.table, event) {
            (self.watch)(at, &self.table.snapshot());
        }
    }

    /// Lets what the hold has to say happen at its time.
    fn pass(&mut self, now: Duration) {
        while let Some(at) = self.hold.due().filter(|due| *due <= now) {
            if let Some(event) = self.hold.next(at) {
                self.apply(at, event);
            }
        }
    }
}

/// Folds everything said until `until`. `watch` sees each new picture and its time.
pub fn fold(
    tape: &Tape,
    range: VipRange,
    hold: Duration,
    until: Duration,
    watch: impl FnMut(Duration, &Snapshot),
) -> Outcome {
    let mut out = Outcome::default();
    let mut running = Running {
        table: ServiceTable::new(range),
        hold: Hold::new(hold),
        watch,
    };
    for Said { at, record } in tape.said.iter().take_while(|one| one.at <= until) {
        running.pass(*at);
        match decode_as(tape.header.encoding, record) {
            Ok(decoded) => {
                *out.records.entry(word(&decoded.message).to_owned()).or_default() += 1;
                if let Some(event) = event(decoded, &mut out.rejects) {
                    running.apply(*at, event);
                }
            }
            Err(error) => out.unreadable.push(format!("{} s: {error}", at.as_secs_f64())),
        }
    }
    // A file has no time beyond its last record, unless one is asked for.
    if until != Duration::MAX {
        running.pass(until);
    }
    let rejected = running.table.rejected().into_iter();
    out.left_out = rejected.map(|rejected| rejected.what.clone()).collect();
    out.snapshot = running.table.snapshot();
    out
}

fn event(decoded: Decoded, rejects: &mut BTreeMap<&'static str, usize>) -> Option<TaskEvent> {
    for reject in &decoded.rejects {
        *rejects.entry(reject.kind.as_str()).or_default() += 1;
    }
    match decoded.message {
        Message::Subscribed(state, _) => Some(TaskEvent::Snapshot(state)),
        Message::Event(event) => Some(event),
        Message::Heartbeat | Message::Resumed(_) | Message::Position(_) | Message::Other(_) => None,
    }
}

fn word(message: &Message) -> &str {
    match message {
        Message::Subscribed(..) => "SUBSCRIBED",
        Message::Event(TaskEvent::TaskAdded(_)) => "TASK_ADDED",
        Message::Event(TaskEvent::TaskUpdated { .. }) => "TASK_UPDATED",
        Message::Event(TaskEvent::AgentAdded(_)) => "AGENT_ADDED",
        Message::Event(TaskEvent::AgentRemoved(_)) => "AGENT_REMOVED",
        Message::Event(TaskEvent::FrameworkAdded(_)) => "FRAMEWORK_ADDED",
        Message::Event(TaskEvent::FrameworkRemoved(_)) => "FRAMEWORK_REMOVED",
        Message::Event(_) => "OTHER",
        Message::Heartbeat => "HEARTBEAT",
        Message::Resumed(_) => encode::RESUMED,
        Message::Position(_) => encode::POSITION,
        Message::Other(kind) => kind,
    }
}
