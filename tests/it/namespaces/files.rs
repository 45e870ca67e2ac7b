//! What tasks wrote, by `/files` of their nodes and by `revere task log`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Cluster, underlay};

use super::{deploy, on_cluster};

const APP: &str = r#"{"id": "/writer", "cmd": "echo first line; echo to err >&2; mkdir sub; ln -s /etc/passwd out; exec sleep 100000",
    "cpus": 0.1, "mem": 16, "portDefinitions": []}"#;

fn files(cluster: &Cluster, node: u8, call: &str, task: &str, rest: &str) -> Result<String> {
    let url = format!(
        "http://{}:5051/files/{call}path=/x/executors/{task}/runs/latest/{rest}",
        underlay(node)
    );
    cluster.node(1).run(&["curl", "-s", "-w", " %{http_code}", &url])
}

#[test]
fn sandboxes_are_read_from_outside_and_lead_nowhere_else() {
    on_cluster(|cluster| {
        deploy(cluster, "writer", APP)?;
        let task = cluster.running("/writer", 1)?.pop().context("one")?;
        let wrote = cluster.until("its log is there", |cluster| {
            let said = cluster.cli(&["task", "log", &task.id]).ok()?;
            (!said.is_empty()).then_some(said)
        })?;
        ensure!(wrote.trim_end() == "first line", "{wrote}");
        let err = cluster.cli(&["task", "log", &task.id, "--file", "stderr"])?;
        ensure!(err.trim_end() == "to err", "{err}");
        let said = files(cluster, task.node, "browse?", &task.id, "")?;
        let (said, code) = said.rsplit_once(' ').context("a status")?;
        let listed: Value = serde_json::from_str(said)?;
        let names = listed.as_array().context("a list")?.iter();
        let names: Vec<&str> = names
            .filter_map(|one| one["path"].as_str()?.rsplit('/').next())
            .collect();
        ensure!(
            code == "200" && names == ["out", "stderr", "stdout", "sub"],
            "{code} {listed}"
        );
        let part = files(cluster, task.node, "read?offset=6&length=4&", &task.id, "stdout")?;
        ensure!(part.contains(r#""data":"line""#), "{part}");
        let end = files(cluster, task.node, "read?offset=-1&", &task.id, "stdout")?;
        ensure!(end.contains(r#""data":"""#) && end.contains(r#""offset":11"#), "{end}");
        for (call, rest, code) in [
            ("read?offset=0&", "out", "404"),
            ("read?offset=0&", "../../../etc/passwd", "404"),
            ("download?", "out", "404"),
            ("read?offset=0&", "sub", "400"),
            ("browse?", "stdout", "400"),
        ] {
            let said = files(cluster, task.node, call, &task.id, rest)?;
            ensure!(said.ends_with(code) && !said.contains("root:"), "{call} {rest}: {said}");
        }
        cluster.cli(&["app", "remove", "/writer"])?;
        Ok(())
    });
}

/// Writes a line, waits for a word, and then writes more than four of its files hold.
const TALKER: &str = r#"{"id": "/talker", "cpus": 0.1, "mem": 16, "portDefinitions": [],
    "cmd": "echo first; until [ -e go ]; do sleep 0.1; done; for n in $(seq 1000 2999); do echo line $n; [ $((n % 100)) = 0 ] && sleep 0.1; done; exec sleep 100000",
    "env": {"CONTAINER_LOGGER_MAX_STDOUT_SIZE": "4KB", "CONTAINER_LOGGER_LOGROTATE_STDOUT_OPTIONS": "rotate 20"}}"#;

#[test]
fn a_log_is_followed_through_its_files() {
    on_cluster(|cluster| {
        deploy(cluster, "talker", TALKER)?;
        let task = cluster.until("it runs", |cluster| cluster.tasks("/talker").ok()?.pop())?;
        let revere = cluster.revere();
        let mut follow = cluster
            .node(1)
            .spawn("follow", &[revere, "task", "log", &task.id, "--follow"], &[])?;
        cluster.until("it is followed", |_| (follow.output() == "first\n").then_some(()))?;
        let node = cluster.node(task.node);
        let go = node.dir.join("state/sandboxes").join(&task.id).join("go");
        node.sh(&format!("touch {}", go.display()))?;
        let wanted: String = (1000..3000).map(|n| format!("line {n}\n")).collect();
        let read = cluster.until("all of it is read", |_| {
            let read = follow.output();
            read.contains("line 2999\n").then_some(read)
        });
        follow.kill()?;
        let read = read?;
        ensure!(read == format!("first\n{wanted}"), "lines are missing or twice: {read}");
        let said = files(cluster, task.node, "browse?", &task.id, "")?;
        ensure!(said.contains("stdout.4") && !said.contains("stdout.9"), "{said}");
        cluster.cli(&["app", "remove", "/talker"])?;
        Ok(())
    });
}
