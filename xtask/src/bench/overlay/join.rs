//! O3: a node joins a thousand others, and one of these goes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::super::Outcome;
use super::super::stale::quantile;
use super::{MANY, NODE, PAUSE};
use crate::figures::Figure;
use crate::lab::net::http;
use crate::lab::{Cluster, PATIENCE, underlay, wait_for, wait_for_every};

/// The node that joins.
const JOINS: u8 = 3;
/// Nodes that go, one after the other; the first of them is not counted.
const CHANGES: usize = 21;
/// First number of the addresses of simulated nodes.
const SIMULATED: &str = "10.64.";
/// Between two looks at what the kernel told.
const SOON: Duration = Duration::from_millis(1);

/// What of the others a node has: FDB rows, neighbours, routes.
fn entries(cluster: &Cluster, node: u8) -> Option<[u32; 3]> {
    let look = "bridge fdb show dev vtep1024 2>/dev/null | wc -l; ip neigh show dev vtep1024 nud permanent 2>/dev/null | wc -l; \
        ip route show table all dev vtep1024 2>/dev/null | wc -l";
    let said = cluster.node(node).sh(look).ok()?;
    let mut counts = said.lines().map(|line| line.trim().parse().ok());
    Some([counts.next()??, counts.next()??, counts.next()??])
}

/// From nothing to everything, the start of the daemon included; then change by change.
pub(super) fn run(cluster: &mut Cluster, peers: u32, outcome: &mut Outcome) -> Result<()> {
    let many = peers.to_string();
    let master = format!("http://{}:5050", underlay(1));
    let revere = cluster.revere().to_owned();
    let size = ["--agents", &many, "--apps", "1", "--instances", "1"];
    let program = [&[&*revere, "demo-cluster", "--master", &master], &size[..]].concat();
    eprintln!("overlay: {peers} peers");
    let mut agents = cluster.node(1).spawn("peers", &program, &[])?;
    let there = |node: u8, cluster: &Cluster| {
        entries(cluster, node).is_some_and(|counts| counts.iter().all(|count| *count >= peers))
    };
    let known = wait_for_every(PAUSE, MANY, || there(NODE, cluster).then_some(()));
    ensure!(
        known.is_some(),
        "node{NODE} has {:?} of {peers} peers; they said: {}",
        entries(cluster, NODE),
        agents.output()
    );
    eprintln!("overlay: a node joins them");
    let (all, first) = joined(cluster, &there)?;
    outcome
        .figures
        .push(Figure::new("O3", all, "s", u64::from(peers), first));
    outcome.check(all <= 1.0, || {
        format!("O3: {all:.2} s, wanted 1; the first entry came after {first:.2} s")
    });
    let changed = changes(cluster, outcome);
    if !agents.ended() {
        agents.kill()?;
    }
    changed
}

/// Seconds from the start of the daemon until all is there, and until the first of it was.
fn joined(cluster: &mut Cluster, there: &dyn Fn(u8, &Cluster) -> bool) -> Result<(f64, f64)> {
    cluster.kill_node(JOINS)?;
    cluster.node(JOINS).sh("ip link del vtep1024")?;
    let began = Instant::now();
    cluster.start_node(JOINS)?;
    let some = "[ -n \"$(bridge fdb show dev vtep1024 2>/dev/null)\" ]";
    let first = wait_for_every(PAUSE, PATIENCE, || cluster.node(JOINS).sh(some).ok());
    ensure!(first.is_some(), "nothing of the others came");
    let first = began.elapsed().as_secs_f64();
    let all = wait_for_every(PAUSE, MANY, || there(JOINS, cluster).then_some(()));
    ensure!(all.is_some(), "only {:?} came", entries(cluster, JOINS));
    Ok((began.elapsed().as_secs_f64(), first))
}

/// What the kernel tells of routes and neighbours, and when.
struct Monitor {
    child: Child,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Monitor {
    fn new(cluster: &Cluster) -> Result<Self> {
        let mut command = cluster.node(NODE).command(&["ip", "-o", "monitor", "route", "neigh"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = child.stdout.take().context("it has an output")?;
        let lines: Arc<Mutex<Vec<_>>> = Arc::default();
        let told = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
                let line = (Instant::now(), line);
                told.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { child, lines })
    }

    /// When the entries of nodes that went were removed.
    fn removed(&self) -> Vec<Instant> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = lines
            .iter()
            .filter(|(_, line)| line.contains("Deleted") && line.contains("vtep1024"));
        removed.map(|(at, _)| *at).collect()
    }

    fn forget(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Its program ends with the namespaces, if not with this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// O3.change: from an operator's word that a node is gone until a node has removed its routes and neighbours.
fn changes(cluster: &Cluster, outcome: &mut Outcome) -> Result<()> {
    let listed = cluster.json(&["node", "list"])?;
    let nodes = listed["nodes"].as_array().context("nodes are listed")?;
    let simulated = nodes
        .iter()
        .filter(|node| node["ip"].as_str().is_some_and(|ip| ip.starts_with(SIMULATED)));
    let ids: Vec<&str> = simulated.filter_map(|node| node["id"].as_str()).take(CHANGES).collect();
    ensure!(ids.len() == CHANGES, "only {} nodes could go", ids.len());
    eprintln!("overlay: {CHANGES} nodes go");
    let monitor = Monitor::new(cluster)?;
    let mut took = Vec::new();
    for id in ids {
        took.push(change(cluster, &monitor, id)?);
    }
    // The first one waited for the monitor, too.
    took.remove(0);
    took.sort_by(f64::total_cmp);
    let (p50, most) = (quantile(&took, 0.5), quantile(&took, 1.0));
    eprintln!("O3.change: p50 {p50:.1} ms, at most {most:.1}");
    outcome
        .figures
        .push(Figure::new("O3.change", p50, "ms p50", took.len() as u64, most));
    outcome.check(p50 <= 5.0, || format!("O3.change: {p50:.1} ms, wanted 5"));
    Ok(())
}

/// Milliseconds for one node to go.
fn change(cluster: &Cluster, monitor: &Monitor, id: &str) -> Result<f64> {
    let before = entries(cluster, NODE).context("a node has entries")?;
    monitor.forget();
    let body: Value = json!({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": id}}});
    let master = format!("{}:5050", underlay(1)).parse()?;
    let began = Instant::now();
    let (status, said) = http(cluster.node(1), master, "POST /api/v1", &body.to_string())?;
    ensure!(status / 100 == 2, "{id} is not taken for gone: {status} {said}");
    // Its block's route, its own, and its neighbour.
    let told = wait_for_every(SOON, PATIENCE, || (monitor.removed().len() >= 2).then_some(()));
    ensure!(
        told.is_some(),
        "no route of {id} went; the kernel told {:?}",
        monitor.lines
    );
    let gone = wait_for(PATIENCE, || {
        let now = entries(cluster, NODE)?;
        now.iter().zip(before).all(|(now, before)| *now < before).then_some(())
    });
    ensure!(gone.is_some(), "{:?} stay of {before:?}", entries(cluster, NODE));
    let last = monitor.removed().into_iter().max().context("something was removed")?;
    Ok(last.saturating_duration_since(began).as_secs_f64() * 1000.0)
}
