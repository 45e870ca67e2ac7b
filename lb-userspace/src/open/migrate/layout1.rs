//! Layout 1, of November 2026: one map of VIPs, flows under keys of 40 bytes with an entry for each direction; TCP over IPv4.
//! Its entries are read as bytes, at the offsets they had.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Pod;
use lb_common::{FlowState, SlotPair};
use model::{Protocol, VipAddress};

use super::{Held, OldFlow};
use crate::observe::protocol;
use crate::{BackendKey, DesiredVip, Member, raw};

/// `BACKENDS`: address, node (16 bytes each), port, protocol, flags, generation.
type Backend = [u8; 40];
/// Key of `VIPS`: address (16 bytes), port, protocol, zero.
type Endpoint = [u8; 20];
/// Key of `FLOWS` (the server is the VIP) and `REVERSE` (it is the backend): client, server (16 bytes each), their ports, protocol.
type FlowKey = [u8; 40];
/// `FLOWS`: backend, generation, state, zero.
type Flow = [u32; 4];
/// `REVERSE`: the VIP's address (16 bytes), port, zero, state.
type Reverse = [u8; 24];
/// `NODE`: own address (16 bytes), and more that the configuration tells anew.
type Node = [u8; 32];

const LIVE: u8 = 1;
const OPEN: u8 = 2;
const LOCAL: u8 = 4;

/// A backend and what else its entry told.
#[derive(Clone, Copy)]
struct Known {
    key: BackendKey,
    member: Member,
    generation: u32,
}

/// Everything that today's layout has a place for. Counters begin anew, and so does what local sockets asked for: nothing told which
/// of those sockets there still are.
pub(super) fn read(folder: &Path) -> io::Result<Held> {
    let mut held = Held::default();
    each(folder, "NODE", |_: &u32, node: &Node| {
        held.own = v4(addr(node, 0)).filter(|own| !own.is_unspecified());
    })?;
    each(folder, "PEERS", |peer: &[u8; 16], _: &u32| {
        held.peers.extend(v4(addr(peer, 0)))
    })?;
    let backends = backends(folder)?;
    held.vips = vips(folder, &backends)?;
    for (flow, member) in flows(folder, &backends)? {
        if let Some(vip) = held.vips.get_mut(&flow.vip) {
            // One that takes no more has no slot, but flows.
            vip.members
                .entry(flow.backend)
                .or_insert(Member { weight: 0, ..member });
            held.flows.push(flow);
        }
    }
    Ok(held)
}

/// Goes through a map, many elements a call.
fn each<K: Pod, V: Pod>(folder: &Path, map: &str, mut each: impl FnMut(&K, &V)) -> io::Result<()> {
    let map = raw::obj_get(&folder.join(map))?;
    raw::walk(map.as_fd(), 1, |key: &K, values: &[V]| {
        values.iter().for_each(|value| each(key, value))
    })
}

fn addr(bytes: &[u8], at: usize) -> IpAddr {
    let word = bytes.get(at..at + 16).and_then(|word| <[u8; 16]>::try_from(word).ok());
    Ipv6Addr::from(word.unwrap_or_default()).to_canonical()
}

fn v4(addr: IpAddr) -> Option<Ipv4Addr> {
    match addr {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

fn port(bytes: &[u8], at: usize) -> u16 {
    let word = bytes.get(at..at + 2).and_then(|word| <[u8; 2]>::try_from(word).ok());
    u16::from_be_bytes(word.unwrap_or_default())
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| <[u8; 4]>::try_from(word).ok());
    u32::from_ne_bytes(word.unwrap_or_default())
}

/// Those that live, by index.
fn backends(folder: &Path) -> io::Result<BTreeMap<u32, Known>> {
    let mut known = BTreeMap::new();
    each(folder, "BACKENDS", |index: &u32, entry: &Backend| {
        let flags = entry[35];
        if let (Some(protocol), Some(node)) = (protocol(entry[34]), v4(addr(entry, 16)))
            && flags & LIVE != 0
        {
            let key = BackendKey {
                addr: addr(entry, 0),
                port: port(entry, 32),
                protocol,
            };
            let member = Member {
                weight: u16::from(flags & OPEN != 0),
                node,
                local: flags & LOCAL != 0,
            };
            let generation = number(entry, 36);
            known.insert(
                *index,
                Known {
                    key,
                    member,
                    generation,
                },
            );
        }
    })?;
    Ok(known)
}

/// A VIP's backends are those its slots name.
fn vips(folder: &Path, backends: &BTreeMap<u32, Known>) -> io::Result<BTreeMap<VipAddress, DesiredVip>> {
    let mut slots: Vec<u32> = Vec::new();
    each(folder, "SLOTS", |_: &u32, pair: &SlotPair| slots.extend(pair.0))?;
    let mut vips = BTreeMap::new();
    each(folder, "VIPS", |key: &Endpoint, [table, _]: &[u64; 2]| {
        let Some(protocol) = protocol(key[18]) else { return };
        let [offset, len] = [table >> 32, table & 0xffff_ffff].map(|half| usize::try_from(half).unwrap_or_default());
        let owners = slots.iter().skip(offset).take(len);
        let members = owners.filter_map(|index| backends.get(index));
        let vip = DesiredVip {
            members: members.map(|known| (known.key, known.member)).collect(),
            ..DesiredVip::default()
        };
        vips.insert(at(key, 0, 16, protocol), vip);
    })?;
    Ok(vips)
}

fn at(bytes: &[u8], address: usize, number: usize, protocol: Protocol) -> VipAddress {
    VipAddress {
        addr: addr(bytes, address),
        port: port(bytes, number),
        protocol,
    }
}

fn state(number: u32) -> Option<FlowState> {
    match number {
        1 => Some(FlowState::Opening),
        2 => Some(FlowState::Established),
        3 => Some(FlowState::Closing),
        _ => None,
    }
}

/// What both directions' entries tell alike: client, protocol, how far it has come. `None`: of no kind that there was.
fn flow(key: &FlowKey, number: u32) -> Option<(SocketAddrV4, Protocol, FlowState)> {
    let client = SocketAddrV4::new(v4(addr(key, 0))?, port(key, 32));
    Some((client, protocol(key[36])?, state(number)?))
}

/// Flows as the way to the VIP knows them and, those of this node's backends, as the way back does; with the backend as it was.
fn flows(folder: &Path, backends: &BTreeMap<u32, Known>) -> io::Result<Vec<(OldFlow, Member)>> {
    let mut flows = Vec::new();
    each(
        folder,
        "FLOWS",
        |key: &FlowKey, [index, generation, state, _]: &Flow| {
            let known = backends.get(index).filter(|known| known.generation == *generation);
            if let (Some((client, protocol, state)), Some(known)) = (flow(key, *state), known) {
                let flow = OldFlow {
                    client,
                    vip: at(key, 16, 34, protocol),
                    backend: known.key,
                    state,
                };
                flows.push((flow, known.member));
            }
        },
    )?;
    let local = backends.values().filter(|known| known.member.local);
    let local: BTreeMap<BackendKey, Member> = local.map(|known| (known.key, known.member)).collect();
    each(folder, "REVERSE", |key: &FlowKey, value: &Reverse| {
        let Some((client, protocol, state)) = flow(key, number(value, 20)) else {
            return;
        };
        let backend = BackendKey {
            addr: addr(key, 16),
            port: port(key, 34),
            protocol,
        };
        if let Some(member) = local.get(&backend) {
            let flow = OldFlow {
                client,
                vip: at(value, 0, 16, protocol),
                backend,
                state,
            };
            flows.push((flow, *member));
        }
    })?;
    Ok(flows)
}
