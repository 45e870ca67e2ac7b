//! Starts a task's own process out of the runner: session, cgroups, namespaces, user, and nothing inherited.
#![allow(
    unsafe_code,
    reason = "what a process does between fork and exec has no safe interface"
)]

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setsid, setuid};

use crate::cgroup;
use crate::plan::{NetworkPlan, RunPlan};

/// First descriptor after stdin, stdout, stderr.
const FIRST_OTHER_FD: libc::c_uint = 3;

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
}

/// Starts the process; the text of a failure says what was tried and why it failed.
pub(crate) fn spawn(plan: &RunPlan, netns: Option<File>) -> Result<Child, String> {
    let (program, arguments) = plan.argv.split_first().ok_or("the command is empty")?;
    let identity = plan.user.as_deref().map(identity).transpose()?;
    if let Some(identity) = &identity {
        std::os::unix::fs::chown(&plan.sandbox, Some(identity.uid.as_raw()), Some(identity.gid.as_raw())).map_err(
            |error| {
                format!(
                    "cannot give the sandbox {} to its user: {error}",
                    plan.sandbox.display()
                )
            },
        )?;
    }
    let steps = Steps {
        cgroups: plan.cgroups.iter().map(|cgroup| cgroup.dir.clone()).collect(),
        netns,
        network: plan.network.clone(),
        identity,
    };
    let (mut reader, mut writer) = io::pipe().map_err(|error| format!("cannot create a pipe: {error}"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(plan.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(&plan.sandbox).stdin(Stdio::null());
    command
        .stdout(output(&plan.sandbox.join("stdout"))?)
        .stderr(output(&plan.sandbox.join("stderr"))?);
    let prepare = move || {
        steps.carry_out().map_err(|(tried, error)| {
            // Best effort: without the text the parent still has the error number.
            let _ = write!(writer, "cannot {tried}: {error}");
            error
        })
    };
    // SAFETY: the runner has one thread, so that the child may allocate and lock between fork and exec.
    unsafe { command.pre_exec(prepare) };
    let spawned = command.spawn();
    drop(command);
    spawned.map_err(|error| {
        let mut text = String::new();
        match reader.read_to_string(&mut text) {
            Ok(read) if read > 0 => text,
            _ => format!("cannot execute `{program}` in {}: {error}", plan.sandbox.display()),
        }
    })
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

fn output(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| format!("cannot open {}: {error}", path.display()))
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
    /// Switches to the user.
    pub(crate) fn assume(&self) -> Result<(), (&'static str, io::Error)> {
        setgroups(&self.groups).map_err(tried("set the user's groups"))?;
        setgid(self.gid).map_err(tried("set the user's main group"))?;
        setuid(self.uid).map_err(tried("switch to the user"))
    }
}

impl Steps {
    fn carry_out(&self) -> Result<(), (&'static str, io::Error)> {
        setsid().map_err(tried("start a session"))?;
        for dir in &self.cgroups {
            cgroup::join(dir).map_err(tried("join the task's cgroup"))?;
        }
        if let (Some(netns), Some(network)) = (&self.netns, &self.network) {
            setns(netns, CloneFlags::CLONE_NEWNET).map_err(tried("enter the network namespace"))?;
            own_mounts(network)?;
        }
        if let Some(identity) = &self.identity {
            identity.assume()?;
        }
        close_others_on_exec().map_err(|error| ("close inherited files", error))
    }
}

/// A mount namespace with an own resolv.conf, and without the other containers' network namespaces: a copy of their
/// mounts would keep them alive.
fn own_mounts(network: &NetworkPlan) -> Result<(), (&'static str, io::Error)> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(tried("create a mount namespace"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(tried("cut the mount namespace off"))?;
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

fn tried<E: Into<io::Error>>(tried: &'static str) -> impl FnOnce(E) -> (&'static str, io::Error) {
    move |error| (tried, error.into())
}
