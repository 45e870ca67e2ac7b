//! A frame that leaves by the uplink: answers get the VIP back as their source.

use lb_common::{Be16, FlowState, Ip, Reason, Tag, backend_flags, flow_flags, largest_segment};

use super::flows::{Key, PartKey, Store};
use super::parse::{ACK, ETHERNET, SYN, TCP, UDP, word};
use super::sums::Change;
use super::tables::Owner;
use super::write::{octets, patch};
use super::{Model, Outcome, parts};

/// TCP options looked at for the segment size.
const OPTIONS: usize = 6;

/// An answer, as far as it can be told from headers that fit the frame.
struct Answer {
    family: u8,
    body: usize,
    protocol: u8,
    from: Ip,
    to: Ip,
    source: Be16,
    dest: Be16,
    flags: u8,
    /// Of a first part: the packet's number.
    part: Option<u32>,
}

/// What leaves: something with ports, or a later part of it.
enum Leaving {
    Answer(Answer),
    Later(PartKey),
}

impl Model {
    /// Decides about one frame, and remembers.
    pub fn egress(&mut self, frame: &[u8]) -> Outcome {
        self.flows.touched.clear();
        let mut out = frame.to_vec();
        let reason = match leaving(frame) {
            Some(Leaving::Answer(answer)) => self.restored(&mut out, &answer),
            Some(Leaving::Later(key)) => self.later_restored(&mut out, &key),
            None => Reason::NotBalanced,
        };
        Outcome { reason, frame: out }
    }

    fn restored(&mut self, frame: &mut [u8], answer: &Answer) -> Reason {
        let tag = Tag::new(&answer.from, answer.source, answer.protocol);
        let named = self
            .tables
            .named(family_tag(tag, answer))
            .filter(|owner| owner.is(backend_flags::LOCAL));
        let found = named.and_then(|owner| Some((self.vip_of(answer, &owner)?, owner)));
        let Some((vip, owner)) = found else {
            return Reason::NotBalanced;
        };
        if let Some(id) = answer.part {
            let key = part_key(answer.family, answer.from, answer.to, id, answer.protocol);
            let first = parts::value(&owner, u16::try_from(vip).unwrap_or_default(), 0);
            self.flows.parts.insert(key, first);
        }
        let endpoint = self.tables.endpoints.get(&vip).copied().unwrap_or_default();
        source(frame, answer, &octets(answer.family, &endpoint.addr), endpoint.port);
        if answer.flags & (SYN | ACK) == SYN | ACK {
            let headers = if answer.family == 4 { 40 } else { 60 };
            clamp(
                frame,
                answer.body,
                largest_segment(self.tables.node.underlay_mtu, headers),
            );
        }
        Reason::Restored
    }

    /// A part without ports gets the source that the first one got.
    fn later_restored(&self, frame: &mut [u8], key: &PartKey) -> Reason {
        let Some(first) = self.flows.parts.get(key) else {
            return Reason::NotBalanced;
        };
        let endpoint = self
            .tables
            .endpoints
            .get(&first.vip.into())
            .copied()
            .unwrap_or_default();
        address(frame, key.family, &octets(key.family, &endpoint.addr));
        Reason::Restored
    }

    /// The VIP by which the client reaches the backend.
    fn vip_of(&mut self, answer: &Answer, owner: &Owner) -> Option<u32> {
        let ids = if owner.is(backend_flags::SHARED) {
            self.vips_of(owner.index)
        } else {
            vec![owner.entry.vip]
        };
        let key = |vip| Key {
            family: answer.family,
            client: answer.to,
            port: answer.dest,
            vip,
        };
        let theirs = |id: &u16| {
            let key = key(*id);
            [Store::Flows, Store::Half].into_iter().find_map(|store| {
                let flow = self.flows.get(store, &key).filter(|flow| flow.backend == owner.index)?;
                Some((*id, store, flow.state == FlowState::Closed as u8))
            })
        };
        let found: Vec<(u16, Store, bool)> = ids.iter().filter_map(theirs).collect();
        let live = found.iter().find(|(_, _, over)| !over).copied();
        if owner.is(backend_flags::SHARED) && live.is_none() {
            // All are over: the first one, and nothing is followed.
            return found.first().map(|(id, _, _)| u32::from(*id));
        }
        let (id, store, _) = live.or(found.first().copied())?;
        self.flows
            .follow(store, &key(id), answer.flags, flow_flags::FIN_BACKEND);
        Some(u32::from(id))
    }
}

/// An IPv6 packet names a backend by an IPv6 tag even if its address looks like a mapped one.
fn family_tag(tag: Tag, answer: &Answer) -> Tag {
    if answer.family == 6 {
        Tag::v6(&answer.from, answer.source, answer.protocol)
    } else {
        tag
    }
}

/// The protocol is no part of IPv6's.
fn part_key(family: u8, src: Ip, dst: Ip, id: u32, protocol: u8) -> PartKey {
    PartKey {
        family,
        src,
        dst,
        id,
        protocol: if family == 4 { protocol } else { 0 },
        answer: true,
    }
}

fn leaving(frame: &[u8]) -> Option<Leaving> {
    let (family, protocol, body, from, to, part) = match word(frame, 12)? {
        0x0800 => {
            let header = frame.get(ETHERNET..ETHERNET + 20)?;
            let words = usize::from(header[0] & 15);
            if header[0] >> 4 != 4 || words < 5 {
                return None;
            }
            let address = |at: usize| {
                let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
                Ip::from(std::net::Ipv4Addr::from(bytes))
            };
            let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
            let place = u16::from_be_bytes([header[6], header[7]]);
            if place & 0x1fff != 0 {
                let key = part_key(4, address(12), address(16), id, header[9]);
                return Some(Leaving::Later(key));
            }
            let part = (place & 0x2000 != 0).then_some(id);
            (4, header[9], ETHERNET + words * 4, address(12), address(16), part)
        }
        0x86dd => {
            let header = frame.get(ETHERNET..ETHERNET + 40)?;
            let address = |at: usize| {
                let bytes: [u8; 16] = header[at..at + 16].try_into().ok()?;
                Some(Ip::from(std::net::IpAddr::V6(bytes.into())))
            };
            let (from, to, behind) = (address(8)?, address(24)?, ETHERNET + 40);
            if header[6] == 44 {
                let fragment = frame.get(behind..behind + 8)?;
                let id = u32::from_be_bytes([fragment[4], fragment[5], fragment[6], fragment[7]]);
                if u16::from_be_bytes([fragment[2], fragment[3]]) & !7 != 0 {
                    return Some(Leaving::Later(part_key(6, from, to, id, 0)));
                }
                (6, fragment[0], behind + 8, from, to, Some(id))
            } else {
                (6, header[6], behind, from, to, None)
            }
        }
        _ => return None,
    };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    let transport = frame.get(body..body + least)?;
    Some(Leaving::Answer(Answer {
        family,
        body,
        protocol,
        from,
        to,
        source: Be16::new(u16::from_be_bytes([transport[0], transport[1]])),
        dest: Be16::new(u16::from_be_bytes([transport[2], transport[3]])),
        flags: if protocol == TCP { transport[13] } else { 0 },
        part,
    }))
}

/// A new source address alone; what that changes in the sum over both.
fn address(frame: &mut [u8], family: u8, new: &[u8]) -> Change {
    let at = ETHERNET + if family == 4 { 12 } else { 8 };
    let old = frame[at..at + new.len()].to_vec();
    frame[at..at + new.len()].copy_from_slice(new);
    let moved = Change::default().bytes(&old, new);
    if family == 4 {
        patch(frame, ETHERNET + 10, |sum| moved.apply(sum));
    }
    moved
}

/// A new source, and sums that stay as right or wrong as they were.
fn source(frame: &mut [u8], answer: &Answer, new: &[u8], port: Be16) {
    let moved = address(frame, answer.family, new);
    let ports = Change::default().bytes(&frame[answer.body..answer.body + 2], &port.get().to_be_bytes());
    frame[answer.body..answer.body + 2].copy_from_slice(&port.get().to_be_bytes());
    if answer.protocol == TCP {
        patch(frame, answer.body + 16, |sum| ports.apply(moved.apply(sum)));
    } else {
        patch(frame, answer.body + 6, |sum| ports.apply_udp(moved.apply_udp(sum)));
    }
}

/// A segment size that still fits once a node has wrapped the client's packets.
fn clamp(frame: &mut [u8], body: usize, most: u16) {
    let end = body + usize::from(frame[body + 12] >> 4) * 4;
    let mut at = body + 20;
    for _ in 0..OPTIONS {
        if at + 4 > end {
            return;
        }
        let Some(&[kind, len, high, low]) = frame.get(at..at + 4) else {
            return;
        };
        match (kind, len) {
            (0, _) => return,
            (1, _) => at += 1,
            (2, 4) => {
                let offered = u16::from_be_bytes([high, low]);
                if offered > most {
                    lower(frame, body, at, offered, most);
                }
                return;
            }
            (_, 0 | 1) => return,
            _ => at += usize::from(len),
        }
    }
}

fn lower(frame: &mut [u8], body: usize, at: usize, offered: u16, most: u16) {
    let (mut old, mut new) = (offered.to_be_bytes(), most.to_be_bytes());
    frame[at + 2..at + 4].copy_from_slice(&new);
    // Across two words of the sum each byte counts in the other place.
    if (at - body) % 2 == 1 {
        old.reverse();
        new.reverse();
    }
    let change = Change::default().bytes(&old, &new);
    patch(frame, body + 16, |sum| change.apply(sum));
}
