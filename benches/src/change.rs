//! What a change costs: P8, one backend's change from the event to the maps, by the size of the table, and P9, everything
//! from nothing. No packets: the maps are what every CPU uses from its next packet on.
#![allow(
    clippy::print_stdout,
    reason = "the figures are what the person at the terminal asked for"
)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lb_userspace::{Actual, Config, Desired, Lb, apply, desired, observe, plan, plan_touched};
use model::{NodeView, ServiceTable, Snapshot, TaskEvent, TaskState, VipRange};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use crate::{cluster, memory};

/// Backends of each VIP.
const BACKENDS: u32 = 10;
/// Sizes of the table, in VIPs.
const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
/// Changes at each size.
const CHANGES: u32 = 2_000;
/// What a change goes through: the event into the service table and its picture; what of the maps that concerns; the maps.
const STAGES: [&str; 3] = ["table", "plan", "maps"];
/// Times that everything is loaded from nothing.
const LOADS: usize = 5;

#[derive(Serialize)]
struct Figure {
    id: String,
    value: f64,
    unit: &'static str,
    n: u64,
    control: f64,
}

/// Measures, prints, writes `p8.json` below the current directory's `target/figures`.
pub fn run(short: bool) -> Result<()> {
    let changes = if short { 100 } else { CHANGES };
    let mut figures = Vec::new();
    let mut smallest = None;
    for vips in SIZES {
        let mut bench = Bench::new(vips)?;
        let stages = bench.changes(changes)?;
        let times: Vec<Duration> = stages.iter().map(|stages| stages.iter().sum()).collect();
        let p99 = percentile(&times, 99);
        let control = *smallest.get_or_insert(p99);
        figures.push(Figure {
            id: format!("P8.{vips}"),
            value: p99,
            unit: "us p99",
            n: changes.into(),
            control,
        });
        println!(
            "P8.{vips}: {p99:.0} us p99, {:.0} us median (n = {changes})",
            percentile(&times, 50)
        );
        for (place, name) in STAGES.into_iter().enumerate() {
            let own: Vec<Duration> = stages.iter().map(|stages| stages[place]).collect();
            let (p99, median) = (percentile(&own, 99), percentile(&own, 50));
            println!("  {name}: {p99:.0} us p99, {median:.0} us median");
        }
    }
    let (seconds, resident, maps) = from_nothing(if short { 1 } else { LOADS })?;
    let n = if short { 1 } else { LOADS as u64 };
    println!("P9: {seconds:.2} s, slowest of {n}; P9.mib: {resident:.0} MiB resident and {maps:.0} MiB in maps");
    for (id, value, unit) in [
        ("P9", seconds, "s"),
        ("P9.mib", resident + maps, "MiB"),
        ("P9.maps_mib", maps, "MiB"),
    ] {
        figures.push(Figure {
            id: id.to_owned(),
            value,
            unit,
            n,
            control: 0.0,
        });
    }
    let folder = Path::new("target/figures");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("p8.json"), serde_json::to_string_pretty(&figures)?).context("could not write p8.json")
}

/// A second or so of changes at one size, with their stages.
pub fn profiled(vips: u32) -> Result<()> {
    let stages = Bench::new(vips)?.changes(CHANGES * 50)?;
    for (place, name) in STAGES.into_iter().enumerate() {
        let own: Vec<Duration> = stages.iter().map(|stages| stages[place]).collect();
        println!("{name}: {:.1} us median", percentile(&own, 50));
    }
    Ok(())
}

fn percentile(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default().as_secs_f64() * 1e6
}

/// Loads a table of the largest size from nothing, again and again; the slowest time, and what it all takes up then.
fn from_nothing(times: usize) -> Result<(f64, f64, f64)> {
    let (mut slowest, mut mib, mut maps) = (0_f64, 0_f64, 0_f64);
    for _ in 0..times {
        let room = Room::new()?;
        let largest = SIZES[SIZES.len() - 1];
        let mut table = ServiceTable::new(VipRange::default());
        table.apply(TaskEvent::Snapshot(cluster::state(largest, BACKENDS)));
        let snapshot = table.snapshot();
        let mut lb = room.open(largest)?;
        let began = Instant::now();
        let wanted = desired(&snapshot, &view());
        let found = observe(&mut lb)?;
        let report = apply(&mut lb, &plan(&wanted, &found));
        slowest = slowest.max(began.elapsed().as_secs_f64());
        ensure!(report.failed.is_empty(), "{:?}", report.failed.first());
        mib = mib.max(memory::own_mib()?);
        maps = maps.max(memory::maps_mib(&room.folder.path().join("bpf/maps"))?);
    }
    Ok((slowest, mib, maps))
}

fn view() -> NodeView {
    NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    }
}

/// Namespaces and a cgroup; gone when dropped.
struct Room {
    folder: tempfile::TempDir,
}

impl Room {
    fn new() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("this needs root")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
        let folder = tempfile::tempdir()?;
        let cgroup = folder.path().join("cgroup");
        fs::create_dir(&cgroup)?;
        mount(Some("none"), &cgroup, Some("cgroup2"), MsFlags::empty(), None::<&str>).context("cgroup2")?;
        Ok(Self { folder })
    }

    fn open(&self, vips: u32) -> Result<Lb> {
        let group = self.folder.path().join("cgroup/revere-bench-change");
        let bpffs = self.folder.path().join("bpf");
        let mut config = Config::new(bpffs, Vec::new(), group, "198.18.0.0/15".parse()?);
        config.vips = config.vips.max(vips + 2);
        config.backends = config.backends.max(vips * BACKENDS + 1);
        // Each VIP has its table, the one before, and one being written.
        config.slots = config.slots.max(vips * 1_021 * 3);
        Ok(Lb::open(config)?.0)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // What is not there needs no removing; the namespaces take the rest.
        let path = |name: &str| self.folder.path().join(name);
        let _ = fs::remove_dir(path("cgroup/revere-bench-change"));
        for name in ["bpf", "cgroup"] {
            let _ = umount2(&path(name), MntFlags::MNT_DETACH);
        }
    }
}

/// A node's way from the event to the maps, as the daemon goes it.
struct Bench {
    table: ServiceTable,
    snapshot: Snapshot,
    wanted: Desired,
    known: Actual,
    lb: Lb,
    vips: u32,
    _room: Room,
}

impl Bench {
    fn new(vips: u32) -> Result<Self> {
        let room = Room::new()?;
        let mut table = ServiceTable::new(VipRange::default());
        table.apply(TaskEvent::Snapshot(cluster::state(vips, BACKENDS)));
        let snapshot = table.snapshot();
        let mut lb = room.open(vips)?;
        let wanted = desired(&snapshot, &view());
        let mut known = observe(&mut lb)?;
        let steps = plan(&wanted, &known);
        let report = apply(&mut lb, &steps);
        ensure!(report.failed.is_empty(), "{:?}", report.failed.first());
        known.note(&steps);
        ensure!(known.vips.len() == vips as usize, "{} of {vips} VIPs", known.vips.len());
        Ok(Self {
            table,
            snapshot,
            wanted,
            known,
            lb,
            vips,
            _room: room,
        })
    }

    /// One backend after the other becomes unhealthy or healthy again; the time of each change, by stage.
    fn changes(&mut self, count: u32) -> Result<Vec<[Duration; STAGES.len()]>> {
        let mut times = Vec::new();
        for change in 0..count {
            // Each pair of changes is another VIP's, so that caches are as cold as they are.
            let (vip, healthy) = ((change / 2).wrapping_mul(7_919) % self.vips, change % 2 == 1);
            let event = cluster::status(vip, change / 2 % BACKENDS, TaskState::Running, Some(healthy));
            let began = Instant::now();
            self.table.apply(event);
            let snapshot = self.table.snapshot();
            let folded = began.elapsed();
            let changed = self.snapshot.services.changed(&snapshot.services);
            let touched = self.wanted.advance(&snapshot, &view(), changed);
            let steps = plan_touched(&self.wanted, &self.known, &touched);
            let planned = began.elapsed();
            let report = apply(&mut self.lb, &steps);
            self.known.note(&steps);
            times.push([folded, planned - folded, began.elapsed() - planned]);
            ensure!(
                report.failed.is_empty() && report.done > 0,
                "change {change}: {report:?}"
            );
            self.snapshot = snapshot;
        }
        Ok(times)
    }
}
