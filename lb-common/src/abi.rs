//! The layout of every map: integers and arrays only, no holes, sizes asserted.

use crate::{Be16, Be32, Ip};

/// Version of all layouts below together. A pinned set of maps with another one is refused, never reused.
pub const LAYOUT_VERSION: u32 = 1;

/// Rooms in the table of VIPs.
pub const MAX_VIPS: u32 = 65_536;
/// Rooms in the table of backends, over all VIPs.
pub const MAX_BACKENDS: u32 = 65_536;
/// Rooms in the table of peer nodes.
pub const MAX_PEERS: u32 = 16_384;

/// An address, a port and a protocol: names a VIP, or a backend on this node.
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

/// What the VIP table says of a VIP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VipEntry {
    /// First slot (high half) and number of slots (low half) in one word, so that a reader never mixes two tables.
    pub table: u64,
    /// Fingerprint of the backend set the table was filled from; only user space reads it.
    pub fingerprint: u64,
}

impl VipEntry {
    /// Packs the slot range.
    pub const fn new(offset: u32, len: u32, fingerprint: u64) -> Self {
        // Widening casts: `From` is not const.
        Self {
            table: ((offset as u64) << 32) | len as u64,
            fingerprint,
        }
    }

    /// First slot.
    #[inline(always)]
    pub const fn offset(&self) -> u32 {
        (self.table >> 32) as u32
    }

    /// Number of slots; 0 when no backend takes new connections.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub const fn len(&self) -> u32 {
        self.table as u32
    }

    /// Whether no backend takes new connections.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Two slots: array elements are eight bytes apart whatever their size, so one element holds two backend indices.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotPair(pub [u32; 2]);

/// Bits of [`BackendEntry::flags`].
pub mod backend_flags {
    /// The entry is in use.
    pub const LIVE: u8 = 1;
    /// It takes new connections.
    pub const OPEN: u8 = 2;
    /// It runs on this node.
    pub const LOCAL: u8 = 4;
}

/// One backend, found by its index.
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
}

/// A flow as the client sees it (server = VIP), or as the backend does (server = backend).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// The client's address.
    pub client: Ip,
    /// The VIP's or the backend's address.
    pub server: Ip,
    /// The client's port.
    pub client_port: Be16,
    /// The VIP's or the backend's port.
    pub server_port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always 0.
    pub zero: [u8; 3],
}

/// How far a TCP flow has come, as far as one direction shows it.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// Only a SYN was seen.
    Opening = 1,
    /// More than a SYN was seen.
    Established = 2,
    /// A FIN or RST was seen: the next SYN chooses anew.
    Closing = 3,
}

/// Which backend a flow belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowValue {
    /// Index into the backends.
    pub backend: u32,
    /// The backend's generation when the flow was made.
    pub generation: u32,
    /// A [`FlowState`].
    pub state: u32,
    /// Always 0; room for the previous backend.
    pub zero: u32,
}

/// Which VIP the answers of a flow come from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReverseValue {
    /// The VIP's address.
    pub vip: Ip,
    /// The VIP's port.
    pub port: Be16,
    /// Always 0.
    pub zero: u16,
    /// A [`FlowState`].
    pub state: u32,
}

/// A node whose tunnel packets are taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerEntry {
    /// Always 0.
    pub flags: u32,
}

/// What a socket asked for before the connect hook changed it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    /// The VIP's address.
    pub addr: Ip,
    /// The VIP's port.
    pub port: Be16,
    /// Always 0.
    pub zero: u16,
}

/// Bits of [`NodeConfig::flags`].
pub mod node_flags {
    /// Log each packet.
    pub const TRACE: u32 = 1;
    /// Send tunnel packets by redirect even on the interface they came from. On a veth, frames sent by `XDP_TX` to an
    /// other end that has GRO on but no XDP program lie there until something else comes along.
    pub const REDIRECT: u32 = 2;
}

/// This node's own facts; element 0 of its array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Underlay address of this node; zero until it is known, and then nothing is tunnelled.
    pub own: Ip,
    /// The VIP range's network.
    pub vip_network: Be32,
    /// Its mask.
    pub vip_mask: Be32,
    /// UDP port of the tunnel.
    pub tunnel_port: Be16,
    /// MTU of the fabric.
    pub underlay_mtu: u16,
    /// See [`node_flags`].
    pub flags: u32,
}

macro_rules! layout {
    ($($type:ty: $size:literal, $align:literal;)*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size, concat!("size of ", stringify!($type)));
            assert!(align_of::<$type>() == $align, concat!("alignment of ", stringify!($type)));
        };)*
    };
}

layout! {
    Endpoint: 20, 4;
    VipEntry: 16, 8;
    SlotPair: 8, 8;
    BackendEntry: 40, 4;
    FlowKey: 40, 4;
    FlowValue: 16, 4;
    ReverseValue: 24, 4;
    PeerEntry: 4, 4;
    Original: 20, 4;
    NodeConfig: 32, 4;
}
