//! The holder of a session: starts the program in the task, carries bytes to and fro, and leaves nothing of it behind.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::sys::stat::{Mode, umask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::frame::{ASK, DATA, END, ERROR, FAILED, Frames, LONGEST, OVER, RUNS, SIZE, frame};
use super::{SessionSpec, WindowSize, group_name, terminal};
use crate::join::{self, Namespace};
use crate::plan::{CgroupPlan, RunPlan};
use crate::process::ProcessId;
use crate::store::{PID, PLAN, TaskDir};
use crate::{cgroup, container, exec};

/// What ends a line of input at a terminal: ctrl-D.
const END_OF_INPUT: u8 = 4;
/// How long output is waited for after all processes of the session were killed.
const LAST_WORDS: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A program that runs, and its ends.
struct Running {
    child: Child,
    /// Where input goes.
    input: Option<File>,
    out: Option<File>,
    error: Option<File>,
    has_terminal: bool,
    /// Input that the program has not taken yet.
    pending: Vec<u8>,
    /// Input ends after what is pending.
    ends: bool,
}

/// Entry of the holder; its stdin and stdout lead to the daemon.
pub(crate) fn serve(dir: &TaskDir, name: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut tell = |kind: u8, content: &[u8]| -> io::Result<()> {
        let content = content.get(..LONGEST).unwrap_or(content);
        out.write_all(&frame(kind, content)).and_then(|()| out.flush())
    };
    let mut frames = Frames::default();
    let outcome = ask(&mut frames).and_then(|spec| start(dir, name, &spec));
    let (running, group) = match outcome {
        Ok(started) => started,
        Err(text) => {
            // Nobody there to hear it is no loss.
            let _ = tell(FAILED, text.as_bytes());
            return ExitCode::FAILURE;
        }
    };
    let group = [group];
    let ended = tell(RUNS, &[]).and_then(|()| carry(running, &mut frames, &group, &mut tell));
    let removed = cgroup::empty_and_remove(&group);
    // How it ended is told whatever else went wrong: whoever waits for it asked for that.
    let told = ended.and_then(|status| tell(OVER, &status.to_le_bytes()));
    match (told, removed) {
        (Ok(()), Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// The first frame.
fn ask(frames: &mut Frames) -> Result<SessionSpec, String> {
    let told = |error: io::Error| format!("cannot read what is to be run: {error}");
    loop {
        match frames.next().map_err(told)? {
            Some((ASK, content)) => {
                return serde_json::from_slice(&content)
                    .map_err(|error| format!("cannot read what is to be run: {error}"));
            }
            Some(_) => return Err("a session begins with what is to be run".to_owned()),
            None if receive(frames).map_err(told)? == 0 => return Err("nobody wants it any more".to_owned()),
            None => {}
        }
    }
}

fn receive(frames: &mut Frames) -> io::Result<usize> {
    let mut part = [0; 16 * 1024];
    let read = io::stdin().lock().read(&mut part)?;
    frames.buffer.extend(part.get(..read).unwrap_or_default());
    Ok(read)
}

/// Everything of the task that the program is to be in.
struct Place {
    plan: RunPlan,
    namespaces: Vec<Namespace>,
    identity: Option<exec::Identity>,
    group: PathBuf,
}

fn start(dir: &TaskDir, name: &str, spec: &SessionSpec) -> Result<(Running, CgroupPlan), String> {
    let (plan, process) = (join::read::<RunPlan>(dir, PLAN)?, join::read::<ProcessId>(dir, PID)?);
    // Not with the daemon's own unit: what this process holds has to be ended by it.
    exec::close_others_on_exec()
        .and_then(|()| cgroup::join(&plan.runner_cgroup))
        .map_err(|error| format!("cannot leave the daemon's cgroup: {error}"))?;
    let identity = match &plan.container {
        Some(_) => None,
        None => plan.user.as_deref().map(exec::identity).transpose()?,
    };
    let uid = match (&plan.container, &identity) {
        (Some(container), _) => container.identity.uid,
        (None, Some(identity)) => identity.uid(),
        (None, None) => 0,
    };
    let namespaces = join::namespaces(process)?;
    let ends = spec
        .terminal
        .map(|size| terminal::open_pair(process, size, uid))
        .transpose()?;
    let above = plan.cgroups.first().ok_or("the task has no cgroup")?;
    // Made only while the task's is there: a task that has ended gets no more processes.
    let group = above.dir.join(group_name(name));
    std::fs::create_dir(&group)
        .map_err(|error| format!("cannot make the session's cgroup {}: {error}", group.display()))?;
    let removed = CgroupPlan {
        dir: group.clone(),
        limits: Vec::new(),
        oom: None,
    };
    let place = Place {
        plan,
        namespaces,
        identity,
        group,
    };
    let running = program(place, spec, ends);
    if running.is_err() {
        // What failed is what is told.
        let _ = cgroup::empty_and_remove(std::slice::from_ref(&removed));
    }
    running.map(|running| (running, removed))
}

fn program(place: Place, spec: &SessionSpec, ends: Option<(File, File)>) -> Result<Running, String> {
    let (program, arguments) = spec.argv.split_first().ok_or("the command is empty")?;
    let told = |error: io::Error| format!("cannot prepare the session's ends: {error}");
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    command.envs(place.plan.env.iter().map(|(name, value)| (name, value)));
    if ends.is_some() {
        command.env("TERM", "xterm");
    }
    command.envs(spec.env.iter().map(|(name, value)| (name, value)));
    match &ends {
        Some((_, end)) => {
            let end = || end.try_clone().map(Stdio::from).map_err(told);
            command.stdin(end()?).stdout(end()?).stderr(end()?);
        }
        None => {
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
    }
    let filters = match &place.plan.container {
        Some(container) => container::filters(container)?,
        None => Vec::new(),
    };
    // Its children are born there.
    place
        .namespaces
        .iter()
        .filter(|one| one.is_of_pids())
        .try_for_each(Namespace::enter)?;
    let has_terminal = ends.is_some();
    let mut child = exec::spawn_prepared(command, "inside the task", move || {
        enter(&place, &filters, has_terminal)
    })?;
    let (input, out, error) = match ends {
        Some((master, _)) => (Some(master.try_clone().map_err(told)?), Some(master), None),
        None => (
            child.stdin.take().map(OwnedFd::from).map(File::from),
            child.stdout.take().map(OwnedFd::from).map(File::from),
            child.stderr.take().map(OwnedFd::from).map(File::from),
        ),
    };
    for end in [&input, &out, &error].into_iter().flatten() {
        fcntl_getfl(end)
            .and_then(|flags| fcntl_setfl(end, flags | OFlags::NONBLOCK))
            .map_err(|error| told(error.into()))?;
    }
    Ok(Running {
        child,
        input,
        out,
        error,
        has_terminal,
        pending: Vec::new(),
        ends: false,
    })
}

/// What the program's process does before it is the program.
fn enter(place: &Place, filters: &[seccompiler::BpfProgram], has_terminal: bool) -> Result<(), String> {
    let told = |tried: &'static str| move |error: rustix::io::Errno| format!("cannot {tried}: {error}");
    // A holder that is killed before the program is in its cgroup could not end it; from then on the cgroup does.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(told("follow the holder"))?;
    rustix::process::setsid().map_err(told("start a session"))?;
    if has_terminal {
        rustix::process::ioctl_tiocsctty(io::stdin()).map_err(told("take the terminal"))?;
    }
    let joined = |dir: &Path| cgroup::join(dir).map_err(|error| format!("cannot join the task's cgroup: {error}"));
    joined(&place.group)?;
    place
        .plan
        .cgroups
        .iter()
        .skip(1)
        .try_for_each(|group| joined(&group.dir))?;
    let others = place.namespaces.iter().filter(|one| !one.is_of_pids());
    others.into_iter().try_for_each(Namespace::enter)?;
    umask(Mode::from_bits_truncate(0o022));
    let dir = match &place.plan.container {
        Some(container) => Path::new(&container.workdir),
        None => place.plan.sandbox.as_path(),
    };
    match (&place.plan.container, &place.identity) {
        (Some(container), _) => container::confine(container, filters)?,
        (None, Some(identity)) => identity.assume()?,
        (None, None) => {}
    }
    if std::env::set_current_dir(dir).is_err() {
        std::env::set_current_dir("/").map_err(|error| format!("cannot go to / inside the task: {error}"))?;
    }
    // After the change of user, which would undo it: the program does not outlive its holder.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(told("be ended with the holder"))
}

/// Carries bytes until the program has ended and all of its output is told; an error means that nobody listens any more.
fn carry(
    mut running: Running,
    frames: &mut Frames,
    group: &[CgroupPlan],
    tell: &mut impl FnMut(u8, &[u8]) -> io::Result<()>,
) -> io::Result<i32> {
    let pid = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    loop {
        running.take_frames(frames)?;
        running.push()?;
        let ready = running.wait(Some(&pidfd), None)?;
        if ready.asked && receive(frames)? == 0 || ready.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        running.pull(tell)?;
        if ready.ended {
            break;
        }
    }
    let status = running.child.wait()?.into_raw();
    // Whatever it left running ends here, and lets go of its output.
    group.iter().for_each(|group| cgroup::kill_all(&group.dir));
    while running.out.is_some() || running.error.is_some() {
        if !running.wait(None, Some(&LAST_WORDS))?.any {
            break;
        }
        running.pull(tell)?;
    }
    Ok(status)
}

/// What can be gone on with.
#[derive(Debug, Default)]
struct Ready {
    any: bool,
    /// The daemon says something.
    asked: bool,
    /// The daemon is gone.
    gone: bool,
    /// The program has ended.
    ended: bool,
}

impl Running {
    /// Waits for anything to do.
    fn wait(&self, pidfd: Option<&OwnedFd>, limit: Option<&Timespec>) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut fds = Vec::new();
        // No more is taken in than the program takes; that the daemon went away is noticed all the same.
        let wanted = if self.pending.len() < LONGEST {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        if let Some(pidfd) = pidfd {
            fds.push(PollFd::new(&stdin, wanted));
            fds.push(PollFd::new(pidfd, PollFlags::IN));
        }
        let ends = [&self.out, &self.error];
        fds.extend(ends.into_iter().flatten().map(|end| PollFd::new(end, PollFlags::IN)));
        if let Some(input) = self.input.as_ref().filter(|_| !self.pending.is_empty()) {
            fds.push(PollFd::new(input, PollFlags::OUT));
        }
        loop {
            match poll(&mut fds, limit) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(0) => return Ok(Ready::default()),
                Ok(_) => break,
            }
        }
        let mut ready = Ready {
            any: true,
            ..Ready::default()
        };
        if let (Some(_), [asked, ended, ..]) = (pidfd, &fds[..]) {
            let asked = asked.revents();
            ready.asked = asked.contains(PollFlags::IN);
            ready.gone = !ready.asked && asked.intersects(PollFlags::HUP | PollFlags::ERR);
            ready.ended = ended.revents().contains(PollFlags::IN);
        }
        Ok(ready)
    }

    fn take_frames(&mut self, frames: &mut Frames) -> io::Result<()> {
        while let Some((kind, content)) = frames.next()? {
            match (kind, &content[..]) {
                (DATA, _) if !self.ends => self.pending.extend(content),
                (END, _) if !self.ends => {
                    self.ends = true;
                    if self.has_terminal {
                        self.pending.push(END_OF_INPUT);
                    }
                }
                (SIZE, &[a, b, c, d]) => {
                    let size = WindowSize {
                        rows: u16::from_le_bytes([a, b]),
                        columns: u16::from_le_bytes([c, d]),
                    };
                    if let Some(master) = self.out.as_ref().filter(|_| self.has_terminal) {
                        terminal::resize(master.as_fd(), size)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the program what it takes of its input.
    fn push(&mut self) -> io::Result<()> {
        while let Some(input) = self.input.as_mut().filter(|_| !self.pending.is_empty()) {
            match input.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It closed its input, and wants no more.
                Err(_) => {
                    self.input = None;
                    self.pending.clear();
                }
            }
        }
        if self.input.is_none() {
            self.pending.clear();
        } else if self.ends && !self.has_terminal {
            self.input = None;
        }
        Ok(())
    }

    /// Tells what the program wrote, as much as is there and a little more.
    fn pull(&mut self, tell: &mut impl FnMut(u8, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut part = [0; 16 * 1024];
        for (kind, end) in [(DATA, &mut self.out), (ERROR, &mut self.error)] {
            let Some(open) = end else { continue };
            match open.read(&mut part) {
                Ok(read) if read > 0 => tell(kind, part.get(..read).unwrap_or_default())?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Closed; a terminal says it with an error.
                _ => *end = None,
            }
        }
        Ok(())
    }
}
