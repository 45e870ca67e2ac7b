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
///
/// Most are put off again and again, as those of agents that say something every few seconds: then only the new time is
/// noted, and the place in the order is another once it is the first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Due>,
    /// The first is always where it belongs; others may stand before that.
    order: BTreeSet<(Timestamp, Timer)>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Timestamp,
    /// Where it stands in the order; never later than `at`.
    filed: Timestamp,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Timestamp) {
        match self.due.get_mut(&timer) {
            Some(due) if due.filed <= at => due.at = at,
            _ => {
                self.cancel(&timer);
                self.due.insert(timer.clone(), Due { at, filed: at });
                self.order.insert((at, timer));
            }
        }
        self.file_first();
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(due) = self.due.remove(timer) {
            self.order.remove(&(due.filed, timer.clone()));
            self.file_first();
        }
    }

    /// Puts those that were put off to where they belong, until the first is there.
    fn file_first(&mut self) {
        while let Some((filed, timer)) = self.order.first() {
            let Some(due) = self.due.get_mut(timer).filter(|due| due.at != *filed) else {
                return;
            };
            due.filed = due.at;
            let at = due.at;
            if let Some((_, timer)) = self.order.pop_first() {
                self.order.insert((at, timer));
            }
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
        self.file_first();
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> Timer {
        Timer::AgentSilent(AgentId::new(name))
    }

    #[test]
    fn a_timer_that_is_put_off_or_brought_forward_fires_at_its_newest_time_only() {
        let mut timers = Timers::default();
        for (name, at) in [("a", 10), ("b", 20), ("c", 30)] {
            timers.set(agent(name), Timestamp(at));
        }
        assert_eq!(timers.next(), Some(Timestamp(10)));
        timers.set(agent("a"), Timestamp(25));
        assert_eq!(timers.next(), Some(Timestamp(20)), "put off");
        timers.set(agent("b"), Timestamp(40));
        timers.set(agent("a"), Timestamp(50));
        assert_eq!(timers.next(), Some(Timestamp(30)), "put off twice");
        timers.set(agent("b"), Timestamp(15));
        assert_eq!(timers.next(), Some(Timestamp(15)), "brought forward");
        assert_eq!(timers.pop_due(Timestamp(14)), None);
        assert_eq!(timers.pop_due(Timestamp(60)), Some(agent("b")));
        timers.cancel(&agent("c"));
        assert_eq!(timers.next(), Some(Timestamp(50)), "the first was cancelled");
        assert_eq!(timers.pop_due(Timestamp(60)), Some(agent("a")));
        assert_eq!((timers.pop_due(Timestamp(60)), timers.next()), (None, None));
        assert!(timers.due.is_empty() && timers.order.is_empty());
    }
}
