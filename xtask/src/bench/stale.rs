//! D1: how long names go on saying what is no longer so, on the node concerned and on all others.
//!
//! On every node a program asks that node's own name server for the service every two milliseconds and writes down
//! when the answer changed. All places share one machine's clock.

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::demo::signal_kill;
use crate::dist;
use crate::figures::{self, Figure, count};
use crate::lab::{Cluster, Daemon, NODES, PATIENCE, Task, underlay, wait_for};
use crate::setup::{self, Install};
use crate::workspace::Workspace;

/// The service's SRV name.
const NAME: &str = "_stale._tcp.marathon.mesos";

/// Its instances.
const INSTANCES: usize = 3;

/// Microseconds of a day, for times that are told without the day.
const DAY_US: u64 = 86_400_000_000;

/// Flags of `cargo xtask bench dns-stale`.
#[derive(Clone, Debug, clap::Args)]
pub struct StaleArgs {
    /// Deaths, each followed by a birth.
    #[arg(long, default_value_t = 200)]
    pub trials: u32,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Delays in milliseconds: of the node where it happened, and of all of them.
#[derive(Debug, Default)]
struct Delays {
    local: Vec<f64>,
    any: Vec<f64>,
}

/// Measures and writes `dns-stale.json`.
pub(super) fn run(workspace: &Workspace, args: &StaleArgs) -> Result<ExitCode> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    crate::ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let cluster = Cluster::start(&dist::build_revere(workspace)?)?;
    let measured = measure(&cluster, args.trials).with_context(|| cluster.picture());
    cluster.lab.close()?;
    let (death, birth, idle) = measured?;
    let mut figures = Vec::new();
    for (what, delays) in [("death", &death), ("birth", &birth)] {
        for (place, all) in [("local", &delays.local), ("any", &delays.any)] {
            let id = if what == "death" {
                format!("D1.{place}")
            } else {
                format!("D1.birth.{place}")
            };
            let n = u64::try_from(all.len())?;
            figures.push(Figure::new(&id, quantile(all, 0.99), "ms p99", n, count(idle)));
            figures.push(Figure::new(
                &format!("{id}.max"),
                quantile(all, 1.0),
                "ms",
                n,
                count(idle),
            ));
            figures.push(Figure::new(
                &format!("{id}.p50"),
                quantile(all, 0.5),
                "ms p50",
                n,
                count(idle),
            ));
        }
    }
    for figure in &figures {
        eprintln!("{:18} {:9.1} {:7} n {}", figure.id, figure.value, figure.unit, figure.n);
    }
    figures::write(workspace, "dns-stale", &figures)?;
    Ok(ExitCode::SUCCESS)
}

/// Deaths, births, and answers that changed while nothing was done: the control, which must be none.
fn measure(cluster: &Cluster, trials: u32) -> Result<(Delays, Delays, u64)> {
    let app = cluster.lab.dir.join("stale.json");
    std::fs::write(&app, definition().to_string())?;
    cluster.cli(&["app", "add", app.to_str().context("a plain path")?])?;
    cluster.running("/stale", INSTANCES)?;
    let watchers: Vec<Daemon> = (1..=NODES)
        .map(|number| watcher(cluster, number))
        .collect::<Result<_>>()?;
    for watcher in &watchers {
        wait_for(PATIENCE, || (lines(watcher).last()?.1 == INSTANCES).then_some(()))
            .context("not every node answers with every instance")?;
    }
    let before: Vec<usize> = watchers.iter().map(|one| lines(one).len()).collect();
    std::thread::sleep(std::time::Duration::from_secs(5));
    let changed = watchers
        .iter()
        .zip(&before)
        .map(|(one, before)| lines(one).len() - before)
        .sum::<usize>();
    let idle = u64::try_from(changed)?;
    ensure!(
        idle == 0,
        "{idle} answers changed while nothing was done; nothing can be measured"
    );
    let (mut death, mut birth) = (Delays::default(), Delays::default());
    for trial in 0..trials {
        let tasks = cluster.running("/stale", INSTANCES)?;
        let victim = tasks[usize::try_from(trial)? % tasks.len()].clone();
        one(cluster, &watchers, &tasks, &victim, &mut death, &mut birth)
            .with_context(|| format!("trial {trial}, task {}", victim.id))?;
        if trial % 20 == 19 {
            eprintln!("dns-stale: {} of {trials}", trial + 1);
        }
    }
    Ok((death, birth, idle))
}

fn definition() -> Value {
    // Without a growing delay before each new instance.
    json!({"id": "/stale", "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.1, "mem": 32, "instances": INSTANCES,
        "backoffSeconds": 0.1, "backoffFactor": 1.0,
        "portDefinitions": [{"protocol": "tcp", "port": 0, "name": "http", "labels": {"VIP_0": "/stale:80"}}]})
}

fn watcher(cluster: &Cluster, number: u8) -> Result<Daemon> {
    let server = format!("{}:53", underlay(number));
    let program = [cluster.revere(), "demo-names", NAME, "--server", &server];
    cluster.node(number).spawn("names", &program, &[])
}

/// What a watcher wrote: time in microseconds, and how many instances the answer had.
fn lines(watcher: &Daemon) -> Vec<(u64, usize)> {
    let text = watcher.output();
    let line = |line: &str| {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        Some((words.next()?.parse().ok()?, words.count()))
    };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(line).collect()
}

fn one(
    cluster: &Cluster,
    watchers: &[Daemon],
    before: &[Task],
    victim: &Task,
    death: &mut Delays,
    birth: &mut Delays,
) -> Result<()> {
    let pid = victim.pid.context("the task has a process")?;
    let killed = now_us();
    signal_kill(pid)?;
    let mut slowest = 0.0f64;
    for (watcher, number) in watchers.iter().zip(1..) {
        let gone = wait_for(PATIENCE, || {
            lines(watcher)
                .into_iter()
                .find(|(at, count)| *at > killed && *count < INSTANCES)
        });
        let (at, _) = gone.with_context(|| format!("node{number} never noticed"))?;
        let delay = ms(at - killed);
        slowest = slowest.max(delay);
        if number == victim.node {
            death.local.push(delay);
        }
    }
    death.any.push(slowest);
    let tasks = cluster.running("/stale", INSTANCES)?;
    let new = tasks.iter().find(|task| !before.iter().any(|old| old.id == task.id));
    let new = new.context("a new task took the place of the killed one")?;
    let ready = ready_us(cluster, new)?;
    let mut slowest = 0.0f64;
    for (watcher, number) in watchers.iter().zip(1..) {
        let whole = wait_for(PATIENCE, || {
            let last = lines(watcher).last().copied()?;
            (last.0 > killed && last.1 == INSTANCES).then_some(last)
        });
        let (at, _) = whole.with_context(|| format!("node{number} never told the new task"))?;
        // The status is stamped to the millisecond, before it is sent.
        let delay = ms((at % DAY_US).saturating_sub(ready));
        slowest = slowest.max(delay);
        if number == new.node {
            birth.local.push(delay);
        }
    }
    birth.any.push(slowest);
    Ok(())
}

/// When the node found the task ready, in microseconds of its day.
fn ready_us(cluster: &Cluster, task: &Task) -> Result<u64> {
    let shown = cluster.json(&["app", "show", "/stale"])?;
    let tasks = shown["app"]["tasks"].as_array().cloned().unwrap_or_default();
    let found = tasks.iter().find(|one| one["id"] == task.id.as_str());
    let started = found
        .and_then(|one| one["startedAt"].as_str())
        .context("a running task has a start")?;
    // 2026-11-21T04:05:06.789Z
    let time = started.split_once('T').context("a time")?.1.trim_end_matches('Z');
    let mut parts = time.split([':', '.']).map(str::parse::<u64>);
    let mut next = || parts.next().context("a time has four parts")?.context("a number");
    let (hours, minutes, seconds, millis) = (next()?, next()?, next()?, next()?);
    Ok((((hours * 60 + minutes) * 60 + seconds) * 1000 + millis) * 1000)
}

fn now_us() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds with their fraction.
fn ms(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64() * 1000.0
}

/// The value that this part of all do not exceed.
pub(super) fn quantile(all: &[f64], part: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Ranks of a few hundred trials are exact in a double.
    let wanted = count(u64::try_from(sorted.len()).unwrap_or(u64::MAX)) * part;
    let rank = (1..=sorted.len()).find(|rank| count(u64::try_from(*rank).unwrap_or(u64::MAX)) >= wanted);
    rank.and_then(|rank| sorted.get(rank - 1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let all: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(
            (quantile(&all, 0.5), quantile(&all, 0.99), quantile(&all, 1.0)),
            (100.0, 198.0, 200.0)
        );
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }
}
