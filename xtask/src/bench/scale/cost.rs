//! What masters, etcd and the load took of this machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::load::Load;
use super::servers::Servers;
use crate::lab::wait_for;
use crate::shell;

/// The kernel's unit of a process's time, the same on every architecture that Linux tells it on.
const TICKS_PER_S: f64 = 100.0;

/// Cores and memory of some processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// Cores that were busy with it.
    pub(super) cores: f64,
    /// Resident, at the end.
    pub(super) mib: f64,
}

/// What a stretch of time took.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    pub(super) leader: Cost,
    /// Each of those that do not lead, on average.
    pub(super) follower: Cost,
    /// Each member, on average.
    pub(super) etcd: Cost,
    /// All of it.
    pub(super) load: Cost,
    pub(super) seconds: f64,
    /// Keys that etcd put, and transactions that it agreed on.
    pub(super) puts: f64,
    pub(super) transactions: f64,
}

impl Costs {
    /// Waits for so long and tells what that took.
    pub(super) fn over(servers: &Servers, load: &Load, time: Duration) -> Result<Self> {
        let leader = servers.leader()?;
        let pids = |programs: &[super::servers::Program]| programs.iter().map(|one| one.0.id()).collect::<Vec<_>>();
        let masters = pids(&servers.masters);
        let (leads, follow): (Vec<_>, Vec<_>) = masters.iter().enumerate().partition(|(number, _)| *number == leader);
        let only = |some: Vec<(usize, &u32)>| some.into_iter().map(|(_, pid)| *pid).collect::<Vec<u32>>();
        let groups = [
            only(leads),
            only(follow),
            pids(&servers.members),
            load.processes.iter().map(|one| one.program.0.id()).collect(),
        ];
        let count = || {
            anyhow::Ok([
                servers.counted("etcd_mvcc_put_total")?,
                servers.counted("etcd_mvcc_txn_total")?,
            ])
        };
        let (began, before, counted) = (Instant::now(), used(&groups)?, count()?);
        // What passes is measured: nothing is waited for but time.
        wait_for(time, || None::<()>);
        let (after, seconds) = (used(&groups)?, began.elapsed().as_secs_f64());
        let now = count()?;
        // Every member puts every key.
        let members = f64::from(u32::try_from(groups[2].len())?);
        let mut costs = Self {
            seconds,
            puts: (now[0] - counted[0]) / members,
            transactions: (now[1] - counted[1]) / members,
            ..Self::default()
        };
        let all = [&mut costs.leader, &mut costs.follower, &mut costs.etcd, &mut costs.load];
        for (number, cost) in all.into_iter().enumerate() {
            let each = match number {
                3 => 1.0,
                _ => f64::from(u32::try_from(groups[number].len())?),
            };
            cost.cores = (after[number].0 - before[number].0) / seconds / each;
            cost.mib = after[number].1 / each;
        }
        Ok(costs)
    }
}

/// Seconds of processors and MiB of memory of each group of processes.
fn used(groups: &[Vec<u32>]) -> Result<Vec<(f64, f64)>> {
    let group = |pids: &Vec<u32>| {
        pids.iter().try_fold((0.0, 0.0), |sum, pid| {
            let one = process(*pid).with_context(|| format!("process {pid} has ended"))?;
            Ok((sum.0 + one.0, sum.1 + one.1))
        })
    };
    groups.iter().map(group).collect()
}

fn process(pid: u32) -> Result<(f64, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short line")?.parse()?) };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = resident
        .and_then(|line| line.split_whitespace().next()?.parse().ok())
        .context("no VmRSS in /proc/PID/status")?;
    Ok(((ticks(11)? + ticks(12)?) / TICKS_PER_S, kib / 1024.0))
}

/// Has `perf` watch the whole machine for a few seconds.
pub(super) fn profile(dir: &Path) -> Result<Child> {
    Command::new("perf")
        .args(["record", "-a", "-g", "-F", "199", "-o"])
        .arg(dir.join("perf.data"))
        .args(["--", "sleep", "8"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start perf: install the package linux-perf")
}

/// What took most.
pub(super) fn profiled(mut perf: Child, dir: &Path) -> Result<String> {
    perf.wait()?;
    let report = |sort: &str| {
        let mut command = Command::new("perf");
        command.arg("report").arg("-i").arg(dir.join("perf.data"));
        shell::capture(command.args([
            "--stdio",
            "--no-children",
            "-g",
            "none",
            "--percent-limit",
            "0.7",
            "-s",
            sort,
        ]))
    };
    Ok(format!("{}\n{}", report("comm")?, report("comm,dso,symbol")?))
}
