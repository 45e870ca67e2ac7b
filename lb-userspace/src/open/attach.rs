//! Hooks: which there are, whether they are attached, attaching and replacing them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::tc::{TcAttachType, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, Xdp};

use crate::open::check::{ifindex, kernel_has};
use crate::{Config, Lb, OpenError, XdpMode, raw};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Socket hooks, by the name of both the hook and the end of its program's name.
const SOCKET_HOOKS: [&str; 5] = ["connect4", "connect6", "getpeername4", "getpeername6", "sendmsg4"];
const EGRESS_PROGRAM: &str = "revere_egress";

/// Where a hook sits.
enum Place<'a> {
    Xdp(&'a str),
    Egress(&'a str),
    Cgroup,
}

fn place(hook: &str) -> Place<'_> {
    if let Some(uplink) = hook.strip_prefix("xdp-") {
        Place::Xdp(uplink)
    } else if let Some(uplink) = hook.strip_prefix("egress-") {
        Place::Egress(uplink)
    } else {
        Place::Cgroup
    }
}

fn program_name(hook: &str) -> String {
    match place(hook) {
        Place::Xdp(_) => "revere_xdp".to_owned(),
        Place::Egress(_) => EGRESS_PROGRAM.to_owned(),
        Place::Cgroup => format!("revere_{hook}"),
    }
}

/// All hooks of this configuration, in the order in which they are attached: answers can be turned back before
/// anything is sent to a backend.
pub(crate) fn hooks(config: &Config) -> Vec<String> {
    let egress = config.uplinks.iter().map(|uplink| format!("egress-{uplink}"));
    let xdp = config.uplinks.iter().map(|uplink| format!("xdp-{uplink}"));
    egress.chain(xdp).chain(SOCKET_HOOKS.map(str::to_owned)).collect()
}

fn pin(config: &Config, hook: &str) -> PathBuf {
    // A bpffs refuses names with a dot, which VLAN interfaces have.
    config.bpffs.join("links").join(hook.replace('.', "_"))
}

/// Hooks that are not attached, or whose interface is gone or another one by now.
pub(crate) fn unattached(config: &Config) -> BTreeSet<String> {
    hooks(config)
        .into_iter()
        .filter(|hook| live_link(config, hook).is_none())
        .collect()
}

fn live_link(config: &Config, hook: &str) -> Option<OwnedFd> {
    let link = raw::obj_get(&pin(config, hook)).ok()?;
    let target = raw::link_target(link.as_fd()).ok()?;
    let expected = match place(hook) {
        // The interface's index is the low half of the word; the attach type follows it.
        Place::Xdp(uplink) | Place::Egress(uplink) => {
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
    let Some(link) = live_link(&lb.config, hook) else {
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

/// Attaches a hook anew and pins its link.
pub(crate) fn attach_one(lb: &mut Lb, hook: &str) -> Result<(), OpenError> {
    let failed = failed(hook);
    let pin = pin(&lb.config, hook);
    // A pin of a link whose interface is gone is of no use.
    match std::fs::remove_file(&pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error.into())),
        _ => {}
    }
    let config = lb.config.clone();
    let program = lb
        .ebpf
        .program_mut(&program_name(hook))
        .ok_or_else(|| failed("no such program".into()))?;
    let link = match place(hook) {
        Place::Xdp(uplink) => attach_xdp(program, uplink, config.mode).map(Some),
        Place::Egress(uplink) => attach_egress(program, uplink),
        Place::Cgroup => attach_cgroup(program, &config).map(Some),
    };
    if let Some(link) = link.map_err(&failed)? {
        link.pin(&pin).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn attach_xdp(program: &mut Program, uplink: &str, mode: XdpMode) -> Result<FdLink, Cause> {
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

/// By tcx where the kernel has it (6.6). Before, by clsact, whose filter stays without a pin.
fn attach_egress(program: &mut Program, uplink: &str) -> Result<Option<FdLink>, Cause> {
    let program: &mut SchedClassifier = program.try_into()?;
    if kernel_has(6, 6) {
        let id = program.attach(uplink, TcAttachType::Egress)?;
        return Ok(Some(program.take_link(id)?.try_into()?));
    }
    if let Err(error) = qdisc_add_clsact(uplink) {
        tracing::debug!(uplink, %error, "clsact is there already");
    }
    if let Err(error) = qdisc_detach_program(uplink, TcAttachType::Egress, EGRESS_PROGRAM) {
        tracing::debug!(uplink, %error, "no older filter to take off");
    }
    let id = program.attach(uplink, TcAttachType::Egress)?;
    // Dropping this link would take the filter off.
    std::mem::forget(program.take_link(id)?);
    Ok(None)
}

fn attach_cgroup(program: &mut Program, config: &Config) -> Result<FdLink, Cause> {
    let program: &mut CgroupSockAddr = program.try_into()?;
    let cgroup = File::open(&config.cgroup)?;
    // A link always lets others attach too; the kernel refuses the flag that says so.
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(program.take_link(id)?.try_into()?)
}
