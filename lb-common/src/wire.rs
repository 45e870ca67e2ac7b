//! Constants of the tunnel between nodes.

/// UDP port of both the overlay and the packets between nodes.
pub const TUNNEL_PORT: u16 = 64000;

/// VXLAN network identifier of packets handed from one node's XDP to another's; no kernel device ever has it.
pub const TUNNEL_VNI: u32 = 0x00ff_fffe;

/// Last byte of the VXLAN header, reserved by RFC 7348: version of the meaning of the inner Ethernet header, which carries
/// the backend's [`crate::Tag`] as source and, as destination, the tag of the backend that had the flow's hash before
/// (zero: none; equal to the source: the sender is sure of the backend or asked the other before, the receiver must not send
/// the packet on). A receiver drops another version.
pub const TUNNEL_VERSION: u8 = 2;

/// Bytes in front of the inner Ethernet frame: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub const ENCAP_LEN: usize = 50;

/// Outer UDP source ports are this value plus 14 bits of the flow hash, so that the fabric spreads flows.
pub const OUTER_SOURCE_PORTS: u16 = 49152;

/// Bytes that the clamped MSS leaves free besides the tunnel's and the TCP/IP headers: room for IPv4 options.
pub const MSS_MARGIN: u16 = 10;

/// The outer source port of a flow's tunnel packets.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "14 bits")]
pub const fn outer_source_port(hash: u32) -> u16 {
    OUTER_SOURCE_PORTS + (hash & 0x3fff) as u16
}

/// The largest TCP segment that still fits the fabric after a node has wrapped it. `headers` is 40 for IPv4 and 60 for IPv6.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "50 bytes")]
pub const fn largest_segment(underlay_mtu: u16, headers: u16) -> u16 {
    underlay_mtu.saturating_sub(headers + ENCAP_LEN as u16 + MSS_MARGIN)
}
