//! One task's life as the daemon follows it, from its start, or from where a restarted daemon finds it, to its end.

use std::fs::File;
use std::process::Child;
use std::time::{Duration, SystemTime};

use model::{CheckResults, LaunchSpec, ReadyRule, Reason, TaskState, TaskStatus};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::sleep;

use crate::agent::{Entry, Found, Shared};
use crate::check::{self, Checks};
use crate::clock::now_ms;
use crate::kill::{KillRecord, KillStep};
use crate::pidfd::Pidfd;
use crate::plan::{End, ExitRecord, RunPlan, VERSION};
use crate::pod::{self, Gathering};
use crate::prepare::{Unprepared, prepare};
use crate::process::ProcessId;
use crate::spec::{SpecFile, StatusFile};
use crate::start::start;
use crate::store::{EXIT, KILL, PID, PLAN, RUNNER, SPEC, STATUS, TaskDir};
use crate::{cgroup, netns, ready};

/// Pause between two looks for a file that the runner is about to write.
const LOOK: Duration = Duration::from_millis(2);
/// Pause between two SIGKILLs to a task that does not go.
const KILL_AGAIN: Duration = Duration::from_millis(200);
/// How many times leftovers are tried to be removed, [`KILL_AGAIN`] apart.
const REMOVE_TRIES: u32 = 25;

/// Whether the task is to be started or is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Fresh,
    Found,
}

/// Reads what an earlier daemon left in a task's directory.
pub(crate) fn find(dir: &TaskDir) -> Result<Found, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let spec: SpecFile = dir
        .read(SPEC)
        .map_err(|e| text(&e))?
        .ok_or_else(|| format!("it has no {SPEC}"))?;
    let spec = LaunchSpec::try_from(spec).map_err(|e| text(&e))?;
    if dir.path().file_name() != Some(spec.task.as_str().as_ref()) {
        return Err(format!("its {SPEC} is of the task {}", spec.task));
    }
    let plan: Option<RunPlan> = dir.read(PLAN).map_err(|e| text(&e))?;
    if let Some(plan) = plan.as_ref().filter(|plan| plan.version != VERSION) {
        return Err(format!("its {PLAN} is of version {}", plan.version));
    }
    let status: Option<StatusFile> = dir.read(STATUS).map_err(|e| text(&e))?;
    let status = match status {
        Some(file) => TaskStatus::try_from(file).map_err(|e| text(&e))?,
        None => TaskStatus {
            state: TaskState::Starting,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: now_ms(),
        },
    };
    let kill: Option<KillRecord> = dir.read(KILL).map_err(|e| text(&e))?;
    let address = plan.and_then(|plan| plan.network).map(|network| network.address);
    Ok(Found {
        spec,
        status,
        kill,
        address,
    })
}

/// Follows the task until nothing of it is left but its files.
pub(crate) async fn supervise(shared: &Shared, entry: &Entry, origin: Origin) {
    if let Some(text) = &entry.refused {
        return shared.report(entry, TaskState::Error, None, Some(text.clone())).await;
    }
    let Some(dir) = &entry.dir else {
        let text = format!("the task id `{}` cannot name a directory", entry.spec.task);
        return shared.report(entry, TaskState::Failed, None, Some(text)).await;
    };
    let mut child = None;
    if origin == Origin::Fresh {
        match begin(shared, entry, dir).await {
            Some(started) => child = Some(started),
            None => return,
        }
    }
    let runner = open_runner(dir, child.as_ref());
    let process = task_process(dir, runner.as_ref()).await;
    if let Some(process) = process
        && !entry.status().state.is_terminal()
    {
        match Pidfd::open(process) {
            Ok(Some(pidfd)) => attend(shared, entry, dir, process, &pidfd).await,
            Ok(None) => {}
            Err(error) => tracing::error!(task = %entry.spec.task, %error, "cannot follow a task's process"),
        }
        shared.tell_exit(entry).await;
    }
    let exit = exit_record(dir, runner.as_ref()).await;
    if !entry.status().state.is_terminal() {
        let reason = exit.as_ref().and_then(why);
        let (state, message) = verdict(exit, entry.kill.borrow().is_some());
        let reason = reason.filter(|_| state != TaskState::Killed);
        shared.report_why(entry, state, reason, None, message).await;
    }
    if let Some(runner) = &runner {
        runner.ended().await;
    }
    if let Some(Err(error)) = child.map(|mut child| child.wait()) {
        tracing::warn!(task = %entry.spec.task, %error, "cannot reap a task's runner");
    }
    clear(shared, entry, dir).await;
}

/// Starts the runner; none if the task is already over, with its status told.
async fn begin(shared: &Shared, entry: &Entry, dir: &TaskDir) -> Option<Child> {
    if entry.kill.borrow().is_some() {
        let text = Some("killed before it was started".to_owned());
        let reason = Some(Reason::TaskKilledDuringLaunch);
        shared.report_why(entry, TaskState::Killed, reason, None, text).await;
        return None;
    }
    let image = match prepare(shared, entry).await {
        Ok(image) => image,
        Err(Unprepared::Killed) => {
            let text = Some("killed while its image or files were on their way".to_owned());
            let reason = Some(Reason::TaskKilledDuringLaunch);
            shared.report_why(entry, TaskState::Killed, reason, None, text).await;
            return None;
        }
        Err(Unprepared::Failed(text)) => {
            let reason = Some(Reason::ContainerLaunchFailed);
            shared
                .report_why(entry, TaskState::Failed, reason, None, Some(text))
                .await;
            return None;
        }
    };
    if let Some(gathering) = &entry.gathering
        && !gathered(entry, gathering).await
    {
        remove_scratch(shared, entry);
        let text = Some("killed before all containers of its pod could start".to_owned());
        let reason = Some(Reason::TaskKilledDuringLaunch);
        shared.report_why(entry, TaskState::Killed, reason, None, text).await;
        return None;
    }
    let begin = |address| {
        start(
            &shared.config,
            &shared.hierarchies,
            dir,
            &entry.spec,
            address,
            image.as_ref(),
            &entry.secrets,
        )
    };
    let started = shared.allocate(entry).and_then(begin);
    match started {
        Ok(child) => {
            shared.report(entry, TaskState::Starting, None, None).await;
            Some(child)
        }
        Err(text) => {
            remove_scratch(shared, entry);
            let reason = Some(Reason::ContainerLaunchFailed);
            shared
                .report_why(entry, TaskState::Failed, reason, None, Some(text))
                .await;
            None
        }
    }
}

/// Waits for the others of its pod; false if it is to end before.
async fn gathered(entry: &Entry, gathering: &Gathering) -> bool {
    let mut kills = entry.kill.subscribe();
    let all = tokio::select! {
        biased;
        _ = kills.wait_for(Option::is_some) => false,
        () = pod::gather(gathering) => true,
    };
    all && entry.kill.borrow().is_none()
}

/// Removes what a container wrote, where its runner could not: it was killed, or never started.
fn remove_scratch(shared: &Shared, entry: &Entry) {
    let scratch = shared.layout.containers.join(entry.spec.task.as_str());
    if let Err(error) = std::fs::remove_dir_all(&scratch)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(task = %entry.spec.task, %error, "what a container wrote stays");
    }
}

/// The runner, or none if it has ended. One that has not claimed the task by now is forbidden to.
fn open_runner(dir: &TaskDir, child: Option<&Child>) -> Option<Pidfd> {
    let process = match child {
        Some(child) => ProcessId::of(child.id()).ok(),
        None => match dir.claim(RUNNER, &ProcessId { pid: 0, start_ticks: 0 }) {
            Ok(false) => dir.read(RUNNER).ok().flatten(),
            _ => None,
        },
    };
    process.and_then(|process| Pidfd::open(process).ok().flatten())
}

/// The task's own process, once the runner has noted it; none if it never will.
async fn task_process(dir: &TaskDir, runner: Option<&Pidfd>) -> Option<ProcessId> {
    wait_for(dir, PID, runner).await
}

async fn exit_record(dir: &TaskDir, runner: Option<&Pidfd>) -> Option<ExitRecord> {
    wait_for(dir, EXIT, runner).await
}

/// The value of a file that the runner writes, as long as it lives, or writes no more once `exit` is there.
async fn wait_for<T: serde::de::DeserializeOwned>(dir: &TaskDir, name: &str, runner: Option<&Pidfd>) -> Option<T> {
    let mut last_look = runner.is_none();
    loop {
        // Looked at first: what the runner wrote before it is all there is then.
        let over = dir.file(EXIT).exists();
        match dir.read(name) {
            Ok(Some(value)) => return Some(value),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a task's file is not readable");
                return None;
            }
        }
        if last_look || over {
            return None;
        }
        match runner {
            Some(runner) => tokio::select! {
                () = runner.ended() => last_look = true,
                () = sleep(LOOK) => {}
            },
            None => last_look = true,
        }
    }
}

/// Readiness, checks and kill, until the process ends.
async fn attend(shared: &Shared, entry: &Entry, dir: &TaskDir, process: ProcessId, pidfd: &Pidfd) {
    let mut kills = entry.kill.subscribe();
    let mut termed = false;
    let found = entry.status();
    let since_ms = found.timestamp_ms;
    let waits = matches!(entry.spec.ready, ReadyRule::WhenListening { .. });
    // Told as running although it does not listen yet.
    let mut deaf = waits && found.state == TaskState::Running && found.healthy == Some(false);
    let mut checks = None;
    loop {
        let kill = *kills.borrow_and_update();
        let again;
        if let Some(record) = kill {
            checks = None;
            if entry.status().state != TaskState::Killing {
                keep_kill(dir, record);
                shared
                    .report(entry, TaskState::Killing, entry.status().healthy, None)
                    .await;
            }
            again = Some(pursue(shared, entry, process, pidfd, record, &mut termed));
        } else {
            again = look_ready(shared, entry, process, since_ms, &mut deaf).await;
            if checks.is_none() && entry.status().state == TaskState::Running {
                checks = Some(Checks::new(shared, &entry.spec, dir, *entry.status().checks));
            }
        }
        tokio::select! {
            biased;
            () = pidfd.ended() => return,
            changed = kills.changed() => {
                if let (Ok(()), Some(record)) = (changed, *kills.borrow()) {
                    keep_kill(dir, record);
                }
            }
            results = news(&mut checks) => tell_checks(shared, entry, results, deaf).await,
            () = sleep(again.unwrap_or(Duration::MAX)), if again.is_some() => {}
        }
    }
}

/// The next news of checks, if they run.
async fn news(checks: &mut Option<Checks<'_>>) -> CheckResults {
    match checks {
        Some(checks) => checks.next().await.clone(),
        None => std::future::pending().await,
    }
}

/// Tells new results; a task that never listened is not healthy, whatever its checks say.
async fn tell_checks(shared: &Shared, entry: &Entry, results: CheckResults, deaf: bool) {
    let before = entry.status();
    let (healthy, message) = if deaf || results.health.is_empty() {
        (before.healthy, before.message)
    } else {
        (results.healthy(), check::message(&results))
    };
    shared
        .report_checks(entry, TaskState::Running, healthy, message, results)
        .await;
}

fn keep_kill(dir: &TaskDir, record: KillRecord) {
    if let Err(error) = dir.write(KILL, &record) {
        tracing::warn!(%error, "a kill would not survive the daemon's restart");
    }
}

/// Does what is due of a kill; the pause until the next step.
fn pursue(
    shared: &Shared,
    entry: &Entry,
    process: ProcessId,
    pidfd: &Pidfd,
    record: KillRecord,
    termed: &mut bool,
) -> Duration {
    let (step, next) = record.step(now_ms());
    if step == KillStep::Term && !*termed {
        *termed = true;
        // The process leads its group. Asked by pidfd first: only while that works is the number still its own.
        if pidfd.signal(Signal::TERM).is_ok()
            && let Some(group) = i32::try_from(process.pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
    if step == KillStep::Kill {
        cgroup::kill_all(&shared.hierarchies.task(entry.spec.task.as_str()));
        let _ = pidfd.signal(Signal::KILL);
    }
    next.unwrap_or(KILL_AGAIN)
}

/// Reports RUNNING when it is due; the pause until the next look, or none when there is nothing to wait for. `deaf` is
/// whether it was told as running before it listened.
async fn look_ready(
    shared: &Shared,
    entry: &Entry,
    process: ProcessId,
    since_ms: u64,
    deaf: &mut bool,
) -> Option<Duration> {
    let status = entry.status();
    if status.state != TaskState::Starting && !*deaf {
        return None;
    }
    let ReadyRule::WhenListening { ports, within } = &entry.spec.ready else {
        shared.report(entry, TaskState::Running, None, None).await;
        return None;
    };
    let missing = ready::missing(process.pid, ports);
    if missing.is_empty() {
        let was_deaf = std::mem::take(deaf);
        let checked = !entry.spec.checks.health.is_empty();
        let healthy = if checked {
            status.checks.healthy()
        } else {
            was_deaf.then_some(true)
        };
        let message = check::message(&status.checks);
        shared.report(entry, TaskState::Running, healthy, message).await;
        return None;
    }
    let waited = Duration::from_millis(now_ms().saturating_sub(since_ms));
    if !*deaf && waited >= *within {
        *deaf = true;
        let ports: Vec<String> = missing.iter().map(u16::to_string).collect();
        let text = format!(
            "no process of the task listens on TCP port {} after {within:?}",
            ports.join(", ")
        );
        shared.report(entry, TaskState::Running, Some(false), Some(text)).await;
    }
    Some(ready::pause(waited))
}

/// Mesos' reason for how it ended.
fn why(exit: &ExitRecord) -> Option<Reason> {
    match exit.end {
        _ if exit.out_of_memory => Some(Reason::ContainerLimitationMemory),
        End::NotStarted(_) => Some(Reason::ContainerLaunchFailed),
        End::Exited(0) => None,
        End::Exited(_) | End::Signaled(_) => Some(Reason::CommandExecutorFailed),
    }
}

/// The terminal state and what to tell people.
fn verdict(exit: Option<ExitRecord>, killed: bool) -> (TaskState, Option<String>) {
    let Some(exit) = exit else {
        let text = "it ended while the agent was down or its runner was killed; its exit status is unknown";
        let state = if killed { TaskState::Killed } else { TaskState::Failed };
        return (state, Some(text.to_owned()));
    };
    let (state, mut text) = match exit.end {
        End::Exited(0) => (TaskState::Finished, None),
        End::Exited(code) => (TaskState::Failed, Some(format!("exited with status {code}"))),
        End::Signaled(signal) => (TaskState::Failed, Some(format!("killed by signal {signal}"))),
        End::NotStarted(text) => (TaskState::Failed, Some(text)),
    };
    if exit.out_of_memory {
        let told = text.map(|text| format!("{text}; ")).unwrap_or_default();
        text = Some(format!(
            "{told}the task went over its memory limit, the kernel killed a process of it"
        ));
    }
    (if killed { TaskState::Killed } else { state }, text)
}

/// Removes what the runner should have removed, if it was killed itself, and dates the sandbox.
async fn clear(shared: &Shared, entry: &Entry, dir: &TaskDir) {
    let plan: Option<RunPlan> = dir.read(PLAN).ok().flatten();
    if let Some(plan) = plan {
        for attempt in 1..=REMOVE_TRIES {
            for cgroup in &plan.cgroups {
                cgroup::kill_all(&cgroup.dir);
            }
            match cgroup::remove(&plan.cgroups) {
                Ok(()) => break,
                Err(error) if attempt == REMOVE_TRIES => {
                    tracing::warn!(task = %entry.spec.task, %error, "the cgroups of an ended task stay");
                }
                Err(_) => sleep(KILL_AGAIN / 10).await,
            }
        }
        let own = plan.network.as_ref().filter(|network| network.pod.is_none());
        if let Some(Err(error)) = own.map(|network| netns::remove(&network.link, &network.netns)) {
            tracing::warn!(task = %entry.spec.task, %error, "the network of an ended task stays");
        }
    }
    remove_scratch(shared, entry);
    let sandbox = shared.layout.sandboxes.join(entry.spec.task.as_str());
    // A sandbox that was never made needs no date.
    let _ = File::open(sandbox).and_then(|sandbox| sandbox.set_modified(SystemTime::now()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(end: End) -> Option<ExitRecord> {
        Some(ExitRecord {
            version: VERSION,
            end,
            out_of_memory: false,
        })
    }

    #[test]
    fn the_end_decides_the_state() {
        assert_eq!(verdict(exit(End::Exited(0)), false), (TaskState::Finished, None));
        assert_eq!(
            verdict(exit(End::Exited(3)), false),
            (TaskState::Failed, Some("exited with status 3".to_owned()))
        );
        assert_eq!(
            verdict(exit(End::Signaled(9)), false),
            (TaskState::Failed, Some("killed by signal 9".to_owned()))
        );
        assert_eq!(verdict(exit(End::Exited(0)), true).0, TaskState::Killed);
        assert_eq!(verdict(None, true).0, TaskState::Killed);
        let (state, text) = verdict(None, false);
        assert_eq!(state, TaskState::Failed);
        assert!(text.is_some_and(|text| text.contains("unknown")));
    }

    #[test]
    fn lack_of_memory_is_told() {
        let exit = ExitRecord {
            version: VERSION,
            end: End::Signaled(9),
            out_of_memory: true,
        };
        let (_, text) = verdict(Some(exit), false);
        assert_eq!(
            text.as_deref(),
            Some("killed by signal 9; the task went over its memory limit, the kernel killed a process of it")
        );
    }

    #[test]
    fn an_unreadable_directory_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        let task = TaskDir::new(dir.path().to_owned());
        assert_eq!(find(&task).expect_err("empty"), "it has no spec.json");
        task.write_bytes(SPEC, b"{\"version\":").expect("writes");
        assert!(find(&task).expect_err("cut").contains("spec.json is damaged"));
    }
}
