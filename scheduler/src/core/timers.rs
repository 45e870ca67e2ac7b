//! Timers as data: what is due when.

use std::collections::{BTreeMap, BTreeSet};

use model::{AgentId, TaskId};

use super::frameworks::FrameworkTimer;
use crate::{AppId, InstanceId, Timestamp};

/// What happens when a time is reached. Each is checked against the state when it fires.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The agent has been silent for too long.
    AgentSilent(AgentId),
    /// The agent has been silent for a little.
    AgentSuspect(AgentId),
    /// An unreachable agent is forgotten for good.
    ForgetAgent(AgentId),
    /// A Launch or Kill of the instance has had no answer.
    Repeat(InstanceId),
    /// A Kill of a task that no instance stands for has had no answer.
    RepeatStray(AgentId, TaskId),
    /// An unreachable instance is replaced.
    Inactive(InstanceId),
    /// An unreachable instance is forgotten.
    Expunge(InstanceId),
    /// An order to remove an instance's volumes has had no answer.
    RemoveVolumes(InstanceId),
    /// The app's launch delay is over.
    Delay(AppId),
    /// The app's share of its VIPs becomes another.
    Share(AppId),
    /// A deployment is to be done.
    Deadline(String),
    /// A window of maintenance begins or ends.
    Maintenance,
    /// Something of a framework.
    Framework(FrameworkTimer),
}

/// A table of timers; each has at most one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Timestamp>,
    order: BTreeSet<(Timestamp, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.cancel(&timer);
        self.due.insert(timer.clone(), at);
        self.order.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.due.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Timestamp) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }
}
