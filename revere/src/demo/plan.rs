//! `revere demo-plan`: gives a million tasks on ten thousand nodes their addresses, for figures.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use model::Ipv4Net;
use serde_json::json;

/// Nodes, each with a block of the default overlay.
const NODES: u32 = 10_000;
/// Tasks on each.
const TASKS: u32 = 100;
/// Length of a block's prefix.
const PREFIX: u8 = 24;

/// Writes how long one address took on average, and how often two tasks had the same, as a line of JSON.
pub fn run() -> anyhow::Result<()> {
    let whole: Ipv4Net = "9.0.0.0/8".parse()?;
    let (mut all, mut took, mut clashes) = (BTreeSet::new(), Duration::ZERO, 0_u64);
    for node in 0..NODES {
        let began = Instant::now();
        let block = whole.subnet(PREFIX, node).context("a block for each node")?;
        let mut taken: BTreeSet<Ipv4Addr> = BTreeSet::new();
        for _ in 0..TASKS {
            taken.insert(agent::lowest_free(block, &taken).context("an address for each task")?);
        }
        took += began.elapsed();
        for address in taken {
            clashes += u64::from(!all.insert(address));
        }
    }
    let count = NODES * TASKS;
    let told = json!({"nodes": NODES, "allocations": count, "clashes": clashes,
        "us": took.as_secs_f64() * 1e6 / f64::from(count)});
    Ok(writeln!(std::io::stdout().lock(), "{told}")?)
}
