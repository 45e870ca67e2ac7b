//! Until when this process may believe what its lease stands for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time since the machine started. It goes on while the process or the machine is stopped, and nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(seconds * 1_000 + nanos / 1_000_000)
    }

    fn plus(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    #[cfg(test)]
    pub(crate) fn before(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The end of a lease as its holder may count on it.
#[derive(Debug)]
pub(crate) struct LeaseClock(AtomicU64);

impl LeaseClock {
    /// A lease that `sent` asked for.
    pub(crate) fn new(sent: Moment, lasts: Duration) -> Self {
        let clock = Self(AtomicU64::new(0));
        clock.extend(sent, lasts);
        clock
    }

    /// etcd counts from when it got what was sent at `sent`, never from earlier. A tenth is kept back, for clocks that
    /// run at different speeds and for the way of what is written last.
    pub(crate) fn extend(&self, sent: Moment, lasts: Duration) {
        let Moment(until) = sent.plus(lasts - lasts / 10);
        self.0.fetch_max(until, Ordering::AcqRel);
    }

    /// It may have ended.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        now.0 >= self.0.load(Ordering::Acquire)
    }

    /// How long ago it may have ended.
    pub(crate) fn over_for(&self, now: Moment) -> Duration {
        now.since(Moment(self.0.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_before_etcd_may_end_it() {
        let sent = Moment(1_000);
        let clock = LeaseClock::new(sent, Duration::from_secs(10));
        assert!(!clock.is_over(Moment(9_999)));
        assert!(clock.is_over(Moment(10_000)), "etcd ends it at 11,000 at the earliest");
        clock.extend(Moment(5_000), Duration::from_secs(10));
        assert!(!clock.is_over(Moment(13_999)));
        clock.extend(Moment(2_000), Duration::from_secs(10));
        assert!(
            !clock.is_over(Moment(13_999)),
            "an answer that came late takes nothing back"
        );
        assert_eq!(clock.over_for(Moment(15_500)), Duration::from_millis(1_500));
    }
}
