//! Hooks: which there are, whether they are attached, attaching and replacing them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{CgroupSockAddr, LinkOrder, Program, ProgramError, SchedClassifier, Xdp};

use crate::open::check::{ifindex, kernel_has};
use crate::open::{clsact, link};
use crate::{Config, EgressHook, Lb, OpenError, XdpMode, raw};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Socket hooks, by the name of both the hook and the end of its program's name; ways back before ways there, so that
/// no socket is given a backend whose answers nobody turns back. Those the object has are attached.
const SOCKET_HOOKS: [&str; 9] = [
    "sock_release",
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
];

/// Where a hook sits.
enum Place<'a> {
    Xdp(&'a str),
    Egress(&'a str),
    /// The host's side of an interface with clients of this node: what they send.
    LocalIn(&'a str),
    /// What they get.
    LocalOut(&'a str),
    Cgroup,
}

fn place(hook: &str) -> Place<'_> {
    if let Some(uplink) = hook.strip_prefix("xdp-") {
        Place::Xdp(uplink)
    } else if let Some(uplink) = hook.strip_prefix("egress-") {
        Place::Egress(uplink)
    } else if let Some(interface) = hook.strip_prefix("local-in-") {
        Place::LocalIn(interface)
    } else if let Some(interface) = hook.strip_prefix("local-out-") {
        Place::LocalOut(interface)
    } else {
        Place::Cgroup
    }
}

fn program_name(hook: &str) -> String {
    match place(hook) {
        Place::Xdp(_) => "revere_xdp".to_owned(),
        Place::Egress(_) => "revere_egress".to_owned(),
        Place::LocalIn(_) => "revere_local_in".to_owned(),
        Place::LocalOut(_) => "revere_local_out".to_owned(),
        Place::Cgroup => format!("revere_{hook}"),
    }
}

/// All hooks of this configuration, in the order in which they are attached: answers can be turned back before
/// anything is sent to a backend.
pub(crate) fn hooks(config: &Config, ebpf: &Ebpf) -> Vec<String> {
    let egress = config.uplinks.iter().map(|uplink| format!("egress-{uplink}"));
    let xdp = config.uplinks.iter().map(|uplink| format!("xdp-{uplink}"));
    let sockets = SOCKET_HOOKS
        .into_iter()
        .filter(|hook| ebpf.program(&program_name(hook)).is_some());
    egress.chain(xdp).chain(sockets.map(str::to_owned)).collect()
}

/// Hooks on the interfaces that now match the configuration: they come and go with containers and virtual machines.
/// Pins of links whose interface is gone are removed on the way.
pub(crate) fn local_hooks(config: &Config) -> Vec<String> {
    if config.local_interfaces.is_empty() || !kernel_has(6, 6) {
        return Vec::new();
    }
    remove_dead_pins(&config.bpffs.join("links"));
    let interfaces = match link::names() {
        Ok(names) => names,
        Err(error) => {
            tracing::warn!("could not list the interfaces of this node: {error}");
            return Vec::new();
        }
    };
    let wanted = interfaces.iter().filter(|name| {
        let matches = |pattern: &String| matches_name(pattern, name);
        config.local_interfaces.iter().any(matches) && !config.uplinks.contains(name)
    });
    // The way back first.
    wanted
        .flat_map(|name| [format!("local-out-{name}"), format!("local-in-{name}")])
        .collect()
}

/// A name, or the beginning of names and a `*`.
fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

fn remove_dead_pins(links: &Path) {
    for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
        let path = entry.path();
        let local = entry.file_name().to_string_lossy().starts_with("local-");
        let target = raw::obj_get(&path).and_then(|link| raw::link_target(link.as_fd()));
        if local
            && target.is_ok_and(|target| target & 0xffff_ffff == 0)
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!("could not remove {}: {error}", path.display());
        }
    }
}

fn pin(config: &Config, hook: &str) -> PathBuf {
    // A bpffs refuses names with a dot, which VLAN interfaces have.
    config.bpffs.join("links").join(hook.replace('.', "_"))
}

/// Hooks that are not attached, or whose interface is gone or another one by now.
pub(crate) fn unattached(lb: &Lb) -> BTreeSet<String> {
    let config = &lb.config;
    let hooks = lb.hooks.iter().cloned().chain(local_hooks(config));
    hooks
        .filter(|hook| match filtered(config, hook) {
            Some(uplink) => !clsact::is_attached(uplink),
            None => live_link(lb, hook).is_none(),
        })
        .collect()
}

/// The uplink of a hook that is a filter and no link.
fn filtered<'a>(config: &Config, hook: &'a str) -> Option<&'a str> {
    match place(hook) {
        Place::Egress(uplink) if by_clsact(config) => Some(uplink),
        _ => None,
    }
}

fn by_clsact(config: &Config) -> bool {
    match config.egress {
        EgressHook::Auto => !kernel_has(6, 6),
        EgressHook::Tcx => false,
        EgressHook::Clsact => true,
    }
}

/// The link of an attached hook. One that has lost its pin is attached all the same while it is held: to attach it anew would be to
/// take it off first.
fn live_link(lb: &Lb, hook: &str) -> Option<OwnedFd> {
    let config = &lb.config;
    let pin = pin(config, hook);
    let link = raw::obj_get(&pin).ok().or_else(|| lb.pins.held(&pin))?;
    let target = raw::link_target(link.as_fd()).ok()?;
    let expected = match place(hook) {
        // The interface's index is the low half of the word; the attach type follows it.
        Place::Xdp(uplink) | Place::Egress(uplink) | Place::LocalIn(uplink) | Place::LocalOut(uplink) => {
            return (target & 0xffff_ffff == u64::from(ifindex(uplink)?)).then_some(link);
        }
        Place::Cgroup => cgroup_id(config)?,
    };
    (target == expected).then_some(link)
}

/// A cgroup's id is its directory's inode number.
fn cgroup_id(config: &Config) -> Option<u64> {
    Some(rustix::fs::stat(&config.cgroup).ok()?.st_ino)
}

/// Gives an attached hook the newly loaded program, in one step.
pub(crate) fn replace(lb: &mut Lb, hook: &str) -> Result<(), OpenError> {
    let failed = failed(hook);
    if filtered(&lb.config, hook).is_some() {
        return attach_one(lb, hook);
    }
    let Some(link) = live_link(lb, hook) else {
        return attach_one(lb, hook);
    };
    let program = lb
        .ebpf
        .program(&program_name(hook))
        .ok_or_else(|| failed("no such program".into()))?;
    let fd = program_fd(program).map_err(|error| failed(error.into()))?;
    raw::link_update(link.as_fd(), fd).map_err(|error| failed(error.into()))
}

fn program_fd(program: &Program) -> Result<BorrowedFd<'_>, ProgramError> {
    let fd = match program {
        Program::Xdp(program) => program.fd()?,
        Program::SchedClassifier(program) => program.fd()?,
        Program::CgroupSockAddr(program) => program.fd()?,
        Program::CgroupSock(program) => program.fd()?,
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    Ok(fd.as_fd())
}

fn failed(hook: &str) -> impl Fn(Cause) -> OpenError + use<> {
    let hook = hook.to_owned();
    move |source| OpenError::Attach {
        hook: hook.clone(),
        source,
    }
}

/// Attaches a hook anew and pins its link; a filter that is there is replaced in place.
pub(crate) fn attach_one(lb: &mut Lb, hook: &str) -> Result<(), OpenError> {
    let failed = failed(hook);
    let config = lb.config.clone();
    let pin = pin(&config, hook);
    let program = lb
        .ebpf
        .program_mut(&program_name(hook))
        .ok_or_else(|| failed("no such program".into()))?;
    if let Some(uplink) = filtered(&config, hook) {
        put_filter(program, uplink).map_err(&failed)?;
        // What it replaces goes after it has come.
        return remove_pin(&pin).map_err(&failed);
    }
    // A pin of a link whose interface is gone is of no use.
    lb.pins.release(&pin);
    remove_pin(&pin).map_err(&failed)?;
    let link = match place(hook) {
        Place::Xdp(uplink) => attach_xdp(program, uplink, config.mode),
        Place::Egress(uplink) | Place::LocalOut(uplink) => attach_tcx(program, uplink, TcAttachType::Egress),
        Place::LocalIn(uplink) => attach_tcx(program, uplink, TcAttachType::Ingress),
        Place::Cgroup => attach_cgroup(program, &config),
    };
    link.map_err(&failed)?.pin(&pin).map_err(|error| failed(error.into()))?;
    lb.pins.hold(pin);
    if let Place::Egress(uplink) = place(hook) {
        clsact::remove(uplink).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn remove_pin(pin: &Path) -> Result<(), Cause> {
    match std::fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(crate) fn attach_xdp(program: &mut Program, uplink: &str, mode: XdpMode) -> Result<FdLink, Cause> {
    let program: &mut Xdp = program.try_into()?;
    let native = aya::programs::XdpMode::Driver;
    let generic = aya::programs::XdpMode::Skb;
    let id = match mode {
        XdpMode::Native => program.attach(uplink, native)?,
        XdpMode::Generic => program.attach(uplink, generic)?,
        XdpMode::Auto => match program.attach(uplink, native) {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(uplink, %error, "no native XDP; trying generic XDP");
                program.attach(uplink, generic)?
            }
        },
    };
    Ok(program.take_link(id)?.try_into()?)
}

fn attach_tcx(program: &mut Program, uplink: &str, way: TcAttachType) -> Result<FdLink, Cause> {
    let program: &mut SchedClassifier = program.try_into()?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(uplink, way, options)?;
    Ok(program.take_link(id)?.try_into()?)
}

fn put_filter(program: &mut Program, uplink: &str) -> Result<(), Cause> {
    let program: &mut SchedClassifier = program.try_into()?;
    Ok(clsact::put(program, uplink)?)
}

fn attach_cgroup(program: &mut Program, config: &Config) -> Result<FdLink, Cause> {
    let cgroup = File::open(&config.cgroup)?;
    // A link always lets others attach too; the kernel refuses the flag that says so.
    let mode = CgroupAttachMode::Single;
    if let Program::CgroupSock(program) = program {
        let id = program.attach(cgroup, mode)?;
        return Ok(program.take_link(id)?.try_into()?);
    }
    let program: &mut CgroupSockAddr = program.try_into()?;
    let id = program.attach(cgroup, mode)?;
    Ok(program.take_link(id)?.try_into()?)
}
