//! VIPs: how they are found, which table they choose from, what they allow, what they count.

use crate::{Be16, Be32, Ip};

/// Rooms in the tables of VIPs, and one more than the largest [`VipEntry::id`].
pub const MAX_VIPS: u32 = 65_536;

/// An address, a port and a protocol: key of `VIPS6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The address.
    pub addr: Ip,
    /// The port.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always 0.
    pub zero: u8,
}

impl Endpoint {
    /// With the padding in order.
    #[inline(always)]
    pub const fn new(addr: Ip, port: Be16, protocol: u8) -> Self {
        Self {
            addr,
            port,
            protocol,
            zero: 0,
        }
    }
}

/// The same for IPv4, in a third of the bytes to hash: key of `VIPS4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint4 {
    /// The address.
    pub addr: Be32,
    /// The port.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always 0.
    pub zero: u8,
}

impl Endpoint4 {
    /// With the padding in order.
    #[inline(always)]
    pub const fn new(addr: Be32, port: Be16, protocol: u8) -> Self {
        Self {
            addr,
            port,
            protocol,
            zero: 0,
        }
    }
}

/// A range of slots in one word, so that a reader never mixes two tables.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableRange(u64);

impl TableRange {
    /// Packs it. Widening casts: `From` is not const.
    #[inline(always)]
    pub const fn new(offset: u32, len: u32) -> Self {
        Self(((offset as u64) << 32) | len as u64)
    }

    /// Its word.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Back from its word.
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// First slot.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Number of slots; 0 when no backend takes new connections.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub const fn len(self) -> u32 {
        self.0 as u32
    }

    /// Whether there is no slot.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The slot of a flow hash: multiply and shift takes it into the range without a division. `None` when empty.
    #[inline(always)]
    pub const fn slot(self, hash: u32) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        Some(self.offset() + ((hash as u64 * self.len() as u64) >> 32) as u32)
    }
}

/// Bits of [`VipEntry::flags`].
pub mod vip_flags {
    /// `VIP_OPTIONS[id]` has something to say to a new flow: a rate, an allowed source range.
    pub const LIMITED: u32 = 1;
    /// Flows choose by the source address alone (session affinity).
    pub const AFFINITY: u32 = 2;
    /// Connections whose backend is gone, or ends what it has ([`crate::backend_flags::RESET`]), are reset.
    pub const RESET: u32 = 8;
}

/// What the VIP tables say of a VIP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipEntry {
    /// The table that new flows choose from.
    pub table: TableRange,
    /// For some time after a change: for each hash, the backend it had before. Asked when a packet that opens nothing is
    /// of no known flow. Empty when there was no recent change.
    pub previous: TableRange,
    /// Fingerprint of the backend set the table was filled from; only user space reads it.
    pub fingerprint: u64,
    /// This node's own number of the VIP, 1 or more: part of flow keys and index of options and counts. A number goes to
    /// another VIP only after all others were used.
    pub id: u32,
    /// See [`vip_flags`].
    pub flags: u32,
}

/// Two slots: array elements are eight bytes apart whatever their size, so one element holds two backend indices.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotPair(pub [u32; 2]);

/// What a VIP asks of new flows; by [`VipEntry::id`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipOptions {
    /// New flows per second and node; 0 = no limit.
    pub rate: u32,
    /// New flows at once above the rate.
    pub burst: u32,
    /// Open flows per node; 0 = no limit. Compared with [`VipOptions::open`].
    pub max_flows: u32,
    /// Open flows as user space counted them last.
    pub open: u32,
    /// 1: only sources in the LPM tries `SOURCES4`/`SOURCES6` under this id may open flows.
    pub sources: u32,
    /// Always 0.
    pub zero: u32,
}

/// What a VIP has seen; per CPU, by [`VipEntry::id`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipStats {
    /// Packets that came for it.
    pub packets: u64,
    /// Their bytes, from the IP header on.
    pub bytes: u64,
    /// Flows that were opened.
    pub flows: u64,
    /// Packets and calls dropped or refused for it.
    pub drops: u64,
    /// Socket calls that were given a backend.
    pub connects: u64,
    /// Packets that belonged to no known flow and opened none.
    pub strays: u64,
}

/// A token bucket of new flows; per CPU, by [`VipEntry::id`]. The rate is shared out among CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateBucket {
    /// Time of the last refill, `bpf_ktime_get_ns`.
    pub at: u64,
    /// Tokens, in 1/65536.
    pub tokens: u64,
}

/// Key of the LPM trie `SOURCES6`: 32 bits of VIP id count towards the prefix length.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceKey {
    /// 32 plus the length of the allowed prefix.
    pub prefix_len: u32,
    /// [`VipEntry::id`].
    pub vip: u32,
    /// The source.
    pub addr: Ip,
}

/// Key of the LPM trie `SOURCES4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceKeyV4 {
    /// 32 plus the length of the allowed prefix.
    pub prefix_len: u32,
    /// [`VipEntry::id`].
    pub vip: u32,
    /// The source.
    pub addr: Be32,
}
