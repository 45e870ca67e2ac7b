//! Headers as they stand in a frame, and access to them inside the bounds.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::{Be16, Be32};

pub(crate) const ETH_LEN: usize = 14;
pub(crate) const IPV4: Be16 = Be16::new(0x0800);
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Bits of [`Tcp::flags`].
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Eth {
    pub(crate) dst: [u8; 6],
    pub(crate) src: [u8; 6],
    pub(crate) kind: Be16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv4 {
    pub(crate) version_len: u8,
    pub(crate) tos: u8,
    pub(crate) total_len: Be16,
    pub(crate) id: Be16,
    pub(crate) fragment: Be16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: Be16,
    pub(crate) src: Be32,
    pub(crate) dst: Be32,
}

impl Ipv4 {
    /// Length of the header with options, if the field makes sense.
    #[inline(always)]
    pub(crate) fn header_len(&self) -> Option<usize> {
        let len = usize::from(self.version_len & 0x0f) * 4;
        (self.version_len >> 4 == 4 && len >= size_of::<Self>()).then_some(len)
    }

    /// Whether it is any fragment but a whole packet.
    #[inline(always)]
    pub(crate) fn is_fragment(&self) -> bool {
        self.fragment.get() & 0x3fff != 0
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) src: Be16,
    pub(crate) dst: Be16,
    pub(crate) sequence: Be32,
    pub(crate) acknowledged: Be32,
    pub(crate) data_offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: Be16,
    pub(crate) checksum: Be16,
    pub(crate) urgent: Be16,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Udp {
    pub(crate) src: Be16,
    pub(crate) dst: Be16,
    pub(crate) len: Be16,
    pub(crate) checksum: Be16,
}

/// VXLAN: flags, then the network identifier in the upper 24 bits of the second word.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Vxlan {
    pub(crate) flags: Be32,
    pub(crate) vni: Be32,
}

/// The bytes of a frame.
pub(crate) trait Frame {
    fn start(&self) -> usize;
    fn end(&self) -> usize;

    /// A header at an offset, if it lies inside the frame whole.
    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let address = self.start() + offset;
        (address + size_of::<T>() <= self.end()).then_some(address as *mut T)
    }

    /// Length of the (linear part of the) frame.
    #[inline(always)]
    fn len(&self) -> usize {
        self.end() - self.start()
    }
}

impl Frame for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

impl Frame for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

/// A TCP packet over IPv4 somewhere in a frame. The pointers hold until the frame's head is moved.
pub(crate) struct TcpPacket {
    pub(crate) ip: *mut Ipv4,
    pub(crate) tcp: *mut Tcp,
}

impl TcpPacket {
    #[inline(always)]
    pub(crate) fn ip(&self) -> &Ipv4 {
        // SAFETY: only `at` makes these pointers, after its bounds check.
        unsafe { &*self.ip }
    }

    #[inline(always)]
    pub(crate) fn tcp(&self) -> &Tcp {
        // SAFETY: only `at` makes these pointers, after its bounds check.
        unsafe { &*self.tcp }
    }

    /// A first packet of a connection.
    #[inline(always)]
    pub(crate) fn is_syn(&self) -> bool {
        self.tcp().flags & (SYN | ACK) == SYN
    }

    /// A last packet of a connection, or nearly.
    #[inline(always)]
    pub(crate) fn is_end(&self) -> bool {
        self.tcp().flags & (FIN | RST) != 0
    }
}
