//! Daemons that die, are away, are replaced by another version, and die again and again (R1, R2, R3, R5).

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;

use super::Finding;
use super::bench::{Bench, nodes, rest, while_loaded};
use crate::figures::{Figure, count};

/// How long a killed daemon stays away, at most.
const GONE: Duration = Duration::from_millis(500);

/// R1: SIGKILL of one daemon after the other at random moments.
pub(super) fn restarts(bench: &mut Bench) -> Result<Finding> {
    let (seconds, most) = if bench.short { (12, 5) } else { (300, 100) };
    let control = bench.control(seconds.min(30))?;
    let loads = bench.load(seconds, &bench.url())?;
    let began = Instant::now();
    rest(Duration::from_secs(1));
    let mut kills = 0_u64;
    for number in nodes().cycle() {
        if kills == most || !while_loaded(began, seconds) {
            break;
        }
        bench.pause(GONE);
        bench.restart(number, GONE, None)?;
        kills += 1;
    }
    let sum = loads.finish()?;
    eprintln!("{kills} kills: {}", sum.told());
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(kills > 0, || "no daemon was killed".to_owned());
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    found.figures = vec![
        Figure::failures("R1", sum.broken, sum.flows * kills, control.broken),
        Figure::failures("R1.new", sum.failed, sum.total, control.failed),
        Figure::new(
            "R1.slowest",
            count(sum.max_us) / 1000.0,
            "ms",
            kills,
            count(control.max_us) / 1000.0,
        ),
    ];
    Ok(found)
}

/// R2: every daemon gone for minutes, then every daemon stopped.
pub(super) fn absence(bench: &mut Bench) -> Result<Finding> {
    let seconds = if bench.short { 8 } else { 600 };
    let control = bench.control(seconds.min(30))?;
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    for (id, signal) in [("R2.stopped", Signal::STOP), ("R2.killed", Signal::KILL)] {
        for number in nodes() {
            if signal == Signal::KILL {
                bench.cluster.kill_node(number)?;
            } else {
                bench.cluster.daemon(number)?.signal(signal)?;
            }
        }
        let sum = bench.load(seconds, &bench.url())?.finish()?;
        eprintln!("{id} for {seconds} s: {}", sum.told());
        for number in nodes() {
            if signal == Signal::KILL {
                bench.cluster.start_node(number)?;
            } else {
                bench.cluster.daemon(number)?.signal(Signal::CONT)?;
            }
        }
        for number in nodes() {
            bench.node_is_up(number)?;
        }
        bench.answers()?;
        found.check(sum.bad() == 0, || {
            format!("{id}: {} broken, {} failed", sum.broken, sum.failed)
        });
        found
            .figures
            .push(Figure::failures(id, sum.bad(), sum.total, control.bad()));
    }
    Ok(found)
}

/// R3: another version takes over on every node in turn, and the first one takes over again.
pub(super) fn versions(bench: &mut Bench, old: Option<&Path>) -> Result<Finding> {
    let (seconds, cycles) = if bench.short { (14, 1) } else { (180, 20) };
    if old.is_none() {
        eprintln!("no --old PROGRAM: the same version takes over from itself");
    }
    let control = bench.control(seconds.min(30))?;
    let loads = bench.load(seconds, &bench.url())?;
    let began = Instant::now();
    let mut changes = 0_u64;
    'cycles: for _ in 0..cycles {
        for other in [old, None] {
            for number in nodes() {
                if !while_loaded(began, seconds) {
                    break 'cycles;
                }
                bench.restart(number, Duration::from_millis(50), other)?;
                changes += 1;
            }
        }
    }
    let sum = loads.finish()?;
    eprintln!("{changes} changes of version: {}", sum.told());
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(changes > 1, || "no version was changed".to_owned());
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    let id = if old.is_some() { "R3" } else { "R3.same" };
    found.figures = vec![Figure::failures(id, sum.bad(), sum.flows * changes, control.bad())];
    Ok(found)
}

/// R5: a daemon that is killed again and again leaves no more of anything than a daemon that was not.
pub(super) fn crash_loop(bench: &mut Bench) -> Result<Finding> {
    const NODE: u8 = 2;
    let (seconds, most) = if bench.short { (10, 8) } else { (75, 50) };
    bench.restart(NODE, GONE, None)?;
    bench.answers()?;
    let before = things(bench, NODE)?;
    let control = bench.control(seconds.min(30))?;
    let loads = bench.load(seconds, &bench.url())?;
    let (began, mut kills) = (Instant::now(), 0_u64);
    while kills < most && while_loaded(began, seconds) {
        // Some are killed while they start, some after.
        bench.cluster.kill_node(NODE)?;
        bench.cluster.start_node(NODE)?;
        bench.pause(Duration::from_millis(1200));
        kills += 1;
    }
    bench.node_is_up(NODE)?;
    let sum = loads.finish()?;
    bench.answers()?;
    eprintln!("{kills} kills: {}", sum.told());
    let mut after = things(bench, NODE)?;
    // Descriptors of requests under way come and go.
    for _ in 0..50 {
        if after == before {
            break;
        }
        rest(Duration::from_millis(200));
        after = things(bench, NODE)?;
    }
    let grown: Vec<String> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| after.1 > before.1)
        .map(|(before, after)| format!("{} {} -> {}", before.0, before.1, after.1))
        .collect();
    eprintln!("before {before:?}\nafter  {after:?}");
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    found.check(grown.is_empty(), || format!("grown: {}", grown.join(", ")));
    found.figures = vec![
        Figure::failures("R5", sum.bad(), sum.flows * kills, control.bad()),
        Figure::failures("R5.grown", u64::try_from(grown.len())?, kills, 0),
    ];
    Ok(found)
}

/// What a node could leak, counted.
fn things(bench: &Bench, node: u8) -> Result<Vec<(&'static str, u64)>> {
    let place = bench.cluster.node(node);
    let pid = bench.cluster.daemon(node)?.pid().unwrap_or_default();
    let lines = |command: &str| -> Result<u64> { Ok(place.sh(&format!("{command} | wc -l"))?.trim().parse()?) };
    let mut descriptors = [("descriptors", 0_u64), ("maps", 0), ("programs", 0), ("links", 0)];
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let to = std::fs::read_link(entry.path()).unwrap_or_default();
        let to = to.to_string_lossy();
        let kinds = ["", "anon_inode:bpf-map", "anon_inode:bpf-prog", "anon_inode:bpf_link"];
        for (kind, counted) in kinds.iter().zip(&mut descriptors) {
            counted.1 += u64::from(to.starts_with(kind));
        }
    }
    let mut all = descriptors.to_vec();
    all.extend([
        ("pins", lines("find /sys/fs/bpf -type f -o -type l")?),
        ("links of the network", lines("ip -o link")?),
        ("addresses", lines("ip -o addr")?),
        // The kernel adds its own of a link's local address when it has made sure of that, seconds later.
        ("routes", lines("ip route show table all | grep -v fe80:")?),
        ("rules", lines("ip rule")?),
        ("neighbours", lines("ip neigh show nud permanent")?),
        ("filters", lines("tc filter show dev up0 egress")?),
        ("mounts", lines("cat /proc/self/mounts")?),
        (
            "threads",
            u64::try_from(std::fs::read_dir(format!("/proc/{pid}/task"))?.count())?,
        ),
    ]);
    Ok(all)
}
