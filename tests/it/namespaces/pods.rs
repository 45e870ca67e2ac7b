//! Pods on real nodes: the users' example behind its VIP and in the names, and containers that share a network.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::demo::At;
use xtask::lab::Cluster;

use super::{load, nodes, on_cluster};

const URL: &str = "http://three.marathon.l4lb.thisdcos.directory:80/";

/// Adds a pod and waits until it is deployed.
fn deploy(cluster: &Cluster, definition: &str) -> Result<()> {
    let file = cluster.lab.dir.join("pod.json");
    std::fs::write(&file, definition)?;
    cluster
        .cli(&["pod", "add", file.to_str().context("a plain path")?])
        .map(drop)
}

fn status(cluster: &Cluster, id: &str) -> Option<Value> {
    cluster.json(&["pod", "show", id]).ok()
}

/// Ids of instances in that state.
fn instances(cluster: &Cluster, id: &str, state: &str) -> Vec<String> {
    let status = status(cluster, id).unwrap_or_default();
    let all = status["instances"].as_array().cloned().unwrap_or_default();
    let kept = all.iter().filter(|one| one["status"] == state);
    kept.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect()
}

/// Addresses that a node's name server gives for a name.
fn addresses(cluster: &Cluster, node: u8, name: &str) -> Vec<String> {
    let said = cluster.node(node).run(&["dig", "+short", "@198.51.100.1", name, "A"]);
    let mut all: Vec<String> = said.unwrap_or_default().lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// All requests answered, by so many instances.
fn answered_by(cluster: &Cluster, at: &At, url: &str, count: usize) -> Result<()> {
    cluster.until(&format!("{count} instances answer: {}", at.name()), |cluster| {
        let report = load(cluster, at, url, &["--requests", "60", "--timeout-ms", "1000"]).ok()?;
        (report.failed == 0 && report.by_instance.len() == count).then_some(())
    })
}

#[test]
fn the_example_pod_answers_at_its_vip_and_is_replaced_whole() {
    on_cluster(|cluster| {
        deploy(cluster, include_str!("../../../examples/pod.json"))?;
        ensure!(
            instances(cluster, "/three-in-one", "STABLE").len() == 2,
            "deployed means stable"
        );
        for at in At::all(cluster)? {
            answered_by(cluster, &at, URL, 2)?;
        }
        for node in nodes() {
            cluster.until("the pod is named, each place once", |cluster| {
                let found = addresses(cluster, node, "three-in-one.marathon.agentip.dcos.thisdcos.directory");
                let mut once = found.clone();
                once.dedup();
                (!found.is_empty() && found == once).then_some(())
            })?;
        }
        // One container of one instance dies: that instance ends whole, and another takes its place.
        let before = instances(cluster, "/three-in-one", "STABLE");
        let tasks = cluster.json(&["pod", "show", "/three-in-one"])?;
        let side = tasks["instances"][0]["containers"][1]["containerId"].as_str();
        let side = side.context("a container's task")?.to_owned();
        let victim = tasks["instances"][0]["id"].as_str().context("an instance")?.to_owned();
        cluster.cli(&["task", "kill", &side])?;
        cluster.until("another instance takes its place", |cluster| {
            let now = instances(cluster, "/three-in-one", "STABLE");
            (now.len() == 2 && !now.contains(&victim)).then_some(())
        })?;
        let kept = instances(cluster, "/three-in-one", "STABLE");
        ensure!(
            kept.iter().filter(|one| before.contains(one)).count() == 1,
            "the other one stayed"
        );
        answered_by(cluster, &At::Outside, URL, 2)?;
        cluster.cli(&["pod", "remove", "/three-in-one"])?;
        ensure!(status(cluster, "/three-in-one").is_none(), "gone");
        Ok(())
    });
}

#[test]
fn containers_with_a_network_of_their_own_share_it() {
    on_cluster(|cluster| {
        let get = "exec revere demo-server --port $ENDPOINT_WEB";
        // The second container asks the first at the loopback address that both have.
        let check = "exec 3<>/dev/tcp/127.0.0.1/$ENDPOINT_WEB";
        let pod = json!({
            "id": "/shared", "networks": [{"mode": "container", "name": "dcos"}],
            "volumes": [{"name": "data"}],
            "containers": [
                {"name": "web", "exec": {"command": {"shell": format!("echo hello > data/word; {get}")}},
                 "resources": {"cpus": 0.05, "mem": 32},
                 "endpoints": [{"name": "web", "containerPort": 8080, "protocol": ["tcp"], "labels": {"VIP_0": "/shared:81"}}],
                 "healthCheck": {"http": {"endpoint": "web", "path": "/ready"}, "delaySeconds": 0, "intervalSeconds": 1,
                                 "gracePeriodSeconds": 20, "timeoutSeconds": 1},
                 "volumeMounts": [{"name": "data", "mountPath": "data"}]},
                {"name": "side", "exec": {"command": {"shell": "exec sleep 1000"}}, "resources": {"cpus": 0.01, "mem": 32},
                 "healthCheck": {"exec": {"command": {"argv": ["/bin/bash", "-c", format!("{check} && grep hello data/word")]}},
                                 "delaySeconds": 0, "intervalSeconds": 1, "gracePeriodSeconds": 20, "timeoutSeconds": 2},
                 "volumeMounts": [{"name": "data", "mountPath": "data", "readOnly": true}]},
            ],
            "scaling": {"kind": "fixed", "instances": 2},
        });
        deploy(cluster, &pod.to_string())?;
        let shown = status(cluster, "/shared").context("shown")?;
        ensure!(shown["status"] == "STABLE", "deployed means healthy: {shown:#}");
        let url = "http://shared.marathon.l4lb.thisdcos.directory:81/";
        for at in At::all(cluster)? {
            answered_by(cluster, &at, url, 2)?;
        }
        let wanted: std::collections::BTreeSet<String> = shown["instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["networks"][0]["addresses"][0].as_str().map(str::to_owned))
            .collect();
        ensure!(wanted.len() == 2, "each instance has an address: {shown:#}");
        for node in nodes() {
            cluster.until("both addresses are named, each once", |cluster| {
                let found = addresses(cluster, node, "shared.marathon.containerip.dcos.thisdcos.directory");
                found.iter().eq(&wanted).then_some(())
            })?;
        }
        cluster.cli(&["pod", "remove", "/shared"]).map(drop)
    });
}
