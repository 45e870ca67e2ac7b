//! From the node's root directory into the container's: what a task's process does between fork and exec.
//!
//! Everything of the node that the container will see is opened first, as a detached mount. Then the root changes, and all
//! that follows is resolved inside: a link of the image leads nowhere else.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{pivot_root, sethostname};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{SANDBOX, attribute};
use crate::plan::{BindPlan, ContainerPlan};

/// Devices that every container has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in /dev.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// Hidden from containers: what they tell is the node's, or lets it be changed (Docker's list).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Seen and not changed.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const NONE: Option<&str> = None;

/// A mount of the node, not attached anywhere yet.
struct Detached {
    mount: OwnedFd,
    target: String,
    is_dir: bool,
}

fn told<E: std::fmt::Display>(tried: &str) -> impl FnOnce(E) -> String {
    let tried = tried.to_owned();
    move |error| format!("cannot {tried}: {error}")
}

/// Opens what is on the node for the container.
fn detach(bind: &BindPlan, attributes: u64) -> Result<Detached, String> {
    let source = bind.source.display();
    let is_dir = fs::metadata(&bind.source)
        .map_err(told(&format!("find {source}, which the container is to see")))?
        .is_dir();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let mount = open_tree(CWD, &bind.source, flags).map_err(told(&format!("open {source} for the container")))?;
    let read_only = if bind.read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    attribute::set(&mount, attributes | read_only).map_err(told(&format!("set what is allowed in {source}")))?;
    Ok(Detached {
        mount,
        target: bind.target.clone(),
        is_dir,
    })
}

impl Detached {
    /// Mounts it in the directory that is the root now; its place is made where it is missing.
    fn attach(&self) -> Result<(), String> {
        let target = Path::new(&self.target);
        place(target, self.is_dir).map_err(told(&format!("make {} in the container", self.target)))?;
        move_mount(&self.mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(told(&format!("mount {} in the container", self.target)))
    }
}

/// Makes a directory, or a file to mount a file on.
fn place(target: &Path, is_dir: bool) -> io::Result<()> {
    if target.exists() {
        return Ok(());
    }
    // A link to what is not there, as resolv.conf often is one.
    if target.symlink_metadata().is_ok() {
        fs::remove_file(target)?;
    }
    if is_dir {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(target).map(drop)
}

/// Own namespaces, own root. The PID namespace is the runner's to make, the network's is entered already.
pub(crate) fn enter(plan: &ContainerPlan, sandbox: &Path) -> Result<(), String> {
    let mut own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
    if plan.own_ipc {
        own |= CloneFlags::CLONE_NEWIPC;
    }
    if plan.hostname.is_some() {
        own |= CloneFlags::CLONE_NEWUTS;
    }
    unshare(own).map_err(told("create the container's namespaces"))?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).map_err(told("cut the mount namespace off"))?;
    let binds = open_binds(plan, sandbox)?;
    new_root(plan)?;
    system_mounts(plan)?;
    for bind in &binds {
        bind.attach()?;
    }
    if !plan.privileged {
        hide()?;
    }
    place(Path::new(&plan.workdir), true).map_err(told(&format!("create the working directory {}", plan.workdir)))?;
    if plan.root_read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        mount(NONE, "/", NONE, flags, NONE).map_err(told("make the root directory read-only"))?;
    }
    if let Some(hostname) = &plan.hostname {
        sethostname(hostname).map_err(told("set the host name"))?;
    }
    Ok(())
}

/// In the order in which they are mounted: devices, files of /etc, the sandbox, then what may lie in it.
fn open_binds(plan: &ContainerPlan, sandbox: &Path) -> Result<Vec<Detached>, String> {
    let bind = |source: &Path, target: &str| BindPlan {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: false,
    };
    // Devices can be opened in /dev only, and no other can be made there.
    let no_devices = if plan.privileged { 0 } else { libc::MOUNT_ATTR_NODEV };
    let mut all = Vec::new();
    if plan.privileged {
        all.push(detach(&bind(Path::new("/dev"), "/dev"), 0)?);
    } else {
        for device in DEVICES {
            let path = format!("/dev/{device}");
            all.push(detach(&bind(Path::new(&path), &path), libc::MOUNT_ATTR_NOSUID)?);
        }
    }
    if !plan.own_ipc && !plan.privileged {
        for path in ["/dev/shm", "/dev/mqueue"]
            .map(Path::new)
            .into_iter()
            .filter(|path| path.exists())
        {
            all.push(detach(&bind(path, &path.to_string_lossy()), no_devices)?);
        }
    }
    for file in &plan.etc {
        all.push(detach(file, no_devices)?);
    }
    all.push(detach(&bind(sandbox, SANDBOX), no_devices)?);
    for volume in &plan.volumes {
        all.push(detach(volume, no_devices)?);
    }
    Ok(all)
}

fn new_root(plan: &ContainerPlan) -> Result<(), String> {
    let inside = |name: &str| plan.scratch.join(name);
    let root = inside("root");
    let layers: Vec<&str> = plan.layers.iter().rev().map(String::as_str).collect();
    // Relative names: those of all layers must fit into one page.
    std::env::set_current_dir(&plan.layers_dir).map_err(told("go to the image's layers"))?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        layers.join(":"),
        inside("upper").display(),
        inside("work").display()
    );
    let flags = if plan.privileged {
        MsFlags::empty()
    } else {
        MsFlags::MS_NODEV
    };
    mount(Some("overlay"), &root, Some("overlay"), flags, Some(options.as_str())).map_err(told(
        "mount the image's layers (the state directory's file system must be one that overlayfs can write to)",
    ))?;
    std::env::set_current_dir(&root).map_err(told("go to the new root directory"))?;
    pivot_root(".", ".").map_err(told("change the root directory"))?;
    // The old root lies on top of the new one now.
    umount2(".", MntFlags::MNT_DETACH).map_err(told("leave the node's root directory"))?;
    std::env::set_current_dir("/").map_err(told("go to the root directory"))
}

fn system_mounts(plan: &ContainerPlan) -> Result<(), String> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let quiet = safe | MsFlags::MS_NOEXEC;
    let make = |kind: &str, target: &str, flags: MsFlags, options: &str| {
        place(Path::new(target), true).map_err(told(&format!("make {target} in the container")))?;
        let options = Some(options).filter(|options| !options.is_empty());
        mount(Some(kind), target, Some(kind), flags, options).map_err(told(&format!("mount {target} in the container")))
    };
    make("proc", "/proc", quiet, "")?;
    let sys = if plan.privileged {
        quiet
    } else {
        quiet | MsFlags::MS_RDONLY
    };
    make("sysfs", "/sys", sys, "")?;
    if plan.privileged {
        // The node's own /dev is mounted there next.
        return Ok(());
    }
    make("tmpfs", "/dev", safe, "mode=755,size=65536k")?;
    let pts = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    make("devpts", "/dev/pts", pts, "newinstance,ptmxmode=0666,mode=0620")?;
    if plan.own_ipc {
        make("tmpfs", "/dev/shm", quiet, &format!("mode=1777,size={}m", plan.shm_mb))?;
        make("mqueue", "/dev/mqueue", quiet, "")?;
    }
    for (target, link) in LINKS {
        symlink(target, link).map_err(told(&format!("make the link {link}")))?;
    }
    Ok(())
}

fn hide() -> Result<(), String> {
    for path in READ_ONLY.map(Path::new).into_iter().filter(|path| path.exists()) {
        let shown = path.display();
        mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
            .map_err(told(&format!("bind {shown}")))?;
        let flags = MsFlags::MS_REMOUNT
            | MsFlags::MS_BIND
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV
            | MsFlags::MS_NOEXEC;
        mount(NONE, path, NONE, flags, NONE).map_err(told(&format!("make {shown} read-only")))?;
    }
    for path in MASKED.map(Path::new) {
        let Ok(data) = path.metadata() else { continue };
        let hidden = if data.is_dir() {
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, Some("size=0"))
        } else {
            mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE)
        };
        hidden.map_err(told(&format!("hide {}", path.display())))?;
    }
    Ok(())
}

/// Volumes of a task without an image, in its sandbox; the mount namespace is its own already.
pub(crate) fn mount_volumes(volumes: &[BindPlan], sandbox: &Path) -> Result<(), String> {
    for volume in volumes {
        let mut opened = detach(volume, libc::MOUNT_ATTR_NODEV)?;
        let inside = volume.target.strip_prefix(SANDBOX).unwrap_or(&volume.target);
        let place = if opened.is_dir {
            super::root::directory_in(sandbox, inside)?
        } else {
            file_in(sandbox, inside)?
        };
        opened.target = place.to_string_lossy().into_owned();
        opened.attach()?;
    }
    Ok(())
}

/// Where a file is mounted in the sandbox. What a task fetched may lie there, but no link may lead out.
fn file_in(sandbox: &Path, path: &str) -> Result<PathBuf, String> {
    let path = path.trim_matches('/');
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let place = super::root::directory_in(sandbox, dir)?.join(name);
    match place.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(format!(
            "cannot mount {path} in the sandbox: there is a link of that name"
        )),
        _ => Ok(place),
    }
}
