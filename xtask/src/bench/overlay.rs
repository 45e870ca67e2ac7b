//! `cargo xtask bench overlay`: bytes and packets between tasks (O1, O2), how soon a node that joins has everything of a thousand others (O3),
//! how soon containers run beside a runtime by hand (O4), the address plan (O5).

mod join;
mod throughput;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Outcome;
use super::stale::quantile;
use crate::figures::Figure;
use crate::lab::{Cluster, Place, underlay, wait_for_every};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

/// The node whose agent is measured.
const NODE: u8 = 2;
/// Longest wait for many tasks, or many agents.
const MANY: Duration = Duration::from_secs(180);
/// Between two looks at many tasks: each is a program and an answer with all of them.
const PAUSE: Duration = Duration::from_millis(50);
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
    eprintln!("overlay: a cluster");
    let mut cluster = Cluster::start(&revere)?;
    plan(&cluster, &mut outcome)?;
    let done = throughput::run(&cluster, &mut outcome)
        .and_then(|()| containers(&cluster, args, &mut outcome))
        .and_then(|()| join::run(&mut cluster, args.peers, &mut outcome));
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
    eprintln!("overlay: {} containers one after the other", args.starts);
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
    eprintln!("overlay: {} containers at once", args.starts);
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

/// The times of all tasks once they run. Their processes are not looked for: that reads all of /proc for each of them, on the
/// machine that is measured.
fn started(cluster: &Cluster, count: u32) -> Result<Vec<(f64, f64)>> {
    let wanted = usize::try_from(count)?;
    let mut last = 0;
    let tasks = wait_for_every(PAUSE, MANY, || {
        let tasks = running(&cluster.json(&["app", "show", "/o4"]).ok()?);
        last = tasks.len();
        (last == wanted).then_some(tasks)
    });
    let tasks = tasks.with_context(|| format!("{last} tasks of {count} run after {} s", MANY.as_secs()))?;
    tasks.iter().map(|task| times(cluster, task)).collect()
}

/// The ids of the tasks that run, as `app show` tells them.
fn running(shown: &Value) -> Vec<String> {
    let tasks = shown["app"]["tasks"].as_array().into_iter().flatten();
    tasks
        .filter(|task| task["state"] == "TASK_RUNNING")
        .filter_map(|task| task["id"].as_str().map(str::to_owned))
        .collect()
}

/// The same program in the same root directory by a runtime, one after the other; milliseconds.
fn by_hand(cluster: &Cluster, root: &Path, count: u32) -> Result<(&'static str, Vec<f64>)> {
    let place = cluster.node(NODE);
    let bundle = cluster.lab.dir.join("bundle");
    std::fs::create_dir_all(&bundle)?;
    let mut refused = String::new();
    for runtime in RUNTIMES.into_iter().filter(|name| crate::shell::find(name).is_some()) {
        eprintln!("overlay: {count} containers by {runtime}");
        write_bundle(place, runtime, &bundle, root)?;
        let state = bundle.join("state");
        let mut took = Vec::new();
        for number in 0..count {
            match run_by_hand(place, runtime, &bundle, &state, number) {
                Ok(millis) => took.push(millis),
                Err(error) => {
                    refused.push_str(&format!("\n{runtime}: {error:#}"));
                    break;
                }
            }
        }
        // The one that failed may have left something, too.
        let made = took.len().saturating_add(1).min(usize::try_from(count)?);
        let left: Vec<String> = (0..made)
            .map(|number| place.sh(&format!("{runtime} --root {} delete -f o4-{number}", state.display())))
            .filter_map(|deleted| deleted.err().map(|error| format!("{error:#}")))
            .collect();
        if took.len() < usize::try_from(count)? {
            continue;
        }
        ensure!(
            left.is_empty(),
            "{runtime} did not delete its containers: {}",
            left.join("\n")
        );
        return Ok((runtime, took));
    }
    bail!("none of {RUNTIMES:?} starts a container here{refused}")
}

/// What a runtime by hand starts: the root directory, and a program that stays.
fn write_bundle(place: &Place, runtime: &str, bundle: &Path, root: &Path) -> Result<()> {
    place.sh(&format!(
        "cd {} && rm -f config.json && {runtime} spec && rm -rf rootfs && cp -a {} rootfs",
        bundle.display(),
        root.display()
    ))?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    config["process"]["args"] = json!(["/bin/sleep", "100000"]);
    config["process"]["terminal"] = json!(false);
    Ok(std::fs::write(&file, config.to_string())?)
}

/// Starts one and tells the milliseconds; a failure tells what the runtime said.
fn run_by_hand(place: &Place, runtime: &str, bundle: &Path, state: &Path, number: u32) -> Result<f64> {
    let log = bundle.join("run.log");
    let line = format!(
        "{runtime} --root {} run -d --bundle {} o4-{number}",
        state.display(),
        bundle.display()
    );
    let began = Instant::now();
    detached(place, &line, &log)?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}

/// Runs a line whose programs may stay.
fn detached(place: &Place, line: &str, log: &Path) -> Result<()> {
    place.sh(&quiet(line, log)).map(drop).map_err(|error| {
        let said = std::fs::read(log).unwrap_or_default();
        error.context(format!("it said: {}", String::from_utf8_lossy(&said).trim()))
    })
}

/// With all that it writes in a file: whoever reads a pipe waits until the last program that stays has let go of it.
fn quiet(line: &str, log: &Path) -> String {
    format!("exec </dev/null >{} 2>&1; {line}", log.display())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_stays_is_not_waited_for() {
        let log = std::env::temp_dir().join(format!("overlay-bench-{}.log", std::process::id()));
        let line = quiet("(sleep 3; echo over) & echo begun", &log);
        crate::shell::capture(Command::new("sh").args(["-c", &line])).unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        assert_eq!(said, "begun\n");
    }

    #[test]
    fn tasks_that_run_are_those_that_the_master_tells() {
        let shown =
            json!({"app": {"tasks": [{"id": "a", "state": "TASK_RUNNING"}, {"id": "b", "state": "TASK_STAGING"}]}});
        assert_eq!(running(&shown), ["a"]);
        assert!(running(&json!({})).is_empty());
    }
}
