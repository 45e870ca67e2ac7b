//! Starts a task's own process out of the runner: session, cgroups, namespaces, user, and nothing inherited.
#![allow(
    unsafe_code,
    reason = "what a process does between fork and exec has no safe interface"
)]

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setsid, setuid};

use crate::cgroup;
use crate::container::{self, Reported};
use crate::logs::Log;
use crate::plan::{BindPlan, ContainerPlan, NetworkPlan, RunPlan};
use crate::unpack;

/// First descriptor after stdin, stdout, stderr.
const FIRST_OTHER_FD: libc::c_uint = 3;
/// Signals above it are for real time.
const LAST_SIGNAL: libc::c_int = 31;

/// Who the task runs as.
#[derive(Debug)]
pub(crate) struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// All that the child does before exec, looked up beforehand.
#[derive(Debug)]
struct Steps {
    cgroups: Vec<PathBuf>,
    netns: Option<File>,
    network: Option<NetworkPlan>,
    identity: Option<Identity>,
    sandbox: PathBuf,
    volumes: Vec<BindPlan>,
    container: Option<ContainerSteps>,
}

/// The same for a container.
#[derive(Debug)]
struct ContainerSteps {
    plan: ContainerPlan,
    filters: Vec<seccompiler::BpfProgram>,
    /// Where the init reports, if there is one.
    report: Option<io::PipeWriter>,
}

/// A task's process; of a container with an init that is the init, which reports the task's own end.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) child: Child,
    pub(crate) reported: Option<Reported>,
    /// What it writes.
    pub(crate) logs: [Log; 2],
}

/// Starts the process; the text of a failure says what was tried and why it failed.
pub(crate) fn spawn(plan: &RunPlan, netns: Option<File>) -> Result<Spawned, String> {
    let (program, arguments) = plan.argv.split_first().ok_or("the command is empty")?;
    let identity = match &plan.container {
        Some(_) => None,
        None => plan.user.as_deref().map(identity).transpose()?,
    };
    let owner = match (&plan.container, &identity) {
        (Some(container), _) => Some((container.identity.uid, container.identity.gid)),
        (None, identity) => identity.as_ref().map(|one| (one.uid.as_raw(), one.gid.as_raw())),
    };
    if let Some((uid, gid)) = owner.filter(|(uid, _)| *uid != 0) {
        let shown = plan.sandbox.display();
        unpack::give_away(&plan.sandbox, uid, gid)
            .map_err(|error| format!("cannot give the sandbox {shown} to its user: {error}"))?;
        for volume in &plan.owned {
            // What lies in it is the task's own business.
            let given = std::os::unix::fs::chown(volume, Some(uid), Some(gid));
            given.map_err(|error| format!("cannot give {} to the task's user: {error}", volume.display()))?;
        }
    }
    let (container, reported) = container_steps(plan)?;
    let steps = Steps {
        cgroups: plan.cgroups.iter().map(|cgroup| cgroup.dir.clone()).collect(),
        netns,
        network: plan.network.clone(),
        identity,
        sandbox: plan.sandbox.clone(),
        volumes: plan.volumes.clone(),
        container,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    if plan.container.is_none() {
        command.current_dir(&plan.sandbox);
    }
    let (out, to_out) = Log::open(&plan.sandbox, "stdout", plan.logs.stdout, owner)?;
    let (error, to_error) = Log::open(&plan.sandbox, "stderr", plan.logs.stderr, owner)?;
    command.stdout(to_out).stderr(to_error);
    let place = match &plan.container {
        Some(container) => format!("in the container's {}", container.workdir),
        None => format!("in {}", plan.sandbox.display()),
    };
    let child = spawn_prepared(command, &place, move || steps.carry_out())?;
    Ok(Spawned {
        child,
        reported,
        logs: [out, error],
    })
}

/// What is made for a container before its process is; the next fork then is process 1 of a new PID namespace.
fn container_steps(plan: &RunPlan) -> Result<(Option<ContainerSteps>, Option<Reported>), String> {
    let Some(container) = &plan.container else {
        return Ok((None, None));
    };
    let filters = container::filters(container)?;
    let (reported, report) = if container.init {
        let pair = Reported::pair().map_err(|error| format!("cannot create a pipe: {error}"))?;
        (Some(pair.0), Some(pair.1))
    } else {
        (None, None)
    };
    unshare(CloneFlags::CLONE_NEWPID).map_err(|error| format!("cannot create a PID namespace: {error}"))?;
    let steps = ContainerSteps {
        plan: container.clone(),
        filters,
        report,
    };
    Ok((Some(steps), reported))
}

/// Runs a command as one more process of a container that was entered, with no more rights than its task has, and ends
/// this process as it ends. A PID namespace holds only who is born in it, so it is a child.
pub(crate) fn become_in_container(mut command: Command, plan: &ContainerPlan) -> Result<Infallible, String> {
    let filters = container::filters(plan)?;
    let plan = plan.clone();
    let prepare = move || container::confine(&plan, &filters).map_err(io::Error::other);
    // SAFETY: the process has one thread, so that the child may allocate and lock between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let status = command
        .status()
        .map_err(|error| format!("cannot execute {:?} inside the task: {error}", command.get_program()))?;
    std::process::exit(status.code().unwrap_or(libc::EXIT_FAILURE))
}

/// Starts a program that does `prepare` between fork and exec; a failure of it is told in words. `place` is where it was to run.
pub(crate) fn spawn_prepared(
    mut command: Command,
    place: &str,
    mut prepare: impl FnMut() -> Result<(), String> + Send + Sync + 'static,
) -> Result<Child, String> {
    let (mut reader, mut writer) = io::pipe().map_err(|error| format!("cannot create a pipe: {error}"))?;
    let prepare = move || {
        heed_signals();
        prepare().map_err(|text| {
            // Best effort: without the text the parent still has the error number.
            let _ = write!(writer, "{text}");
            io::Error::from_raw_os_error(libc::EINVAL)
        })
    };
    // SAFETY: the process has one thread, so that the child may allocate and lock between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let spawned = command.spawn();
    let program = command.get_program().to_string_lossy().into_owned();
    drop(command);
    spawned.map_err(|error| {
        let mut text = String::new();
        match reader.read_to_string(&mut text) {
            Ok(read) if read > 0 => text,
            _ => format!("cannot execute `{program}` {place}: {error}"),
        }
    })
}

/// Ignores no signal. A daemon that a shell started in the background ignores SIGINT, and so would all that it starts: nobody could
/// end them with ctrl-C, and a shell among them could not even trap it (POSIX, "trap").
pub(crate) fn heed_signals() {
    for signal in 1..=LAST_SIGNAL {
        // SAFETY: no handler is set. The two that cannot be changed are refused, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Marks every descriptor but the first three close-on-exec.
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    let flags = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: the call sets a flag and closes nothing, so that no owned descriptor is invalidated.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST_OTHER_FD, libc::c_uint::MAX, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

pub(crate) fn identity(name: &str) -> Result<Identity, String> {
    let user = User::from_name(name)
        .map_err(|error| format!("cannot look up the user `{name}`: {error}"))?
        .ok_or_else(|| format!("there is no user `{name}` on this node; create it or leave `user` out"))?;
    let text = CString::new(name).map_err(|_| format!("the user name `{name}` holds a zero byte"))?;
    let groups =
        getgrouplist(&text, user.gid).map_err(|error| format!("cannot look up the groups of `{name}`: {error}"))?;
    Ok(Identity {
        uid: user.uid,
        gid: user.gid,
        groups,
    })
}

impl Identity {
    /// The user's number.
    pub(crate) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Switches to the user.
    pub(crate) fn assume(&self) -> Result<(), String> {
        setgroups(&self.groups).map_err(tried("set the user's groups"))?;
        setgid(self.gid).map_err(tried("set the user's main group"))?;
        setuid(self.uid).map_err(tried("switch to the user"))
    }
}

impl Steps {
    fn carry_out(&self) -> Result<(), String> {
        setsid().map_err(tried("start a session"))?;
        for dir in &self.cgroups {
            cgroup::join(dir).map_err(tried("join the task's cgroup"))?;
        }
        if let Some(netns) = &self.netns {
            setns(netns, CloneFlags::CLONE_NEWNET).map_err(tried("enter the network namespace"))?;
        }
        match &self.container {
            Some(container) => container.carry_out(&self.sandbox)?,
            None => self.on_the_node()?,
        }
        close_others_on_exec().map_err(tried("close inherited files"))
    }

    /// A task in the node's own root directory.
    fn on_the_node(&self) -> Result<(), String> {
        if self.network.is_some() || !self.volumes.is_empty() {
            own_mounts(self.network.as_ref())?;
            container::mount_volumes(&self.volumes, &self.sandbox)?;
        }
        if let Some(identity) = &self.identity {
            identity.assume()?;
        }
        Ok(())
    }
}

impl ContainerSteps {
    fn carry_out(&self, sandbox: &Path) -> Result<(), String> {
        // Whatever the daemon's is: what is made for the container is for its user to read.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        container::enter(&self.plan, sandbox)?;
        let workdir = Path::new(&self.plan.workdir);
        container::confine(&self.plan, &self.filters)?;
        std::env::set_current_dir(workdir)
            .map_err(tried(&format!("go to the working directory {}", workdir.display())))?;
        // Last, so that the init may do no more than the task.
        self.report.as_ref().map_or(Ok(()), container::become_init)
    }
}

/// A mount namespace with an own resolv.conf, and without the other containers' network namespaces: a copy of their
/// mounts would keep them alive.
fn own_mounts(network: Option<&NetworkPlan>) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(tried("create a mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(tried("cut the mount namespace off"))?;
    let Some(network) = network else { return Ok(()) };
    let others = network.netns.parent().and_then(|dir| fs::read_dir(dir).ok());
    for entry in others.into_iter().flatten().flatten() {
        // One that is gone already is what was wanted.
        let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
    }
    if let Some(file) = &network.resolv_conf {
        mount(Some(file), "/etc/resolv.conf", none, MsFlags::MS_BIND, none).map_err(tried(
            "mount the task's own /etc/resolv.conf (the node must have that file)",
        ))?;
    }
    Ok(())
}

fn tried<E: std::fmt::Display>(tried: &str) -> impl FnOnce(E) -> String {
    let tried = tried.to_owned();
    move |error| format!("cannot {tried}: {error}")
}
