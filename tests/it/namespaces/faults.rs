//! Daemons, masters and instances that die, and instances that are slow to come.

use anyhow::{Context as _, ensure};
use serde_json::json;
use xtask::demo::{At, Load, URL};
use xtask::lab::wait_for;

use super::{all_answer, answered, deploy, load, nodes, on_cluster, vip};

#[test]
fn kill_9_of_a_daemon_breaks_no_connection_and_no_new_one() {
    on_cluster(|cluster| {
        let url = format!("http://{}:5555/", vip(cluster)?);
        for number in nodes() {
            let mut loads = Vec::new();
            for at in At::all(cluster)? {
                loads.push(Load::start(cluster, &at, &url, &["--seconds", "4", "--rate", "50"])?);
                loads.push(Load::start(
                    cluster,
                    &at,
                    &url,
                    &["--seconds", "4", "--hold", "--connections", "5"],
                )?);
            }
            // The fault must meet the load in its middle.
            wait_for(std::time::Duration::from_secs(1), || None::<()>);
            cluster.kill_node(number)?;
            wait_for(std::time::Duration::from_secs(1), || None::<()>);
            cluster.start_node(number)?;
            for load in loads {
                let name = load.at.name();
                let report = load.finish()?;
                ensure!(report.total > 0, "{name}: no load");
                ensure!(
                    report.failed + report.broken == 0,
                    "daemon of node{number}, {name}: {} failed, {} broken, {:?}",
                    report.failed,
                    report.broken,
                    report.failures.first()
                );
            }
            answered(cluster, &At::Host(number))?;
        }
        Ok(())
    });
}

#[test]
fn a_master_that_restarts_empties_nothing() {
    on_cluster(|cluster| {
        let before: Vec<String> = cluster
            .running("/my-service", 3)?
            .into_iter()
            .map(|task| task.id)
            .collect();
        let url = format!("http://{}:5555/", vip(cluster)?);
        let load = Load::start(cluster, &At::Host(2), &url, &["--seconds", "6", "--rate", "100"])?;
        cluster.kill_master()?;
        all_answer(cluster, &At::Host(3), 3)?;
        cluster.start_master()?;
        let after: Vec<String> = cluster
            .running("/my-service", 3)?
            .into_iter()
            .map(|task| task.id)
            .collect();
        ensure!(before == after, "tasks were {before:?}, and are {after:?}");
        let report = load.finish()?;
        ensure!(
            report.failed == 0,
            "{} of {} failed: {:?}",
            report.failed,
            report.total,
            report.failures.first()
        );
        all_answer(cluster, &At::Outside, 3)
    });
}

#[test]
fn a_node_that_restarts_without_its_master_still_serves() {
    on_cluster(|cluster| {
        cluster.kill_master()?;
        cluster.kill_node(2)?;
        cluster.start_node(2)?;
        answered(cluster, &At::Host(2))?;
        all_answer(cluster, &At::Host(2), 3)?;
        let l4lb = [
            "dig",
            "+short",
            "@198.51.100.1",
            "my-service.marathon.l4lb.thisdcos.directory",
            "A",
        ];
        let said = cluster.until("node2 answers names from what it kept", |cluster| {
            cluster.node(2).run(&l4lb).ok().filter(|text| text.starts_with("11."))
        });
        cluster.start_master()?;
        said?;
        cluster.running("/my-service", 3).map(drop)
    });
}

#[test]
fn a_killed_instance_leaves_rotation_and_is_replaced() {
    on_cluster(|cluster| {
        let victim = cluster.running("/my-service", 3)?.remove(0);
        let pid = victim.pid.context("a running task has a process")?;
        ensure!(
            std::process::Command::new("kill")
                .args(["-KILL", &pid.to_string()])
                .status()?
                .success()
        );
        for at in At::all(cluster)? {
            answered(cluster, &at)?;
            let report = load(cluster, &at, URL, &["--requests", "200"])?;
            ensure!(
                report.failed == 0 && !report.by_instance.contains_key(&victim.id),
                "{}: {report:?}",
                at.name()
            );
        }
        let now = cluster.until("another instance takes its place", |cluster| {
            cluster
                .tasks("/my-service")
                .ok()
                .filter(|tasks| tasks.len() == 3 && tasks.iter().all(|task| task.id != victim.id))
        })?;
        ensure!(now.len() == 3);
        for at in At::all(cluster)? {
            cluster.until("all three answer", |cluster| all_answer(cluster, &at, 3).ok())?;
        }
        Ok(())
    });
}

#[test]
fn an_instance_that_listens_late_gets_no_request_before() {
    on_cluster(|cluster| {
        let app = json!({
            "id": "/late", "cmd": "exec revere demo-server --port $PORT0 --warmup-ms 2500", "cpus": 0.1, "mem": 32, "instances": 1,
            "portDefinitions": [{"protocol": "tcp", "port": 5556, "name": "web", "labels": {"VIP_0": "/late:5556"}}],
        });
        deploy(cluster, "late", &app.to_string())?;
        let url = "http://late.marathon.l4lb.thisdcos.directory:5556/";
        let places = At::all(cluster)?;
        for at in &places {
            cluster.until("the first instance answers", |cluster| {
                load(cluster, at, url, &["--requests", "4", "--timeout-ms", "500"])
                    .ok()
                    .filter(|report| report.failed == 0)
            })?;
        }
        let loads: Vec<Load> = places
            .iter()
            .map(|at| Load::start(cluster, at, url, &["--seconds", "8", "--rate", "50"]))
            .collect::<Result<_, _>>()?;
        cluster.cli(&["app", "scale", "/late", "3"])?;
        for load in loads {
            let name = load.at.name();
            let report = load.finish()?;
            ensure!(
                report.failed == 0,
                "{name}: {} of {} failed: {:?}",
                report.failed,
                report.total,
                report.failures.first()
            );
            ensure!(
                report.by_instance.len() == 3,
                "{name}: answers from {:?}",
                report.by_instance
            );
        }
        cluster.cli(&["app", "remove", "/late"]).map(drop)
    });
}
