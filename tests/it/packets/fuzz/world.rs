//! Made-up tables: few VIPs, backends of every kind, small tables, so that each packet meets something.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lb_common::{
    BackendEntry, Be16, Be32, Endpoint, Ip, NodeConfig, Reason, TUNNEL_PORT, TableRange, Tag, VipEntry, backend_flags,
    node_flags, vip_flags,
};
use tests::pathmodel::{Cookies, Flows, Key, Model, Route, Tables};

use super::chance::Chance;
use super::grammar::CLIENTS;
use super::kernel::{FIRST_PORT, Kernel, LISTENERS};
use crate::packets::lab::{OWN, OWN6, PEER, PEER_MAC, STRANGER};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
/// A node that no route leads to: the namespace has none but its own link's.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const SLOTS: usize = 256;
/// More backends than any world has.
const BACKENDS: u8 = 50;

/// Reasons that the grammar must come upon; others need what is not set up here.
pub(super) const REACHED: &[Reason] = &[
    Reason::NotIp,
    Reason::Truncated,
    Reason::NotVip,
    Reason::UnknownVip,
    Reason::VipProtocol,
    Reason::LocalBackend,
    Reason::TunnelDelivered,
    Reason::TooDeep,
    Reason::TunnelSent,
    Reason::TunnelRedirected,
    Reason::LocalRedirected,
    Reason::TunnelDeliveredRedirected,
    Reason::SecondChance,
    Reason::SynCookie,
    Reason::CookieRedirected,
    Reason::ErrorDelivered,
    Reason::ErrorUnknown,
    Reason::Echo,
    Reason::NatSent,
    Reason::NatRestored,
    Reason::NatRestoredPass,
    Reason::NatRedirected,
    Reason::NoNatPort,
    Reason::NoNatAddress,
    Reason::BadCookie,
    Reason::TooBigReplied,
    Reason::ResetReplied,
    Reason::ReplyRedirected,
    Reason::Fragment,
    Reason::NoBackend,
    Reason::NoNeighbour,
    Reason::NoRoute,
    Reason::TooBig,
    Reason::TunnelNotPeer,
    Reason::TunnelMalformed,
    Reason::TunnelNotVip,
    Reason::TunnelNotLocal,
    Reason::BackendGone,
    Reason::TupleConflict,
    Reason::Restored,
    Reason::NotBalanced,
];

/// (family, protocol, number of VIPs).
const GROUPS: [(u8, u8, usize); 4] = [(4, TCP, 3), (4, UDP, 2), (6, TCP, 2), (6, UDP, 2)];

fn ip(addr: impl Into<IpAddr>) -> Ip {
    Ip::from(addr.into())
}

fn vip_address(family: u8, number: u8) -> Ip {
    if family == 4 {
        ip(Ipv4Addr::new(198, 18, 0, number))
    } else {
        ip(Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, u16::from(number)))
    }
}

/// Clients and backends that there is a way to, and the link addresses of those that are known.
fn near() -> Vec<(IpAddr, Option<[u8; 6]>)> {
    let mut near = Vec::new();
    for low in 0..=BACKENDS {
        let known = |kind: u8, when: bool| when.then_some([2, 0, 0, 0, kind, low]);
        let often = low % 4 != 0;
        near.push((IpAddr::from([10, 1, 0, low]), known(4, often)));
        near.push((
            IpAddr::from([0xfd01, 0xd, 0, 0, 0, 0, 0, u16::from(low)]),
            known(6, often),
        ));
        if low < CLIENTS {
            let odd = low % 2 == 1;
            near.push((IpAddr::from([192, 168, 7, 50 + low]), known(0x14, odd)));
            near.push((
                IpAddr::from([0xfd01, 0xe, 0, 0, 0, 0, 0, u16::from(low)]),
                known(0x16, odd),
            ));
        }
    }
    near
}

/// Tells the namespace of them.
pub(super) fn neighbours() {
    crate::packets::lab::six();
    for route in ["10.1.0.0/24", "fd01:d::/64", "fd01:e::/64"] {
        crate::packets::lab::ip(&format!("route add {route} dev up0"));
    }
    for (addr, mac) in near() {
        if let Some(mac) = mac {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            crate::packets::lab::ip(&format!("neigh replace {addr} lladdr {mac} dev up0 nud permanent"));
        }
    }
}

/// Tables and no flows.
pub(super) fn make(chance: &mut Chance, kernel: &Kernel) -> Model {
    let mut tables = Tables {
        node: node(chance),
        slots: vec![0; SLOTS],
        backends: vec![BackendEntry::default()],
        own6: if chance.percent(85) { ip(OWN6) } else { Ip::default() },
        uplink: kernel.uplink,
        link_mtu: 1500,
        ..Tables::default()
    };
    tables.peers.insert(ip(PEER));
    tables.routes.insert(
        ip(PEER),
        Route::Known {
            ifindex: kernel.uplink,
            to: PEER_MAC,
            from: kernel.mac,
        },
    );
    tables.routes.insert(ip(STRANGER), Route::NoNeighbour);
    for (addr, mac) in near() {
        let known = Route::Known {
            ifindex: kernel.uplink,
            to: mac.unwrap_or_default(),
            from: kernel.mac,
        };
        let route = mac.map_or(Route::NoNeighbour, |_| known);
        let routes = if addr.is_ipv4() {
            &mut tables.routes
        } else {
            &mut tables.routes6
        };
        routes.insert(ip(addr), route);
    }
    let (mut id, mut offset) = (1_u32, 0_u32);
    for (family, protocol, vips) in GROUPS {
        let ids: Vec<u32> = (id..).take(vips).collect();
        let both = [ids[0], ids[ids.len() - 1]];
        let shared = [
            backend(chance, &mut tables, family, protocol, &both),
            backend(chance, &mut tables, family, protocol, &both),
        ];
        for id in ids {
            let mut own = vec![shared[0], shared[1]];
            own.extend((0..3).map(|_| backend(chance, &mut tables, family, protocol, &[id])));
            let number = u8::try_from(id).expect("small");
            let endpoint = Endpoint::new(vip_address(family, number), Be16::new(80), protocol);
            let mut flags = if chance.percent(25) { vip_flags::AFFINITY } else { 0 };
            if chance.percent(30) {
                flags |= vip_flags::RESET;
            }
            add(chance, &mut tables, &mut offset, (family, endpoint), &own, (id, flags));
        }
        id += u32::try_from(vips).expect("small");
    }
    let listens = listens(chance, &tables);
    Model {
        tables,
        cookies: Cookies {
            listens,
            ..Cookies::default()
        },
        ..Model::default()
    }
}

/// Most backends that could be here listen, and may be asked for cookies.
fn listens(chance: &mut Chance, tables: &Tables) -> BTreeMap<u32, u32> {
    let ports = FIRST_PORT..FIRST_PORT + LISTENERS;
    let all = (0..).zip(&tables.backends);
    let able = all.filter(|(_, entry)| entry.protocol == TCP && ports.contains(&entry.port.get()));
    let chosen = able.filter(|_| chance.percent(75));
    chosen.map(|(index, entry)| (index, entry.generation)).collect()
}

fn node(chance: &mut Chance) -> NodeConfig {
    // Few, so that they are used up now and then, and no more than are tried.
    let ports = if chance.percent(85) {
        (61_000, 61_000 + chance.pick(&[0, 1, 3, 15]))
    } else {
        (0, 0)
    };
    NodeConfig {
        nat_first: Be16::new(ports.0),
        nat_last: Be16::new(ports.1),
        own: if chance.percent(97) { ip(OWN) } else { Ip::default() },
        vip_network: Be32::new(u32::from(Ipv4Addr::new(198, 18, 0, 0))),
        vip_mask: Be32::new(0xfffe_0000),
        vip6_network: [Be32::new(0xfd01_000c), Be32::new(0)],
        tunnel_port: Be16::new(TUNNEL_PORT),
        underlay_mtu: chance.pick(&[1500, 1500, 1500, 1300]),
        flags: if chance.percent(50) { node_flags::REDIRECT } else { 0 }
            | if chance.percent(50) { node_flags::SYN_COOKIES } else { 0 },
        ..NodeConfig::default()
    }
}

/// A backend of these VIPs; gives its index.
fn backend(chance: &mut Chance, tables: &mut Tables, family: u8, protocol: u8, vips: &[u32]) -> u32 {
    let index = u32::try_from(tables.backends.len()).expect("small");
    let low = u8::try_from(index).expect("few");
    let local = chance.percent(55);
    let mut flags = backend_flags::LIVE;
    for (flag, percent) in [
        (backend_flags::OPEN, 85),
        (backend_flags::LIVE, 5),
        (backend_flags::RESET, 30),
    ] {
        if chance.percent(percent) {
            flags ^= flag;
        }
    }
    if local {
        flags |= backend_flags::LOCAL;
        if chance.percent(10) {
            flags = flags & !backend_flags::OPEN | backend_flags::GONE;
        }
    } else if chance.percent(25) {
        flags |= backend_flags::BARE;
    }
    let ids: Vec<u16> = vips.iter().map(|id| u16::try_from(*id).expect("small")).collect();
    if ids.len() > 1 {
        flags |= backend_flags::SHARED;
        let mut list = [0; 8];
        list[..ids.len()].copy_from_slice(&ids);
        tables.backend_vips.insert(index, list);
    }
    let addr = if family == 4 {
        ip(Ipv4Addr::new(10, 1, 0, low))
    } else {
        ip(Ipv6Addr::new(0xfd01, 0xd, 0, 0, 0, 0, 0, u16::from(low)))
    };
    let past = local && chance.percent(40);
    let entry = BackendEntry {
        addr,
        node: ip(if local {
            OWN
        } else {
            chance.pick(&[PEER, PEER, PEER, PEER, STRANGER, NOWHERE])
        }),
        port: Be16::new(FIRST_PORT + u16::from(low)),
        protocol,
        flags,
        generation: u32::from(chance.byte() % 3),
        ifindex: if past { 7 } else { 0 },
        mac: [2, 1, 1, 1, 1, low],
        mtu: chance.pick(&[60, 100, 1450]),
        vip: ids[0],
        weight: 1,
        ..BackendEntry::default()
    };
    if chance.percent(95) {
        tables.tags.insert(Tag::new(&entry.addr, entry.port, protocol), index);
    }
    tables.backends.push(entry);
    index
}

/// A VIP with tables of these backends.
fn add(
    chance: &mut Chance,
    tables: &mut Tables,
    offset: &mut u32,
    place: (u8, Endpoint),
    own: &[u32],
    (id, flags): (u32, u32),
) {
    let mut fill = |chance: &mut Chance, len: usize| {
        let range = TableRange::new(*offset, u32::try_from(len).expect("small"));
        for _ in 0..len {
            // A slot may name nothing that lives, or nothing at all.
            let index = if chance.percent(98) { chance.pick(own) } else { 100_000 };
            tables.slots[usize::try_from(*offset).expect("small")] = index;
            *offset += 1;
        }
        range
    };
    let len = if chance.percent(95) { 1 + chance.up_to(8) } else { 0 };
    let table = fill(chance, len);
    let previous = if chance.percent(50) { 1 + chance.up_to(8) } else { 0 };
    let previous = fill(chance, previous);
    let entry = VipEntry {
        table,
        previous,
        fingerprint: 0,
        id,
        flags,
    };
    tables.vips.insert(place, entry);
    tables.endpoints.insert(id, place.1);
}

/// One of the flows, if there is one.
pub(super) fn some_flow(chance: &mut Chance, flows: &Flows) -> Option<Key> {
    let many = flows.flows.len();
    (many > 0).then(|| flows.flows.keys().nth(chance.up_to(many)).copied())?
}

/// One backend becomes another, closes, dies, comes back or moves; gives its index.
pub(super) fn change(chance: &mut Chance, tables: &mut Tables) -> usize {
    let index = 1 + chance.up_to(tables.backends.len() - 1);
    let entry = &mut tables.backends[index];
    match chance.up_to(5) {
        3 => entry.flags = (entry.flags ^ backend_flags::GONE) & !backend_flags::OPEN,
        0 => entry.generation += 1,
        1 => entry.flags ^= backend_flags::OPEN,
        2 => entry.flags ^= backend_flags::LIVE,
        _ => entry.flags ^= backend_flags::LOCAL,
    }
    index
}
