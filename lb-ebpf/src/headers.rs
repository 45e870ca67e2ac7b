//! Headers as they stand in a frame.

use lb_common::{Be16, Be32, Checksum, Ip};

pub(crate) const ETH_LEN: usize = 14;
pub(crate) const IPV4: Be16 = Be16::new(0x0800);
pub(crate) const IPV6: Be16 = Be16::new(0x86dd);
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

    /// The checksum of a header without options whose own field is zero.
    #[inline(always)]
    pub(crate) fn sum(&self) -> Be16 {
        let first = Be16::new((u16::from(self.version_len) << 8) | u16::from(self.tos));
        let life = Be16::new((u16::from(self.ttl) << 8) | u16::from(self.protocol));
        Checksum::new()
            .add16(first.raw())
            .add16(self.total_len.raw())
            .add16(self.id.raw())
            .add16(self.fragment.raw())
            .add16(life.raw())
            .add32(self.src.raw())
            .add32(self.dst.raw())
            .finish()
    }

    /// Whether it is a fragment but the first.
    #[inline(always)]
    pub(crate) fn is_later(&self) -> bool {
        self.fragment.raw() & Be16::new(0x1fff).raw() != 0
    }

    /// Whether another fragment follows it.
    #[inline(always)]
    pub(crate) fn has_more(&self) -> bool {
        self.fragment.raw() & Be16::new(0x2000).raw() != 0
    }

    /// Whether it is any fragment but a whole packet.
    #[inline(always)]
    pub(crate) fn is_fragment(&self) -> bool {
        self.fragment.raw() & Be16::new(0x3fff).raw() != 0
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ipv6 {
    pub(crate) version_class_label: Be32,
    pub(crate) payload_len: Be16,
    pub(crate) next: u8,
    pub(crate) hop_limit: u8,
    pub(crate) src: Ip,
    pub(crate) dst: Ip,
}

impl Ipv6 {
    /// Whether it says so itself.
    #[inline(always)]
    pub(crate) fn is_version_6(&self) -> bool {
        self.version_class_label.raw() & Be32::new(0xf000_0000).raw() == Be32::new(0x6000_0000).raw()
    }
}

/// An IPv6 extension header; of the authentication header the beginning.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Extension {
    pub(crate) next: u8,
    /// In units of eight bytes, without the first eight.
    pub(crate) len: u8,
    pub(crate) kind: u8,
    /// Of a routing header: hops still to visit.
    pub(crate) left: u8,
    /// Of a fragment header: the number of the packet.
    pub(crate) rest: [u8; 4],
}

impl Extension {
    /// Of a fragment header: whether it is not the first. The offset takes 13 bits of `kind` and `left`.
    #[inline(always)]
    pub(crate) fn is_later(&self) -> bool {
        self.kind != 0 || self.left & 0xf8 != 0
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

/// ICMP and ICMPv6: what stands before what an error quotes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: Be16,
    pub(crate) rest: Be32,
}
