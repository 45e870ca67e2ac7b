//! How long what a new master's state does not confirm is kept. Pure: the time is an argument, of whatever clock.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{AgentId, ServiceTable, TaskEvent};

/// After an agent has come back its tasks are told at once; what is not told within this time has ended meanwhile. The
/// time is dcos-net's.
const SETTLE: Duration = Duration::from_secs(10);

/// Deadlines of the hold. Moments are durations since any fixed one.
#[derive(Debug)]
pub(crate) struct Hold {
    /// `node.hold_seconds`.
    limit: Duration,
    ends: Option<Duration>,
    settling: BTreeMap<AgentId, Duration>,
}

impl Hold {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            ends: None,
            settling: BTreeMap::new(),
        }
    }

    /// Applies an event to the table, and notes what it means for the hold. Returns whether the picture changed.
    pub(crate) fn apply(&mut self, now: Duration, table: &mut ServiceTable, event: TaskEvent) -> bool {
        let restart = matches!(event, TaskEvent::Snapshot(_));
        match &event {
            TaskEvent::Snapshot(_) => self.settling.clear(),
            TaskEvent::AgentAdded(agent) if table.is_holding() => {
                self.settling.insert(agent.id.clone(), now.saturating_add(SETTLE));
            }
            TaskEvent::AgentRemoved(id) => drop(self.settling.remove(id)),
            _ => {}
        }
        let changed = table.apply(event);
        if !table.is_holding() {
            self.ends = None;
            self.settling.clear();
        } else if restart || self.ends.is_none() {
            self.ends = Some(now.saturating_add(self.limit));
        }
        changed
    }

    /// When [`Hold::next`] has something to say.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.settling.values().copied().chain(self.ends).min()
    }

    /// What is due by `now`, one event at a time; the caller applies it.
    pub(crate) fn next(&mut self, now: Duration) -> Option<TaskEvent> {
        let settled = self
            .settling
            .iter()
            .find(|(_, due)| **due <= now)
            .map(|(id, _)| id.clone());
        if let Some(id) = settled {
            self.settling.remove(&id);
            return Some(TaskEvent::AgentSettled(id));
        }
        if self.ends.is_some_and(|end| end <= now) {
            self.ends = None;
            return Some(TaskEvent::HoldExpired);
        }
        None
    }
}
