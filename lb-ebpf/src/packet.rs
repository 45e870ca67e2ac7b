//! A TCP or UDP packet somewhere in a frame.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use lb_common::{Be16, VipEntry, affinity_hash, flow_hash, vip_flags};

use crate::family::Family;
use crate::frame::Frame;
use crate::headers::{ACK, RST, SYN, TCP, Tcp, UDP, Udp};

/// What of a packet decides about its flow, besides where it comes from.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) protocol: u8,
    /// Flags of TCP, 0 for UDP.
    pub(crate) flags: u8,
    /// The port it is for.
    pub(crate) dest: Be16,
}

impl Kind {
    #[inline(always)]
    pub(crate) fn is_tcp(self) -> bool {
        self.protocol == TCP
    }

    /// The first packet of a connection. Datagrams open nothing: each may be the first.
    #[inline(always)]
    pub(crate) fn is_syn(self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether a reset would be understood: it needs the number that the client acknowledges, and answers no other one.
    #[inline(always)]
    pub(crate) fn can_be_reset(self) -> bool {
        self.flags & (SYN | RST | ACK) == ACK
    }

    /// As one number, for functions that take nothing else.
    #[inline(always)]
    pub(crate) fn packed(self) -> u32 {
        u32::from(self.protocol) << 24 | u32::from(self.flags) << 16 | u32::from(self.dest.raw())
    }

    #[inline(always)]
    pub(crate) fn unpacked(packed: u32) -> Self {
        Self {
            protocol: (packed >> 24) as u8,
            flags: (packed >> 16) as u8,
            dest: Be16::from_raw(packed as u16),
        }
    }
}

/// The hash that chooses a slot.
#[inline(always)]
pub(crate) fn slot_hash<F: Family>(client: F::Addr, source: Be16, kind: Kind, entry: &VipEntry) -> u32 {
    let client = F::widen(client);
    if entry.flags & vip_flags::AFFINITY != 0 {
        affinity_hash(&client)
    } else {
        flow_hash(&client, source, kind.dest, kind.protocol)
    }
}

/// The pointers hold until the frame's head is moved; what is needed later is copied.
pub(crate) struct Packet<F: Family> {
    ip: *mut F::Header,
    l4: *mut Udp,
    /// Its checksum.
    sum: *mut Be16,
    pub(crate) source: Be16,
    pub(crate) kind: Kind,
    /// From the IP header on.
    pub(crate) len: u16,
}

/// Why there is no packet.
pub(crate) enum NoPacket {
    /// The header does not fit.
    Truncated,
    /// Neither TCP nor UDP.
    Protocol,
}

impl<F: Family> Packet<F> {
    /// The packet whose TCP or UDP header lies at `offset`, with `room` bytes from there to the packet's end.
    #[inline(always)]
    pub(crate) fn at(
        frame: &impl Frame,
        ip: *mut F::Header,
        protocol: u8,
        offset: usize,
        room: usize,
        len: u16,
    ) -> Result<Self, NoPacket> {
        let (l4, sum, flags) = if protocol == TCP {
            let Some(tcp) = frame.at::<Tcp>(offset).filter(|_| room >= size_of::<Tcp>()) else {
                return Err(NoPacket::Truncated);
            };
            // SAFETY: checked by `at`.
            unsafe { (tcp.cast::<Udp>(), &raw mut (*tcp).checksum, (*tcp).flags) }
        } else if protocol == UDP {
            let Some(udp) = frame.at::<Udp>(offset).filter(|_| room >= size_of::<Udp>()) else {
                return Err(NoPacket::Truncated);
            };
            // SAFETY: checked by `at`.
            (udp, unsafe { &raw mut (*udp).checksum }, 0)
        } else {
            return Err(NoPacket::Protocol);
        };
        // SAFETY: checked by `at`; both headers begin with the ports.
        let (source, dest) = unsafe { ((*l4).src, (*l4).dst) };
        Ok(Self {
            ip,
            l4,
            sum,
            source,
            kind: Kind { protocol, flags, dest },
            len,
        })
    }

    #[inline(always)]
    pub(crate) fn ip(&self) -> &F::Header {
        // SAFETY: checked before the packet was made.
        unsafe { &*self.ip }
    }

    /// The client's and the VIP's, as they stand in the packet.
    #[inline(always)]
    pub(crate) fn ports(&self) -> u32 {
        u32::from(self.source.raw()) << 16 | u32::from(self.kind.dest.raw())
    }

    #[inline(always)]
    pub(crate) fn client(&self) -> F::Addr {
        F::src(self.ip())
    }

    #[inline(always)]
    pub(crate) fn server(&self) -> F::Addr {
        F::dst(self.ip())
    }

    /// Gives it a new destination.
    #[inline(always)]
    pub(crate) fn redirect(&self, addr: F::Addr, port: Be16, hop: bool) {
        let moved = F::moved(self.server(), addr);
        let change = moved.replace16(self.kind.dest, port);
        // SAFETY: checked when the packet was made; the frame's head has not moved since.
        unsafe {
            F::redirect(&mut *self.ip, addr, moved, hop);
            (*self.l4).dst = port;
            let (old, new) = (*self.sum, change.apply(*self.sum));
            *self.sum = if self.kind.is_tcp() { new } else { udp_sum(old, new) };
        }
    }

    /// Gives it a new source and destination, and takes one off the hops left.
    #[inline(always)]
    pub(crate) fn translate(&self, source: (&F::Addr, Be16), dest: (&F::Addr, Be16)) {
        let from = F::moved(self.client(), *source.0);
        let sum = F::moved(self.server(), *dest.0).and(from);
        let change = sum.replace16(self.source, source.1).replace16(self.kind.dest, dest.1);
        // SAFETY: checked when the packet was made; the frame's head has not moved since.
        unsafe {
            F::redirect(&mut *self.ip, *dest.0, sum, true);
            F::set_src(&mut *self.ip, *source.0);
            (*self.l4).src = source.1;
            (*self.l4).dst = dest.1;
            let (old, new) = (*self.sum, change.apply(*self.sum));
            *self.sum = if self.kind.is_tcp() { new } else { udp_sum(old, new) };
        }
    }
}

/// No checksum stays none; a sum of zero is written as all ones, for zero means none.
#[inline(always)]
pub(crate) fn udp_sum(old: Be16, new: Be16) -> Be16 {
    if old.raw() == 0 {
        old
    } else if new.raw() == 0 {
        Be16::from_raw(0xffff)
    } else {
        new
    }
}
