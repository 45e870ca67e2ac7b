//! TCP frames to measure with. Checksums are left zero: the load balancer only updates them.

use std::net::Ipv4Addr;

pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);

/// A frame of 64 bytes without options, from some client.
pub(crate) fn tcp((addr, port): (Ipv4Addr, u16), flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend([0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(CLIENT.octets());
    frame.extend(addr.octets());
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend([0; 10]);
    frame
}
