//! Which of two backends the next connection goes to: open connections, weights, and the ramp of a new one.

/// What is known of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Connections open to it.
    pub open: u64,
    /// Its weight, 1 or more.
    pub weight: u16,
    /// See [`ramp`].
    pub ramp: u32,
}

/// A backend that takes its full share.
pub const FULL_RAMP: u32 = 256;

/// The part of its share that a backend may take, in 1/256: grows from 1 to [`FULL_RAMP`] within `slow_start` seconds
/// after it has `opened`. All three are seconds.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "smaller than FULL_RAMP, since `age` is smaller than `slow_start`"
)]
pub const fn ramp(now: u32, opened: u32, slow_start: u32) -> u32 {
    let age = now.saturating_sub(opened);
    if age >= slow_start {
        return FULL_RAMP;
    }
    let part = ((age as u64) << 8) / slow_start as u64;
    if part == 0 { 1 } else { part as u32 }
}

/// Whether the second of two candidates, drawn in proportion to their weights, is to be taken.
///
/// A candidate in its ramp enters only as often as the ramp says, which bounds the rate at which connections come to it.
/// Of two that enter, the one with fewer open connections for its weight and ramp is taken, which bounds how many it has.
/// `random` needs 16 random bits.
#[inline(always)]
pub const fn second_is_better(first: &Candidate, second: &Candidate, random: u32) -> bool {
    let first_enters = random & 0xff < first.ramp;
    let second_enters = (random >> 8) & 0xff < second.ramp;
    if first_enters != second_enters {
        return second_enters;
    }
    // Compares open / (weight * ramp) without a division; 40, 16 and 9 bits fit.
    let (first_open, second_open) = (first.open & OPEN_BITS, second.open & OPEN_BITS);
    second_open * (first.weight as u64 * first.ramp as u64) < first_open * (second.weight as u64 * second.ramp as u64)
}

/// More connections than a node can have.
const OPEN_BITS: u64 = (1 << 39) - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_hash::mix;

    extern crate std;
    use std::vec::Vec;

    /// Gives `n` connections that stay open (or end at once) to backends with these weights and ramps.
    fn deal(backends: &[(u16, u32)], n: u64, stay: bool) -> Vec<u64> {
        let slots: Vec<usize> = backends
            .iter()
            .enumerate()
            .flat_map(|(i, (weight, _))| std::iter::repeat_n(i, usize::from(*weight)))
            .collect();
        let mut got = std::vec![0; backends.len()];
        for i in 0..n {
            let random = mix(i);
            let draw = |bits: u64| slots[usize::try_from(bits % slots.len() as u64).expect("small")];
            let (first, second) = (draw(random & 0xff_ffff), draw((random >> 24) & 0xff_ffff));
            let candidate = |i: usize| Candidate {
                open: if stay { got[i] } else { 0 },
                weight: backends[i].0,
                ramp: backends[i].1,
            };
            let bits = u32::try_from(random >> 48).expect("16 bits");
            let taken = if second_is_better(&candidate(first), &candidate(second), bits) {
                second
            } else {
                first
            };
            got[taken] += 1;
        }
        got
    }

    #[test]
    fn open_connections_stay_within_a_few_of_each_other() {
        let got = deal(&[(1, FULL_RAMP); 10], 10_000, true);
        assert!(got.iter().all(|n| n.abs_diff(1000) < 10), "{got:?}");
    }

    #[test]
    fn weights_are_kept_with_open_and_with_short_connections() {
        for stay in [true, false] {
            let got = deal(&[(1, FULL_RAMP), (2, FULL_RAMP), (5, FULL_RAMP)], 80_000, stay);
            for (got, right) in got.iter().zip([10_000, 20_000, 50_000]) {
                assert!(got.abs_diff(right) < right / 20, "{got} of {right}");
            }
        }
    }

    #[test]
    fn a_new_backend_gets_little_at_first_whether_connections_stay_or_end() {
        for stay in [true, false] {
            let mut last = 0;
            for ramp in [1, 64, 128, 192, FULL_RAMP] {
                let got = deal(
                    &[(1, ramp), (1, FULL_RAMP), (1, FULL_RAMP), (1, FULL_RAMP)],
                    40_000,
                    stay,
                );
                // Held back by the rate at which it enters or by its number, but for the draws that name it twice.
                let most = 10_000 * u64::from(ramp) / 256 * 2 + 40_000 / 16 + 100;
                assert!(got[0] <= most && got[0] >= last, "ramp {ramp}, stay {stay}: {got:?}");
                last = got[0];
            }
            assert!(last.abs_diff(10_000) < 500, "full at the end: {last}");
        }
    }

    #[test]
    fn the_ramp_goes_from_little_to_full() {
        assert_eq!(ramp(100, 100, 0), FULL_RAMP, "no slow start");
        assert_eq!(
            [100, 101, 115, 129, 130, 500].map(|now| ramp(now, 100, 30)),
            [1, 8, 128, 247, 256, 256]
        );
        assert_eq!(ramp(5, 100, 30), 1, "a clock behind the writer's");
        assert_eq!(ramp(u32::MAX - 1, 0, u32::MAX), 255);
    }
}
