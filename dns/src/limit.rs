//! Response-rate limiting: how many UDP answers a second one network gets, in memory of fixed size.
//!
//! A forged source address turns a name server into an amplifier. Beyond the limit a client gets nothing but an empty
//! answer with TC set, never longer than its question; a real one comes back by TCP, a forged one gains nothing.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Networks whose answers are counted at once, 512 KiB in all. More than that in one second push each other out and may
/// get more than their share.
const PLACES: usize = 1 << 16;
/// Places that one network may be counted in.
const WAYS: usize = 4;
/// Bits of a place that hold the count.
const COUNT_BITS: u32 = 24;
/// Bits of a place that hold the second.
const SECOND_BITS: u32 = 16;

/// What to do with one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer it.
    Answer,
    /// Answer with TC set and nothing else.
    Truncate,
    /// Say nothing.
    Drop,
}

/// The counts. Each place is one word: tag of the network, second, count.
pub(crate) struct Limiter {
    places: Box<[AtomicU64]>,
    hasher: RandomState,
    slip: u32,
}

impl Limiter {
    /// Every `slip`th answer over the limit becomes an empty one with TC set, the rest nothing; 0: nothing at all.
    pub(crate) fn new(slip: u32) -> Self {
        Self {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            slip,
        }
    }

    /// Counts one answer to `source` in `second`, of which its network may have `rate`; 0 is no limit.
    pub(crate) fn check(&self, source: IpAddr, rate: u32, second: u64) -> Verdict {
        if rate == 0 {
            return Verdict::Answer;
        }
        let over = self.count(network(source), second).saturating_sub(rate);
        if over == 0 {
            Verdict::Answer
        } else if self.slip != 0 && over.is_multiple_of(self.slip) {
            Verdict::Truncate
        } else {
            Verdict::Drop
        }
    }

    /// Which answer of this second to this network it is, from 1.
    fn count(&self, network: u64, second: u64) -> u32 {
        let hash = self.hasher.hash_one(network);
        // 0 is the mark of an empty place.
        let tag = (hash >> 40).max(1);
        let second = second & ((1 << SECOND_BITS) - 1);
        let first = usize::try_from(hash & 0xffff_ffff).unwrap_or(0) % (PLACES / WAYS) * WAYS;
        let set = self.places.get(first..first + WAYS).unwrap_or_default();
        let known = set.iter().find(|place| tag_of(place.load(Ordering::Relaxed)) == tag);
        // A new network takes the place that was used longest ago, and of this second's the least used one.
        let place = known.or_else(|| {
            set.iter().min_by_key(|place| {
                let word = place.load(Ordering::Relaxed);
                (second_of(word) == second && tag_of(word) != 0, count_of(word))
            })
        });
        place.map_or(1, |place| bump(place, tag, second))
    }
}

fn bump(place: &AtomicU64, tag: u64, second: u64) -> u32 {
    let max = (1u64 << COUNT_BITS) - 1;
    let next = |word: u64| {
        let fresh = tag_of(word) != tag || second_of(word) != second;
        let count = if fresh {
            1
        } else {
            u64::from(count_of(word)).saturating_add(1).min(max)
        };
        tag << (COUNT_BITS + SECOND_BITS) | second << COUNT_BITS | count
    };
    let before = place
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| Some(next(word)))
        .unwrap_or(0);
    count_of(next(before))
}

fn tag_of(word: u64) -> u64 {
    word >> (COUNT_BITS + SECOND_BITS)
}

fn second_of(word: u64) -> u64 {
    word >> COUNT_BITS & ((1 << SECOND_BITS) - 1)
}

fn count_of(word: u64) -> u32 {
    u32::try_from(word & ((1 << COUNT_BITS) - 1)).unwrap_or(0)
}

/// The /24 or /56 that one client is taken to command.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        // IPv6 networks leave the highest byte free.
        IpAddr::V4(addr) => 1 << 56 | u64::from(u32::from(addr) >> 8),
        IpAddr::V6(addr) => u64::try_from(u128::from(addr) >> 72).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn answers(limiter: &Limiter, source: &str, rate: u32, second: u64, questions: u32) -> (u32, u32) {
        let verdicts = (0..questions).map(|_| limiter.check(addr(source), rate, second));
        verdicts.fold((0, 0), |(full, cut), verdict| match verdict {
            Verdict::Answer => (full + 1, cut),
            Verdict::Truncate => (full, cut + 1),
            Verdict::Drop => (full, cut),
        })
    }

    #[test]
    fn one_network_gets_its_share_each_second_and_others_theirs() {
        let limiter = Limiter::new(1);
        for second in [0, 1, 2, 70_000] {
            assert_eq!(answers(&limiter, "192.0.2.1", 50, second, 40), (40, 0));
            assert_eq!(answers(&limiter, "192.0.2.200", 50, second, 50_000), (10, 49_990));
            assert_eq!(answers(&limiter, "192.0.3.1", 50, second, 60), (50, 10));
            assert_eq!(answers(&limiter, "2001:db8:0:1::1", 50, second, 30), (30, 0));
            assert_eq!(answers(&limiter, "2001:db8:0:ff:1::", 50, second, 30), (20, 10));
            assert_eq!(answers(&limiter, "2001:db8:0:100::1", 50, second, 30), (30, 0));
        }
        assert_eq!(answers(&limiter, "192.0.2.1", 0, 3, 1000), (1000, 0));
    }

    #[test]
    fn slip_says_how_many_get_a_hint() {
        for (slip, cut) in [(0, 0), (1, 90), (2, 45), (10, 9)] {
            assert_eq!(
                answers(&Limiter::new(slip), "192.0.2.1", 10, 5, 100),
                (10, cut),
                "{slip}"
            );
        }
    }

    #[test]
    fn forged_networks_without_number_take_no_more_room_and_free_nobody() {
        let limiter = Limiter::new(1);
        assert_eq!(answers(&limiter, "192.0.2.1", 5, 9, 10), (5, 5));
        for network in 0..1_000_000u32 {
            limiter.check(IpAddr::V4((0x0a00_0000 + (network << 8)).into()), 5, 9);
        }
        assert_eq!(limiter.places.len(), PLACES);
        // Networks that ask once push out each other, not the one that asks much.
        assert_eq!(answers(&limiter, "192.0.2.1", 5, 9, 10), (0, 10));
    }
}
