//! The whole path of an outside client through a node, beside nftables and haproxy in the same namespaces (P5).
#![allow(
    clippy::print_stdout,
    reason = "the figures are what the person at the terminal asked for"
)]

mod inject;
mod peers;

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::json;
use xtask::lab::{Cluster, Place, Task, wait_for};

use inject::Injector;
use peers::{HAPROXY_PORT, Haproxy, PEER_ADDRESS, nft_off, nft_on};

/// The service's port, at the VIP and in the container.
pub(crate) const PORT: u16 = 8000;
/// The node under test.
const NODE: u8 = 1;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rounds of everything, one after the other.
    pub rounds: usize,
    /// Frames per round.
    pub frames: u32,
    /// Seconds of requests per round.
    pub seconds: u32,
}

#[derive(Serialize)]
struct Figure {
    id: &'static str,
    value: f64,
    unit: &'static str,
    n: u64,
    control: f64,
    peer: &'static str,
    peer_value: f64,
}

/// What one target did in each round.
#[derive(Debug, Default)]
struct Rates(Vec<f64>);

impl Rates {
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Measures and writes `p5.json` into `folder`.
pub fn run(folder: &std::path::Path, revere: &std::path::Path, extent: Extent) -> Result<()> {
    let cluster = Cluster::start_with(revere, &["node.fast_path=true".to_owned()])?;
    let (task, vip) = deploy(&cluster)?;
    let node = cluster.node(NODE).clone();
    let backend = backend_address(&cluster, &task)?;
    route_by_the_node(&cluster, backend)?;
    let datagrams = datagrams(&cluster, &node, &task, vip, backend, extent)?;
    let kept = requests(&cluster, &node, vip, backend, extent, &[])?;
    let fresh = requests(&cluster, &node, vip, backend, extent, &["-H", "Connection: close"])?;
    let n = |per: u64| per * u64::try_from(extent.rounds).unwrap_or(u64::MAX);
    let [ours, nft, straight] = &datagrams;
    // The second one is what would be left if the way through the node took no time at all.
    let mut figures: Vec<Figure> = [("P5.udp.nft", ours), ("P5.udp.bound", straight)]
        .map(|(id, rates)| Figure {
            id,
            value: rates.median() / nft.median(),
            unit: "ratio of packets/s",
            n: n(extent.frames.into()),
            control: rates.median(),
            peer: "nftables DNAT, packets/s",
            peer_value: nft.median(),
        })
        .into();
    let kept_ids = ["P5.tcp.nft", "P5.tcp.haproxy", "P5.tcp.plain", "P5.tcp.bound"];
    let fresh_ids = [
        "P5.tcp.nft.new",
        "P5.tcp.haproxy.new",
        "P5.tcp.plain.new",
        "P5.tcp.bound.new",
    ];
    for (ids, [ours, nft, haproxy, plain, straight]) in [(kept_ids, &kept), (fresh_ids, &fresh)] {
        let of_nft = "nftables DNAT, requests/s";
        for (id, ours, peer, name) in [
            (ids[0], ours, nft, of_nft),
            (ids[1], ours, haproxy, "haproxy, requests/s"),
            // What routing alone would give, without any translation; and no way through the node at all.
            (ids[2], plain, nft, of_nft),
            (ids[3], straight, nft, of_nft),
        ] {
            figures.push(Figure {
                id,
                value: ours.median() / peer.median(),
                unit: "ratio of requests/s",
                n: n(extent.seconds.into()),
                control: ours.median(),
                peer: name,
                peer_value: peer.median(),
            });
        }
    }
    for figure in &figures {
        println!(
            "{}: {:.2} ({:.0}/s beside {:.0}/s of {})",
            figure.id, figure.value, figure.control, figure.peer_value, figure.peer
        );
    }
    std::fs::create_dir_all(folder)?;
    let file = folder.join("p5.json");
    std::fs::write(&file, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("could not write {}", file.display()))?;
    cluster.lab.close()
}

/// One container on the node, with a VIP for each protocol.
fn deploy(cluster: &Cluster) -> Result<(Task, Ipv4Addr)> {
    let port = |protocol: &str| json!({"containerPort": PORT, "protocol": protocol, "name": protocol, "labels": {"VIP_0": format!("/target:{PORT}")}});
    let app = json!({
        "id": "/target", "cmd": format!("exec revere demo-server --port {PORT}"), "cpus": 0.5, "mem": 64, "instances": 1,
        "networks": [{"mode": "container", "name": "dcos"}],
        "constraints": [["hostname", "CLUSTER", xtask::lab::underlay(NODE)]],
        "container": {"type": "MESOS", "portMappings": [port("tcp"), port("udp")]},
    });
    let file = cluster.lab.dir.join("target.json");
    std::fs::write(&file, app.to_string())?;
    cluster
        .cli(&["app", "add", file.to_str().context("a plain path")?])
        .with_context(|| cluster.picture())?;
    let task = cluster.running("/target", 1)?.remove(0);
    ensure!(task.node == NODE, "the task runs on node{}", task.node);
    let vip = cluster.until("the VIP's name has an address", |cluster| {
        let name = "target.marathon.l4lb.thisdcos.directory";
        let said = cluster
            .node(NODE)
            .run(&["dig", "+short", "@198.51.100.1", name, "A"])
            .ok()?;
        said.lines().next()?.parse().ok()
    })?;
    Ok((task, vip))
}

/// The address of the container, as the node reaches it.
fn backend_address(cluster: &Cluster, task: &Task) -> Result<Ipv4Addr> {
    let mut command = cluster.in_task(task, &["ip", "-4", "-o", "addr", "show", "eth0"])?;
    let said = String::from_utf8(command.output()?.stdout)?;
    let address = said.split("inet ").nth(1).and_then(|rest| rest.split('/').next());
    address
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("the container has no address: {said}"))
}

/// Everything from outside goes by the one node.
fn route_by_the_node(cluster: &Cluster, backend: Ipv4Addr) -> Result<()> {
    let via = xtask::lab::underlay(NODE);
    let line = [
        format!("{PEER_ADDRESS}/32"),
        format!("{backend}/32"),
        "11.0.0.0/8".to_owned(),
    ]
    .map(|to| format!("ip route replace {to} via {via}"))
    .join("; ");
    cluster.lab.outside.sh(&line).map(drop)
}

/// Packets per second at the container's interface: ours, then nftables, then what goes there without any way through the node.
fn datagrams(
    cluster: &Cluster,
    node: &Place,
    task: &Task,
    vip: Ipv4Addr,
    backend: Ipv4Addr,
    extent: Extent,
) -> Result<[Rates; 3]> {
    // Nobody listens: the container's stack would answer a thousand times a second, and pay for the rest.
    let sink = "nft add table netdev sink; nft 'add chain netdev sink in { type filter hook ingress device eth0 priority 0; }'; \
                nft add rule netdev sink in meta l4proto udp drop";
    let done = cluster.in_task(task, &["sh", "-c", sink])?.output()?;
    if !done.status.success() {
        eprintln!(
            "the container's stack takes all packets: {}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
    let count = || -> Result<u64> {
        let mut command = cluster.in_task(task, &["cat", "/proc/net/dev"])?;
        let said = String::from_utf8(command.output()?.stdout)?;
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:"))
            .context("no eth0")?;
        line.split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("no count")
    };
    let mut rates = [Rates::default(), Rates::default(), Rates::default()];
    for round in 0..=extent.rounds {
        for (which, to) in [vip, PEER_ADDRESS, backend].into_iter().enumerate() {
            if which == 1 {
                nft_on(node, backend)?;
            }
            let injector = match which {
                2 => Injector::straight(node, backend)?,
                _ => Injector::new(&cluster.lab.fabric, node, to)?,
            };
            let (before, began) = (count()?, Instant::now());
            injector.run(extent.frames)?;
            let time = began.elapsed();
            // What is still in queues is few and comes at once.
            wait_for(Duration::from_millis(50), || None::<()>);
            let got = count()? - before;
            if which == 1 {
                nft_off(node)?;
            }
            ensure!(
                got > 0,
                "not one of {} packets to {to} came to the backend",
                extent.frames
            );
            let rate = f64::from(u32::try_from(got)?) / time.as_secs_f64();
            eprintln!("round {round}: {to}: {got} of {} packets, {rate:.0}/s", extent.frames);
            // The first round warms caches up.
            if round > 0 {
                rates[which].0.push(rate);
            }
        }
    }
    Ok(rates)
}

/// Requests per second of `wrk`: ours, nftables, haproxy, the container's address by the node's routes, and that from the node itself.
fn requests(
    cluster: &Cluster,
    node: &Place,
    vip: Ipv4Addr,
    backend: Ipv4Addr,
    extent: Extent,
    more: &[&str],
) -> Result<[Rates; 5]> {
    let haproxy = Haproxy::start(node, backend)?;
    let time = format!("{}s", extent.seconds);
    let own = xtask::lab::underlay(NODE);
    let urls = [
        format!("http://{vip}:{PORT}/"),
        format!("http://{PEER_ADDRESS}:{PORT}/"),
        format!("http://{own}:{HAPROXY_PORT}/"),
        format!("http://{backend}:{PORT}/"),
        format!("http://{backend}:{PORT}/"),
    ];
    let mut rates: [Rates; 5] = Default::default();
    for round in 0..extent.rounds {
        for (which, url) in urls.iter().enumerate() {
            let from = if which == 4 { node } else { &cluster.lab.outside };
            if which == 1 {
                nft_on(node, backend)?;
            }
            let mut words = vec!["wrk", "-t", "1", "-c", "32", "-d", &time];
            words.extend(more);
            words.push(url);
            let output = from.command(&words).stdin(Stdio::null()).output()?;
            if which == 1 {
                nft_off(node)?;
            }
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
            let rate: f64 = rate
                .and_then(|text| text.trim().parse().ok())
                .with_context(|| format!("wrk: {said}"))?;
            ensure!(rate > 0.0, "no request to {url} was answered: {said}");
            eprintln!(
                "round {round}: {} {url} {}: {rate:.0} requests/s",
                from.name,
                more.join(" ")
            );
            rates[which].0.push(rate);
        }
    }
    haproxy.stop()?;
    Ok(rates)
}
