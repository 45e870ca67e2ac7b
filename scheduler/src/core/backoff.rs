//! The delay between a failure and the next launch of an app.

use std::time::Duration;

use model::TaskState;

use crate::{Backoff, Timestamp};

/// What is remembered of an app's failures. Kept in memory only: a restart of the master forgets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delay {
    step: Duration,
    pub(super) last_failure: Timestamp,
    /// Failures in a row, none of them long after the one before.
    pub(super) failures: u32,
    /// The first of them.
    pub(super) since: Timestamp,
    /// No launch before this.
    pub(crate) until: Timestamp,
}

impl Delay {
    /// The delay after one more failure. A failure-free time of `rule.max` makes the next one count as the first.
    pub(crate) fn after_failure(earlier: Option<Self>, rule: &Backoff, now: Timestamp) -> Self {
        let in_a_row = earlier.filter(|delay| !delay.is_calm(rule, now));
        let step = in_a_row.map_or(rule.initial, |delay| {
            Duration::try_from_secs_f64(delay.step.as_secs_f64() * rule.factor).unwrap_or(rule.max)
        });
        let step = step.min(rule.max);
        Self {
            step,
            last_failure: now,
            failures: in_a_row.map_or(1, |delay| delay.failures.saturating_add(1)),
            since: in_a_row.map_or(now, |delay| delay.since),
            until: now.after(step),
        }
    }

    /// Whether the last failure is so long ago that another one would count as the first.
    pub(super) fn is_calm(&self, rule: &Backoff, now: Timestamp) -> bool {
        now.since(self.last_failure) >= rule.max.max(self.step)
    }
}

/// Whether an end of this kind delays the next launch (Marathon's `limitWorthy` conditions).
pub(crate) fn delays_launch(state: TaskState) -> bool {
    matches!(
        state,
        TaskState::Failed
            | TaskState::Finished
            | TaskState::Error
            | TaskState::Dropped
            | TaskState::Gone
            | TaskState::GoneByOperator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit_and_are_forgotten() {
        let rule = Backoff {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(5),
        };
        let mut now = Timestamp(1_000);
        let mut delay = None;
        let mut steps = Vec::new();
        for _ in 0..5 {
            let next = Delay::after_failure(delay, &rule, now);
            steps.push(next.until.since(now).as_secs());
            delay = Some(next);
            now = next.until;
        }
        assert_eq!(
            steps,
            [1, 2, 4, 5, 1],
            "the fifth failure comes after five quiet seconds"
        );
    }

    #[test]
    fn a_factor_of_one_keeps_the_delay() {
        let rule = Backoff {
            initial: Duration::from_secs(3),
            factor: 1.0,
            max: Duration::from_secs(300),
        };
        let first = Delay::after_failure(None, &rule, Timestamp(0));
        let second = Delay::after_failure(Some(first), &rule, Timestamp(3_000));
        assert_eq!(second.until, Timestamp(6_000));
    }

    #[test]
    fn ends_that_nobody_failed_at_delay_nothing() {
        assert!(delays_launch(TaskState::Failed) && delays_launch(TaskState::Finished));
        assert!(!delays_launch(TaskState::Killed) && !delays_launch(TaskState::Lost));
    }
}
