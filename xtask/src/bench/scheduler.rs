//! `cargo xtask bench scheduler`: one master, thousands of simulated agents on their own connections, a hundred thousand
//! tasks (S20-S24), in a network namespace of its own.

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Outcome;
use crate::figures::{self, Figure};
use crate::lab::wait_for;
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf, shell};

/// Says that the namespace is made.
const INSIDE: &str = "XTASK_BENCH_INSIDE";
/// The master's API in there.
const MASTER: &str = "127.0.0.1:5050";

/// Flags of `scheduler`.
#[derive(Clone, Debug, clap::Args)]
pub struct SchedulerArgs {
    /// Simulated agents.
    #[arg(long, default_value_t = 10_000)]
    pub agents: u32,
    /// Apps.
    #[arg(long, default_value_t = 2_000)]
    pub apps: u32,
    /// Tasks of each.
    #[arg(long, default_value_t = 50)]
    pub instances: u32,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Builds, then runs itself again in a network namespace that ends with it.
pub(super) fn run(workspace: &Workspace, args: &SchedulerArgs) -> Result<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        return inside(workspace, args);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this command makes a network namespace: run it as root");
    }
    if std::env::var_os("LAB_REVERE").is_none() {
        let ready = setup::run(workspace, Install::unless(args.no_install))?;
        ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    }
    let revere = dist::build_revere(workspace)?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(own)
        .args(["bench", "scheduler"])
        .args(["--agents", &args.agents.to_string()])
        .args(["--apps", &args.apps.to_string()])
        .args(["--instances", &args.instances.to_string()])
        .env(INSIDE, "1")
        .env("LAB_REVERE", revere)
        .status()
        .context("cannot start unshare")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn inside(workspace: &Workspace, args: &SchedulerArgs) -> Result<ExitCode> {
    shell::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let revere = dist::build_revere(workspace)?;
    let dir = workspace.target.join("tmp/bench-scheduler");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let mut command = Command::new(&revere);
    command
        .args(["master", "--listen", MASTER, "--marathon-listen", ""])
        .arg("--state-dir")
        .arg(dir.join("master"));
    let log = std::fs::File::create(dir.join("master.log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    let master = Master(command.spawn().context("cannot start the master")?);
    let up = || std::net::TcpStream::connect(MASTER).ok();
    wait_for(Duration::from_secs(20), up).context("the master does not listen")?;
    let told = measure(&revere, args);
    let peak = peak_gib(master.0.id());
    drop(master);
    let outcome = judge(&told?, peak?, args)?;
    figures::write(workspace, "scheduler", &outcome.figures)?;
    for figure in &outcome.figures {
        println!(
            "{}: {:.2} {} (n = {}, control {:.2})",
            figure.id, figure.value, figure.unit, figure.n, figure.control
        );
    }
    for failure in &outcome.failures {
        println!("!! {failure}");
    }
    let _ = std::fs::remove_dir_all(&dir);
    Ok(if outcome.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The master, which ends with the bench however that ends.
struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the simulated agents, which drive the whole and tell what they saw.
fn measure(revere: &Path, args: &SchedulerArgs) -> Result<Value> {
    let mut command = Command::new(revere);
    command
        .args(["demo-cluster", "--master", &format!("http://{MASTER}")])
        .args(["--agents", &args.agents.to_string()])
        .args(["--apps", &args.apps.to_string()])
        .args(["--instances", &args.instances.to_string()]);
    let said = shell::capture(&mut command)?;
    serde_json::from_str(said.lines().last().unwrap_or_default()).context("the simulated agents told no figures")
}

/// Most memory that a process has had.
fn peak_gib(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("no VmHWM in /proc/PID/status")?;
    Ok(kib / 1024.0 / 1024.0)
}

fn judge(told: &Value, peak: f64, args: &SchedulerArgs) -> Result<Outcome> {
    let number = |key: &str| {
        told[key]
            .as_f64()
            .with_context(|| format!("{key} is missing in {told}"))
    };
    let tasks = u64::from(args.apps) * u64::from(args.instances);
    let placed = number("placed")?;
    ensure!(placed >= figures::count(tasks), "only {placed} of {tasks} tasks ran");
    let mut outcome = Outcome::default();
    let (rate, start, list) = (number("per_s")?, number("start_ms_p50")?, number("apps_ms_p99")?);
    let n = |key: &str| told[key].as_u64().unwrap_or(0);
    outcome
        .figures
        .push(Figure::new("S20", rate, "placements per s", tasks, 0.0));
    outcome.figures.push(Figure::new(
        "S21.master",
        start,
        "ms p50",
        n("starts"),
        number("start_idle_ms_p50")?,
    ));
    outcome.figures.push(Figure::new(
        "S22.apps",
        list,
        "ms p99",
        n("lists"),
        number("write_ms_p50")?,
    ));
    outcome.figures.push(Figure::new("S24", peak, "GiB", 1, 0.0));
    outcome.check(rate >= 5_000.0, || {
        format!("S20: {rate:.0} placements a second, wanted 5,000")
    });
    outcome.check(list <= 200.0, || format!("S22.apps: {list:.0} ms, wanted 200"));
    outcome.check(peak <= 1.5, || format!("S24: {peak:.2} GiB, wanted 1.5"));
    Ok(outcome)
}
