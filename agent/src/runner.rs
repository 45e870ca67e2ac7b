//! The runner: one task's small parent process, which outlives the daemon and writes down how the task ended.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use crate::container::Reported;
use crate::exec::Spawned;
use crate::plan::{End, ExitRecord, NetworkPlan, RunPlan, VERSION};
use crate::process::ProcessId;
use crate::store::{EXIT, PID, PLAN, RUNNER, StoreError, TaskDir};
use crate::{cgroup, exec, join, netns, pod};

/// Entry of `revere task-runner TASK_DIR [CHECK]`; to be called before the process has a second thread.
///
/// Its stderr is the task's `runner.log`. With the number of a health check it becomes that check's command instead.
pub fn run_task(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (dir, check, more) = (args.next(), args.next(), args.next());
    let check = check.map(|check| check.to_str().and_then(|number| number.parse::<usize>().ok()));
    let dir = match (dir, check, more) {
        (Some(dir), None | Some(Some(_)), None) => TaskDir::new(PathBuf::from(dir)),
        _ => {
            eprintln!("task-runner takes the task's directory and a check's number; `revere node` starts it");
            return ExitCode::from(2);
        }
    };
    if let Some(Some(number)) = check {
        let Err(error) = join::become_check(&dir, number);
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match run(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &TaskDir) -> Result<(), StoreError> {
    // A session of its own: the daemon's terminal cannot end it. It fails only if it has one already.
    let _ = rustix::process::setsid();
    let read = |source| StoreError::Read {
        path: "/proc/self/stat".into(),
        source,
    };
    let me = ProcessId::of(std::process::id()).map_err(read)?;
    if !dir.claim(RUNNER, &me)? {
        // A restarted daemon has given this start up.
        return Ok(());
    }
    let Some(plan) = dir.read::<RunPlan>(PLAN)? else {
        eprintln!("{} has no {PLAN}", dir.path().display());
        return Ok(());
    };
    if let Err(error) = exec::close_others_on_exec().and_then(|()| cgroup::join(&plan.runner_cgroup)) {
        eprintln!("the runner stays where it was started: {error}");
    }
    let end = match start(dir, &plan) {
        Ok(spawned) => wait(spawned),
        Err(text) => End::NotStarted(text),
    };
    let out_of_memory = cgroup::out_of_memory(&plan.cgroups);
    if let Err(error) = cgroup::empty_and_remove(&plan.cgroups) {
        eprintln!("cannot remove the task's cgroups: {error}");
    }
    let own = plan.network.as_ref().filter(|network| network.pod.is_none());
    if let Some(Err(error)) = own.map(|network| netns::remove(&network.link, &network.netns)) {
        eprintln!("cannot remove the task's network: {error}");
    }
    if let Some(container) = &plan.container
        && let Err(error) = std::fs::remove_dir_all(&container.scratch)
    {
        eprintln!("cannot remove what the container wrote: {error}");
    }
    dir.write(
        EXIT,
        &ExitRecord {
            version: VERSION,
            end,
            out_of_memory,
        },
    )
}

fn start(dir: &TaskDir, plan: &RunPlan) -> Result<Spawned, String> {
    plan.cgroups.iter().try_for_each(cgroup::create)?;
    let network = |network: &NetworkPlan| match &network.pod {
        Some(pod) => pod::network(network, pod),
        None => netns::create(network),
    };
    let netns = plan.network.as_ref().map(network).transpose()?;
    let mut spawned = exec::spawn(plan, netns)?;
    let child = &mut spawned.child;
    // It is not waited for yet, so that its number is still its own.
    let noted = ProcessId::of(child.id()).map_err(|error| error.to_string());
    let noted = noted.and_then(|process| dir.write(PID, &process).map_err(|error| error.to_string()));
    if let Err(text) = noted {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("cannot note the task's process: {text}"));
    }
    Ok(spawned)
}

fn wait(mut spawned: Spawned) -> End {
    match spawned.child.wait() {
        // An init that was killed has told nothing.
        Ok(status) => match spawned.reported.and_then(Reported::read) {
            Some((code, false)) => End::Exited(code),
            Some((signal, true)) => End::Signaled(signal),
            None => end_of(status),
        },
        Err(error) => End::NotStarted(format!("cannot wait for the task's process: {error}")),
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signaled(signal.unwrap_or(0)),
    }
}
