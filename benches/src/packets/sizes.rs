//! What the programs and maps take up in the kernel (P4).

use anyhow::{Context as _, Result};
use lb_userspace::Config;

use super::table::Figure;
use crate::memory::maps_mib;
use crate::node::BenchNode;

/// VIPs, and backends of each, for which the maps are made.
const VIPS: u32 = 512;
const BACKENDS: u32 = 32;

/// Verified instructions of the program that each packet meets, and of all together; memory of all maps at that size and at the usual one.
pub(super) fn figures() -> Result<Vec<Figure>> {
    let node = BenchNode::sized(|config: &mut Config| {
        config.vips = VIPS;
        config.backends = VIPS * BACKENDS;
    })?;
    let stats = node.lb().verifier_stats()?;
    let uplink = stats.iter().find(|program| program.name == "revere_xdp");
    let uplink = uplink.context("the uplink program is loaded")?.verified_instructions;
    let all: u32 = stats.iter().map(|program| program.verified_instructions).sum();
    let small = maps_mib(&node.folder.path().join("bpf/maps"))?;
    drop(node);
    let node = BenchNode::new(None)?;
    let usual = maps_mib(&node.folder.path().join("bpf/maps"))?;
    eprintln!(
        "P4: {uplink} instructions of the uplink program, {all} of all; {small:.1} MiB of maps for {VIPS} VIPs, {usual:.1} as usual"
    );
    Ok([
        ("P4.insns", f64::from(uplink), "instructions"),
        ("P4.insns.all", f64::from(all), "instructions"),
        ("P4.maps_mib", small, "MiB"),
        ("P4.maps_mib.usual", usual, "MiB"),
    ]
    .map(|(id, value, unit)| Figure::plain(id, value, unit))
    .to_vec())
}
