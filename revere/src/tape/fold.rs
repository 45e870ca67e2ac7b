//! What a recorded stream means: the same fold as a node's, with the file's clock in place of the machine's.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ServiceTable, Snapshot, TaskEvent, VipRange};

use super::{Said, Tape};
use crate::mesos::decode::{Decoded, Message, decode_as};

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

/// Folds everything said until `until`. `watch` sees each new picture and its time.
pub fn fold(
    tape: &Tape,
    range: VipRange,
    hold: Duration,
    until: Duration,
    mut watch: impl FnMut(Duration, &Snapshot),
) -> Outcome {
    let mut out = Outcome::default();
    let mut table = ServiceTable::new(range);
    let mut hold_ends: Option<Duration> = None;
    let mut apply = |table: &mut ServiceTable, hold_ends: &mut Option<Duration>, at: Duration, event: TaskEvent| {
        let restart = matches!(event, TaskEvent::Snapshot(_));
        let changed = table.apply(event);
        if !table.is_holding() {
            *hold_ends = None;
        } else if restart || hold_ends.is_none() {
            *hold_ends = Some(at + hold);
        }
        if changed {
            watch(at, &table.snapshot());
        }
    };
    for Said { at, record } in tape.said.iter().take_while(|one| one.at <= until) {
        if let Some(end) = hold_ends.filter(|end| end <= at) {
            apply(&mut table, &mut hold_ends, end, TaskEvent::HoldExpired);
        }
        match decode_as(tape.header.encoding, record) {
            Ok(decoded) => {
                *out.records.entry(word(&decoded.message).to_owned()).or_default() += 1;
                if let Some(event) = event(decoded, &mut out.rejects) {
                    apply(&mut table, &mut hold_ends, *at, event);
                }
            }
            Err(error) => out.unreadable.push(format!("{} s: {error}", at.as_secs_f64())),
        }
    }
    if let Some(end) = hold_ends.filter(|end| *end <= until && until != Duration::MAX) {
        apply(&mut table, &mut hold_ends, end, TaskEvent::HoldExpired);
    }
    out.left_out = table.rejected().into_iter().map(|rejected| rejected.what).collect();
    out.snapshot = table.snapshot();
    out
}

fn event(decoded: Decoded, rejects: &mut BTreeMap<&'static str, usize>) -> Option<TaskEvent> {
    for reject in &decoded.rejects {
        *rejects.entry(reject.kind.as_str()).or_default() += 1;
    }
    match decoded.message {
        Message::Subscribed(state, _) => Some(TaskEvent::Snapshot(state)),
        Message::Event(event) => Some(event),
        Message::Heartbeat | Message::Other(_) => None,
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
        Message::Other(kind) => kind,
    }
}
