//! Frames built and read by hand, so that the tests share no arithmetic with the code under test.

use std::net::Ipv4Addr;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// A TCP packet over IPv4 to build.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) src: (Ipv4Addr, u16),
    pub(crate) dst: (Ipv4Addr, u16),
    pub(crate) flags: u8,
    pub(crate) ip_options: Vec<u8>,
    pub(crate) tcp_options: Vec<u8>,
    pub(crate) fragment: u16,
    pub(crate) payload: Vec<u8>,
}

impl Spec {
    pub(crate) fn new(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16), flags: u8) -> Self {
        Self {
            src,
            dst,
            flags,
            ip_options: Vec::new(),
            tcp_options: Vec::new(),
            fragment: 0x4000,
            payload: b"hello".to_vec(),
        }
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.src.1.to_be_bytes());
        tcp.extend(self.dst.1.to_be_bytes());
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        tcp.push(u8::try_from((20 + self.tcp_options.len()) / 4).expect("short") << 4);
        tcp.push(self.flags);
        tcp.extend([0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(&self.tcp_options);
        tcp.extend(&self.payload);
        let sum = transport_sum(self.src.0, self.dst.0, TCP, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        ethernet(&ipv4(
            self.src.0,
            self.dst.0,
            TCP,
            self.fragment,
            &self.ip_options,
            &tcp,
        ))
    }
}

pub(crate) fn ethernet(packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0];
    frame.extend(packet);
    frame
}

pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut out = vec![0x40 | u8::try_from(header_len / 4).expect("short"), 0];
    out.extend(u16::try_from(header_len + body.len()).expect("short").to_be_bytes());
    out.extend([0, 0]);
    out.extend(fragment.to_be_bytes());
    out.extend([64, protocol, 0, 0]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(options);
    let sum = checksum(&out);
    out[10..12].copy_from_slice(&sum.to_be_bytes());
    out.extend(body);
    out
}

/// The internet checksum of RFC 1071, the slow way.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

pub(crate) fn transport_sum(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, segment: &[u8]) -> u16 {
    let mut all = Vec::new();
    all.extend(src.octets());
    all.extend(dst.octets());
    all.extend([0, protocol]);
    all.extend(u16::try_from(segment.len()).expect("short").to_be_bytes());
    all.extend(segment);
    checksum(&all)
}

/// Fails unless the IPv4 packet at `offset` has right IP and TCP checksums.
pub(crate) fn assert_sums(frame: &[u8], offset: usize) {
    let ip = &frame[offset..];
    let header_len = usize::from(ip[0] & 15) * 4;
    assert_eq!(checksum(&ip[..header_len]), 0, "IPv4 header checksum");
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let segment = &ip[header_len..total];
    assert_eq!(
        transport_sum(addr(ip, 12), addr(ip, 16), ip[9], segment),
        0,
        "TCP checksum"
    );
}

pub(crate) fn addr(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3])
}

pub(crate) fn port(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
