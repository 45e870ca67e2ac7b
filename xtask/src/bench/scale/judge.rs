//! What a run's figures are, and whether they are as they should be.

use anyhow::{Context as _, Result, ensure};

use super::super::Outcome;
use super::load::{Plan, Told, WHOLE};
use super::{Costs, Run};
use crate::figures::{Figure, count};

/// Until the last node has a change, for ninety-nine of a hundred changes.
const TARGET_S: f64 = 1.0;

/// Seconds from a change to its arrival at the last node, sorted.
fn delays(told: &Told) -> Vec<f64> {
    let mut delays: Vec<f64> = told
        .changes
        .values()
        .map(|(made, last, _)| count(last.saturating_sub(*made)) / 1e6)
        .collect();
    delays.sort_by(f64::total_cmp);
    delays
}

/// The value below which so many of a thousand lie.
fn part(sorted: &[f64], thousandth: usize) -> Result<f64> {
    let index = (sorted.len() * thousandth / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().context("no change was seen")
}

/// Every change came to every node, once.
fn complete(outcome: &mut Outcome, what: &str, told: &Told, nodes: u32, changes: u64) {
    let seen = u64::try_from(told.changes.len()).unwrap_or(u64::MAX);
    outcome.check(seen == changes, || {
        format!("{what}: {seen} of {changes} changes were seen at all")
    });
    let wrong = told
        .changes
        .values()
        .filter(|(.., had)| *had != u64::from(nodes))
        .count();
    outcome.check(wrong == 0, || {
        format!("{what}: {wrong} changes did not come to each of {nodes} nodes exactly once")
    });
    outcome.check(told.again == 0 && told.lost == 0, || {
        format!(
            "{what}: {} streams ended, {} agents lost their connection",
            told.again, told.lost
        )
    });
}

/// Processors while tasks change and while none does, and memory beside that of few nodes.
fn costs(outcome: &mut Outcome, changes: u64, full: &Run, control: &Run) {
    let mut put = |id: &str, value: f64, unit, control: f64| {
        outcome.figures.push(Figure::new(id, value, unit, changes, control));
    };
    let (busy, idle) = (&full.busy, &full.idle);
    let each = |of: fn(&Costs) -> f64| (of(busy), of(idle));
    for (name, (value, control)) in [
        ("S25.cpu.leader", each(|costs| costs.leader.cores)),
        ("S25.cpu.follower", each(|costs| costs.follower.cores)),
        ("S25.cpu.etcd", each(|costs| costs.etcd.cores)),
        ("S25.cpu.load", each(|costs| costs.load.cores)),
    ] {
        put(name, value, "cores", control);
    }
    for (name, value, control) in [
        ("S25.mem.leader", busy.leader.mib, control.busy.leader.mib),
        ("S25.mem.follower", busy.follower.mib, control.busy.follower.mib),
        ("S25.mem.etcd", busy.etcd.mib, control.busy.etcd.mib),
        ("S25.mem.load", busy.load.mib, control.busy.load.mib),
    ] {
        put(name, value, "MiB", control);
    }
}

pub(super) fn judge(outcome: &mut Outcome, all: (&Plan, &Run), few: (&Plan, &Run), short: bool) -> Result<()> {
    let ((plan, full), (few, control)) = (all, few);
    let changes = plan.changes();
    ensure!(changes > 0, "no changes are asked for");
    complete(outcome, "all nodes", &full.told, plan.nodes, changes);
    complete(outcome, "control", &control.told, few.nodes, few.changes());
    let (delays, floor) = (delays(&full.told), delays(&control.told));
    let (p99, floor_p99) = (part(&delays, 990)?, part(&floor, 990)?);
    let mut put = |id: &str, value: f64, unit, control: f64| {
        outcome.figures.push(Figure::new(id, value, unit, changes, control));
    };
    put("S25", p99, "s p99", floor_p99);
    put("S25.p50", part(&delays, 500)?, "s p50", part(&floor, 500)?);
    put("S25.max", part(&delays, 1_000)?, "s", part(&floor, 1_000)?);
    costs(outcome, changes, full, control);
    let (busy, idle) = (&full.busy, &full.idle);
    let mut put = |id: &str, value: f64, unit, control: f64| {
        outcome.figures.push(Figure::new(id, value, unit, changes, control));
    };
    // Those that run a daemon's own code count their bytes themselves.
    let bytes = |run: &Run, plan: &Plan| {
        let readers = plan.nodes - (WHOLE * plan.processes).min(plan.nodes);
        count(run.told.bytes / 1_000) * 1_000.0 / f64::from(readers.max(1)) / count(plan.changes())
    };
    put("S25.bytes", bytes(full, plan), "B", bytes(control, few));
    let puts = |run: &Run, plan: &Plan| run.busy.puts / count(plan.changes());
    put("S25.puts", puts(full, plan), "keys", puts(control, few));
    let transactions = |costs: &Costs| costs.transactions / costs.seconds;
    put("S25.txns", transactions(busy), "per s", transactions(idle));
    let nodes = u64::from(plan.nodes);
    let mut put = |id: &str, value: f64, unit, control: f64| {
        outcome.figures.push(Figure::new(id, value, unit, nodes, control));
    };
    put(
        "S25.snapshot",
        count(full.told.snapshot),
        "B",
        count(control.told.snapshot),
    );
    // What a node reads until it follows; mostly that state.
    let begin = |run: &Run, nodes: u32| count(run.told.began / 1_000) * 1_000.0 / f64::from(nodes);
    put("S25.begin", begin(full, plan.nodes), "B", begin(control, few.nodes));
    put("S25.register", full.registered, "s", control.registered);
    put("S25.place", full.running, "s", control.running);
    put("S25.join", full.following, "s", control.following);
    let snapshots = full.told.snapshots;
    outcome.check(snapshots == nodes, || {
        format!("{snapshots} whole states for {nodes} nodes: some began anew")
    });
    outcome.check(short || p99 <= TARGET_S, || {
        format!("S25: {p99:.2} s, wanted {TARGET_S}")
    });
    Ok(())
}
