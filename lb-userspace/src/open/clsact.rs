//! The egress program as a filter of the clsact queueing discipline, for kernels without tcx links (before 6.6).
//!
//! The filter has a fixed priority and handle: a new daemon finds it there and replaces it in place, in one step for
//! packets. The kernel keeps it, and the program in it, without any process or pin.

use std::io;

use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, TcHandle};
use aya::programs::tc::{SchedClassifierLinkId, qdisc_add_clsact};
use aya::programs::{Link as _, ProgramError, SchedClassifier};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::open::check::ifindex;

/// Low, so that it runs before filters which the kernel numbers (49152 and down) and which may end the walk.
const PRIORITY: u16 = 82;
const HANDLE: TcHandle = TcHandle::new(0, 1);
/// The filter's name, which is the program's.
const NAME: &[u8] = b"revere_egress\0";

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
/// Request, acknowledge, echo: disciplines are told only to who asks for an echo, and the acknowledgement ends the wait
/// for an answer that does not come.
const FLAGS: u16 = 1 | 4 | 8;
/// What both clsact and the older `ingress` have as parent.
const TC_H_CLSACT: u32 = 0xffff_fff1;
/// The filters of clsact for packets that leave.
const EGRESS_PARENT: u32 = 0xffff_fff3;
const ETH_P_ALL: u16 = 3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
/// `struct nlmsghdr` and `struct tcmsg`.
const HEADERS: usize = 36;
/// More than the kernel's answers about one filter or one discipline are long.
const ANSWER: usize = 8192;

/// Why the filter could not be put there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClsactError {
    #[error(
        "the kernel has no clsact queueing discipline (CONFIG_NET_SCH_INGRESS, module sch_ingress); it came with 4.5"
    )]
    NoDiscipline,
    #[error(
        "the kernel has no BPF filters for traffic control (CONFIG_NET_CLS_BPF, module cls_bpf); they came with 4.4"
    )]
    NoFilters,
    #[error(
        "the uplink has the queueing discipline `{kind}` where clsact has to be; take it off with `tc qdisc del dev {uplink} ingress`"
    )]
    OtherDiscipline { kind: String, uplink: String },
    #[error(
        "another filter has the place of ours; see `tc filter show dev {uplink} egress`, priority {PRIORITY}, and take it off"
    )]
    Taken { uplink: String },
    #[error("could not add the clsact queueing discipline: {0}")]
    Add(TcError),
    #[error("could not read the uplink's filters: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Program(#[from] ProgramError),
}

/// What stands at our priority and handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

/// Whether our filter is on this interface.
pub(crate) fn is_attached(uplink: &str) -> bool {
    match find(uplink) {
        Ok(found) => found == Found::Ours,
        Err(error) => {
            tracing::warn!(uplink, %error, "could not read the uplink's filters");
            false
        }
    }
}

/// Puts the program into our filter: in place if there is one, else by a new one.
pub(crate) fn put(program: &mut SchedClassifier, uplink: &str) -> Result<(), ClsactError> {
    let id = match find(uplink)? {
        Found::Ours => program.attach_to_link(at(uplink)?)?,
        Found::Nothing => add(program, uplink)?,
        Found::Foreign => {
            return Err(ClsactError::Taken {
                uplink: uplink.to_owned(),
            });
        }
    };
    // Dropping this link would take the filter off.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Takes our filter off, if it is there. The queueing discipline stays: others may have filters in it.
pub(crate) fn remove(uplink: &str) -> Result<(), ClsactError> {
    match find(uplink)? {
        Found::Ours => Ok(at(uplink)?.detach()?),
        Found::Nothing | Found::Foreign => Ok(()),
    }
}

fn at(uplink: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(uplink, TcAttachType::Egress, PRIORITY, HANDLE, None)
}

fn add(program: &mut SchedClassifier, uplink: &str) -> Result<SchedClassifierLinkId, ClsactError> {
    match qdisc_add_clsact(uplink) {
        Ok(()) => {}
        Err(error) => match errno(&error) {
            Some(libc::EEXIST) => {}
            Some(libc::ENOENT) => return Err(ClsactError::NoDiscipline),
            _ => return Err(ClsactError::Add(error)),
        },
    }
    // `ingress` takes filters for packets that leave, and never runs them.
    if let Some(kind) = discipline(uplink)?
        && kind != "clsact"
    {
        return Err(ClsactError::OtherDiscipline {
            kind,
            uplink: uplink.to_owned(),
        });
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    });
    match program.attach_with_options(uplink, TcAttachType::Egress, options) {
        Err(ProgramError::TcError(error)) if errno(&error) == Some(libc::ENOENT) => Err(ClsactError::NoFilters),
        other => Ok(other?),
    }
}

fn errno(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn find(uplink: &str) -> io::Result<Found> {
    let info = u32::from(PRIORITY) << 16 | u32::from(ETH_P_ALL.to_be());
    let Some(answer) = ask(RTM_GETTFILTER, uplink, HANDLE.into(), EGRESS_PARENT, info)? else {
        return Ok(Found::Nothing);
    };
    let name = answer
        .of_kind(RTM_NEWTFILTER)
        .and_then(|attributes| attribute(attribute(attributes, TCA_OPTIONS)?, TCA_BPF_NAME));
    Ok(if name == Some(NAME) {
        Found::Ours
    } else {
        Found::Foreign
    })
}

/// The kind of the queueing discipline at clsact's place.
fn discipline(uplink: &str) -> io::Result<Option<String>> {
    let answer = ask(RTM_GETQDISC, uplink, 0, TC_H_CLSACT, 0)?;
    let kind = answer.and_then(|answer| {
        let kind = attribute(answer.of_kind(RTM_NEWQDISC)?, TCA_KIND)?;
        Some(String::from_utf8_lossy(kind).trim_end_matches('\0').to_owned())
    });
    Ok(kind)
}

/// One message of the kernel's.
struct Answer(Vec<u8>);

impl Answer {
    fn kind(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.0.get(4..6)?.try_into().ok()?))
    }

    /// Its attributes, if it is of this kind.
    fn of_kind(&self, kind: u16) -> Option<&[u8]> {
        (self.kind()? == kind).then(|| self.0.get(HEADERS..)).flatten()
    }

    /// The error it carries instead of what was asked for.
    fn error(&self) -> Option<io::Error> {
        const NLMSG_ERROR: u16 = 2;
        if self.kind()? != NLMSG_ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(self.0.get(16..20)?.try_into().ok()?);
        Some(io::Error::from_raw_os_error(code.wrapping_neg()))
    }
}

/// Asks about one object of an interface; `None` when it, its parent or the interface is not there.
fn ask(kind: u16, uplink: &str, handle: u32, parent: u32, info: u32) -> io::Result<Option<Answer>> {
    let Some(index) = ifindex(uplink) else {
        return Ok(None);
    };
    let mut request = Vec::with_capacity(HEADERS);
    request.extend(u32::try_from(HEADERS).map_err(io::Error::other)?.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(FLAGS.to_ne_bytes());
    // Sequence number, sender, address family.
    request.extend([0; 12]);
    for word in [index, handle, parent, info] {
        request.extend(word.to_ne_bytes());
    }
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER];
    let (len, _) = rustix::net::recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(len);
    let answer = Answer(answer);
    match answer.error() {
        None => Ok(Some(answer)),
        // The kernel calls a missing parent an invalid one; 0 is an acknowledgement without an answer before it.
        Some(error) if [0, libc::ENOENT, libc::EINVAL, libc::ENODEV].contains(&error.raw_os_error().unwrap_or(-1)) => {
            Ok(None)
        }
        Some(error) => Err(error),
    }
}

/// The value of the first attribute of this type.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    const TYPE_MASK: u16 = 0x3fff;
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = rest.get(4..len)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_end_the_walk() {
        let mut bytes = vec![5, 0, 9, 0, 7, 0, 0, 0];
        bytes.extend([6, 0, 2, 0x80, 1, 2, 0, 0]);
        assert_eq!(attribute(&bytes, 9), Some([7].as_slice()));
        assert_eq!(
            attribute(&bytes, 2),
            Some([1, 2].as_slice()),
            "flag bits are no part of the type"
        );
        assert_eq!(attribute(&bytes, 1), None);
        for broken in [[0, 0, 1, 0], [3, 0, 1, 0], [255, 0, 1, 0]] {
            assert_eq!(attribute(&broken, 1), None);
        }
    }
}
