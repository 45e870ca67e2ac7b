//! Constants of the tunnel between nodes.

/// UDP port of both the overlay and the packets between nodes.
pub const TUNNEL_PORT: u16 = 64000;

/// VXLAN network identifier of packets handed from one node's XDP to another's; no kernel device ever has it.
pub const TUNNEL_VNI: u32 = 0x00ff_fffe;

/// Last byte of the VXLAN header, reserved by RFC 7348: version of the meaning of the inner Ethernet header, which carries
/// the backend's [`crate::Tag`] as source and, as destination, the tag of the backend that had the flow's hash before
/// (zero: none). A receiver drops another version.
pub const TUNNEL_VERSION: u8 = 2;

/// Bytes in front of the inner Ethernet frame: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub const ENCAP_LEN: usize = 50;

/// Outer UDP source ports are this value plus 14 bits of the flow hash, so that the fabric spreads flows.
pub const OUTER_SOURCE_PORTS: u16 = 49152;

/// Bytes that the clamped MSS leaves free besides the tunnel's and the TCP/IP headers: room for IPv4 options.
pub const MSS_MARGIN: u16 = 10;
