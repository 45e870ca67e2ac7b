//! An app with a persistent volume through the ends of its task, its node's daemon and its master.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Cluster, Task};

use super::{deploy, on_cluster};

/// The example of docs/containers.md: it counts its starts in its volume.
const EXAMPLE: &str = include_str!("../../../examples/counter-with-volume.json");
const APP: &str = "/counter";

/// Waits until the app's task has started for that time, and gives it.
fn started(cluster: &Cluster, time: u32) -> Result<Task> {
    cluster.until(&format!("{APP} has started {time} times"), |cluster| {
        let task = cluster.tasks(APP).ok()?.pop()?;
        let said = std::fs::read_to_string(format!("/proc/{}/cwd/data/starts", task.pid?)).ok()?;
        (said.trim() == time.to_string()).then_some(task)
    })
}

fn end(task: &Task) -> Result<()> {
    let pid = task.pid.context("it has a process")?.to_string();
    ensure!(
        Command::new("kill").args(["-9", &pid]).status()?.success(),
        "no process {pid}"
    );
    Ok(())
}

/// MiB reserved on all nodes.
fn reserved(cluster: &Cluster) -> Option<u64> {
    let said = cluster
        .node(1)
        .run(&["curl", "-sf", "http://10.99.0.1:5050/revere/v1/nodes"])
        .ok()?;
    let nodes: Value = serde_json::from_str(&said).ok()?;
    nodes["nodes"]
        .as_array()?
        .iter()
        .map(|node| node["reserved"]["disk_mb"].as_u64())
        .sum()
}

#[test]
fn a_volume_outlives_tasks_daemons_and_masters_until_it_is_wiped() {
    on_cluster(|cluster| {
        deploy(cluster, "counter", EXAMPLE)?;
        let first = started(cluster, 1)?;
        end(&first)?;
        let second = started(cluster, 2)?;
        ensure!(
            second.node == first.node && second.id.ends_with("._app.2"),
            "{second:?}"
        );
        // Its node's daemon is away when it ends: nobody else takes its place.
        cluster.kill_node(first.node)?;
        end(&second)?;
        cluster.kill_master()?;
        cluster.start_master()?;
        cluster.start_node(first.node)?;
        let third = started(cluster, 3)?;
        ensure!(third.node == first.node, "{third:?} is not where its volume is");
        // Suspended: nothing runs, and all is kept.
        cluster.cli(&["app", "scale", APP, "0"])?;
        cluster.until("nothing runs", |cluster| {
            cluster.tasks(APP).ok()?.is_empty().then_some(())
        })?;
        ensure!(reserved(cluster) == Some(16), "the volume is not reserved");
        cluster.cli(&["app", "scale", APP, "1"])?;
        let fourth = started(cluster, 4)?;
        ensure!(fourth.node == first.node, "{fourth:?} is not where its volume is");
        cluster.cli(&["task", "kill", "--wipe", &fourth.id])?;
        let anew = started(cluster, 1)?;
        ensure!(anew.id != fourth.id && anew.id.ends_with("._app.1"), "{anew:?}");
        cluster.cli(&["app", "remove", APP])?;
        cluster.until("the removed app's volume is gone", |cluster| {
            (reserved(cluster) == Some(0)).then_some(())
        })
    });
}
