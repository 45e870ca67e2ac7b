//! The way to a container of this node past the stack: its interface and link address, where the kernel takes frames for it.

use std::io;
use std::net::IpAddr;

use lb_common::BackendEntry;
use netlink_packet_core::NLM_F_REQUEST;
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::Lb;
use crate::routes::{Questions, Routes, strange, told};

/// Generic netlink (`linux/genetlink.h`): the family that knows the others, its request, and the attributes of its answer.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// The family of network devices (`linux/netdev.h`, Linux 6.3): one device, and what it can do with XDP.
const NETDEV: &[u8] = b"netdev\0";
const DEV_GET: u8 = 1;
const DEV_IFINDEX: u16 = 1;
const DEV_XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: frames that programs redirect to it are sent. A veth has it while its other end polls, which generic
/// receive offload or a program there makes it do; without it such frames are dropped.
const TAKES_FRAMES: u64 = 4;
/// `struct nlmsghdr`, and `struct genlmsghdr` behind it.
const HEADER: usize = 16;
const GENERIC: usize = 4;
const NLMSG_ERROR: u16 = 2;

/// Where packets for a backend go past the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface.
    pub ifindex: u32,
    /// The link address of its other end.
    pub mac: [u8; 6],
    /// Longest packet it takes, in bytes from the IP header on.
    pub mtu: u16,
}

/// Puts a way into a backend's entry.
pub(crate) fn write(entry: &mut BackendEntry, hop: Option<Hop>) {
    let (ifindex, mac, mtu) = hop.map_or_else(Default::default, |hop| (hop.ifindex, hop.mac, hop.mtu));
    (entry.ifindex, entry.mac, entry.mtu) = (ifindex, mac, mtu);
}

/// The way that an entry tells.
pub(crate) fn read(entry: &BackendEntry) -> Option<Hop> {
    let hop = Hop {
        ifindex: entry.ifindex,
        mac: entry.mac,
        mtu: entry.mtu,
    };
    (hop.ifindex != 0).then_some(hop)
}

impl Lb {
    /// The way past the stack to a backend's address, if it is here and packets may go that way.
    pub(crate) fn hop(&self, local: bool, addr: IpAddr) -> Option<Hop> {
        self.hops.as_ref().filter(|_| local)?.find(addr)
    }
}

/// Asks the kernel.
#[derive(Debug)]
pub(crate) struct Finder {
    routes: Routes,
    generic: Questions,
    /// Number of the family of network devices.
    netdev: u16,
}

impl Finder {
    /// Fails where the kernel does not tell which interfaces take redirected frames.
    pub(crate) fn open() -> io::Result<Self> {
        let generic = Questions::open(NETLINK_GENERIC)?;
        let family = attribute(FAMILY_NAME, NETDEV);
        let answer = ask_generic(&generic, CONTROL, GET_FAMILY, &family)?;
        let id = find(&answer, FAMILY_ID).and_then(|value| value.first_chunk().copied());
        let netdev = id
            .map(u16::from_ne_bytes)
            .ok_or_else(|| strange("a generic netlink family without a number"))?;
        Ok(Self {
            routes: Routes::open()?,
            generic,
            netdev,
        })
    }

    /// The way to an address, if it is on a link of this node whose end takes redirected frames.
    pub(crate) fn find(&self, addr: IpAddr) -> Option<Hop> {
        let ifindex = told(addr, self.routes.link_to(addr))?;
        let mac = told(addr, self.routes.neighbour(ifindex, addr))?;
        let link = told(addr, self.routes.link(ifindex).map(Some)).filter(|link| link.up)?;
        let takes = told(addr, self.takes_frames(ifindex).map(Some))?;
        takes.then_some(Hop {
            ifindex,
            mac,
            mtu: link.mtu,
        })
    }

    fn takes_frames(&self, ifindex: u32) -> io::Result<bool> {
        let request = attribute(DEV_IFINDEX, &ifindex.to_ne_bytes());
        let answer = ask_generic(&self.generic, self.netdev, DEV_GET, &request)?;
        let features = find(&answer, DEV_XDP_FEATURES).and_then(|value| value.first_chunk().copied());
        Ok(features.map(u64::from_ne_bytes).unwrap_or_default() & TAKES_FRAMES != 0)
    }
}

/// `struct nlattr` with its value, filled up to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = Vec::from(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// The bits of a kind that say what its value is like.
    const LIKE: u16 = 0xc000;
    loop {
        let [a, b, c, d] = *attributes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & !LIKE == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// One request with its one answer, from whose attributes on it is given back.
fn ask_generic(questions: &Questions, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let len = HEADER + GENERIC + attributes.len();
    let mut request = Vec::with_capacity(len);
    request.extend(u32::try_from(len).map_err(io::Error::other)?.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number and sender.
    request.extend([0; 8]);
    request.extend([command, 1, 0, 0]);
    request.extend(attributes);
    let answer = questions.ask(request)?;
    let kind = answer.get(4..6).and_then(|kind| kind.first_chunk().copied());
    if kind.map(u16::from_ne_bytes) == Some(NLMSG_ERROR) {
        let code = answer.get(HEADER..).and_then(|code| code.first_chunk().copied());
        let code = code.map(i32::from_ne_bytes).unwrap_or_default();
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    answer
        .get(HEADER + GENERIC..)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| strange("an answer without a body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_of_any_length() {
        let mut answer = attribute(2, b"netdev\0");
        answer.extend(attribute(1 | 0x8000, &7_u16.to_ne_bytes()));
        assert_eq!(find(&answer, 1), Some(&7_u16.to_ne_bytes()[..]));
        assert_eq!(find(&answer, 2), Some(&b"netdev\0"[..]));
        assert_eq!(find(&answer, 3), None);
        for len in 0..answer.len() {
            let cut = find(&answer[..len], 1);
            assert!(cut.is_none() || len >= 18, "{len}");
        }
        // A length that leads nowhere.
        assert_eq!(find(&[0, 0, 9, 0, 4, 0, 1, 0], 1), None);
    }
}
