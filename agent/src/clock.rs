//! The wall clock, in the unit of task statuses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The newest time given out, so that statuses stay in order when the clock steps back or two fall into one millisecond.
static NEWEST: AtomicU64 = AtomicU64::new(0);

/// Unix time in milliseconds, later than every earlier answer in this process.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let older = NEWEST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest| {
        Some(now.max(newest.saturating_add(1)))
    });
    // The update never refuses; both arms hold the value before it.
    let older = older.unwrap_or_else(|value| value);
    now.max(older.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_times_are_equal() {
        let times: Vec<u64> = (0..1_000).map(|_| now_ms()).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
