//! An instance that turns unhealthy: out of the VIP's and the names' answers first, then replaced.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::demo::{At, Load};
use xtask::lab::{Cluster, Task, wait_for};

use super::{deploy, load, nodes, on_cluster};

const URL: &str = "http://sickly.marathon.l4lb.thisdcos.directory:5558/";

/// What the health check says of a task: alive, and the time of its last failure.
fn checked(cluster: &Cluster, task: &str) -> Option<(bool, String)> {
    let shown = cluster.json(&["app", "show", "/sickly"]).ok()?;
    let tasks = shown["app"]["tasks"].as_array()?;
    let result = &tasks.iter().find(|one| one["id"] == task)?["healthCheckResults"][0];
    Some((
        result["alive"].as_bool()?,
        result["lastFailure"].as_str().unwrap_or_default().to_owned(),
    ))
}

fn counts(cluster: &Cluster) -> Option<(Value, Value)> {
    let app = cluster.json(&["app", "show", "/sickly"]).ok()?;
    Some((app["app"]["tasksHealthy"].clone(), app["app"]["tasksUnhealthy"].clone()))
}

/// Addresses that a node's name server gives for the app's tasks.
fn addresses(cluster: &Cluster, node: u8) -> usize {
    let dig = ["dig", "+short", "@198.51.100.1", "sickly.marathon.mesos", "A"];
    cluster.node(node).run(&dig).map_or(0, |said| said.lines().count())
}

fn seconds_of_day(time: &str) -> Option<f64> {
    let clock = time.split_once('T')?.1.trim_end_matches('Z');
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

/// Seconds from the failed check to the start of the last request that reached the instance.
fn tail(failure: &str, last_seen_ms: f64) -> Option<f64> {
    Some((last_seen_ms / 1000.0).rem_euclid(86_400.0) - seconds_of_day(failure)?)
}

/// Turns one instance unhealthy under load from everywhere; the time from the failed check to its last new connection.
fn sicken(cluster: &Cluster, victim: &Task) -> Result<Option<f64>> {
    let loads: Vec<Load> = At::all(cluster)?
        .iter()
        .map(|at| Load::start(cluster, at, URL, &["--seconds", "7", "--rate", "50"]))
        .collect::<Result<_>>()?;
    // The fault must meet the load in its middle.
    wait_for(Duration::from_secs(1), || None::<()>);
    let pid = victim.pid.context("a running task has a process")?;
    std::fs::write(format!("/proc/{pid}/cwd/sick"), "")?;
    let failure = cluster.until("the check's failure is shown", |cluster| {
        checked(cluster, &victim.id).filter(|(alive, _)| !alive)
    })?;
    for node in nodes() {
        cluster.until("its address is gone from every name server", |cluster| {
            (addresses(cluster, node) == 2).then_some(())
        })?;
    }
    let still = checked(cluster, &victim.id);
    ensure!(
        still.is_some(),
        "it was ended before its turn: four failures in a row are needed"
    );
    ensure!(counts(cluster) == Some((json!(2), json!(1))), "{:?}", counts(cluster));
    let shown = cluster.cli(&["app", "show", "/sickly"])?;
    ensure!(shown.contains("the command ended with status 1"), "{shown}");
    let after = load(cluster, &At::Outside, URL, &["--requests", "200"])?;
    ensure!(
        after.failed == 0 && !after.by_instance.contains_key(&victim.id),
        "{:?}",
        after.by_instance
    );
    let mut last = None::<f64>;
    for one in loads {
        let name = one.at.name();
        let report = one.finish()?;
        ensure!(
            report.failed == 0,
            "{name}: {} failed, {:?}",
            report.failed,
            report.failures.first()
        );
        let seen = report.last_seen.get(&victim.id).and_then(|ms| tail(&failure.1, *ms));
        last = last.into_iter().chain(seen).reduce(f64::max);
    }
    Ok(last)
}

#[test]
fn an_unhealthy_instance_leaves_all_answers_and_is_replaced() {
    on_cluster(|cluster| {
        let app = json!({
            "id": "/sickly", "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.1, "mem": 32, "instances": 3,
            "constraints": [["hostname", "UNIQUE"]],
            "portDefinitions": [{"protocol": "tcp", "port": 5558, "name": "web", "labels": {"VIP_0": "/sickly:5558"}}],
            "healthChecks": [
                {"protocol": "COMMAND", "command": {"value": "test ! -e sick"}, "delaySeconds": 0, "gracePeriodSeconds": 0,
                 "intervalSeconds": 2, "timeoutSeconds": 2, "maxConsecutiveFailures": 4},
                {"protocol": "HTTP", "path": "/ready", "portIndex": 0, "gracePeriodSeconds": 10, "intervalSeconds": 1,
                 "timeoutSeconds": 1},
            ],
            "readinessChecks": [{"portName": "web", "path": "/ready", "intervalSeconds": 1, "timeoutSeconds": 0}],
        });
        let refused = deploy(cluster, "sickly", &app.to_string());
        ensure!(
            refused.is_err_and(|error| format!("{error:#}").contains("/readinessChecks(0)/timeoutSeconds")),
            "a timeout of no time is refused at its path"
        );
        let mut app = app;
        app["readinessChecks"][0]["intervalSeconds"] = json!(2);
        app["readinessChecks"][0]["timeoutSeconds"] = json!(1);
        deploy(cluster, "sickly", &app.to_string())?;
        ensure!(
            counts(cluster) == Some((json!(3), json!(0))),
            "deployed means healthy: {:?}",
            counts(cluster)
        );
        let before = cluster.running("/sickly", 3)?;
        for node in nodes() {
            cluster.until("all three are named", |cluster| {
                (addresses(cluster, node) == 3).then_some(())
            })?;
        }
        let tail = sicken(cluster, &before[0])?;
        eprintln!("figure: {tail:?} s from a failed check to the last new connection at any of seven clients, n = 1");
        cluster.until("a healthy one takes its place", |cluster| {
            let tasks = cluster.tasks("/sickly").ok()?;
            let replaced = tasks.len() == 3 && tasks.iter().all(|task| task.id != before[0].id);
            (replaced && counts(cluster)? == (json!(3), json!(0))).then_some(())
        })?;
        cluster.until("all three answer", |cluster| {
            let report = load(cluster, &At::Outside, URL, &["--requests", "100"]).ok()?;
            (report.failed == 0 && report.by_instance.len() == 3).then_some(())
        })?;
        cluster.cli(&["app", "remove", "/sickly"]).map(drop)
    });
}
