//! R10: how long new connections go on failing after a backend's process was killed, was stopped, or its node went silent.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Finding;
use super::bench::{Bench, rest};
use crate::demo::{At, Load, signal_kill};
use crate::figures::Figure;

/// VIP port of the service whose health is checked.
const PORT: u16 = 5900;
/// The node that goes silent; the master is on another one.
const SILENT: u8 = 3;
/// Load before the fault.
const BEFORE: Duration = Duration::from_secs(1);
/// A load, with and after the fault.
const LOAD: Duration = Duration::from_secs(7);
/// In the short form nothing is said of times: failures must have ended when the load did, even on a machine that stalls.
const LONG_LOAD: Duration = Duration::from_secs(12);

const ENDED: f64 = 10_000.0;

/// Over all rounds of one kind of fault.
#[derive(Debug, Default)]
struct Hole {
    /// From the fault to the begin of the last request that failed, on the backend's own node and elsewhere, in milliseconds.
    here: f64,
    elsewhere: f64,
    /// Whether clients were on the backend's own node.
    here_asked: bool,
    /// Requests that failed before the fault, and all.
    before: u64,
    total: u64,
    rounds: u64,
}

impl Hole {
    /// One round: `fault` happens under load and tells on which node.
    fn round(&mut self, bench: &Bench, clients: &[At], url: &str, fault: impl FnOnce() -> Result<u8>) -> Result<()> {
        let seconds = if bench.short { LONG_LOAD } else { LOAD }.as_secs().to_string();
        let args = ["--seconds", &seconds, "--rate", "50"];
        let loads = clients.iter().map(|at| Load::start(&bench.cluster, at, url, &args));
        let loads = loads.collect::<Result<Vec<_>>>()?;
        rest(BEFORE);
        let began = UNIX_EPOCH.elapsed()?.as_secs_f64() * 1000.0;
        let node = fault()?;
        for load in loads {
            let own = load.at.node() == Some(node);
            self.here_asked |= own;
            let report = load.finish()?;
            self.total += report.total;
            for failure in &report.failures {
                let after = failure.at_ms - began;
                if failure.failed_ms < began {
                    self.before += 1;
                } else if own {
                    self.here = self.here.max(after);
                } else {
                    self.elsewhere = self.elsewhere.max(after);
                }
            }
        }
        self.rounds += 1;
        Ok(())
    }
}

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let rounds = if bench.short { 1 } else { 30 };
    let app = json!({
        "id": "/checked", "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.1, "mem": 32, "instances": 3,
        "portDefinitions": [{"protocol": "tcp", "port": PORT, "name": "web", "labels": {"VIP_0": format!("/checked:{PORT}")}}],
        "healthChecks": [{"protocol": "MESOS_HTTP", "path": "/", "portIndex": 0, "gracePeriodSeconds": 5, "intervalSeconds": 1,
                          "timeoutSeconds": 1, "maxConsecutiveFailures": 0}],
    });
    bench.deploy("checked", &app.to_string())?;
    let checked = format!("http://{}:{PORT}/", bench.address("checked")?);
    let (mut killed, mut stopped, mut silent) = (Hole::default(), Hole::default(), Hole::default());
    for _ in 0..rounds {
        kill(bench, &mut killed)?;
        stop(bench, &mut stopped, &checked)?;
        silence(bench, &mut silent)?;
    }
    bench.cluster.cli(&["app", "remove", "/checked"])?;
    let mut found = Finding::default();
    for (id, hole, bound) in [
        ("R10.process", &killed, 1000.0),
        ("R10.stopped", &stopped, 4000.0),
        ("R10.node", &silent, 5000.0),
    ] {
        let longest = hole.here.max(hole.elsewhere);
        let bound = if bench.short { ENDED } else { bound };
        eprintln!("{id}: {hole:?}");
        found.check(hole.before == 0, || {
            format!("{} requests failed before the fault", hole.before)
        });
        found.check(longest <= bound, || {
            format!("{id}: connections failed for {longest:.0} ms")
        });
        let figure = |id: String, value| Figure::new(&id, value, "ms", hole.rounds, 0.0);
        if hole.here_asked {
            found.figures.push(figure(format!("{id}.local"), hole.here));
        }
        found.figures.push(figure(id.to_owned(), hole.elsewhere));
    }
    Ok(found)
}

/// SIGKILL of one instance.
fn kill(bench: &Bench, hole: &mut Hole) -> Result<()> {
    let tasks = bench.cluster.running("/my-service", 3)?;
    let victim = &tasks[usize::try_from(hole.rounds)? % tasks.len()];
    hole.round(bench, &At::all(&bench.cluster)?, &bench.url(), || {
        signal_kill(victim.pid.context("a running task has a process")?)?;
        Ok(victim.node)
    })?;
    bench.answers()
}

/// SIGSTOP of one instance: the kernel goes on taking connections for it, and only its health check can tell.
fn stop(bench: &Bench, hole: &mut Hole, url: &str) -> Result<()> {
    let tasks = bench.cluster.running("/checked", 3)?;
    let victim = &tasks[usize::try_from(hole.rounds)? % tasks.len()];
    let pid = victim.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.context("a running task has a process")?;
    served(bench, url)?;
    hole.round(bench, &At::all(&bench.cluster)?, url, || {
        kill_process(pid, Signal::STOP)?;
        Ok(victim.node)
    })?;
    // The scheduler may have ended it by now.
    let _ = kill_process(pid, Signal::CONT);
    bench.cluster.running("/checked", 3)?;
    served(bench, url)
}

/// One node is cut off without a word; whoever is on it is not asked.
fn silence(bench: &Bench, hole: &mut Hole) -> Result<()> {
    let fabric = &bench.cluster.lab.fabric;
    let clients: Vec<At> = At::all(&bench.cluster)?
        .into_iter()
        .filter(|at| at.node().is_some_and(|node| node != SILENT))
        .collect();
    hole.round(bench, &clients, &bench.url(), || {
        fabric.sh(&format!("ip link set node{SILENT} nomaster"))?;
        Ok(SILENT)
    })?;
    fabric.sh(&format!("ip link set node{SILENT} master br0"))?;
    bench.cluster.until("the silent node is back", |cluster| {
        let nodes = cluster.json(&["node", "list"]).ok()?;
        let nodes = nodes["nodes"].as_array()?;
        nodes.iter().all(|node| node["connected"] == true).then_some(())
    })?;
    bench.cluster.running("/my-service", 3)?;
    bench.answers()
}

fn served(bench: &Bench, url: &str) -> Result<()> {
    bench.cluster.until("every instance answers", |cluster| {
        let args = ["--requests", "60", "--timeout-ms", "500"];
        let report = Load::start(cluster, &At::Outside, url, &args).ok()?.finish().ok()?;
        (report.failed == 0 && report.by_instance.len() == 3).then_some(())
    })
}
