//! Marathon's own clients against the lab's master: Debian's python3-marathon through a whole life
//! cycle, and Debian's Prometheus.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use xtask::lab::Cluster;
use xtask::shell;

use super::on_cluster;

/// Where the lab's master serves Marathon's API.
const MASTER: &str = "http://10.99.0.1:8080";
/// Debian's interpreter: the package belongs to no other.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python3_marathon_lives_a_whole_life() {
    on_cluster(|cluster| {
        let file = cluster.lab.dir.join("life.py");
        std::fs::write(&file, include_str!("marathon/life.py"))?;
        let script = file.to_str().context("a plain path")?;
        let mut command = cluster.lab.outside.command(&[PYTHON, script, MASTER]);
        let output = shell::output(&mut command)?;
        let said = shell::both(&output);
        ensure!(
            !said.contains("No module named"),
            "this test could not run: python3-marathon is not installed; `cargo xtask test` without --no-install installs it"
        );
        let done = String::from_utf8_lossy(&output.stdout).trim_end().ends_with("done");
        ensure!(output.status.success() && done, "{said}");
        Ok(())
    });
}

/// Where Prometheus answers in its namespace.
const PROMETHEUS: &str = "127.0.0.1:9090";

#[test]
fn prometheus_finds_every_task() {
    assert!(
        shell::find("prometheus").is_some(),
        "this test could not run: `prometheus` is not installed; `cargo xtask test` without --no-install installs it"
    );
    on_cluster(|cluster| {
        let dir = cluster.lab.dir.join("prometheus");
        std::fs::create_dir_all(&dir)?;
        let config = dir.join("prometheus.yml");
        let text = format!(
            "scrape_configs:\n- job_name: tasks\n  marathon_sd_configs:\n  - servers: [\"{MASTER}\"]\n    refresh_interval: 1s\n"
        );
        std::fs::write(&config, text)?;
        let config = format!("--config.file={}", config.display());
        let data = format!("--storage.tsdb.path={}", dir.join("data").display());
        let listen = format!("--web.listen-address={PROMETHEUS}");
        let place = &cluster.lab.outside;
        let _daemon = place.spawn("prometheus", &["prometheus", &config, &data, &listen], &[])?;
        let tasks = cluster.tasks("/my-service")?;
        let found = |cluster: &Cluster| {
            let url = format!("http://{PROMETHEUS}/api/v1/targets");
            let said = cluster.lab.outside.run(&["curl", "-sf", &url]).ok()?;
            let answer: Value = serde_json::from_str(&said).ok()?;
            let targets = answer["data"]["activeTargets"].as_array()?.clone();
            let ours = targets.into_iter().map(|target| target["discoveredLabels"].clone());
            let ours: Vec<Value> = ours
                .filter(|labels| labels["__meta_marathon_app"] == "/my-service")
                .collect();
            (ours.len() == tasks.len()).then_some(ours)
        };
        for labels in cluster.until("Prometheus knows every task of the service", found)? {
            ensure!(
                labels["__meta_marathon_port_definition_label_VIP_0"] == "/my-service:5555"
                    && labels["__meta_marathon_port_index"] == "0",
                "{labels}"
            );
            let known = tasks
                .iter()
                .any(|task| labels["__meta_marathon_task"] == task.id.as_str());
            ensure!(known, "{labels} is no task of {tasks:?}");
        }
        Ok(())
    });
}
