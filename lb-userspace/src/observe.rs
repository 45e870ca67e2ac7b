//! What the maps and hooks hold now; rebuilds the bookkeeping from it, so that a new daemon goes on where the old one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use aya::maps::MapError;
use lb_common::{BackendEntry, Endpoint, Ip, TableRange, VipEntry, backend_flags};
use model::{Cidr, Protocol, VipAddress};

use crate::lb::{Book, VipRecord};
use crate::slots::Indices;
use crate::{Actual, BackendKey, BackendState, Hop, Lb, clock, guard, hop, open};

/// The kernel side could not be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "could not read the pinned map {map}: {source}; if this stays, stop the node, remove its bpffs directory and start it again"
)]
pub struct ObserveError {
    map: &'static str,
    source: MapError,
}

/// Reads it.
pub fn observe(lb: &mut Lb) -> Result<Actual, ObserveError> {
    let entries = read_entries(lb)?;
    let mut book = Book::new(&lb.config);
    let mut names: BTreeMap<u16, VipAddress> = BTreeMap::new();
    for (address, entry) in &entries {
        if book.ids.claim(*address, entry.id) {
            names.extend(book.ids.get(address).map(|id| (id, *address)));
        }
    }
    let mut entries_of = BTreeMap::new();
    let (backends, live) = read_backends(lb, &mut book, &names, &mut entries_of)?;
    let (told_hops, hops) = hops(lb, &entries_of);
    let mut sources = read_sources(lb, &names)?;
    let mut vips = BTreeMap::new();
    for (address, entry) in entries {
        let whole = adopt_vip(lb, &mut book, &live, address, entry, sources.remove(&address));
        vips.insert(address, whole.then_some(entry.fingerprint));
    }
    let guards = std::mem::take(&mut lb.book.guards);
    lb.book = book;
    guard::adopt(lb, guards, &entries_of);
    let peers = lb.maps.peers.keys().map(|key| key.map_err(failed("PEERS")));
    let peers = peers.collect::<Result<Vec<_>, _>>()?;
    let node = lb.maps.node.get(&0, 0).map_err(failed("NODE"))?;
    let told_own6 = lb.told_own6().map_err(failed("OWN6"))?;
    Ok(Actual {
        own: v4(node.own),
        told_own6,
        own6: lb.find_own6(told_own6),
        told_mtu: node.underlay_mtu,
        mtu: lb.uplinks().mtu,
        vips,
        backends,
        told_hops,
        hops,
        peers: peers.into_iter().filter_map(v4).collect(),
        unattached: open::unattached(lb),
    })
}

type Hops = BTreeMap<BackendKey, Hop>;

/// Ways past the stack to backends of this node, as their entries tell and as the kernel does.
fn hops(lb: &Lb, entries: &BTreeMap<BackendKey, (u32, BackendEntry)>) -> (Hops, Hops) {
    let told = entries
        .iter()
        .filter_map(|(key, (_, entry))| Some((*key, hop::read(entry)?)));
    let mut asked = BTreeMap::new();
    let found = entries.keys().filter_map(|key| {
        let hop = asked.entry(key.addr).or_insert_with(|| lb.hop(true, key.addr));
        Some((*key, (*hop)?))
    });
    (told.collect(), found.collect())
}

fn failed(map: &'static str) -> impl Fn(MapError) -> ObserveError {
    move |source| ObserveError { map, source }
}

fn v4(ip: Ip) -> Option<Ipv4Addr> {
    match IpAddr::from(ip) {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

pub(crate) fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| protocol.number() == number)
}

/// Both tables of VIPs.
fn read_entries(lb: &Lb) -> Result<Vec<(VipAddress, VipEntry)>, ObserveError> {
    let four = lb.maps.vips4.iter().map(|entry| {
        let (key, entry) = entry.map_err(failed("VIPS4"))?;
        Ok((Endpoint::new(Ip::v4(key.addr), key.port, key.protocol), entry))
    });
    let six = lb.maps.vips6.iter().map(|entry| entry.map_err(failed("VIPS6")));
    let mut found = Vec::new();
    for entry in four.chain(six) {
        let (endpoint, entry) = entry?;
        found.extend(vip_address(&endpoint).map(|address| (address, entry)));
    }
    Ok(found)
}

pub(crate) fn vip_address(endpoint: &Endpoint) -> Option<VipAddress> {
    Some(VipAddress {
        addr: IpAddr::from(endpoint.addr),
        port: endpoint.port.get(),
        protocol: protocol(endpoint.protocol)?,
    })
}

type Backends = BTreeMap<BackendKey, BackendState>;

/// Backends by key, and by index whether it lives.
fn read_backends(
    lb: &Lb,
    book: &mut Book,
    names: &BTreeMap<u16, VipAddress>,
    entries: &mut BTreeMap<BackendKey, (u32, BackendEntry)>,
) -> Result<(Backends, Vec<bool>), ObserveError> {
    let mut found = BTreeMap::new();
    let mut used = BTreeMap::new();
    let mut live = Vec::new();
    for (index, entry) in (0..lb.config.backends).zip(lb.maps.backends.iter()) {
        let entry = entry.map_err(failed("BACKENDS"))?;
        // Indices are given out in order, so the first entry never used ends the walk.
        if entry.generation == 0 {
            break;
        }
        let known = known_backend(&entry);
        live.push(known.is_some());
        let Some((key, mut state)) = known else { continue };
        if (entry.flags & backend_flags::BARE != 0) != (!state.local && lb.config.is_bare(state.node)) {
            // Written anew, for this is nobody's state.
            state.node = Ipv4Addr::UNSPECIFIED;
        }
        if state.local {
            entries.insert(key, (index, entry));
        }
        if entry.flags & backend_flags::SHARED == 0 {
            state.vips.extend(names.get(&entry.vip).copied());
        } else {
            let ids = lb.maps.backend_vips.get(&index, 0).unwrap_or_default();
            state.vips.extend(ids.iter().filter_map(|id| names.get(id)).copied());
            state.vips.sort_unstable();
        }
        used.insert(key, index);
        found.insert(key, state);
    }
    let next = u32::try_from(live.len()).unwrap_or(u32::MAX);
    book.indices = Indices::from_used(lb.config.backends, next, used);
    Ok((found, live))
}

fn known_backend(entry: &BackendEntry) -> Option<(BackendKey, BackendState)> {
    if entry.flags & backend_flags::LIVE == 0 {
        return None;
    }
    let key = BackendKey {
        addr: IpAddr::from(entry.addr),
        port: entry.port.get(),
        protocol: protocol(entry.protocol)?,
    };
    let state = BackendState {
        node: v4(entry.node)?,
        local: entry.flags & backend_flags::LOCAL != 0,
        // What the kernel marked as gone is the daemon's to take out, when it hears of it.
        weight: if entry.flags & (backend_flags::OPEN | backend_flags::GONE) == 0 {
            0
        } else {
            entry.weight
        },
        reset: entry.flags & backend_flags::RESET != 0,
        vips: Vec::new(),
    };
    Some((key, state))
}

/// Allowed sources by VIP. Ranges of numbers that no VIP has are taken out.
fn read_sources(
    lb: &mut Lb,
    names: &BTreeMap<u16, VipAddress>,
) -> Result<BTreeMap<VipAddress, BTreeSet<Cidr>>, ObserveError> {
    let mut found: BTreeMap<VipAddress, BTreeSet<Cidr>> = BTreeMap::new();
    let four: Vec<_> = lb.maps.sources4.keys().collect();
    for key in four {
        let key = key.map_err(failed("SOURCES4"))?;
        let [id, addr] = key.data();
        let text = format!(
            "{}/{}",
            Ipv4Addr::from(u32::from_be(addr)),
            key.prefix_len().saturating_sub(32)
        );
        note_source(&mut found, names, id, &text);
    }
    let six: Vec<_> = lb.maps.sources6.keys().collect();
    for key in six {
        let key = key.map_err(failed("SOURCES6"))?;
        let [id, words @ ..] = key.data();
        let addr = IpAddr::from(Ip(words.map(lb_common::Be32::from_raw)));
        note_source(
            &mut found,
            names,
            id,
            &format!("{addr}/{}", key.prefix_len().saturating_sub(32)),
        );
    }
    Ok(found)
}

fn note_source(
    found: &mut BTreeMap<VipAddress, BTreeSet<Cidr>>,
    names: &BTreeMap<u16, VipAddress>,
    id: u32,
    text: &str,
) {
    let address = u16::try_from(id).ok().and_then(|id| names.get(&id));
    if let (Some(address), Ok(cidr)) = (address, text.parse()) {
        found.entry(*address).or_default().insert(cidr);
    }
}

/// Takes a VIP over into the book; false when its table is not as this daemon could have left it.
fn adopt_vip(
    lb: &Lb,
    book: &mut Book,
    live: &[bool],
    address: VipAddress,
    entry: VipEntry,
    sources: Option<BTreeSet<Cidr>>,
) -> bool {
    if book.ids.get(&address).is_none() {
        return false;
    }
    let claim = |book: &mut Book, range: TableRange| book.ranges.claim(range.offset(), range.len());
    if !slots_are_live(lb, entry.table, live) || !claim(book, entry.table) {
        return false;
    }
    let shared = !entry.previous.is_empty() && entry.previous != entry.table;
    if shared && !claim(book, entry.previous) {
        book.ranges.free(entry.table.offset());
        return false;
    }
    let known = lb
        .book
        .vips
        .get(&address)
        .filter(|known| known.entry.previous == entry.previous);
    let until = known.map_or_else(
        || clock::seconds() + u64::from(lb.config.previous_seconds),
        |known| known.until,
    );
    let same = known.filter(|known| known.entry.table == entry.table);
    if !entry.previous.is_empty() {
        book.expiries.insert((until, address));
    }
    let record = VipRecord {
        entry,
        until,
        made: same.map_or(0, |known| known.made),
        ages: same.and_then(|known| known.ages.clone()),
        limited: true,
        sources: sources.unwrap_or_default(),
    };
    book.vips.insert(address, record);
    true
}

fn slots_are_live(lb: &Lb, range: TableRange, live: &[bool]) -> bool {
    let Some(end) = range.offset().checked_add(range.len()) else {
        return false;
    };
    (range.offset()..end).all(|slot| {
        let backend = lb.maps.slots.load(slot);
        backend.is_some_and(|index| usize::try_from(index).is_ok_and(|index| live.get(index) == Some(&true)))
    })
}
