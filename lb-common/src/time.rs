//! Seconds of the monotonic clock, without a division.

/// Seconds since boot from nanoseconds since boot. A 64-bit division costs a packet as much as a map lookup; this
/// multiplies, and is at most 2 ms late (never early) within the first ten years after boot.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "136 years of seconds fit")]
pub const fn seconds(nanoseconds: u64) -> u32 {
    // 2^20 ns in units of 2^-35 s.
    const UNIT: u64 = (1 << 55) / 1_000_000_000;
    (((nanoseconds >> 20) * UNIT) >> 35) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_division_within_two_milliseconds() {
        for second in [1_u64, 2, 59, 3_600, 86_400, 31_536_000, 315_360_000] {
            let late = 2_000_000 + second;
            assert_eq!(u64::from(seconds(second * 1_000_000_000 - 1)), second - 1);
            assert_eq!(u64::from(seconds(second * 1_000_000_000 + late)), second, "{second}");
        }
        assert_eq!(seconds(0), 0);
    }
}
