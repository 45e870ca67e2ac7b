//! The runner: one task's small parent process, which outlives the daemon and writes down how the task ended.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitCode, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::container::Reported;
use crate::exec::Spawned;
use crate::logs::Log;
use crate::plan::{End, ExitRecord, NetworkPlan, RunPlan, VERSION};
use crate::process::ProcessId;
use crate::session::{self, SESSION};
use crate::store::{EXIT, PID, PLAN, RUNNER, StoreError, TaskDir};
use crate::{cgroup, exec, join, netns, pod};

/// Parts of output that are taken after the end, of 64 KiB each: more than a pipe holds.
const LAST_PARTS: u32 = 64;

/// Entry of `revere task-runner TASK_DIR [CHECK]`; to be called before the process has a second thread.
///
/// Its stderr is the task's `runner.log`. With the number of a health check it becomes that check's command instead; with
/// `session` and a name it holds one more program in the task, for people.
pub fn run_task(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (dir, check, more) = (args.next(), args.next(), args.next());
    if let (Some(dir), Some(id), true) = (&dir, &more, check.as_deref() == Some(SESSION.as_ref())) {
        return session::serve(&TaskDir::new(PathBuf::from(dir)), &id.to_string_lossy());
    }
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
    let (end, mut logs) = match start(dir, &plan) {
        Ok(spawned) => wait(spawned),
        Err(text) => (End::NotStarted(text), None),
    };
    let out_of_memory = cgroup::out_of_memory(&plan.cgroups);
    if let Err(error) = cgroup::empty_and_remove(&plan.cgroups) {
        eprintln!("cannot remove the task's cgroups: {error}");
    }
    // Its last words: nothing of it is left that could go on.
    for log in logs.iter_mut().flatten() {
        // Another task that was handed the pipe may still write: that is not waited for.
        for _ in 0..LAST_PARTS {
            if !log.pull() {
                break;
            }
        }
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

fn wait(mut spawned: Spawned) -> (End, Option<[Log; 2]>) {
    if let Err(error) = keep_logs(&spawned.child, &mut spawned.logs) {
        eprintln!("what the task writes is not kept: {error}");
    }
    let end = match spawned.child.wait() {
        // An init that was killed has told nothing.
        Ok(status) => match spawned.reported.and_then(Reported::read) {
            Some((code, false)) => End::Exited(code),
            Some((signal, true)) => End::Signaled(signal),
            None => end_of(status),
        },
        Err(error) => End::NotStarted(format!("cannot wait for the task's process: {error}")),
    };
    (end, Some(spawned.logs))
}

/// Keeps what the task writes, until its process has ended.
fn keep_logs(child: &Child, logs: &mut [Log; 2]) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        let pipes = logs.iter().filter_map(|log| log.pipe.as_ref());
        fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = fds.first().is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        for log in logs.iter_mut() {
            log.pull();
        }
        if ended {
            return Ok(());
        }
    }
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signaled(signal.unwrap_or(0)),
    }
}
