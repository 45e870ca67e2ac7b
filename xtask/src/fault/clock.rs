//! Wall clocks that jump: of the leading master, then of every program of the cluster (S11).
//!
//! What is set is each program's wall clock, for itself (`lab::wall`): the machine has only one, and it is everybody's.
//! Clocks that count from the machine's start are the kernel's own, which nobody sets; that they run at different speeds
//! by up to a tenth is allowed for in the lease (`etcd::clock`), and tested there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Finding;
use super::bench::{Bench, rest};
use super::masters::{TAKEN_OVER, count_of, tasks};
use crate::demo::signal_kill;
use crate::figures::Figure;
use crate::lab::writes::{self, Writer};
use crate::lab::{Daemon, NODES, wait_for, wall};

const HOUR: i64 = 3_600;
const DECADE: i64 = 10 * 365 * 24 * HOUR;

/// An app whose only instance is killed after each jump: it has to be replaced by whoever leads, by its own timers.
const TIMED: &str = "/timed";

/// How long after a jump the cluster is watched.
const WATCHED: Duration = Duration::from_secs(3);

/// What jumps did.
#[derive(Debug, Default)]
struct Seen {
    violations: Vec<String>,
    jumps: u64,
    /// From a jump to the next write that began after it.
    slowest: Duration,
    /// From the end of an instance to its successor.
    replaced: Duration,
}

/// S11: clocks jump by an hour and ten years, forward and back.
pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let app = json!({"id": TIMED, "cmd": "exec sleep 100000", "cpus": 0.1, "mem": 16, "instances": 1});
    bench.deploy("timed", &app.to_string())?;
    let before = tasks(bench)?;
    let (mut control, mut seen) = (Seen::default(), Seen::default());
    jump(bench, &[], 0, 0, &mut control)?;
    let jumps = [HOUR, 0, -HOUR, 0, DECADE, 0, -DECADE, 0];
    let jumps = if bench.short { &jumps[..4] } else { &jumps[..] };
    let seconds = u64::try_from(jumps.len())? * 16;
    let loads = bench.load(seconds, &bench.url())?;
    let mut round = 1;
    for everybody in [false, true] {
        for by in jumps {
            let whose: Vec<u8> = match everybody {
                true => (1..=NODES).collect(),
                false => vec![bench.cluster.leader()?],
            };
            jump(bench, &whose, *by, round, &mut seen)?;
            round += 1;
        }
    }
    let sum = loads.finish()?;
    let after = tasks(bench)?;
    let changed = after.iter().filter(|task| !before.contains(task)).count();
    bench.cluster.cli(&["app", "remove", TIMED])?;
    eprintln!("{} jumps: {}", seen.jumps, sum.told());
    seen.violations
        .extend((0..changed).map(|_| "a task was started anew".to_owned()));
    let mut found = Finding::default();
    found.check(control.violations.is_empty(), || {
        format!("the control: {:?}", control.violations)
    });
    found.check(seen.violations.is_empty(), || format!("{:?}", seen.violations));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    let figure = |id, value: Duration, control: Duration| {
        Figure::new(id, value.as_secs_f64(), "s", seen.jumps, control.as_secs_f64())
    };
    found.figures = vec![
        Figure::failures(
            "S11",
            count_of(seen.violations.len()),
            seen.jumps,
            count_of(control.violations.len()),
        ),
        figure("S11.write", seen.slowest, control.slowest),
        figure("S11.replaced", seen.replaced, control.replaced),
        Figure::failures("S11.broken", sum.bad(), sum.total + sum.flows, 0),
    ];
    Ok(found)
}

/// One jump of all programs of some nodes' masters; of everybody's, when it is more than one.
fn jump(bench: &Bench, whose: &[u8], by: i64, round: u64, seen: &mut Seen) -> Result<()> {
    let cluster = &bench.cluster;
    let leader = cluster.leader()?;
    let via = leader % NODES + 1;
    let writer = Writer::start(cluster, via, round);
    rest(Duration::from_millis(200));
    let jumped = Instant::now();
    for number in whose {
        for daemon in programs(bench, *number, whose.len() > 1)? {
            wall::shift(daemon, by)?;
        }
    }
    let taken = wait_for(TAKEN_OVER, || writer.first_after(jumped)).context("no write is taken any more")?;
    let killed = Instant::now();
    let victim = cluster.running(TIMED, 1)?.remove(0);
    signal_kill(victim.pid.context("a running task has a process")?)?;
    let next = cluster.until("the killed instance has a successor", |cluster| {
        let tasks = cluster.tasks(TIMED).ok()?;
        tasks
            .into_iter()
            .find(|task| task.id != victim.id && task.pid.is_some())
    });
    if next.is_err() {
        seen.violations.push(format!(
            "after a jump by {by} s an instance that was killed is not replaced"
        ));
    }
    seen.replaced = seen.replaced.max(killed.elapsed());
    rest(WATCHED.saturating_sub(jumped.elapsed()));
    if cluster.leader()? != leader {
        seen.violations
            .push(format!("after a jump by {by} s another master leads"));
    }
    let acknowledged = writer.finish();
    let lost = writes::lost(cluster, via, &acknowledged)?;
    seen.violations
        .extend((0..lost).map(|_| format!("after a jump by {by} s an acknowledged write is gone")));
    writes::forget(cluster, via)?;
    seen.slowest = seen.slowest.max(taken);
    seen.jumps += u64::from(!whose.is_empty());
    eprintln!(
        "{whose:?} {by:+} s: a write after {} ms, a successor after {} ms",
        taken.as_millis(),
        killed.elapsed().as_millis()
    );
    Ok(())
}

/// The master of a node, and of everybody's also what else runs there.
fn programs(bench: &Bench, number: u8, all: bool) -> Result<Vec<&Daemon>> {
    let mut programs = vec![bench.cluster.master(number)?];
    if all {
        programs.extend([bench.cluster.member(number)?, bench.cluster.daemon(number)?]);
    }
    Ok(programs)
}
