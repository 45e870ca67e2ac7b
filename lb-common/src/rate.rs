//! The token bucket that holds a VIP's rate of new flows.

use crate::{Ip, RateBucket, affinity_hash};

/// How often one sender is told that its packets are too big, on each CPU: rate per second and burst. A sender keeps what
/// it was told for minutes, so one message for each VIP is what it needs.
pub const TOO_BIG_RATE: u32 = 10;
/// See [`TOO_BIG_RATE`].
pub const TOO_BIG_BURST: u32 = 10;
/// Senders share so many buckets, so that one who never heeds what he is told takes nobody else's messages but few.
pub const TOO_BIG_BUCKETS: u32 = 256;

/// The bucket of a sender.
#[inline(always)]
pub fn too_big_bucket(sender: &Ip) -> u32 {
    affinity_hash(sender) & (TOO_BIG_BUCKETS - 1)
}

/// One token.
const TOKEN: u64 = 1 << 16;
/// Nanoseconds in which one flow per second earns 1/65536 token.
const NANOS: u64 = 1_000_000_000 / TOKEN;
/// After so long without a call the bucket is full whatever the rate; keeps the products inside 64 bits.
const LONG: u64 = 1 << 32;

impl RateBucket {
    /// Takes a token at `now` (nanoseconds of the monotonic clock), or tells that there is none. A bucket that was never
    /// used is full. `rate` is in flows per second and more than 0; `burst` 0 counts as 1.
    #[inline(always)]
    pub fn take(&mut self, now: u64, rate: u32, burst: u32) -> bool {
        let rate = u64::from(rate);
        let most = if burst == 0 { TOKEN } else { u64::from(burst) * TOKEN };
        let elapsed = now.saturating_sub(self.at);
        let earned = if elapsed >= LONG { most } else { elapsed * rate / NANOS };
        if earned > 0 {
            let tokens = self.tokens + earned;
            if tokens >= most || rate == 0 {
                self.tokens = most;
                self.at = now;
            } else {
                self.tokens = tokens;
                // Not `now`: what did not make a whole unit is not lost, or a busy caller would never earn any.
                self.at += earned * NANOS / rate;
            }
        }
        if self.tokens < TOKEN {
            return false;
        }
        self.tokens -= TOKEN;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls every `gap` nanoseconds for `seconds`; how many got a token?
    fn run(rate: u32, burst: u32, gap: u64, seconds: u64) -> u64 {
        let mut bucket = RateBucket::default();
        let start = 5_000_000_000;
        let calls = seconds * 1_000_000_000 / gap;
        let got = (0..calls).filter(|call| bucket.take(start + call * gap, rate, burst));
        u64::try_from(got.count()).expect("small")
    }

    #[test]
    fn a_busy_caller_gets_the_rate_and_the_burst() {
        for (rate, burst) in [(1, 1), (7, 3), (100, 10), (1000, 1), (50_000, 500)] {
            for gap in [1_000, 9_999, 15_300] {
                let got = run(rate, burst, gap, 10);
                let right = u64::from(rate) * 10 + u64::from(burst);
                assert!(
                    got.abs_diff(right) <= right / 100 + 1,
                    "{rate}/s +{burst} every {gap} ns: {got}"
                );
            }
        }
    }

    #[test]
    fn a_slow_caller_is_never_refused_and_saves_up_no_more_than_the_burst() {
        assert_eq!(run(10, 1, 100_000_100, 20), 199);
        let mut bucket = RateBucket::default();
        assert!(bucket.take(1 << 40, 5, 3));
        let later = 1 << 50;
        let got = (0..10).filter(|_| bucket.take(later, 5, 3)).count();
        assert_eq!(got, 3);
        assert!(RateBucket::default().take(1 << 33, 1, 0), "a burst of 0 counts as 1");
    }
}
