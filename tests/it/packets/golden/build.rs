//! Frames of both families, built the slow way.

use std::net::IpAddr;

use crate::packets::frame::checksum;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

pub(in crate::packets) type Peer = (IpAddr, u16);

pub(super) fn at(addr: &str, port: u16) -> Peer {
    (addr.parse().expect("an address"), port)
}

/// A packet to build.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) from: Peer,
    pub(super) to: Peer,
    pub(super) protocol: u8,
    pub(super) flags: u8,
    pub(super) hops: u8,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// IPv6 extension headers, each with its own number; 8 bytes each.
    pub(super) extensions: Vec<(u8, [u8; 8])>,
    pub(super) macs: [u8; 12],
    pub(super) summed: bool,
    /// Of TCP: sequence, acknowledged.
    pub(super) numbers: [u32; 2],
    pub(super) window: u16,
}

impl Frame {
    pub(super) fn tcp(from: Peer, to: Peer, flags: u8) -> Self {
        Self {
            from,
            to,
            protocol: TCP,
            flags,
            hops: 64,
            options: Vec::new(),
            payload: b"hello".to_vec(),
            extensions: Vec::new(),
            macs: [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9],
            summed: true,
            numbers: [1, 2],
            window: 0xffff,
        }
    }

    pub(super) fn udp(from: Peer, to: Peer) -> Self {
        Self {
            protocol: UDP,
            ..Self::tcp(from, to, 0)
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.from.1.to_be_bytes());
        out.extend(self.to.1.to_be_bytes());
        let sum_at = if self.protocol == TCP {
            out.extend(self.numbers.map(u32::to_be_bytes).concat());
            out.push(u8::try_from((20 + self.options.len()) / 4).expect("short") << 4);
            out.push(self.flags);
            out.extend(self.window.to_be_bytes());
            out.extend([0, 0, 0, 0]);
            out.extend(&self.options);
            16
        } else {
            out.extend(u16::try_from(8 + self.payload.len()).expect("short").to_be_bytes());
            out.extend([0, 0]);
            6
        };
        out.extend(&self.payload);
        if self.summed {
            let mut sum = checksum(&[pseudo(&self.from.0, &self.to.0, self.protocol, out.len()), out.clone()].concat());
            if self.protocol == UDP && sum == 0 {
                sum = 0xffff;
            }
            out[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        out
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let body = self.transport();
        let mut out = self.macs.to_vec();
        match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                out.extend([8, 0]);
                let mut header = vec![0x45, 0];
                header.extend(u16::try_from(20 + body.len()).expect("short").to_be_bytes());
                header.extend([0, 0, 0x40, 0, self.hops, self.protocol, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                out.extend(header);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let rest = body.len() + 8 * self.extensions.len();
                out.extend(u16::try_from(rest).expect("short").to_be_bytes());
                let mut kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
                kinds.push(self.protocol);
                out.extend([kinds[0], self.hops]);
                out.extend(from.octets());
                out.extend(to.octets());
                for ((_, bytes), next) in self.extensions.iter().zip(&kinds[1..]) {
                    out.push(*next);
                    out.extend(&bytes[1..]);
                }
            }
            _ => panic!("one family"),
        }
        out.extend(body);
        out
    }
}

fn pseudo(from: &IpAddr, to: &IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for addr in [from, to] {
        match addr {
            IpAddr::V4(addr) => out.extend(addr.octets()),
            IpAddr::V6(addr) => out.extend(addr.octets()),
        }
    }
    out.extend(u32::try_from(len).expect("short").to_be_bytes());
    out.extend([0, 0, 0, protocol]);
    out
}
