//! What the programs and maps take up in the kernel (P4).

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use lb_userspace::Config;

use super::table::Figure;
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
    let small = mebibytes(&node)?;
    drop(node);
    let node = BenchNode::new(None)?;
    let usual = mebibytes(&node)?;
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

/// What the kernel charges for all pinned maps.
fn mebibytes(node: &BenchNode) -> Result<f64> {
    let mut kib = 0;
    for pin in fs::read_dir(node.folder.path().join("bpf/maps"))? {
        let map = aya::maps::MapData::from_pin(pin?.path())?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        let bytes: u64 = line
            .context("the kernel does not tell a map's memory")?
            .trim()
            .parse()?;
        kib += u32::try_from(bytes >> 10)?;
    }
    Ok(f64::from(kib) / 1024.0)
}
