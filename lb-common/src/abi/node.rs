//! What the programs know of this node and of its peers.

use crate::{Be16, Be32, Ip};

/// Rooms in the table of peer nodes.
pub const MAX_PEERS: u32 = 16_384;

/// A node whose tunnel packets are taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerEntry {
    /// Always 0.
    pub flags: u32,
}

/// Bits of [`NodeConfig::flags`].
pub mod node_flags {
    /// Log each packet.
    pub const TRACE: u32 = 1;
    /// Send tunnel packets by redirect even on the interface they came from. On a veth, frames sent by `XDP_TX` to an
    /// other end that has GRO on but no XDP program lie there until something else comes along.
    pub const REDIRECT: u32 = 2;
    /// Somebody follows the flow log: write events.
    pub const FLOW_LOG: u32 = 4;
    /// While too many SYNs come for a VIP, its listeners are asked for cookies (`bpf_tcp_gen_syncookie`).
    pub const SYN_COOKIES: u32 = 8;
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
    /// First eight bytes of the IPv6 VIP range, a /64.
    pub vip6_network: [Be32; 2],
    /// UDP port of the tunnel.
    pub tunnel_port: Be16,
    /// MTU of the fabric.
    pub underlay_mtu: u16,
    /// See [`node_flags`].
    pub flags: u32,
    /// First and last port for translated sources; both 0 = none.
    pub nat_first: Be16,
    /// See `nat_first`.
    pub nat_last: Be16,
    /// With [`node_flags::SYN_COOKIES`]: SYNs for a VIP per second and CPU that go to its listeners unasked; 0 = none.
    pub syn_threshold: u32,
    /// Seconds in which a new backend comes to its full share; 0 = at once.
    pub slow_start: u32,
}
