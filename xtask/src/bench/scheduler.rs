//! `cargo xtask bench scheduler`: one master, thousands of simulated agents on their own connections, a hundred thousand
//! tasks (S20-S24), in a network namespace of its own.

use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::Outcome;
use crate::figures::Figure;
use crate::lab::{Cluster, wait_for};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf, shell};

/// What was measured on a real node before, as JSON.
const STARTS: &str = "XTASK_BENCH_STARTS";
/// Writes may take so many times as long beside readers of all there is, and so many milliseconds more.
const SLOWED: (f64, f64) = (3.0, 30.0);
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
    /// Readers of the task stream.
    #[arg(long, default_value_t = 1_000)]
    pub readers: u32,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Builds, then runs itself again in a network namespace that ends with it.
pub(super) fn run(workspace: &Workspace, args: &SchedulerArgs) -> Result<ExitCode> {
    if super::is_inside() {
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
    let starts = starts(&revere)?;
    let told = [(STARTS, starts.as_ref()), ("LAB_REVERE", revere.as_os_str())];
    super::again(&told)
}

/// Tasks started one after the other on a node with everything that nodes have.
fn starts(revere: &Path) -> Result<String> {
    let cluster = Cluster::start(revere)?;
    let master = format!("http://{MASTER}");
    let told = cluster.cli(&["demo-cluster", "--master", &master, "--real"]);
    let told = told.with_context(|| cluster.picture());
    cluster.lab.close()?;
    Ok(told?.trim().to_owned())
}

fn inside(workspace: &Workspace, args: &SchedulerArgs) -> Result<ExitCode> {
    shell::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let revere = dist::build_revere(workspace)?;
    let dir = workspace.target.join("tmp/bench-scheduler");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let load = ["--agents", &args.agents.to_string(), "--apps", &args.apps.to_string()].map(str::to_owned);
    let more = ["--instances", &args.instances.to_string()].map(str::to_owned);
    let (told, peak) = beside_master(&revere, &dir.join("full"), &[&load[..], &more[..]].concat())?;
    let readers = ["--readers", &args.readers.to_string()].map(str::to_owned);
    let (read, _) = beside_master(&revere, &dir.join("readers"), &readers)?;
    let starts = std::env::var(STARTS).context("no figures of a real node")?;
    let mut outcome = judge(&told, peak, args)?;
    judge_starts(&mut outcome, &serde_json::from_str(&starts)?)?;
    judge_readers(&mut outcome, &read)?;
    let _ = std::fs::remove_dir_all(&dir);
    outcome.tell(workspace, "scheduler")
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

/// Runs the simulated agents beside a master of their own: they drive the whole and tell what they saw; and the most
/// memory that the master had.
fn beside_master(revere: &Path, dir: &Path, flags: &[String]) -> Result<(Value, f64)> {
    std::fs::create_dir_all(dir)?;
    let mut command = Command::new(revere);
    command
        .args(["master", "--listen", MASTER, "--marathon-listen", ""])
        .arg("--state-dir")
        .arg(dir.join("state"));
    let log = std::fs::File::create(dir.join("master.log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    let master = Master(command.spawn().context("cannot start the master")?);
    let up = || std::net::TcpStream::connect(MASTER).ok();
    wait_for(Duration::from_secs(20), up).context("the master does not listen")?;
    let mut load = Command::new(revere);
    load.args(["demo-cluster", "--master", &format!("http://{MASTER}")])
        .args(flags);
    let said = shell::capture(&mut load)?;
    let peak = peak_gib(master.0.id())?;
    let told = serde_json::from_str(said.lines().last().unwrap_or_default());
    Ok((told.context("the simulated agents told no figures")?, peak))
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

fn number(told: &Value, key: &str) -> Result<f64> {
    told[key]
        .as_f64()
        .with_context(|| format!("{key} is missing in {told}"))
}

fn judge(told: &Value, peak: f64, args: &SchedulerArgs) -> Result<Outcome> {
    let tasks = u64::from(args.apps) * u64::from(args.instances);
    let placed = number(told, "placed")?;
    ensure!(
        placed >= crate::figures::count(tasks),
        "only {placed} of {tasks} tasks ran"
    );
    let mut outcome = Outcome::default();
    let (rate, start) = (number(told, "per_s")?, number(told, "start_ms_p50")?);
    let n = |key: &str| told[key].as_u64().unwrap_or(0);
    let mut put = |figure| outcome.figures.push(figure);
    put(Figure::new("S20", rate, "placements per s", tasks, 0.0));
    let idle = number(told, "start_idle_ms_p50")?;
    put(Figure::new("S21.master", start, "ms p50", n("starts"), idle));
    let write = number(told, "write_ms_p50")?;
    let (apps, summary) = (number(told, "apps_ms_p99")?, number(told, "summary_ms_p99")?);
    put(Figure::new(
        "S22.apps",
        apps,
        "ms p99",
        n("lists"),
        number(told, "apps_ms_p50")?,
    ));
    put(Figure::new(
        "S22.summary",
        summary,
        "ms p99",
        n("lists"),
        number(told, "summary_ms_p50")?,
    ));
    let beside = number(told, "write_beside_ms_p50")?;
    put(Figure::new("S22.writes", beside, "ms p50", n("starts"), write));
    put(Figure::new("S24", peak, "GiB", 1, 0.0));
    outcome.check(rate >= 5_000.0, || {
        format!("S20: {rate:.0} placements a second, wanted 5,000")
    });
    outcome.check(apps <= 200.0, || format!("S22.apps: {apps:.0} ms, wanted 200"));
    outcome.check(summary <= 20.0, || format!("S22.summary: {summary:.1} ms, wanted 20"));
    outcome.check(beside <= (write * SLOWED.0).max(write + SLOWED.1), || {
        format!("S22.writes: {beside:.1} ms beside readers, {write:.1} ms without")
    });
    outcome.check(peak <= 1.5, || format!("S24: {peak:.2} GiB, wanted 1.5"));
    Ok(outcome)
}

fn judge_starts(outcome: &mut Outcome, told: &Value) -> Result<()> {
    let start = number(told, "start_ms_p50")?;
    let n = told["starts"].as_u64().unwrap_or(0);
    let (worst, write) = (number(told, "start_ms_p99")?, number(told, "write_ms_p50")?);
    outcome.figures.push(Figure::new("S21", start, "ms p50", n, write));
    outcome.figures.push(Figure::new("S21.p99", worst, "ms p99", n, write));
    outcome.check(start <= 50.0, || format!("S21: {start:.0} ms, wanted 50"));
    Ok(())
}

fn judge_readers(outcome: &mut Outcome, told: &Value) -> Result<()> {
    let behind = number(told, "behind_s")?;
    let changes = told["told"].as_u64().unwrap_or(0);
    let wrong = number(told, "out_of_order")?;
    outcome
        .figures
        .push(Figure::new("S23", behind, "s behind", changes, wrong));
    outcome.check(behind <= 1.0, || format!("S23: {behind:.2} s behind, wanted 1"));
    outcome.check(told["complete"] == told["readers"] && wrong == 0.0, || {
        format!("S23: not every reader was told all in order: {told}")
    });
    outcome.check(told["slow_dropped"] == told["slow"], || {
        format!("S23: readers that read nothing were not dropped: {told}")
    });
    Ok(())
}
