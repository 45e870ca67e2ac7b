//! Constants of the tunnel between nodes.

/// UDP port of both the overlay and the packets between nodes.
pub const TUNNEL_PORT: u16 = 64000;

/// VXLAN network identifier of packets handed from one node's XDP to another's; no kernel device ever has it.
pub const TUNNEL_VNI: u32 = 0x00ff_fffe;

/// Destination of the inner Ethernet header: "the source address is a backend" (4 bytes address, 2 bytes port).
pub const MARKER_MAC: [u8; 6] = [0x02, 0x52, 0x56, 0x52, 0x00, 0x01];

/// Bytes in front of the inner Ethernet frame: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub const ENCAP_LEN: usize = 50;

/// Outer UDP source ports are this value plus 14 bits of the flow hash, so that the fabric spreads flows.
pub const OUTER_SOURCE_PORTS: u16 = 49152;

/// Bytes that the clamped MSS leaves free besides the tunnel's and the TCP/IP headers: room for IPv4 options.
pub const MSS_MARGIN: u16 = 10;
