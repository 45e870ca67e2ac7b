//! R7 and R8: one of many backends leaves, one joins, packets arrive at other nodes; flows of all others go on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Finding;
use super::bench::{Bench, Loads, rest, tasks_on};
use crate::demo::{At, Failure, Load, Report};
use crate::figures::Figure;
use crate::lab::{Cluster, Task};

/// The port of the service with many backends.
const PORT: u16 = 5600;

fn many(bench: &Bench) -> u32 {
    if bench.short { 20 } else { 100 }
}

/// Deploys the service with many backends, once.
fn deployed(bench: &Bench) -> Result<(Vec<Task>, String)> {
    let instances = many(bench);
    if bench.cluster.tasks("/many").is_err() {
        let app = json!({
            "id": "/many", "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.05, "mem": 16, "instances": instances,
            "portDefinitions": [{"protocol": "tcp", "port": PORT, "name": "web", "labels": {"VIP_0": format!("/many:{PORT}")}}],
        });
        bench.deploy("many", &app.to_string())?;
    }
    let tasks = bench.cluster.running("/many", usize::try_from(instances)?)?;
    let address = bench.address("many")?;
    let url = format!("http://{address}:{PORT}/");
    bench.cluster.until("every instance answers", |cluster| {
        let args = ["--requests", "2000", "--timeout-ms", "1000"];
        let report = Load::start(cluster, &At::Outside, &url, &args).ok()?.finish().ok()?;
        (report.failed == 0 && report.by_instance.len() >= tasks.len() * 9 / 10).then_some(())
    })?;
    Ok((tasks, url))
}

/// The outside client's way to the nodes.
fn route(cluster: &Cluster, nodes: &[u8]) -> Result<()> {
    let hops: String = nodes
        .iter()
        .map(|node| format!(" nexthop via 10.99.0.{node}"))
        .collect();
    cluster
        .lab
        .outside
        .sh(&format!("ip route replace 11.0.0.0/8{hops}"))
        .map(drop)
}

fn loads(bench: &Bench, url: &str, seconds: u64) -> Result<Loads> {
    bench.load(seconds, url)
}

/// What is to be known of a failure; of a flow of a backend that stayed, also what each node knows of it now.
fn tell(bench: &Bench, name: &str, report: &Report, failure: &Failure, victim: Option<&str>) -> Result<()> {
    let after = |ms: f64| ms - report.started_ms;
    let (at, backend) = (after(failure.failed_ms), failure.backend.as_deref());
    let (kind, detail) = (&failure.kind, &failure.detail);
    eprintln!(
        "  {name}, +{at:.0} ms, backend {}: {kind} {detail}",
        backend.unwrap_or("none yet")
    );
    if let (Some(local), Some(opened)) = (failure.local, failure.opened_ms)
        && (victim.is_none() || backend != victim)
    {
        eprintln!(
            "    {local}, opened at +{:.0} ms: {}",
            after(opened),
            bench.flow(local, "many", PORT)?
        );
    }
    Ok(())
}

/// R7: SIGKILL of one backend, then the client's ways are swapped, then all flows come by one node.
pub(super) fn leaves(bench: &mut Bench) -> Result<Finding> {
    let (tasks, url) = deployed(bench)?;
    let seconds = if bench.short { 10 } else { 40 };
    let step = Duration::from_secs(seconds / 5);
    let control = loads(bench, &url, seconds)?.finish()?;
    eprintln!("control: {}", control.told());
    let spread: Vec<usize> = super::bench::nodes().map(|node| tasks_on(&tasks, node)).collect();
    let victim = tasks.first().context("the service has a task")?;
    eprintln!("{} backends, per node {spread:?}; {} leaves", tasks.len(), victim.id);
    let load = loads(bench, &url, seconds)?;
    rest(step);
    crate::demo::signal_kill(victim.pid.context("a running task has a process")?)?;
    rest(step);
    route(&bench.cluster, &[2, 3, 1])?;
    rest(step);
    route(&bench.cluster, &[3])?;
    let sum = load.finish()?;
    route(&bench.cluster, &[1, 2, 3])?;
    bench.cluster.running("/many", tasks.len())?;
    // What broke on the victim's own connections is not ours to keep.
    let failures = || sum.reports.iter().flat_map(|(_, report)| &report.failures);
    let others = failures().filter(|failure| failure.backend.as_ref().is_some_and(|backend| *backend != victim.id));
    let others = u64::try_from(others.count())?;
    let own = u64::try_from(
        failures()
            .filter(|failure| failure.backend.as_ref() == Some(&victim.id))
            .count(),
    )?;
    let new = u64::try_from(failures().filter(|failure| failure.backend.is_none()).count())?;
    for (name, report) in &sum.reports {
        for failure in &report.failures {
            tell(bench, name, report, failure, Some(&victim.id))?;
        }
    }
    eprintln!("flows broken of the backend that left: {own}; of others: {others}; new connections failed: {new}");
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(others == 0, || {
        format!("{others} flows of backends that stayed were broken")
    });
    found.figures = vec![
        Figure::failures("R7", others, sum.flows, control.bad()),
        Figure::failures("R7.new", new, sum.total, control.failed),
    ];
    Ok(found)
}

/// R8: one backend more.
pub(super) fn joins(bench: &mut Bench) -> Result<Finding> {
    let (tasks, url) = deployed(bench)?;
    let seconds = if bench.short { 8 } else { 30 };
    let control = loads(bench, &url, seconds)?.finish()?;
    eprintln!("control: {}", control.told());
    let load = loads(bench, &url, seconds)?;
    rest(Duration::from_secs(seconds / 4));
    bench
        .cluster
        .cli(&["app", "scale", "/many", &(tasks.len() + 1).to_string()])?;
    route(&bench.cluster, &[3, 1, 2])?;
    let sum = load.finish()?;
    route(&bench.cluster, &[1, 2, 3])?;
    eprintln!("{}", sum.told());
    for (name, report) in &sum.reports {
        for failure in &report.failures {
            tell(bench, name, report, failure, None)?;
        }
    }
    bench
        .cluster
        .cli(&["app", "scale", "/many", &tasks.len().to_string()])?;
    let mut found = Finding::default();
    found.check(control.bad() == 0, || format!("the control lost {}", control.bad()));
    found.check(sum.bad() == 0, || {
        format!("{} broken, {} failed", sum.broken, sum.failed)
    });
    found.figures = vec![Figure::failures("R8", sum.bad(), sum.flows, control.bad())];
    Ok(found)
}
