//! A network made at run time: its tasks reach each other on every node, tasks of the default network do not reach them,
//! and nothing of it is left when it is removed.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xtask::demo::At;
use xtask::lab::{Cluster, Task};

use super::{deploy, load, nodes, on_cluster};

/// The example of docs/networks.md.
const EXAMPLE: &str = include_str!("../../../examples/walled-app.json");
const APP: &str = "/walled";
const URL: &str = "http://walled.marathon.l4lb.thisdcos.directory:80/";

fn network(cluster: &Cluster, args: &[&str]) -> Result<String> {
    cluster.cli(&[&["network"], args].concat())
}

fn refused(outcome: Result<String>, why: &str) -> Result<()> {
    match outcome {
        Ok(said) => bail!("it is not refused: {said}"),
        Err(error) => {
            let error = format!("{error:#}");
            ensure!(error.contains(why), "refused, but not for `{why}`: {error}");
            Ok(())
        }
    }
}

/// The address of each task, as the master tells it.
fn addresses(cluster: &Cluster, app: &str) -> Result<Vec<(Task, Ipv4Addr)>> {
    let shown = cluster.json(&["app", "show", app])?;
    let told = shown["app"]["tasks"].as_array().cloned().unwrap_or_default();
    let address = |task: &Task| {
        let same = |one: &&Value| one["id"] == task.id.as_str();
        let one = told.iter().find(same).context("the task is told")?;
        let text = one["ipAddresses"][0]["ipAddress"].as_str();
        let address = text.context("it has an address")?.parse()?;
        Ok((task.clone(), address))
    };
    cluster.tasks(app)?.iter().map(address).collect()
}

/// What `curl` gets there from inside a task; the error when it gets nothing.
fn fetch(cluster: &Cluster, from: &Task, url: &str) -> Result<String> {
    let output = cluster.in_task(from, &["curl", "-sS", "-m", "20", url])?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// A run of a program inside a task, whatever comes of it.
fn inside(cluster: &Cluster, task: &Task, program: &[&str]) -> Result<String> {
    let output = cluster.in_task(task, program)?.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Datagrams that came to a task and that nobody there waited for.
fn unclaimed(cluster: &Cluster, task: &Task) -> Result<u64> {
    let text = inside(cluster, task, &["cat", "/proc/self/net/snmp"])?;
    let lines: Vec<Vec<&str>> = (text.lines().filter(|line| line.starts_with("Udp:")))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [names, values] = &lines[..] else {
        bail!("no counters of UDP: {text}");
    };
    let place = names.iter().position(|name| *name == "NoPorts").context("NoPorts")?;
    Ok(values[place].parse()?)
}

fn traces(cluster: &Cluster, node: u8) -> Result<Vec<String>> {
    let shown = cluster
        .node(node)
        .sh("ip -o link show; ip route show table all; ip rule show")?;
    let ours = |line: &&str| line.contains("vtep4097") || line.contains("10.64.");
    Ok(shown.lines().filter(ours).map(str::to_owned).collect())
}

#[test]
fn a_network_made_at_run_time_keeps_its_tasks_together_and_others_out() {
    on_cluster(|cluster| {
        let outcome = walk(cluster);
        // Whatever happened, the next test finds the cluster without it.
        if outcome.is_err() {
            let _ = cluster.cli(&["app", "remove", APP]);
        }
        outcome
    });
}

fn walk(cluster: &Cluster) -> Result<()> {
    let create = |subnet: &str| network(cluster, &["create", "blue", "--subnet", subnet]);
    refused(create("10.99.0.0/16"), "a route by")?;
    refused(create("11.3.0.0/16"), "the range of virtual addresses")?;
    refused(create("9.0.0.0/16"), "of the network dcos")?;
    refused(
        deploy(cluster, "walled", EXAMPLE).map(|()| String::new()),
        "there is no network blue",
    )?;
    create("10.64.0.0/16")?;
    deploy(cluster, "walled", EXAMPLE)?;
    cluster.running(APP, 3)?;
    let walled = addresses(cluster, APP)?;
    // Nodes are numbered as they came.
    let mut blocks: Vec<[u8; 3]> = Vec::new();
    for (_, address) in &walled {
        let [a, b, c, _] = address.octets();
        blocks.push([a, b, c]);
    }
    blocks.sort_unstable();
    ensure!(blocks == [[10, 64, 0], [10, 64, 1], [10, 64, 2]], "{walled:?}");
    let shown = cluster.json(&["network", "show", "blue"])?;
    ensure!(shown["usage"]["tasks"] == 3 && shown["apps"][0] == APP, "{shown}");
    let by_node = shown["usage"]["by_node"].as_array().context("nodes are told")?;
    ensure!(by_node.iter().all(|node| node["tasks"] == 1), "one on each: {shown}");
    ensure!(network(cluster, &["list"])?.contains("10.64.0.0/16"));

    together(cluster, &walled)?;
    apart(cluster, &walled)?;
    forged(cluster, &walled)?;

    refused(network(cluster, &["remove", "blue"]), "in use by /walled")?;
    cluster.cli(&["app", "remove", APP])?;
    cluster.until("the network can be removed", |cluster| {
        network(cluster, &["remove", "blue"]).ok()
    })?;
    nodes().try_for_each(|node| {
        cluster.until("nothing of the network is left", |cluster| {
            traces(cluster, node).ok()?.is_empty().then_some(())
        })
    })
}

/// Tasks of the network reach each other, and whoever is no task reaches them.
fn together(cluster: &Cluster, walled: &[(Task, Ipv4Addr)]) -> Result<()> {
    for (from, _) in walled {
        for (to, address) in walled {
            let said = fetch(cluster, from, &format!("http://{address}/"))
                .with_context(|| format!("{} to {}", from.id, to.id))?;
            ensure!(said.contains(&to.id), "{} was asked, and said {said}", to.id);
        }
    }
    let all = At::all(cluster)?;
    for at in all.iter().filter(|at| !matches!(at, At::Container(_))) {
        cluster.until(&format!("the network's VIP answers: {}", at.name()), |cluster| {
            let report = load(cluster, at, URL, &["--requests", "60", "--timeout-ms", "1000"]).ok()?;
            (report.failed == 0 && report.by_instance.len() == 3).then_some(())
        })?;
    }
    Ok(())
}

/// Tasks of the default network do not reach the network's, nor these them, by address or by VIP; among themselves they do.
fn apart(cluster: &Cluster, walled: &[(Task, Ipv4Addr)]) -> Result<()> {
    let all = At::all(cluster)?;
    let clients = all.iter().filter_map(|at| match at {
        At::Container(task) => Some(task),
        _ => None,
    });
    for client in clients {
        for (to, address) in walled {
            let told = fetch(cluster, client, &format!("http://{address}/"));
            let told = told.map_or_else(|error| error.to_string(), |said| format!("an answer: {said}"));
            // Told at once: a packet that is merely lost would be (28), a timeout.
            ensure!(told.contains("curl: (7)"), "{} to {}: {told}", client.id, to.id);
        }
        let told = fetch(cluster, client, URL);
        let told = told.map_or_else(|error| error.to_string(), |said| format!("an answer: {said}"));
        ensure!(told.contains("curl: (7)"), "{} by the VIP: {told}", client.id);
    }
    Ok(())
}

/// A task that takes an address of another network for its source sends nothing.
fn forged(cluster: &Cluster, walled: &[(Task, Ipv4Addr)]) -> Result<()> {
    let (from, _) = walled.first().context("it runs")?;
    let all = At::all(cluster)?;
    let found = all.iter().find_map(|at| match at {
        At::Container(task) if task.node == from.node => Some(task),
        _ => None,
    });
    let victim = found.context("a client on the same node")?;
    let addresses = inside(cluster, victim, &["ip", "-4", "-o", "addr", "show", "dev", "eth0"])?;
    let address = addresses.split_whitespace().find_map(|word| word.strip_suffix("/32"));
    let address: Ipv4Addr = address.context("the victim's address")?.parse()?;
    let [a, b, c, _] = address.octets();
    let stranger = Ipv4Addr::new(a, b, c, 250).to_string();
    inside(
        cluster,
        from,
        &["ip", "addr", "add", &format!("{stranger}/32"), "dev", "eth0"],
    )?;
    let before = unclaimed(cluster, victim)?;
    let at = format!("@{address}");
    let ask = ["dig", "-b", &stranger, &at, "+tries=1", "+time=1", "x."];
    inside(cluster, from, &ask)?;
    // The node's own datagram arrives, and nothing came before it.
    let _ = cluster.node(from.node).run(&["dig", &at, "+tries=1", "+time=1", "x."]);
    cluster.until("the node's datagram is counted", |cluster| {
        (unclaimed(cluster, victim).ok()? > before).then_some(())
    })?;
    let count = unclaimed(cluster, victim)? - before;
    ensure!(count == 1, "{count} datagrams arrived, of which one is the node's");
    inside(
        cluster,
        from,
        &["ip", "addr", "del", &format!("{stranger}/32"), "dev", "eth0"],
    )
    .map(drop)
}
