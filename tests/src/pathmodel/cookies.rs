//! SYN cookies. What they are made of is the kernel's secret: the model takes a cookie from the answer it is compared with, and
//! remembers it.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{Be16, ENCAP_LEN, Reason, VipEntry, backend_flags, flow_flags, largest_segment, node_flags};

use super::Model;
use super::flows::Key;
use super::parse::{ACK, ETHERNET, FIN, Packet, Part, RST, SYN, TCP};
use super::sums::whole;
use super::tables::Owner;
use super::write::octets;

/// Cookies, and who makes them.
#[derive(Clone, Debug, Default)]
pub struct Cookies {
    /// Backends whose listeners answer each SYN with a cookie, and their generations.
    pub listens: BTreeMap<u32, u32>,
    /// Where the next cookie is read: the frame that the program made.
    pub answer: Vec<u8>,
    /// Those sent: for whom, by which backend, for which number, and the cookie.
    pub sent: BTreeSet<(Key, u32, u32, u32)>,
    /// Whether the program took the packet's cookie. Those next to one that was sent are cookies too, for other segment sizes, as
    /// far as there are any: which ones is the kernel's secret as well.
    pub accepted: bool,
}

impl Cookies {
    fn takes(&self, cookie: &(Key, u32, u32, u32)) -> bool {
        let near = |sent: &(Key, u32, u32, u32)| {
            // The kernel adds the number that the cookie is for to what it makes, so only the difference tells.
            let made = |cookie: &(Key, u32, u32, u32)| cookie.3.wrapping_sub(cookie.2);
            let away = made(cookie).wrapping_sub(made(sent)).wrapping_add(3) & 0x00ff_ffff;
            (sent.0, sent.1) == (cookie.0, cookie.1) && away <= 6
        };
        self.sent.contains(cookie) || (self.accepted && self.sent.iter().any(near))
    }
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// By the uplink itself.
    Plain,
    /// Through the tunnel.
    Wrapped,
}

impl Model {
    /// What becomes of a packet of no known flow that a backend of this node would get, if cookies decide it. `frame` begins with
    /// the packet's own link header; `elsewhere`: another backend may have the flow.
    pub(super) fn asked(
        &mut self,
        frame: &mut Vec<u8>,
        packet: &Packet,
        key: &Key,
        owner: &Owner,
        came: Came,
        elsewhere: bool,
    ) -> Option<Reason> {
        let numbers = |at: usize| {
            let at = packet.network.body + at;
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let on = self.tables.node.flags & node_flags::SYN_COOKIES != 0;
        let listens = self.cookies.listens.get(&owner.index) == Some(&owner.entry.generation);
        let stranger = !self.flows.flows.contains_key(key) && !self.flows.half.contains_key(key);
        let alone = owner.is(backend_flags::LOCAL) && !owner.is(backend_flags::SHARED);
        let plain = packet.network.part == Part::Whole && packet.is_tcp() && packet.flags & RST == 0;
        if !(on && listens && stranger && alone && plain) {
            return None;
        }
        let (sequence, acknowledged) = (numbers(4), numbers(8));
        if packet.is_syn() {
            // The kernel makes none for what begins and ends at once.
            return (packet.flags & FIN == 0)
                .then(|| self.cookie(frame, packet, key, owner, came, sequence))
                .flatten();
        }
        if !self.cookies.sent.iter().any(|(sent, ..)| sent.vip == key.vip) {
            return None;
        }
        let cookie = (
            *key,
            owner.index,
            sequence.wrapping_sub(1),
            acknowledged.wrapping_sub(1),
        );
        if packet.flags & (SYN | ACK) == ACK && self.cookies.takes(&cookie) {
            let flags = if came == Came::Wrapped {
                flow_flags::TUNNELLED
            } else {
                0
            };
            self.adopted(packet, key, owner, flags);
            return None;
        }
        (!elsewhere).then_some(Reason::BadCookie)
    }

    /// The same for a packet in the tunnel.
    pub(super) fn asked_inside(
        &mut self,
        frame: &mut Vec<u8>,
        packet: &Packet,
        key: &Key,
        owner: &Owner,
        elsewhere: bool,
    ) -> Option<Reason> {
        if packet.is_syn() && owner.is(backend_flags::GONE) {
            return None;
        }
        let mut inner = frame[ENCAP_LEN..].to_vec();
        let reason = self.asked(&mut inner, packet, key, owner, Came::Wrapped, elsewhere)?;
        *frame = inner;
        Some(reason)
    }

    /// Who would get a client's packet of no known flow, and whether another backend may have it.
    pub(super) fn would_get(&self, packet: &Packet, entry: &VipEntry) -> Option<(Owner, bool)> {
        let hash = Self::hash(packet, entry);
        let owner = self.tables.slot(entry.table, hash)?;
        if packet.is_syn() {
            return (!owner.is(backend_flags::GONE)).then_some((owner, false));
        }
        let before = self.tables.slot(entry.previous, hash);
        Some((owner, before.is_some_and(|before| before.index != owner.index)))
    }

    /// The listener's answer, from the VIP. `None` where no way back is known.
    fn cookie(
        &mut self,
        frame: &mut Vec<u8>,
        packet: &Packet,
        key: &Key,
        owner: &Owner,
        came: Came,
        sequence: u32,
    ) -> Option<Reason> {
        let node = &self.tables.node;
        let (ifindex, link) = match came {
            Came::Plain => (self.tables.uplink, [&frame[6..12], &frame[..6]].concat()),
            Came::Wrapped => {
                let way = self.tables.way(packet.network.family, &packet.network.from, 0).ok()?;
                (way.ifindex, [way.to, way.from].concat())
            }
        };
        let redirect = ifindex != self.tables.uplink || node.flags & node_flags::REDIRECT != 0;
        let family = packet.network.family;
        let (headers, at): (u16, usize) = if family == 4 { (40, 34) } else { (60, 54) };
        let told = self.cookies.answer.get(at + 4..at + 8).unwrap_or(&[0; 4]);
        let cookie = u32::from_be_bytes([told[0], told[1], told[2], told[3]]);
        let most = largest_segment(node.underlay_mtu, headers);
        let out = answer(packet, cookie, sequence.wrapping_add(1), most);
        *frame = [&link[..], &frame[12..ETHERNET], &out].concat();
        self.cookies.sent.insert((*key, owner.index, sequence, cookie));
        Some(if redirect {
            Reason::CookieRedirected
        } else {
            Reason::SynCookie
        })
    }
}

/// The IP packet of an answer, ten segments its window.
fn answer(packet: &Packet, cookie: u32, acknowledged: u32, most: u16) -> Vec<u8> {
    let network = &packet.network;
    let (from, to) = (
        octets(network.family, &network.to),
        octets(network.family, &network.from),
    );
    let port = |port: Be16| port.get().to_be_bytes();
    let mut tcp = [port(packet.dest), port(packet.source)].concat();
    tcp.extend(cookie.to_be_bytes());
    tcp.extend(acknowledged.to_be_bytes());
    tcp.extend([0x60, SYN | ACK]);
    tcp.extend(u16::try_from(u32::from(most) * 10).unwrap_or(u16::MAX).to_be_bytes());
    tcp.extend([0, 0, 0, 0, 2, 4]);
    tcp.extend(most.to_be_bytes());
    let sum = whole(&[&from[..], &to, &[0, TCP, 0, 24], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let ip = if network.family == 4 {
        let mut ip = [&[0x45, 0, 0, 44, 0, 0, 0x40, 0, 64, TCP, 0, 0], &from[..], &to].concat();
        let sum = whole(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    } else {
        [&[0x60, 0, 0, 0, 0, 24, TCP, 64], &from[..], &to].concat()
    };
    [ip, tcp].concat()
}
