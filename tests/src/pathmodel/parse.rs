//! What a frame holds, read in one go.

use lb_common::{Be16, Ip, Reason};

use super::errors::{Quote, ports};

pub(super) const ETHERNET: usize = 14;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// Extension headers that are walked, in number and in bytes.
const EXTENSIONS: usize = 6;
const EXTENSION_BYTES: usize = 512;

/// An IP header whose packet lies inside the frame whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) family: u8,
    /// Where it begins.
    pub(super) at: usize,
    /// Where what it carries begins.
    pub(super) body: usize,
    /// Where the packet ends.
    pub(super) end: usize,
    pub(super) protocol: u8,
    pub(super) from: Ip,
    pub(super) to: Ip,
    pub(super) hops: u8,
    pub(super) part: Part,
}

/// Whether a packet is all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is.
    Whole,
    /// The part with the ports, and the number of the packet.
    First(u32),
    /// Any other, with the number where it stands at its usual place.
    Later(Option<u32>),
}

/// A TCP or UDP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) network: Network,
    pub(super) source: Be16,
    pub(super) dest: Be16,
    /// Of TCP; none for UDP.
    pub(super) flags: u8,
}

/// Why there is no TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPacket {
    Truncated,
    Protocol,
}

/// Two bytes at an offset.
pub(super) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

fn address4(frame: &[u8], at: usize) -> Option<Ip> {
    let bytes: [u8; 4] = frame.get(at..at + 4)?.try_into().ok()?;
    Some(Ip::from(std::net::Ipv4Addr::from(bytes)))
}

fn address6(frame: &[u8], at: usize) -> Option<Ip> {
    let bytes: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
    Some(Ip::from(std::net::IpAddr::V6(std::net::Ipv6Addr::from(bytes))))
}

/// The IPv4 packet at an offset.
pub(super) fn ipv4(frame: &[u8], at: usize) -> Option<Network> {
    frame.get(at..at + 20)?;
    let words = usize::from(frame[at] & 15);
    let total = usize::from(word(frame, at + 2)?);
    let sound = frame[at] >> 4 == 4 && words >= 5 && total >= words * 4 && at + total <= frame.len();
    sound.then_some(Network {
        family: 4,
        at,
        body: at + words * 4,
        end: at + total,
        protocol: frame[at + 9],
        from: address4(frame, at + 12)?,
        to: address4(frame, at + 16)?,
        hops: frame[at + 8],
        part: {
            let (id, place) = (word(frame, at + 4)?.into(), word(frame, at + 6)?);
            // The reserved bit and "don't fragment" say nothing, the next says that more follows.
            match (place & 0x1fff, place & 0x2000) {
                (0, 0) => Part::Whole,
                (0, _) => Part::First(id),
                _ => Part::Later(Some(id)),
            }
        },
    })
}

/// The IPv6 packet at an offset; extension headers are behind us.
pub(super) fn ipv6(frame: &[u8], at: usize) -> Result<Network, Reason> {
    let header = frame.get(at..at + 40).ok_or(Reason::Truncated)?;
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut network = Network {
        family: 6,
        at,
        body: at + 40,
        end: at + 40 + payload,
        protocol: header[6],
        from: address6(frame, at + 8).ok_or(Reason::Truncated)?,
        to: address6(frame, at + 24).ok_or(Reason::Truncated)?,
        hops: header[7],
        part: Part::Whole,
    };
    if header[0] >> 4 != 6 || network.end > frame.len() {
        return Err(Reason::Truncated);
    }
    let (start, mut seen) = (network.body, 0);
    while [0, 43, 44, 51, 60].contains(&network.protocol) {
        if seen == EXTENSIONS {
            return Err(Reason::TooDeep);
        }
        let extension = frame.get(network.body..network.body + 8).ok_or(Reason::Truncated)?;
        if network.protocol == 44 {
            let id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
            let place = u16::from_be_bytes([extension[2], extension[3]]) & !7;
            // One that is not the very first header is not understood.
            network.part = match (seen, place) {
                // One in another makes no sense.
                (0, 0) if extension[0] != 44 => Part::First(id),
                (0, _) => Part::Later(Some(id)),
                _ => Part::Later(None),
            };
            if seen == 0 && place == 0 {
                network.protocol = extension[0];
                network.body += 8;
            }
            break;
        }
        // A routing header with hops still to visit: this is not the last destination.
        if network.protocol == 43 && extension[3] != 0 {
            return Err(Reason::TooDeep);
        }
        network.body += match network.protocol {
            51 => usize::from(extension[1]) * 4 + 8,
            _ => usize::from(extension[1]) * 8 + 8,
        };
        if network.body - start > EXTENSION_BYTES {
            return Err(Reason::TooDeep);
        }
        network.protocol = extension[0];
        seen += 1;
    }
    if network.body > network.end {
        return Err(Reason::Truncated);
    }
    Ok(network)
}

/// The IPv4 packet that an error quotes at an offset.
pub(super) fn quoted4(frame: &[u8], at: usize) -> Option<Quote> {
    let header = frame.get(at..at + 20)?;
    let words = usize::from(header[0] & 15);
    let place = word(frame, at + 6)? & 0x1fff;
    if header[0] >> 4 != 4 || words < 5 || place != 0 {
        return None;
    }
    let body = at + words * 4;
    let (source, dest) = ports(frame, body)?;
    Some(Quote {
        at,
        ports: body,
        protocol: header[9],
        from: (address4(frame, at + 12)?, source),
        to: (address4(frame, at + 16)?, dest),
    })
}

/// The same of IPv6, without extension headers.
pub(super) fn quoted6(frame: &[u8], at: usize) -> Option<Quote> {
    let header = frame.get(at..at + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (source, dest) = ports(frame, at + 40)?;
    Some(Quote {
        at,
        ports: at + 40,
        protocol: header[6],
        from: (address6(frame, at + 8)?, source),
        to: (address6(frame, at + 24)?, dest),
    })
}

impl Network {
    /// Bytes from the IP header on.
    pub(super) fn len(&self) -> usize {
        self.end - self.at
    }

    /// The ports and flags behind the header.
    pub(super) fn packet(self, frame: &[u8]) -> Result<Packet, NoPacket> {
        let least = match self.protocol {
            TCP => 20,
            UDP => 8,
            _ => return Err(NoPacket::Protocol),
        };
        if self.body + least > self.end {
            return Err(NoPacket::Truncated);
        }
        let port = |at| word(frame, at).map(Be16::new).ok_or(NoPacket::Truncated);
        Ok(Packet {
            network: self,
            source: port(self.body)?,
            dest: port(self.body + 2)?,
            flags: if self.protocol == TCP { frame[self.body + 13] } else { 0 },
        })
    }
}

impl Packet {
    pub(super) fn is_tcp(&self) -> bool {
        self.network.protocol == TCP
    }

    /// A packet that opens a connection.
    pub(super) fn is_syn(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }
}
