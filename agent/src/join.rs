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
    let identity = plan.user.as_deref().map(exec::identity).transpose()?;
    for cgroup in &plan.cgroups {
        cgroup::join(&cgroup.dir).map_err(|error| format!("cannot join the task's cgroup: {error}"))?;
    }
    enter(process)?;
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
        identity
            .assume()
            .map_err(|(tried, error)| format!("cannot {tried}: {error}"))?;
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(plan.env.iter().map(|(name, value)| (name, value)));
    let error = command.exec();
    Err(format!("cannot execute `{program}` inside the task: {error}"))
}

fn read<T: serde::de::DeserializeOwned>(dir: &TaskDir, name: &str) -> Result<T, String> {
    match dir.read(name) {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("{} is not there", dir.file(name).display())),
        Err(error) => Err(error.to_string()),
    }
}

/// Goes into the network and mount namespaces of the process.
fn enter(process: ProcessId) -> Result<(), String> {
    let open = |name: &str| {
        let path = format!("/proc/{}/ns/{name}", process.pid);
        File::open(&path).map_err(|error| format!("cannot open {path}: {error}"))
    };
    let namespaces = [("net", CloneFlags::CLONE_NEWNET), ("mnt", CloneFlags::CLONE_NEWNS)];
    let files: Vec<(File, &str, CloneFlags)> = namespaces
        .into_iter()
        .map(|(name, flag)| open(name).map(|file| (file, name, flag)))
        .collect::<Result<_, _>>()?;
    // Checked after the opening: a number that was given to another process by now is recognised.
    if !process.exists() {
        return Err("the task's process has ended".to_owned());
    }
    for (file, name, flag) in files {
        let own = std::fs::metadata(format!("/proc/self/ns/{name}")).map(|data| data.ino());
        let same = own.ok() == file.metadata().ok().map(|data| data.ino());
        if !same {
            setns(&file, flag).map_err(|error| format!("cannot enter the task's {name} namespace: {error}"))?;
        }
    }
    Ok(())
}
