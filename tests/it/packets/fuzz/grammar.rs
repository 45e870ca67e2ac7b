//! Packets that make sense, and what chance makes of them.

use lb_common::{Be16, Endpoint, Ip, TUNNEL_PORT, TUNNEL_VERSION, Tag};
use std::net::IpAddr;
use tests::pathmodel::{Model, Tables};

use super::chance::Chance;
use super::world::{TCP, UDP};
use crate::packets::lab::{OWN, PEER, STRANGER};

mod errors;

/// Which program gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::packets) enum Way {
    /// From the fabric.
    In,
    /// To the fabric.
    Out,
}

/// Few, so that packets belong to flows: clients and their ports.
pub(super) const CLIENTS: u8 = 5;
const PORTS: u16 = 6;
/// As they are met, and one of each kind that nobody sends.
const FLAGS: &[u8] = &[2, 2, 2, 16, 16, 24, 17, 1, 4, 20, 18, 3, 0, 6, 0xc2, 0xff];

/// One end of a packet.
#[derive(Clone, Copy, Debug)]
struct End(Ip, u16);

/// A packet as it is, or damaged.
pub(super) fn frame(chance: &mut Chance, model: &Model) -> (Way, Vec<u8>) {
    let (way, mut frame) = sound(chance, model);
    match chance.up_to(10) {
        0 | 1 => {
            let len = 14 + chance.up_to(frame.len() - 13);
            frame.truncate(len);
        }
        2 | 3 => {
            for _ in 0..=chance.up_to(4) {
                let at = chance.up_to(frame.len());
                frame[at] ^= 1 << chance.up_to(8);
            }
        }
        4 => {
            let at = 12 + chance.up_to((frame.len() - 12).min(90));
            frame[at] = chance.byte();
        }
        5 if chance.percent(30) => frame.extend((0..chance.up_to(30)).map(|n| u8::try_from(n).expect("small"))),
        _ => {}
    }
    (way, frame)
}

/// A packet that somebody may send in earnest.
pub(super) fn sound(chance: &mut Chance, model: &Model) -> (Way, Vec<u8>) {
    match chance.up_to(12) {
        0..=5 => (Way::In, request(chance, model)),
        6 | 7 => (Way::In, tunnelled(chance, model)),
        8 | 9 => (Way::In, from_afar(chance, model)),
        _ => (Way::Out, answer(chance, model)),
    }
}

fn client(chance: &mut Chance, family: u8) -> End {
    let low = u8::try_from(chance.up_to(usize::from(CLIENTS))).expect("small");
    let addr: IpAddr = if family == 4 {
        [192, 168, 7, 50 + low].into()
    } else if low == 0 {
        // Looks like an IPv4 one in an IPv6 packet.
        [0_u16, 0, 0, 0, 0, 0xffff, 0xc0a8, 0x0732].into()
    } else {
        [0xfd01_u16, 0xe, 0, 0, 0, 0, 0, u16::from(low)].into()
    };
    End(
        Ip::from(addr),
        40_000 + u16::try_from(chance.up_to(usize::from(PORTS))).expect("small"),
    )
}

fn any_vip(chance: &mut Chance, tables: &Tables) -> (u8, Endpoint) {
    let all: Vec<(u8, Endpoint)> = tables.vips.keys().copied().collect();
    let (family, mut endpoint) = chance.pick(&all);
    if chance.percent(4) {
        endpoint.port = Be16::new(81);
    }
    if chance.percent(2) {
        endpoint.addr = Ip::from(if family == 4 {
            IpAddr::from(OWN)
        } else {
            IpAddr::from([0xfd01_u16, 0xd, 0, 0, 0, 0, 0, 1])
        });
    }
    (family, endpoint)
}

/// From a client to a VIP.
fn request(chance: &mut Chance, model: &Model) -> Vec<u8> {
    let tables = &model.tables;
    if let Some(frame) = with_cookie(chance, model) {
        return frame;
    }
    if chance.percent(10) {
        return errors::error(chance, model);
    }
    let (family, vip) = any_vip(chance, tables);
    let from = client(chance, family);
    let to = End(vip.addr, vip.port.get());
    let protocol = if chance.percent(96) {
        vip.protocol
    } else {
        chance.pick(&[1, 17, 6, 58, 132, 44, 0])
    };
    let mut body = transport(chance, protocol, from.1, to.1, false);
    if protocol == UDP && chance.percent(10) {
        let sum = sum_that_becomes_zero(chance, tables, vip);
        body[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    out.extend(network(chance, family, (from.0, to.0), protocol, &body));
    out
}

/// Now and then what answers a cookie, or nearly so.
fn with_cookie(chance: &mut Chance, model: &Model) -> Option<Vec<u8>> {
    let sent = &model.cookies.sent;
    if sent.is_empty() || !chance.percent(25) {
        return None;
    }
    let (key, _, sequence, cookie) = *sent.iter().nth(chance.up_to(sent.len()))?;
    let vip = model.tables.endpoints.get(&u32::from(key.vip))?;
    let mut body = transport(chance, TCP, key.port.get(), vip.port.get(), false);
    // Those next to a cookie are cookies too, for other segment sizes.
    let wrong = u32::from(chance.percent(15)) << 20;
    body[4..8].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    body[8..12].copy_from_slice(&cookie.wrapping_add(1 + wrong).to_be_bytes());
    if chance.percent(85) {
        body[13] = 16;
    }
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
    out.extend(network(chance, key.family, (key.client, vip.addr), TCP, &body));
    Some(out)
}

/// A checksum whose value is zero once the packet is rewritten for some backend of its kind.
fn sum_that_becomes_zero(chance: &mut Chance, tables: &Tables, vip: Endpoint) -> u16 {
    let backend = tables.backends[1 + chance.up_to(tables.backends.len() - 1)];
    let words = |addr: Ip, port: Be16| {
        let halves = addr
            .0
            .into_iter()
            .flat_map(|word| [word.get() >> 16, word.get() & 0xffff]);
        halves.chain([u32::from(port.get())]).collect::<Vec<u32>>()
    };
    let (old, new) = (words(vip.addr, vip.port), words(backend.addr, backend.port));
    let mut sum: u32 = old.into_iter().zip(new).map(|(old, new)| (old ^ 0xffff) + new).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// From a backend to a client; mostly of a flow that there is.
fn answer(chance: &mut Chance, model: &Model) -> Vec<u8> {
    let tables = &model.tables;
    let mut backend = tables.backends[1 + chance.up_to(tables.backends.len() - 1)];
    let mut family = if backend.addr.as_v4().is_some() { 4 } else { 6 };
    let mut to = client(chance, family);
    let flows = if chance.percent(50) {
        &model.flows.flows
    } else {
        &model.flows.half
    };
    if chance.percent(80)
        && let Some((key, flow)) = flows.iter().nth(chance.up_to(flows.len()))
    {
        backend = tables.backends[usize::try_from(flow.backend).expect("an index")];
        family = key.family;
        to = End(key.client, key.port.get());
    }
    let from = End(backend.addr, backend.port.get());
    let body = transport(chance, backend.protocol, from.1, to.1, true);
    let mut out = vec![2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
    out.extend(network(chance, family, (from.0, to.0), backend.protocol, &body));
    out
}

/// From a backend on a node without the daemon, to a port of this node's; mostly of a flow that there is.
fn from_afar(chance: &mut Chance, model: &Model) -> Vec<u8> {
    let back = &model.nat.back;
    let Some(tuple) = back.keys().nth(chance.up_to(back.len())) else {
        return request(chance, model);
    };
    let odd = if chance.percent(5) { 1 } else { 0 };
    let (from, to) = (tuple.source.1.get(), tuple.dest.1.get() ^ odd);
    let body = transport(chance, tuple.protocol, from, to, true);
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7];
    out.extend(network(
        chance,
        tuple.family,
        (tuple.source.0, tuple.dest.0),
        tuple.protocol,
        &body,
    ));
    out
}

/// From a peer's XDP, mostly.
fn tunnelled(chance: &mut Chance, model: &Model) -> Vec<u8> {
    let tables = &model.tables;
    let mut inner = request(chance, model);
    let tag = |chance: &mut Chance| {
        let backend = tables.backends[1 + chance.up_to(tables.backends.len() - 1)];
        Tag::new(&backend.addr, backend.port, backend.protocol).to_mac()
    };
    // One of the VIP's own family and protocol, if luck will have it.
    let wanted = (0..6)
        .map(|_| tag(chance))
        .find(|mac| fits(tables, *mac, &inner))
        .unwrap_or_else(|| tag(chance));
    let alternate = match chance.up_to(4) {
        0 => wanted,
        1 => [0; 6],
        _ => (0..6)
            .map(|_| tag(chance))
            .find(|mac| fits(tables, *mac, &inner))
            .unwrap_or_else(|| tag(chance)),
    };
    inner[..6].copy_from_slice(&alternate);
    inner[6..12].copy_from_slice(&wanted);
    let mut body = 50_000_u16.to_be_bytes().to_vec();
    body.extend(TUNNEL_PORT.to_be_bytes());
    body.extend(u16::try_from(16 + inner.len()).expect("short").to_be_bytes());
    body.extend([0, 0, 8, 0, 0, 0, 0xff, 0xff, 0xfe]);
    body.push(if chance.percent(97) {
        TUNNEL_VERSION
    } else {
        chance.byte()
    });
    body.extend(inner);
    let source = if chance.percent(96) { PEER } else { STRANGER };
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    out.extend(u16::try_from(20 + body.len()).expect("short").to_be_bytes());
    out.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    out.extend(source.octets());
    out.extend(OWN.octets());
    out.extend(body);
    out
}

/// Whether a name is a backend's of the inner packet's kind.
fn fits(tables: &Tables, mac: [u8; 6], inner: &[u8]) -> bool {
    let (family, protocol) = if inner[12] == 8 { (4, inner[23]) } else { (6, inner[20]) };
    tables.tags.contains_key(&Tag::from_mac(mac, protocol, family))
}

/// Ethertype, IP header and body.
fn network(chance: &mut Chance, family: u8, (from, to): (Ip, Ip), protocol: u8, body: &[u8]) -> Vec<u8> {
    let hops = chance.pick(&[64, 64, 64, 64, 2, 1, 0]);
    let words = |addr: Ip| {
        addr.0
            .into_iter()
            .flat_map(|word| word.get().to_be_bytes())
            .collect::<Vec<u8>>()
    };
    if family == 4 {
        let options = if chance.percent(85) { 0 } else { 1 + chance.up_to(10) };
        let mut out = vec![8, 0, 0x45 + u8::try_from(options).expect("small"), 0];
        out.extend(
            u16::try_from(20 + options * 4 + body.len())
                .expect("short")
                .to_be_bytes(),
        );
        let fragment: u16 = if chance.percent(88) {
            0x4000
        } else {
            chance.pick(&[0x2000, 0x2000, 0x2001, 0x00b9, 0x8000, 0])
        };
        // Few numbers, so that later parts meet their first ones.
        out.extend([0, chance.byte() % 2]);
        out.extend(fragment.to_be_bytes());
        out.extend([hops, protocol, chance.byte(), chance.byte()]);
        out.extend(&words(from)[12..]);
        out.extend(&words(to)[12..]);
        out.extend(vec![1; options * 4]);
        out.extend(body);
        return out;
    }
    let (mut next, mut extensions) = (protocol, Vec::new());
    if chance.percent(10) {
        // As everybody sends parts: that header and no other.
        let place = chance.pick(&[1, 1, 0, 9, 0xb8]);
        extensions = vec![protocol, 0, 0, place, 0, 0, 0, chance.byte() % 2];
        next = 44;
    } else if chance.percent(15) {
        for _ in 0..=chance.up_to(7) {
            let kind = chance.pick(&[0, 60, 60, 43, 51, 44, 50]);
            let units = if chance.percent(90) {
                chance.up_to(3)
            } else {
                chance.up_to(40)
            };
            let len = if kind == 51 { units * 4 + 8 } else { units * 8 + 8 };
            let mut header = vec![0; len];
            header[0] = next;
            header[1] = u8::try_from(units).expect("small");
            header[3] = u8::from(chance.percent(5));
            header.extend(extensions);
            (next, extensions) = (kind, header);
        }
    }
    let mut out = vec![0x86, 0xdd, 0x60, 0, 0, 0];
    out.extend(
        u16::try_from(extensions.len() + body.len())
            .expect("short")
            .to_be_bytes(),
    );
    out.extend([next, hops]);
    out.extend(words(from));
    out.extend(words(to));
    out.extend(extensions);
    out.extend(body);
    out
}

/// A TCP or UDP packet; anything else is bytes. Sums are often right by no account: what counts is how they change.
fn transport(chance: &mut Chance, protocol: u8, from: u16, to: u16, answer: bool) -> Vec<u8> {
    let sum = match chance.up_to(8) {
        0 => [0, 0],
        1 => [0xff, 0xff],
        _ => [chance.byte(), chance.byte()],
    };
    let payload = match chance.up_to(30) {
        0 => 1380 + chance.up_to(120),
        _ => chance.up_to(40),
    };
    let mut out = Vec::new();
    out.extend(from.to_be_bytes());
    out.extend(to.to_be_bytes());
    if protocol == TCP {
        let flags = if answer && chance.percent(40) {
            18
        } else {
            chance.pick(FLAGS)
        };
        let options = options(chance);
        let words = u8::try_from(5 + options.len() / 4).expect("small");
        out.extend([
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            2,
            words << 4,
            flags,
            0xff,
            0xff,
            sum[0],
            sum[1],
            0,
            0,
        ]);
        out.extend(options);
    } else {
        out.extend(u16::try_from(8 + payload).expect("short").to_be_bytes());
        out.extend(sum);
    }
    out.extend((0..payload).map(|_| chance.byte()));
    out
}

/// TCP options in whole words: a segment size at some place, padding, others, nonsense.
fn options(chance: &mut Chance) -> Vec<u8> {
    let mut out = Vec::new();
    if chance.percent(50) {
        for _ in 0..chance.up_to(5) {
            match chance.up_to(6) {
                0 | 1 => out.push(1),
                2 => out.extend([3, 3, 7]),
                3 => out.extend([2, 4, chance.byte() & 7, chance.byte()]),
                4 => out.extend([8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
                _ => out.extend([chance.byte(), chance.byte() & 7]),
            }
        }
        if chance.percent(60) {
            out.extend([2, 4, 5, 0xb4]);
        }
        out.truncate(40);
        while out.len() % 4 != 0 {
            out.push(0);
        }
    }
    out
}
