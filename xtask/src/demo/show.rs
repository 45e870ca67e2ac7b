//! The parts of the demo without a fault: nodes, tasks, names, shares.

use anyhow::{Result, bail};
use serde_json::json;

use super::Facts;
use super::load::{At, Load, Report, URL};
use crate::lab::Cluster;

/// Names of the example app: query type and name.
const NAMES: &[(&str, &str)] = &[
    ("A", "my-service.marathon.l4lb.thisdcos.directory"),
    ("A", "my-service.marathon.mesos"),
    ("SRV", "_my-service._tcp.marathon.mesos"),
];

pub(super) fn cluster(cluster: &Cluster, facts: &mut Facts) -> Result<()> {
    facts.show(
        "nodes",
        &cluster.cli(&["node", "list"])?,
        cluster.json(&["node", "list"])?,
    );
    cluster.running("/my-service", 3)?;
    facts.show(
        "tasks",
        &cluster.cli(&["app", "show", "/my-service"])?,
        cluster.json(&["app", "show", "/my-service"])?,
    );
    facts.show(
        "virtual addresses",
        &cluster.cli(&["vip", "list"])?,
        cluster.json(&["vip", "list"])?,
    );
    Ok(())
}

pub(super) fn names(cluster: &Cluster, facts: &mut Facts) -> Result<()> {
    for (kind, name) in NAMES {
        let dig = [
            "dig",
            "+noall",
            "+answer",
            "+additional",
            "+nocookie",
            "+time=2",
            "+tries=2",
            "@198.51.100.1",
            name,
            kind,
        ];
        let answer = cluster.until(&format!("node2 answers {kind} {name}"), |cluster| {
            cluster.node(2).run(&dig).ok().filter(|text| text.contains(name))
        })?;
        facts.show(
            &format!("dig {name} {kind}"),
            &answer,
            json!(answer.lines().collect::<Vec<_>>()),
        );
    }
    Ok(())
}

pub(super) fn requests(cluster: &Cluster, facts: &mut Facts) -> Result<()> {
    let places = At::all(cluster)?;
    let Some(container) = places.iter().find(|at| matches!(at, At::Container(_))).cloned() else {
        bail!("no client container runs")
    };
    for at in [At::Host(1), container, At::Outside] {
        ready(cluster, &at)?;
        let report = Load::start(cluster, &at, URL, &["--requests", "1000"])?.finish()?;
        facts.show(
            &format!("1,000 requests by name, {}", at.name()),
            &shares(&report),
            json!(report),
        );
        if report.failed > 0 || report.by_instance.len() != 3 {
            facts.fail(format!(
                "{}: {} of {} failed, {} of 3 instances answered",
                at.name(),
                report.failed,
                report.total,
                report.by_instance.len()
            ));
        }
    }
    Ok(())
}

/// Waits until a request gets through at all, so that counting starts on a cluster that is up.
pub(super) fn ready(cluster: &Cluster, at: &At) -> Result<()> {
    cluster.until(&format!("the service answers: {}", at.name()), |cluster| {
        let report = Load::start(cluster, at, URL, &["--requests", "12", "--timeout-ms", "500"])
            .ok()?
            .finish()
            .ok()?;
        (report.failed == 0).then_some(())
    })
}

fn shares(report: &Report) -> String {
    let mut text = format!("{} ok, {} failed\n", report.ok, report.failed);
    for (instance, count) in &report.by_instance {
        let tenths = count * 1000 / report.ok.max(1);
        text.push_str(&format!(
            "  {:>3}.{} %  {count:>5}  {instance}\n",
            tenths / 10,
            tenths % 10
        ));
    }
    for failure in report.failures.iter().take(3) {
        text.push_str(&format!("  failed: {} {}\n", failure.kind, failure.detail));
    }
    text
}
