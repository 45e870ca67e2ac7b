//! The measurements as a table for people and as figures for the specification.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Case, Samples};

/// The middles of what the best balancer in C took on such a machine (raw: with its floor in).
pub(super) const PEER_PLAIN: f64 = 97.5;
pub(super) const PEER_KNOWN: f64 = 192.5;
pub(super) const PEER_KNOWN_100K: f64 = 321.0;
pub(super) const PEER_KNOWN_1M: f64 = 390.0;
pub(super) const PEER_NEW: f64 = 787.5;
const PEER: &str = "best balancer in C: raw ns, its floor included, on such a VM; not side by side";

/// One case, summed up; all in nanoseconds per packet.
pub(super) struct Line {
    id: &'static str,
    what: &'static str,
    is_floor: bool,
    packets: u64,
    raw: u32,
    floor: u32,
    over: i64,
    least_over: i64,
    single_over: i64,
    peer: Option<f64>,
}

#[derive(Clone, Serialize)]
pub(super) struct Figure {
    id: &'static str,
    value: f64,
    unit: &'static str,
    n: u64,
    control: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_value: Option<f64>,
}

impl Figure {
    /// One that is what it is, without trials and a floor.
    pub(super) fn plain(id: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            id,
            value,
            unit,
            n: 1,
            control: 0,
            peer: None,
            peer_value: None,
        }
    }
}

fn median(sorted: &[u32]) -> u32 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn least(sorted: &[u32]) -> u32 {
    sorted.first().copied().unwrap_or_default()
}

pub(super) fn lines(cases: &[Case], samples: &[Samples]) -> Vec<Line> {
    let over = |of: u32, floor: u32| i64::from(of) - i64::from(floor);
    let line = |(case, own): (&Case, &Samples)| {
        let floor = &samples[case.floor];
        Line {
            id: case.id,
            what: case.what,
            is_floor: case.id.starts_with("floor"),
            packets: u64::from(case.repeat) * u64::try_from(own.runs.len()).unwrap_or(u64::MAX),
            raw: median(&own.runs),
            floor: median(&floor.runs),
            over: over(median(&own.runs), median(&floor.runs)),
            least_over: over(least(&own.runs), least(&floor.runs)),
            single_over: over(median(&own.singles), median(&floor.singles)),
            peer: case.peer,
        }
    };
    cases.iter().zip(samples).map(line).collect()
}

/// The table.
pub(super) fn text(cpu: usize, lines: &[Line]) -> String {
    let mut out = format!(
        "ns per packet on CPU {cpu}: medians of interleaved runs, whole nanoseconds by the kernel's own clock and division\n\
         {:<13} {:<36} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7}\n",
        "id", "what", "raw", "floor", "over", "by min", "single", "C, raw"
    );
    for line in lines {
        let peer = line.peer.map_or_else(String::new, |peer| peer.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:<13} {:<36} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7}",
            line.id, line.what, line.raw, line.floor, line.over, line.least_over, line.single_over, peer
        );
    }
    out.push_str(
        "raw: as the kernel tells; over: median less the floor's median; by min: the same of the fastest runs;\n\
         single: one packet per call, over the floor's (caches and branch predictor cold after each system call).\n\
         Renewed frames: a program in front puts the frame back and tail-calls; its cost is in the floor beside it.\n",
    );
    out
}

/// `packets.json`: every case that is no floor.
pub(super) fn write(folder: &Path, lines: &[Line], more: Vec<Figure>) -> Result<()> {
    let figures: Vec<Figure> = lines
        .iter()
        .filter(|line| !line.is_floor)
        .map(|line| Figure {
            id: line.id,
            value: line.over as f64,
            unit: "ns over floor",
            n: line.packets,
            control: line.floor,
            peer: line.peer.map(|_| PEER),
            peer_value: line.peer,
        })
        .chain(more)
        .collect();
    let file = folder.join("packets.json");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, serde_json::to_string_pretty(&figures)?))
        .with_context(|| format!("could not write {}", file.display()))
}
