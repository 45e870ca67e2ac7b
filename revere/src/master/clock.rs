//! The master's time. Whoever sets the machine's clock ends no waiting early and holds none up.

use std::time::{SystemTime, UNIX_EPOCH};

use scheduler::Timestamp;

use crate::etcd::clock::Moment;

/// The part of the time that passes by which ours may lean towards the wall clock: seconds that it was set by are made
/// good in less than a minute, and no timeout is off by more.
const LEAN: u64 = 8;

/// Begins as the wall clock, goes on as the clock that nobody sets, and leans towards the wall clock. Never runs back.
#[derive(Debug)]
pub(super) struct Clock {
    /// Unix time in milliseconds, as last told.
    told: u64,
    at: Moment,
    /// Time that has passed and was not leaned on yet, less than [`LEAN`].
    spare: u64,
}

fn wall() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            told: wall(),
            at: Moment::now(),
            spare: 0,
        }
    }

    pub(super) fn now(&mut self) -> Timestamp {
        let at = Moment::now();
        let passed = u64::try_from(at.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.at = at;
        Timestamp(self.advance(passed, wall()))
    }

    fn advance(&mut self, passed: u64, wall: u64) -> u64 {
        let spare = self.spare.saturating_add(passed);
        let most = spare / LEAN;
        self.spare = spare % LEAN;
        let due = self.told.saturating_add(passed);
        self.told = match wall.checked_sub(due) {
            Some(behind) => due.saturating_add(behind.min(most)),
            None => due - (due - wall).min(most),
        };
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock {
            told: 1_000_000,
            at: Moment::now(),
            spare: 0,
        }
    }

    #[test]
    fn a_clock_that_is_right_is_told_as_it_is() {
        let mut clock = clock();
        for passed in [1, 0, 7, 13, 1_000, 60_000] {
            let wall = clock.told + passed;
            assert_eq!(clock.advance(passed, wall), wall);
        }
    }

    #[test]
    fn whoever_sets_the_clock_moves_time_by_an_eighth_at_most() {
        let hour = 3_600_000;
        for jump in [hour, 100_000 * hour] {
            let (mut ahead, mut back) = (clock(), clock());
            for passed in (1..=1_600).map(|n| n % 5) {
                let before = (ahead.told, back.told);
                let (far, near) = (ahead.told + jump, back.told.saturating_sub(jump));
                ahead.advance(passed, far);
                back.advance(passed, near);
                assert!(back.told >= before.1, "it runs back");
                assert!(ahead.told >= before.0 + passed, "it stands");
            }
            // 3,200 ms have passed.
            assert_eq!((ahead.told, back.told), (1_003_600, 1_002_800));
        }
    }

    #[test]
    fn a_second_is_made_good() {
        let (mut clock, mut wall) = (clock(), 1_001_000);
        for _ in 0..900 {
            wall += 10;
            clock.advance(10, wall);
        }
        assert_eq!(clock.told, wall);
    }
}
