//! The programs that demos, tests and figures are made with: a small HTTP server, a load generator that counts honestly,
//! and one that watches a name.

pub mod cluster;
pub mod load;
pub mod names;
pub mod nodes;
pub mod plan;
pub mod server;

#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in microseconds.
fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
