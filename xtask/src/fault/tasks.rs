//! L1: what is left of tasks and networks that were started and ended by the thousand, also when daemons are killed meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Finding;
use super::bench::{Bench, nodes, rest};
use crate::figures::Figure;
use crate::lab::{NODES, wait_for};

/// Longest wait for a round of tasks to start, or to be gone.
const ROUND: Duration = Duration::from_secs(240);
/// Longest wait until the node has put everything away; it looks for what it missed every ten seconds.
const SETTLED: Duration = Duration::from_secs(60);
/// Networks that are there at the same time.
const TOGETHER: u64 = 20;
/// How long a daemon that was killed stays away, at most.
const GONE: Duration = Duration::from_millis(300);

/// Instances of each kind in a round; a pod has two tasks.
struct Round(u64);

impl Round {
    fn starts(&self) -> u64 {
        self.0 * 5
    }
}

/// How much of everything there is.
type Counts = BTreeMap<String, u64>;

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (starts, round) = match (bench.short, bench.starts) {
        (true, _) => (30, Round(3)),
        (false, told) => (told.unwrap_or(10_000), Round(30)),
    };
    let (networks, killed) = match bench.short {
        true => (4, 15),
        false => (starts / 10, starts / 10),
    };
    let (image, _) = bench.cluster.lab.busybox_archive()?;
    let image = image.as_str();
    // What is made once and kept is no leak.
    tasks(bench, image, &round, 0)?;
    nets(bench, 0, networks.min(TOGETHER), 0)?;
    let before = settled(bench, None)?;
    let mut found = Finding::default();
    let mut done = 0;
    while done < starts {
        done += tasks(bench, image, &round, 0)?;
    }
    let leaked = leaks(bench, &before)?;
    found.check(leaked.is_empty(), || {
        format!("after {done} task starts: {}", told(&leaked))
    });
    found.figures.push(Figure::failures("L1", sum(&leaked), done, 0));
    let mut made = 0;
    while made < networks {
        let now = TOGETHER.min(networks - made);
        nets(bench, made, now, 0)?;
        made += now;
    }
    let leaked = leaks(bench, &before)?;
    found.check(leaked.is_empty(), || {
        format!("after {made} networks: {}", told(&leaked))
    });
    found
        .figures
        .push(Figure::failures("L1.networks", sum(&leaked), made, 0));
    let (mut done, mut kills) = (0, 0);
    while done < killed {
        let each = if bench.short { 2 } else { 6 };
        done += tasks(bench, image, &round, each)?;
        kills += u64::from(each);
    }
    for turn in 0..if bench.short { 2 } else { (networks / 20).max(2) } {
        nets(bench, turn, 1, 1)?;
        kills += 2;
    }
    let leaked = leaks(bench, &before)?;
    eprintln!("{done} launches with {kills} daemons killed");
    found.check(leaked.is_empty(), || format!("after {kills} kills: {}", told(&leaked)));
    found.figures.push(Figure::failures("L1.killed", sum(&leaked), done, 0));
    Ok(found)
}

fn sum(leaked: &Counts) -> u64 {
    leaked.values().sum()
}

fn told(leaked: &Counts) -> String {
    let each: Vec<String> = leaked.iter().map(|(name, more)| format!("{more} {name}")).collect();
    format!("left are {}", each.join(", "))
}

/// Every kind of task: with the node's network and with its own, in an image, two of a pod.
fn definitions(image: &str, count: u64) -> [(&'static str, Value); 4] {
    let own = json!([{"mode": "container", "name": "dcos"}]);
    let app = |id: &str| json!({"id": id, "cmd": "exec sleep 100000", "cpus": 0.001, "mem": 1, "instances": count, "backoffSeconds": 0});
    let mut apps = [app("/leak-host"), app("/leak-own"), app("/leak-image")];
    apps[1]["networks"] = own.clone();
    apps[2]["networks"] = own.clone();
    apps[2]["cmd"] = json!("exec busybox sleep 100000");
    apps[2]["container"] = json!({"type": "MESOS", "docker": {"image": image}});
    let container = |name: &str| json!({"name": name, "exec": {"command": {"shell": "exec sleep 100000"}}, "resources": {"cpus": 0.001, "mem": 1}});
    let pod = json!({"id": "/leak-pod", "networks": own, "containers": [container("a"), container("b")],
        "scaling": {"kind": "fixed", "instances": count}, "executorResources": {"cpus": 0.001, "mem": 1, "disk": 0},
        "scheduling": {"backoff": {"backoff": 0}}});
    let [host, own, image] = apps;
    [("app", host), ("app", own), ("app", image), ("pod", pod)]
}

/// Tasks of a round that the master tells.
fn listed(bench: &Bench, state: &str) -> Option<u64> {
    let said = bench.cluster.cli(&["task", "list"]).ok()?;
    let count = said
        .lines()
        .filter(|line| line.contains("/leak-") && line.contains(state))
        .count();
    u64::try_from(count).ok()
}

/// Starts and ends a round of tasks; daemons are killed at random moments of both. Gives how many were started.
fn tasks(bench: &mut Bench, image: &str, round: &Round, kills: u32) -> Result<u64> {
    let all = definitions(image, round.0);
    for (kind, definition) in &all {
        let name = definition["id"]
            .as_str()
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned();
        let file = bench.cluster.lab.dir.join(format!("{name}.json"));
        std::fs::write(&file, definition.to_string())?;
        bench
            .cluster
            .cli(&[kind, "add", file.to_str().context("a plain path")?, "--no-wait"])?;
    }
    for _ in 0..kills / 2 {
        kill_one(bench)?;
    }
    if wait_for(ROUND, || {
        (listed(bench, "TASK_RUNNING")? >= round.starts()).then_some(())
    })
    .is_none()
    {
        bail!(
            "{:?} of {} tasks run\n{}",
            listed(bench, "TASK_RUNNING"),
            round.starts(),
            bench.cluster.picture()
        );
    }
    for (kind, definition) in &all {
        let id = definition["id"].as_str().unwrap_or_default();
        // The tasks run a moment before the deployment that started them has ended, which refuses others until then.
        bench.cluster.until(&format!("{id} may be removed"), |cluster| {
            cluster.cli(&[kind, "remove", id, "--no-wait"]).ok()
        })?;
    }
    for _ in 0..kills - kills / 2 {
        kill_one(bench)?;
    }
    if wait_for(ROUND, || (listed(bench, "")? == 0).then_some(())).is_none() {
        bail!(
            "{:?} tasks of a round stay\n{}",
            listed(bench, ""),
            bench.cluster.picture()
        );
    }
    Ok(round.starts())
}

fn kill_one(bench: &mut Bench) -> Result<()> {
    bench.pause(Duration::from_millis(400));
    let number = u8::try_from(bench.random(u64::from(NODES)))? + 1;
    bench.restart(number, GONE, None)
}

/// Makes networks, waits until every node has them, and removes them; daemons are killed right after both.
fn nets(bench: &mut Bench, from: u64, count: u64, kills: u32) -> Result<()> {
    let names: Vec<String> = (from..from + count).map(|number| format!("leak-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let subnet = format!("10.{}.0.0/16", 120 + number);
        bench.cluster.cli(&["network", "create", name, "--subnet", &subnet])?;
    }
    for _ in 0..kills {
        kill_one(bench)?;
    }
    every_node_has(bench, count + 1)?;
    for name in &names {
        bench.cluster.cli(&["network", "remove", name])?;
    }
    for _ in 0..kills {
        kill_one(bench)?;
    }
    every_node_has(bench, 1)
}

fn every_node_has(bench: &Bench, wanted: u64) -> Result<()> {
    let all_have = || nodes().all(|node| vteps(bench, node).is_ok_and(|found| found == wanted));
    if wait_for(ROUND, || all_have().then_some(())).is_none() {
        bail!("not every node has {wanted} overlays\n{}", bench.cluster.picture());
    }
    Ok(())
}

fn vteps(bench: &Bench, node: u8) -> Result<u64> {
    let said = bench
        .cluster
        .node(node)
        .sh("ip -o link show type vxlan | grep -c vtep || true")?;
    Ok(said.trim().parse()?)
}

/// Counts until there is no more of anything than before, or it has had its time.
fn settled(bench: &Bench, before: Option<&Counts>) -> Result<Counts> {
    let mut last = counts(bench)?;
    let mut quiet = 0;
    wait_for(SETTLED, || {
        rest(Duration::from_millis(300));
        let now = counts(bench).ok()?;
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        let enough = match before {
            Some(before) => more(before, &last).is_empty(),
            // Nothing changes any more.
            None => quiet >= 5,
        };
        enough.then_some(())
    });
    Ok(last)
}

fn leaks(bench: &Bench, before: &Counts) -> Result<Counts> {
    let after = settled(bench, Some(before))?;
    Ok(more(before, &after))
}

fn more(before: &Counts, after: &Counts) -> Counts {
    let grown = |(name, now): (&String, &u64)| {
        let more = now.saturating_sub(before.get(name).copied().unwrap_or(0));
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(grown).collect()
}

/// Everything of tasks and networks that a node could keep.
fn counts(bench: &Bench) -> Result<Counts> {
    const OF_ALL: &str = "echo processes $(ls -d /proc/[0-9]* | wc -l); \
        echo namespaces $(readlink /proc/[0-9]*/ns/* | sort -u | wc -l)";
    const OF_ONE: &str = "echo mounts $(grep -c . /proc/self/mounts); echo links $(ip -o link | wc -l); \
        echo veths $(ip -o link | grep -c ': rv' || true); echo 'FDB rows' $(bridge fdb show | wc -l); \
        echo neighbours $(ip neigh show nud permanent | wc -l); echo addresses $(ip -o addr | wc -l); \
        echo routes $(ip route show table all | wc -l); echo rules $(ip rule | wc -l); \
        echo pins $(find /sys/fs/bpf -type f -o -type l | wc -l)";
    let mut all = parsed(&bench.cluster.node(1).sh(OF_ALL)?, "");
    for number in nodes() {
        let place = bench.cluster.node(number);
        let (state, group) = (
            place.dir.join("state"),
            place.cgroup.as_ref().context("a node has a cgroup")?,
        );
        let more = format!(
            "{OF_ONE}; echo cgroups $(find {} -type d | wc -l); \
             for kind in tasks netns containers pods; do echo $kind $(ls {}/$kind 2>/dev/null | wc -l); done",
            group.display(),
            state.display()
        );
        all.extend(parsed(&place.sh(&more)?, &format!(" of node{number}")));
    }
    Ok(all)
}

fn parsed(said: &str, whose: &str) -> Counts {
    let pair = |line: &str| {
        let (name, count) = line.rsplit_once(' ')?;
        Some((format!("{name}{whose}"), count.parse().ok()?))
    };
    said.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_left() {
        let before = parsed("links 3\nFDB rows 2\n", " of node1");
        let after = parsed("links 3\nFDB rows 4\nveths 1\n", " of node1");
        let left = more(&before, &after);
        assert_eq!(told(&left), "left are 2 FDB rows of node1, 1 veths of node1");
        assert_eq!(sum(&left), 3);
        assert!(more(&after, &before).is_empty(), "less is no leak");
    }
}
