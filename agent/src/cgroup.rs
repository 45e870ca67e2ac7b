//! Control groups, v1 and v2 side by side: found, filled, killed as a whole, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::Resources;
use rustix::process::{Pid, Signal, kill_process};

use crate::config::{Config, OpenError};
use crate::plan::CgroupPlan;

/// Mesos' lower bound of a memory limit: below it not even a shell starts.
const MIN_MEMORY_MB: u64 = 32;
/// Mesos' `cpu.shares` of one CPU.
const SHARES_PER_CPU: u64 = 1024;
/// How long killed processes may take to leave their cgroup.
const EMPTY_WITHIN: Duration = Duration::from_secs(5);

/// Where the tasks' cgroups are made.
#[derive(Clone, Debug)]
pub(crate) struct Hierarchies {
    /// The v2 directory of all tasks.
    pub(crate) tasks: PathBuf,
    /// The v2 directory of the runners, so that they are outside the daemon's own unit.
    pub(crate) runners: PathBuf,
    /// Whether v2 has each of the controllers cpu, memory, pids.
    v2: [bool; 3],
    /// Directories of the v1 controllers cpu, memory, pids.
    v1: [Option<PathBuf>; 3],
}

/// Directory of all tasks. Not `tasks`: v1 has a file of that name in every cgroup.
const TASKS: &str = "task";
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Finds the hierarchies and makes the node's directories.
pub(crate) fn open(config: &Config) -> Result<Hierarchies, OpenError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let (found_v2, v1_mounts) = parse_mounts(&mounts);
    let root = config.cgroup_v2.clone().or(found_v2).ok_or(OpenError::NoCgroup)?;
    let name = config.cgroup_name.trim_matches('/');
    let tasks = root.join(name).join(TASKS);
    let runners = root.join(name).join("runners");
    for dir in [&tasks, &runners] {
        make(dir)?;
    }
    let mut v2 = [false; 3];
    for (have, controller) in v2.iter_mut().zip(CONTROLLERS) {
        *have = enable(&root, &tasks, controller);
    }
    let mut v1 = [None, None, None];
    for ((dir, mount), have_v2) in v1.iter_mut().zip(v1_mounts).zip(v2) {
        if let Some(mount) = mount.filter(|_| !have_v2) {
            let path = mount.join(name).join(TASKS);
            make(&path)?;
            *dir = Some(path);
        }
    }
    Ok(Hierarchies { tasks, runners, v2, v1 })
}

fn make(dir: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(dir).map_err(|source| OpenError::Cgroup {
        path: dir.to_owned(),
        source,
    })
}

/// Hands the controller down from the v2 root to `tasks`; `false` if v2 does not have it.
fn enable(root: &Path, tasks: &Path, controller: &str) -> bool {
    let mut above: Vec<&Path> = tasks.ancestors().take_while(|dir| dir.starts_with(root)).collect();
    above.reverse();
    above
        .into_iter()
        .all(|dir| fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}")).is_ok())
}

/// The first cgroup v2 mount, and the v1 mounts of cpu, memory, pids.
fn parse_mounts(mounts: &str) -> (Option<PathBuf>, [Option<PathBuf>; 3]) {
    let mut v2 = None;
    let mut v1 = [None, None, None];
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        match kind {
            "cgroup2" if v2.is_none() => v2 = Some(PathBuf::from(path)),
            "cgroup" => {
                for (mount, controller) in v1.iter_mut().zip(CONTROLLERS) {
                    if mount.is_none() && options.split(',').any(|option| option == controller) {
                        *mount = Some(PathBuf::from(path));
                    }
                }
            }
            _ => {}
        }
    }
    (v2, v1)
}

impl Hierarchies {
    /// The v2 directory of a task.
    pub(crate) fn task(&self, id: &str) -> PathBuf {
        self.tasks.join(dir_name(id))
    }

    /// Every cgroup of a task with its limits.
    pub(crate) fn plan(&self, id: &str, resources: Resources, pids_limit: u64) -> Vec<CgroupPlan> {
        let memory = (resources.mem_mb > 0).then(|| resources.mem_mb.max(MIN_MEMORY_MB).saturating_mul(1 << 20));
        let shares = (resources.cpus_milli.saturating_mul(SHARES_PER_CPU) / 1000).max(2);
        let mut v2 = CgroupPlan {
            dir: self.task(id),
            limits: Vec::new(),
            oom: None,
        };
        let mut plans = Vec::new();
        let limits = [
            Some((
                "cpu.weight",
                v2_weight(shares).to_string(),
                "cpu.shares",
                shares.to_string(),
            )),
            memory.map(|bytes| {
                (
                    "memory.max",
                    bytes.to_string(),
                    "memory.limit_in_bytes",
                    bytes.to_string(),
                )
            }),
            Some(("pids.max", pids_limit.to_string(), "pids.max", pids_limit.to_string())),
        ];
        for (index, limit) in limits.into_iter().enumerate() {
            let is_memory = CONTROLLERS[index] == "memory";
            if self.v2[index] {
                v2.limits
                    .extend(limit.map(|(file, value, ..)| (file.to_owned(), value)));
                if is_memory {
                    v2.oom = Some("memory.events".to_owned());
                }
            } else if let Some(dir) = &self.v1[index] {
                plans.push(CgroupPlan {
                    dir: dir.join(dir_name(id)),
                    limits: limit
                        .map(|(.., file, value)| (file.to_owned(), value))
                        .into_iter()
                        .collect(),
                    oom: is_memory.then(|| "memory.oom_control".to_owned()),
                });
            }
        }
        plans.insert(0, v2);
        plans
    }
}

/// A name that no interface file of a cgroup can have.
fn dir_name(id: &str) -> String {
    format!("{id}.task")
}

/// The kernel's own scale from v1 shares (2 to 262144) to v2 weight (1 to 10000), as runc and systemd do it.
fn v2_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Makes the cgroup and sets its limits; says which file refused.
pub(crate) fn create(plan: &CgroupPlan) -> Result<(), String> {
    fs::create_dir_all(&plan.dir)
        .map_err(|error| format!("cannot create the cgroup {}: {error}", plan.dir.display()))?;
    for (file, value) in &plan.limits {
        let path = plan.dir.join(file);
        fs::write(&path, value).map_err(|error| format!("cannot write {value} to {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Moves the calling process into the cgroup.
pub(crate) fn join(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("cgroup.procs"), "0")
}

/// Whether the kernel killed a process of these cgroups for lack of memory.
pub(crate) fn out_of_memory(plans: &[CgroupPlan]) -> bool {
    plans.iter().any(|plan| {
        let text = plan
            .oom
            .as_ref()
            .and_then(|file| fs::read_to_string(plan.dir.join(file)).ok());
        text.is_some_and(|text| oom_kills(&text) > 0)
    })
}

fn oom_kills(text: &str) -> u64 {
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// SIGKILL to every process of the cgroup and of those below it.
pub(crate) fn kill_all(dir: &Path) {
    if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for pid in processes(dir) {
        // One that has ended meanwhile is what was wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn processes(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<Pid> = text
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(processes(&entry.path()));
        }
    }
    pids
}

/// Kills what is left in the cgroups and removes them; the pause between two tries is the runner's to spend.
pub(crate) fn empty_and_remove(plans: &[CgroupPlan]) -> io::Result<()> {
    let deadline = Instant::now() + EMPTY_WITHIN;
    loop {
        for plan in plans {
            kill_all(&plan.dir);
        }
        match remove(plans) {
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Removes the cgroups, which must be empty.
pub(crate) fn remove(plans: &[CgroupPlan]) -> io::Result<()> {
    plans.iter().try_for_each(|plan| remove_tree(&plan.dir))
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_are_found() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\n\
            cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
            cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let (v2, v1) = parse_mounts(hybrid);
        assert_eq!(v2, Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(
            v1,
            [
                Some("/sys/fs/cgroup/cpu".into()),
                Some("/sys/fs/cgroup/memory".into()),
                None
            ]
        );
        assert_eq!(parse_mounts("proc /proc proc rw 0 0\n"), (None, [None, None, None]));
    }

    #[test]
    fn limits_go_where_the_controllers_are() {
        let resources = Resources {
            cpus_milli: 500,
            mem_mb: 64,
            disk_mb: 0,
        };
        let hybrid = Hierarchies {
            tasks: "/v2/revere/task".into(),
            runners: "/v2/revere/runners".into(),
            v2: [false, false, true],
            v1: [
                Some("/cpu/revere/task".into()),
                Some("/memory/revere/task".into()),
                None,
            ],
        };
        let plans = hybrid.plan("t", resources, 99);
        let limits: Vec<_> = plans
            .iter()
            .flat_map(|plan| &plan.limits)
            .map(|(f, v)| format!("{f}={v}"))
            .collect();
        assert_eq!(
            limits,
            ["pids.max=99", "cpu.shares=512", "memory.limit_in_bytes=67108864"]
        );
        assert_eq!(plans[0].dir, Path::new("/v2/revere/task/t.task"));
        let pure = Hierarchies {
            v2: [true; 3],
            v1: [None, None, None],
            ..hybrid
        };
        let plans = pure.plan("t", resources, 99);
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].limits.len(), 3);
        assert_eq!(plans[0].oom.as_deref(), Some("memory.events"));
    }

    #[test]
    fn weights_follow_shares() {
        assert_eq!(v2_weight(2), 1);
        assert_eq!(v2_weight(262_144), 10_000);
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), 3);
        assert_eq!(oom_kills(""), 0);
    }
}
