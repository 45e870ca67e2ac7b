//! Layout 1, of November 2026: one map of VIPs, flows under keys of 40 bytes with an entry for each direction; TCP over IPv4.
//! Its entries are read as bytes, at the offsets they had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use lb_common::{FlowState, SlotPair};
use model::{Protocol, VipAddress};

use super::{Held, OldFlow, open};
use crate::observe::protocol;
use crate::{BackendKey, DesiredVip, Member};

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
/// `ORIGINALS`, by socket cookie: the VIP's address (16 bytes), port, zero.
type Original = [u8; 20];
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

/// Everything that today's layout has a place for. Counters begin anew.
pub(super) fn read(folder: &Path) -> Result<Held, MapError> {
    let node: Array<MapData, Node> = open(&folder.join("NODE"), Map::Array)?;
    let own = v4(addr(&node.get(&0, 0)?, 0)).filter(|own| !own.is_unspecified());
    let peers: HashMap<MapData, [u8; 16], u32> = open(&folder.join("PEERS"), Map::HashMap)?;
    let peers = peers
        .keys()
        .filter_map(|key| key.map(|key| v4(addr(&key, 0))).transpose());
    let peers = peers.collect::<Result<_, _>>()?;
    let backends = backends(folder)?;
    let vips = vips(folder, &backends)?;
    let mut flows = flows(folder, &backends)?;
    flows.extend(reverse(folder, &backends)?);
    Ok(Held {
        own,
        peers,
        vips,
        flows,
        sockets: sockets(folder)?,
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
fn backends(folder: &Path) -> Result<BTreeMap<u32, Known>, MapError> {
    let entries: Array<MapData, Backend> = open(&folder.join("BACKENDS"), Map::Array)?;
    let mut known = BTreeMap::new();
    for index in 0..entries.len() {
        let entry = entries.get(&index, 0)?;
        let flags = entry[35];
        let (Some(protocol), Some(node)) = (protocol(entry[34]), v4(addr(&entry, 16))) else {
            continue;
        };
        if flags & LIVE == 0 {
            continue;
        }
        let key = BackendKey {
            addr: addr(&entry, 0),
            port: port(&entry, 32),
            protocol,
        };
        let member = Member {
            weight: u16::from(flags & OPEN != 0),
            node,
            local: flags & LOCAL != 0,
        };
        let generation = number(&entry, 36);
        known.insert(
            index,
            Known {
                key,
                member,
                generation,
            },
        );
    }
    Ok(known)
}

/// A VIP's backends are those its slots name.
fn vips(folder: &Path, backends: &BTreeMap<u32, Known>) -> Result<BTreeMap<VipAddress, DesiredVip>, MapError> {
    let entries: HashMap<MapData, Endpoint, [u64; 2]> = open(&folder.join("VIPS"), Map::HashMap)?;
    let slots: Array<MapData, SlotPair> = open(&folder.join("SLOTS"), Map::Array)?;
    let mut vips = BTreeMap::new();
    for entry in entries.iter() {
        let (key, [table, _]) = entry?;
        let Some(protocol) = protocol(key[18]) else { continue };
        let address = VipAddress {
            addr: addr(&key, 0),
            port: port(&key, 16),
            protocol,
        };
        let mut vip = DesiredVip::default();
        let (offset, len) = (
            u32::try_from(table >> 32).unwrap_or_default(),
            u32::try_from(table & 0xffff_ffff).unwrap_or_default(),
        );
        for slot in offset..offset.saturating_add(len) {
            let pair = slots.get(&(slot / 2), 0)?.0;
            let index = if slot % 2 == 0 { pair[0] } else { pair[1] };
            vip.members
                .extend(backends.get(&index).map(|known| (known.key, known.member)));
        }
        vips.insert(address, vip);
    }
    Ok(vips)
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

/// Flows as the way to the VIP knows them.
fn flows(folder: &Path, backends: &BTreeMap<u32, Known>) -> Result<Vec<OldFlow>, MapError> {
    let entries: HashMap<MapData, FlowKey, Flow> = open(&folder.join("FLOWS"), Map::LruHashMap)?;
    let mut flows = Vec::new();
    for entry in entries.iter() {
        let (key, [index, generation, state, _]) = entry?;
        let known = backends.get(&index).filter(|known| known.generation == generation);
        if let (Some((client, protocol, state)), Some(known)) = (flow(&key, state), known) {
            let vip = VipAddress {
                addr: addr(&key, 16),
                port: port(&key, 34),
                protocol,
            };
            flows.push(OldFlow {
                client,
                vip,
                backend: known.key,
                state,
            });
        }
    }
    Ok(flows)
}

/// Flows as the way back knows them: those of this node's backends, wherever they came in.
fn reverse(folder: &Path, backends: &BTreeMap<u32, Known>) -> Result<Vec<OldFlow>, MapError> {
    let entries: HashMap<MapData, FlowKey, Reverse> = open(&folder.join("REVERSE"), Map::LruHashMap)?;
    let local = backends.values().filter(|known| known.member.local);
    let local: BTreeSet<BackendKey> = local.map(|known| known.key).collect();
    let mut flows = Vec::new();
    for entry in entries.iter() {
        let (key, value) = entry?;
        let Some((client, protocol, state)) = flow(&key, number(&value, 20)) else {
            continue;
        };
        let backend = BackendKey {
            addr: addr(&key, 16),
            port: port(&key, 34),
            protocol,
        };
        let vip = VipAddress {
            addr: addr(&value, 0),
            port: port(&value, 16),
            protocol,
        };
        if local.contains(&backend) {
            flows.push(OldFlow {
                client,
                vip,
                backend,
                state,
            });
        }
    }
    Ok(flows)
}

fn sockets(folder: &Path) -> Result<BTreeMap<u64, VipAddress>, MapError> {
    let entries: HashMap<MapData, u64, Original> = open(&folder.join("ORIGINALS"), Map::LruHashMap)?;
    entries
        .iter()
        .map(|entry| {
            let (cookie, original) = entry?;
            let vip = VipAddress {
                addr: addr(&original, 0),
                port: port(&original, 16),
                protocol: Protocol::Tcp,
            };
            Ok((cookie, vip))
        })
        .collect()
}
