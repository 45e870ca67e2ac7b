//! Packets from outside that go past a node's stack to the container they are for.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use xtask::demo::At;
use xtask::lab::{Cluster, underlay};

use super::{answered, deploy, load, on_cluster, program};

/// The node of the container.
const HERE: u8 = 1;
const URL: &str = "http://fast.marathon.l4lb.thisdcos.directory:5700/";
/// What is asked of each way.
const REQUESTS: u32 = 100;

/// Packets that the container's node sent past its stack so far, from its own uplink and out of the tunnel.
fn past(cluster: &Cluster) -> Result<[u64; 2]> {
    let said = cluster
        .node(HERE)
        .run(&["curl", "-sf", "http://127.0.0.1:5051/metrics"])?;
    let count = |reason: &str| -> Result<u64> {
        let name = format!("revere_node_packets_total{{hook=\"xdp\",reason=\"{reason}\"}} ");
        let found = said.lines().find_map(|line| line.strip_prefix(&name));
        found.map_or(Ok(0), |number| number.parse().context("a count"))
    };
    Ok([count("local_redirected")?, count("tunnel_delivered_redirected")?])
}

fn again(cluster: &mut Cluster, settings: &[String]) -> Result<()> {
    cluster.kill_node(HERE)?;
    cluster.start_node_with(HERE, &program()?, settings)?;
    answered(cluster, &At::Host(HERE))?;
    answered(cluster, &At::Outside)
}

/// Requests from outside by one node; how many more packets the container's node then has sent past its stack.
fn asked_by(cluster: &Cluster, node: u8) -> Result<[u64; 2]> {
    let outside = &cluster.lab.outside;
    outside.sh(&format!("ip route replace 11.0.0.0/8 via {}", underlay(node)))?;
    let ready = cluster.until("the container answers", |cluster| {
        let report = load(cluster, &At::Outside, URL, &["--requests", "5", "--timeout-ms", "500"]).ok()?;
        (report.failed == 0).then(|| past(cluster).ok())?
    })?;
    let report = load(cluster, &At::Outside, URL, &["--requests", &REQUESTS.to_string()])?;
    ensure!(report.failed == 0, "by node{node}: {:?}", report.failures.first());
    let now = past(cluster)?;
    Ok([now[0] - ready[0], now[1] - ready[1]])
}

fn ways(cluster: &mut Cluster) -> Result<()> {
    let none = [0, 0];
    ensure!(asked_by(cluster, HERE)? == none, "it is off unless told");
    again(cluster, &["node.fast_path=true".to_owned()])?;
    ensure!(
        asked_by(cluster, HERE)? == none,
        "the container was started before, and its interface takes no frames"
    );
    cluster.cli(&["app", "restart", "/fast"])?;
    // Each request is a packet that opens, one that asks and one that ends, at least.
    let least = u64::from(REQUESTS) * 3;
    let asked = |cluster: &Cluster, node, told: &str, wanted: &dyn Fn([u64; 2]) -> bool| {
        cluster.until(told, |cluster| {
            asked_by(cluster, node).ok().filter(|more| wanted(*more))
        })
    };
    asked(cluster, HERE, "past the stack of the container's own node", &|[
        plain,
        _,
    ]| {
        plain >= least
    })?;
    asked(cluster, 2, "past its stack by another node", &|[_, tunnelled]| {
        tunnelled >= least
    })?;
    again(cluster, &[])?;
    // The programs go on as they were told until the new daemon has looked at everything.
    for node in [HERE, 2] {
        asked(cluster, node, "by the stack again", &|more| more == none)?;
    }
    Ok(())
}

#[test]
fn with_the_fast_path_packets_for_containers_go_past_the_stack_and_without_it_by_it() {
    on_cluster(|cluster| {
        let app = json!({
            "id": "/fast", "cmd": "exec revere demo-server --port 8000", "cpus": 0.05, "mem": 32, "instances": 1,
            "networks": [{"mode": "container", "name": "dcos"}], "constraints": [["hostname", "CLUSTER", underlay(HERE)]],
            "container": {"type": "MESOS", "portMappings": [{"containerPort": 8000, "name": "web", "labels": {"VIP_0": "/fast:5700"}}]},
        });
        deploy(cluster, "fast", &app.to_string())?;
        let done = ways(cluster);
        let route = "ip route replace 11.0.0.0/8 nexthop via 10.99.0.1 nexthop via 10.99.0.2 nexthop via 10.99.0.3";
        cluster.lab.outside.sh(route)?;
        cluster.cli(&["app", "remove", "/fast"])?;
        done
    });
}
