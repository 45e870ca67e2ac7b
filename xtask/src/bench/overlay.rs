//! `cargo xtask bench overlay`: how soon containers run beside a runtime by hand (O4), and how soon a node that joins has everything of a
//! thousand others (O3).

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Outcome;
use super::stale::quantile;
use crate::figures::Figure;
use crate::lab::{Cluster, PATIENCE, underlay, wait_for};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

/// The node whose agent is measured.
const NODE: u8 = 2;
/// The node that joins.
const JOINS: u8 = 3;
/// Longest wait for many tasks, or many agents.
const MANY: Duration = Duration::from_secs(180);
/// Runtimes to measure beside, the first that works here: crun refuses machines with both cgroup versions.
const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Flags of `overlay`.
#[derive(Clone, Debug, clap::Args)]
pub struct OverlayArgs {
    /// Containers, one after the other and then all at once.
    #[arg(long, default_value_t = 100)]
    pub starts: u32,
    /// Simulated nodes that are there when one joins.
    #[arg(long, default_value_t = 1_000)]
    pub peers: u32,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Measures and writes `overlay.json`.
pub(super) fn run(workspace: &Workspace, args: &OverlayArgs) -> Result<ExitCode> {
    if std::env::var_os("LAB_REVERE").is_none() {
        let ready = setup::run(workspace, Install::unless(args.no_install))?;
        ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    }
    let revere = dist::build_revere(workspace)?;
    let mut outcome = Outcome::default();
    let mut cluster = Cluster::start(&revere)?;
    plan(&cluster, &mut outcome)?;
    let done = containers(&cluster, args, &mut outcome).and_then(|()| join(&mut cluster, args, &mut outcome));
    done.with_context(|| cluster.picture())?;
    cluster.lab.close()?;
    outcome.tell(workspace, "overlay")
}

/// O5: blocks of the default overlay, and addresses in them.
fn plan(cluster: &Cluster, outcome: &mut Outcome) -> Result<()> {
    let told: Value = serde_json::from_str(&cluster.cli(&["demo-plan"])?)?;
    let number = |name: &str| told[name].as_f64().with_context(|| format!("{name} in {told}"));
    let (us, clashes) = (number("us")?, number("clashes")?);
    let n = told["allocations"].as_u64().unwrap_or(0);
    outcome.figures.push(Figure::new("O5", us, "us", n, clashes));
    outcome.check(us <= 1.0 && clashes == 0.0, || {
        format!("O5: {us:.2} us and {clashes} clashes, wanted 1 and 0")
    });
    Ok(())
}

/// When a task's start began and when it ran, in milliseconds of Unix time: the birth of its directory, which is made when its
/// image is there, and the time of its status.
fn times(cluster: &Cluster, task: &str) -> Result<(f64, f64)> {
    let dir = cluster.node(NODE).dir.join("state/tasks").join(task);
    let born = std::fs::metadata(&dir)?.created()?.duration_since(UNIX_EPOCH)?;
    let status: Value = serde_json::from_slice(&std::fs::read(dir.join("status.json"))?)?;
    let ran = status["timestamp_ms"].as_f64().context("a status has a time")?;
    Ok((born.as_secs_f64() * 1000.0, ran))
}

/// O4: an image that is there, in the overlay.
fn containers(cluster: &Cluster, args: &OverlayArgs, outcome: &mut Outcome) -> Result<()> {
    let (image, root) = cluster.lab.busybox_archive()?;
    let app = |instances: u32| {
        json!({"id": "/o4", "cmd": "exec sleep 100000", "cpus": 0.001, "mem": 1, "instances": instances,
            "networks": [{"mode": "container", "name": "dcos"}], "constraints": [["hostname", "CLUSTER", underlay(NODE)]],
            "container": {"type": "MESOS", "docker": {"image": image}}})
    };
    let file = cluster.lab.dir.join("o4.json");
    let add = |instances: u32| -> Result<()> {
        std::fs::write(&file, app(instances).to_string())?;
        cluster
            .cli(&["app", "add", file.to_str().context("a plain path")?])
            .map(drop)
    };
    add(1)?;
    for count in 1..=args.starts {
        cluster.cli(&["app", "scale", "/o4", &(count + 1).to_string()])?;
    }
    let mut each = started(cluster, args.starts + 1)?;
    // The first one unpacked the image.
    each.sort_by(|one, other| one.0.total_cmp(&other.0));
    let row: Vec<f64> = each.iter().skip(1).map(|(began, ran)| ran - began).collect();
    let (peer, beside) = by_hand(cluster, &root, args.starts)?;
    let peer_p50 = quantile(&beside, 0.5);
    let p50 = quantile(&row, 0.5);
    cluster.cli(&["app", "remove", "/o4"])?;
    add(args.starts)?;
    let each = started(cluster, args.starts)?;
    let first = each.iter().map(|(began, _)| *began).fold(f64::INFINITY, f64::min);
    let last = each.iter().map(|(_, ran)| *ran).fold(0.0, f64::max);
    let rate = f64::from(args.starts) * 1000.0 / (last - first).max(1.0);
    cluster.cli(&["app", "remove", "/o4"])?;
    let n = u64::from(args.starts);
    outcome
        .figures
        .push(Figure::new("O4.p50", p50, "ms p50", n, peer_p50).beside(peer, peer_p50));
    let peer_rate = 1000.0 / (beside.iter().sum::<f64>() / f64::from(args.starts)).max(1.0);
    outcome
        .figures
        .push(Figure::new("O4.rate", rate, "starts/s", n, peer_rate).beside(peer, peer_rate));
    outcome.check(p50 <= 100.0, || format!("O4.p50: {p50:.0} ms, wanted 100"));
    outcome.check(rate >= 20.0, || format!("O4.rate: {rate:.1} a second, wanted 20"));
    Ok(())
}

/// The times of all tasks once they run.
fn started(cluster: &Cluster, count: u32) -> Result<Vec<(f64, f64)>> {
    let wanted = usize::try_from(count)?;
    let tasks = wait_for(MANY, || cluster.tasks("/o4").ok().filter(|tasks| tasks.len() == wanted));
    let tasks = tasks.with_context(|| format!("not all of {count} tasks run"))?;
    tasks.iter().map(|task| times(cluster, &task.id)).collect()
}

/// The same program in the same root directory by a runtime, one after the other; milliseconds.
fn by_hand(cluster: &Cluster, root: &Path, count: u32) -> Result<(&'static str, Vec<f64>)> {
    let bundle = cluster.lab.dir.join("bundle");
    std::fs::create_dir_all(&bundle)?;
    let place = cluster.node(NODE);
    for runtime in RUNTIMES.into_iter().filter(|name| crate::shell::find(name).is_some()) {
        let (shown, state) = (bundle.display(), bundle.join("state"));
        place.sh(&format!(
            "cd {shown} && rm -f config.json && {runtime} spec && rm -rf rootfs && cp -a {} rootfs",
            root.display()
        ))?;
        let file = bundle.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        config["process"]["args"] = json!(["/bin/sleep", "100000"]);
        config["process"]["terminal"] = json!(false);
        std::fs::write(&file, config.to_string())?;
        let mut took = Vec::new();
        for number in 0..count {
            let line = format!(
                "{runtime} --root {} run -d --bundle {shown} o4-{number} </dev/null >/dev/null",
                state.display()
            );
            let began = Instant::now();
            if place.sh(&line).is_err() {
                break;
            }
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        for number in 0..took.len() {
            place.sh(&format!("{runtime} --root {} delete -f o4-{number}", state.display()))?;
        }
        if took.len() == usize::try_from(count)? {
            return Ok((runtime, took));
        }
    }
    bail!("none of {RUNTIMES:?} starts a container here")
}

/// What of the others a node has: FDB rows, neighbours, routes.
fn entries(cluster: &Cluster, node: u8) -> Option<[u32; 3]> {
    let look = "bridge fdb show dev vtep1024 2>/dev/null | wc -l; ip neigh show dev vtep1024 nud permanent 2>/dev/null | wc -l; \
        ip route show table all dev vtep1024 2>/dev/null | wc -l";
    let said = cluster.node(node).sh(look).ok()?;
    let mut counts = said.lines().map(|line| line.trim().parse().ok());
    Some([counts.next()??, counts.next()??, counts.next()??])
}

/// O3: from nothing to everything, the start of the daemon included.
fn join(cluster: &mut Cluster, args: &OverlayArgs, outcome: &mut Outcome) -> Result<()> {
    let peers = args.peers.to_string();
    let master = format!("http://{}:5050", underlay(1));
    let revere = cluster.revere().to_owned();
    let program = [
        &revere,
        "demo-cluster",
        "--master",
        &master,
        "--agents",
        &peers,
        "--apps",
        "1",
        "--instances",
        "1",
    ];
    let mut agents = cluster.node(1).spawn("peers", &program, &[])?;
    let there = |node: u8, cluster: &Cluster| {
        entries(cluster, node).is_some_and(|counts| counts.iter().all(|count| *count >= args.peers))
    };
    let known = wait_for(MANY, || there(NODE, cluster).then_some(()));
    ensure!(
        known.is_some(),
        "node{NODE} has {:?} of {peers} peers; they said: {}",
        entries(cluster, NODE),
        agents.output()
    );
    let alone = joined(cluster, &there)?;
    outcome
        .figures
        .push(Figure::new("O3", alone.0, "s", u64::from(args.peers), alone.1));
    outcome.check(alone.0 - alone.1 <= 1.0, || {
        format!(
            "O3: {:.2} s from the first entry to the last, wanted 1",
            alone.0 - alone.1
        )
    });
    if !agents.ended() {
        agents.kill()?;
    }
    Ok(())
}

/// Seconds from the start of the daemon until all is there, and until the first of it was.
fn joined(cluster: &mut Cluster, there: &dyn Fn(u8, &Cluster) -> bool) -> Result<(f64, f64)> {
    cluster.kill_node(JOINS)?;
    cluster.node(JOINS).sh("ip link del vtep1024")?;
    let began = Instant::now();
    cluster.start_node(JOINS)?;
    let first = wait_for(PATIENCE, || entries(cluster, JOINS).filter(|counts| counts[0] > 0));
    ensure!(first.is_some(), "nothing of the others came");
    let first = began.elapsed().as_secs_f64();
    let all = wait_for(MANY, || there(JOINS, cluster).then_some(()));
    ensure!(all.is_some(), "only {:?} came", entries(cluster, JOINS));
    Ok((began.elapsed().as_secs_f64(), first))
}
