//! Backends, and the tags by which packets name them.

use crate::flow_hash::mix;
use crate::{Be16, Ip};

/// Rooms in the table of backends, over all VIPs, unless the configuration says otherwise.
pub const MAX_BACKENDS: u32 = 65_536;

/// Bits of [`BackendEntry::flags`].
pub mod backend_flags {
    /// The entry is in use.
    pub const LIVE: u8 = 1;
    /// It takes new connections.
    pub const OPEN: u8 = 2;
    /// It runs on this node.
    pub const LOCAL: u8 = 4;
    /// Its node runs no daemon: packets go there with translated source, and come back through this node.
    pub const BARE: u8 = 8;
    /// More than one VIP has it; [`BackendEntry::vip`] names only one of them, `BACKEND_VIPS` names them all.
    pub const SHARED: u8 = 16;
    /// Established flows get a RST once it is no longer `OPEN` (instead of being drained).
    pub const RESET: u8 = 32;
    /// Its listening socket was closed; the kernel noted it down, the daemon has yet to hear of it. Not `OPEN` then.
    pub const GONE: u8 = 64;
}

/// One backend, found by its index. One cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendEntry {
    /// Where it listens.
    pub addr: Ip,
    /// Underlay address of its node.
    pub node: Ip,
    /// Where it listens.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// See [`backend_flags`].
    pub flags: u8,
    /// Grows each time the index gets a new owner, so that flows of the old one do not follow.
    pub generation: u32,
    /// Interface that leads to it, when packets may be redirected there past the stack; 0 = give them to the stack.
    pub ifindex: u32,
    /// Its link address, with `ifindex`.
    pub mac: [u8; 6],
    /// Longest packet that `ifindex` takes, in bytes from the IP header on; longer ones are the stack's to cut or refuse.
    pub mtu: u16,
    /// For what comes.
    pub zero: [u8; 4],
    /// When it opened, in seconds of the monotonic clock (`CLOCK_MONOTONIC`, as `bpf_ktime_get_ns`): slow start counts from here.
    pub opened: u32,
    /// [`crate::VipEntry::id`] of its VIP (of one of them when `SHARED`).
    pub vip: u16,
    /// Relative weight, 1 or more while it is open.
    pub weight: u16,
}

/// What a backend has seen; per CPU, by index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Packets sent to it by this node's uplinks.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// Flows and socket calls given to it.
    pub flows: u64,
}

/// 64 bits that name a backend within the cluster: key of `TAGS`, and what tunnel packets carry.
///
/// IPv4: the address (bits 63-32), the port (31-16), the protocol (15-8), 4 (7-0). IPv6: 48 bits of a hash (63-16), the
/// protocol (15-8), 6 (7-0). User space keeps the first of two live backends whose tags are equal and reports the other.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

impl Tag {
    /// Of a backend.
    #[inline(always)]
    pub fn new(addr: &Ip, port: Be16, protocol: u8) -> Self {
        match addr.as_v4() {
            Some(v4) => Self::v4(v4, port, protocol),
            None => Self::v6(addr, port, protocol),
        }
    }

    /// Of a backend known to have an IPv4 address.
    #[inline(always)]
    pub const fn v4(addr: crate::Be32, port: Be16, protocol: u8) -> Self {
        // Widening casts: `From` is not const.
        Self(((addr.get() as u64) << 32) | ((port.get() as u64) << 16) | ((protocol as u64) << 8) | 4)
    }

    /// Of a backend known to have an IPv6 address.
    #[inline(always)]
    pub fn v6(addr: &Ip, port: Be16, protocol: u8) -> Self {
        let high = (u64::from(addr.0[0].get()) << 32) | u64::from(addr.0[1].get());
        let low = (u64::from(addr.0[2].get()) << 32) | u64::from(addr.0[3].get());
        let hash = mix(mix(low ^ u64::from(port.get()).rotate_left(48)) ^ high);
        Self((hash & !0xffff) | (u64::from(protocol) << 8) | 6)
    }

    /// The six bytes that a tunnel packet carries as a link address; protocol and family are told by the packet inside.
    #[inline(always)]
    pub const fn to_mac(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_be_bytes();
        [a, b, c, d, e, f]
    }

    /// Back from the six bytes. `family` is 4 or 6.
    #[inline(always)]
    pub const fn from_mac([a, b, c, d, e, f]: [u8; 6], protocol: u8, family: u8) -> Self {
        Self(u64::from_be_bytes([a, b, c, d, e, f, protocol, family]))
    }
}
