//! How a task is ended, as a function of time: drain, SIGTERM, grace, SIGKILL.

use std::time::Duration;

use model::KillPolicy;
use serde::{Deserialize, Serialize};

/// A kill that was asked for; kept on disk, so that a restarted daemon goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KillRecord {
    pub(crate) asked_ms: u64,
    pub(crate) drain_ms: u64,
    pub(crate) grace_ms: u64,
}

/// What is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillStep {
    /// Connections drain.
    Drain,
    /// SIGTERM is due, or was.
    Term,
    /// SIGKILL is due.
    Kill,
}

impl KillRecord {
    pub(crate) fn new(policy: KillPolicy, now_ms: u64) -> Self {
        Self {
            asked_ms: now_ms,
            drain_ms: millis(policy.drain),
            grace_ms: millis(policy.grace),
        }
    }

    /// A further request can only hasten the end.
    pub(crate) fn hastened(self, policy: KillPolicy, now_ms: u64) -> Self {
        let other = Self::new(policy, now_ms);
        let term = self.term_ms().min(other.term_ms());
        let kill = self.kill_ms().min(other.kill_ms()).max(term);
        Self {
            asked_ms: self.asked_ms,
            drain_ms: term.saturating_sub(self.asked_ms),
            grace_ms: kill - term,
        }
    }

    /// What is due at `now_ms`, and how long until the next step. A clock set back counts as no time passed.
    pub(crate) fn step(self, now_ms: u64) -> (KillStep, Option<Duration>) {
        let now = now_ms.max(self.asked_ms);
        if now < self.term_ms() {
            let longest = self.drain_ms.min(self.term_ms() - now);
            (KillStep::Drain, Some(Duration::from_millis(longest)))
        } else if now < self.kill_ms() {
            (KillStep::Term, Some(Duration::from_millis(self.kill_ms() - now)))
        } else {
            (KillStep::Kill, None)
        }
    }

    fn term_ms(self) -> u64 {
        self.asked_ms.saturating_add(self.drain_ms)
    }

    fn kill_ms(self) -> u64 {
        self.term_ms().saturating_add(self.grace_ms)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(drain: u64, grace: u64) -> KillPolicy {
        KillPolicy {
            drain: Duration::from_millis(drain),
            grace: Duration::from_millis(grace),
        }
    }

    #[test]
    fn the_steps_follow_the_clock() {
        let record = KillRecord::new(policy(1000, 3000), 50_000);
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(record.step(50_000), (KillStep::Drain, ms(1000)));
        assert_eq!(record.step(50_999), (KillStep::Drain, ms(1)));
        assert_eq!(record.step(51_000), (KillStep::Term, ms(3000)));
        assert_eq!(record.step(54_000), (KillStep::Kill, None));
        assert_eq!(record.step(10), (KillStep::Drain, ms(1000)), "a clock set back");
    }

    #[test]
    fn no_drain_and_no_grace_kills_at_once() {
        assert_eq!(KillRecord::new(policy(0, 0), 7).step(7), (KillStep::Kill, None));
        assert_eq!(KillRecord::new(policy(0, 5), 7).step(7).0, KillStep::Term);
    }

    #[test]
    fn a_second_request_only_hastens() {
        let record = KillRecord::new(policy(1000, 3000), 0);
        assert_eq!(record.hastened(policy(5000, 9000), 500), record);
        let now = record.hastened(policy(0, 0), 500);
        assert_eq!(now.step(500).0, KillStep::Kill);
        let sooner = record.hastened(policy(0, 3000), 500);
        assert_eq!(sooner.step(500).0, KillStep::Term);
        assert_eq!(sooner.step(3500).0, KillStep::Kill);
    }
}
