//! The clock that the programs read too.

/// Seconds of `CLOCK_MONOTONIC`.
pub fn seconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or_default()
}

/// The same, as the maps have it.
pub(crate) fn seconds_u32() -> u32 {
    u32::try_from(seconds()).unwrap_or(u32::MAX)
}
