//! The runner's second task: becomes a check's command inside the namespaces of a task that runs.

use std::convert::Infallible;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use model::{Command as TaskCommand, LaunchSpec, Probe};
use nix::sched::{CloneFlags, setns};

use crate::plan::RunPlan;
use crate::process::ProcessId;
use crate::spec::SpecFile;
use crate::store::{PID, PLAN, SPEC, TaskDir};
use crate::{cgroup, exec};

/// Environment variable that names the sandbox as the task sees it.
const SANDBOX: &str = "MESOS_SANDBOX";

/// Executes the health check of that number; returns only with what went wrong. The process has one thread.
pub(crate) fn become_check(dir: &TaskDir, number: usize) -> Result<Infallible, String> {
    // A group of its own, to be ended as one. It fails only if it leads one already.
    let _ = rustix::process::setsid();
    let (plan, process) = (read::<RunPlan>(dir, PLAN)?, read::<ProcessId>(dir, PID)?);
    let spec = LaunchSpec::try_from(read::<SpecFile>(dir, SPEC)?).map_err(|error| error.to_string())?;
    let argv = match spec.checks.health.get(number).map(|check| &check.probe) {
        Some(Probe::Command(TaskCommand::Shell(text))) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
        Some(Probe::Command(TaskCommand::Argv(argv))) => argv.clone(),
        _ => return Err(format!("the task has no command as its health check {number}")),
    };
    let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
    // A container's user is one of its image, and is taken on with all that a container may not do.
    let identity = match &plan.container {
        Some(_) => None,
        None => plan.user.as_deref().map(exec::identity).transpose()?,
    };
    for cgroup in &plan.cgroups {
        cgroup::join(&cgroup.dir).map_err(|error| format!("cannot join the task's cgroup: {error}"))?;
    }
    // Into that of PIDs go its children only.
    namespaces(process)?.iter().try_for_each(Namespace::enter)?;
    let sandbox = plan
        .env
        .iter()
        .find(|(name, _)| name == SANDBOX)
        .map(|(_, value)| value);
    let inside = sandbox.map_or(plan.sandbox.as_path(), Path::new);
    if std::env::set_current_dir(inside).is_err() {
        std::env::set_current_dir("/").map_err(|error| format!("cannot go to / inside the task: {error}"))?;
    }
    if let Some(identity) = &identity {
        identity.assume()?;
    }
    exec::heed_signals();
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(plan.env.iter().map(|(name, value)| (name, value)));
    if let Some(container) = &plan.container {
        return exec::become_in_container(command, container);
    }
    let error = command.exec();
    Err(format!("cannot execute `{program}` inside the task: {error}"))
}

pub(crate) fn read<T: serde::de::DeserializeOwned>(dir: &TaskDir, name: &str) -> Result<T, String> {
    match dir.read(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("{} is not there", dir.file(name).display())),
        Err(error) => Err(error.to_string()),
    }
}

/// A namespace of a task that differs from the one this process is in.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    name: &'static str,
    flag: CloneFlags,
}

/// The namespaces of the process that are not ours, in the order in which they can be entered.
pub(crate) fn namespaces(process: ProcessId) -> Result<Vec<Namespace>, String> {
    // The mounts last: they take /proc away.
    let all = [
        ("net", CloneFlags::CLONE_NEWNET),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let mut others = Vec::new();
    for (name, flag) in all {
        let path = format!("/proc/{}/ns/{name}", process.pid);
        let file = File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))?;
        let own = std::fs::metadata(format!("/proc/self/ns/{name}")).map(|data| data.ino());
        if own.ok() != file.metadata().ok().map(|data| data.ino()) {
            others.push(Namespace { file, name, flag });
        }
    }
    // Checked after the opening: a number that was given to another process by now is recognised.
    if process.exists() {
        Ok(others)
    } else {
        Err("the task's process has ended".to_owned())
    }
}

impl Namespace {
    /// Whether only children of who enters it are in it.
    pub(crate) fn is_of_pids(&self) -> bool {
        self.flag == CloneFlags::CLONE_NEWPID
    }

    pub(crate) fn enter(&self) -> Result<(), String> {
        setns(&self.file, self.flag)
            .map_err(|error| format!("cannot enter the task's {} namespace: {error}", self.name))
    }
}
