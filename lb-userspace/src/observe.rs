//! What the maps and hooks hold now; rebuilds the bookkeeping from it, so that a new daemon goes on where the old one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use aya::maps::MapError;
use lb_common::{BackendEntry, Endpoint, Ip, MAX_BACKENDS, backend_flags};
use model::{Protocol, VipAddress};

use crate::slots::{Indices, Ranges};
use crate::{Actual, ActualBackend, BackendKey, BackendState, Lb, open};

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
    let backends = read_backends(lb)?;
    let live: BTreeSet<u32> = backends.values().map(|backend| backend.index).collect();
    let used = backends.iter().map(|(key, backend)| (*key, backend.index)).collect();
    lb.indices = Indices::from_used(MAX_BACKENDS, used);
    let vips = read_vips(lb, &live)?;
    let peers = lb.maps.peers.keys().map(|key| key.map_err(failed("PEERS")));
    let peers = peers.collect::<Result<Vec<_>, _>>()?;
    let node = lb.maps.node.get(&0, 0).map_err(failed("NODE"))?;
    Ok(Actual {
        own: v4(node.own),
        vips,
        backends,
        peers: peers.into_iter().filter_map(v4).collect(),
        unattached: open::unattached(&lb.config),
    })
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

fn read_backends(lb: &Lb) -> Result<BTreeMap<BackendKey, ActualBackend>, ObserveError> {
    let mut found = BTreeMap::new();
    for (index, entry) in (0..MAX_BACKENDS).zip(lb.maps.backends.iter()) {
        let entry = entry.map_err(failed("BACKENDS"))?;
        if let Some((key, state)) = known_backend(&entry) {
            found.insert(key, ActualBackend { index, state });
        }
        // Indices are given out in order, so the first entry never used ends the walk.
        if entry.generation == 0 {
            break;
        }
    }
    Ok(found)
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
        open: entry.flags & backend_flags::OPEN != 0,
    };
    Some((key, state))
}

fn read_vips(lb: &mut Lb, live: &BTreeSet<u32>) -> Result<BTreeMap<VipAddress, Option<u64>>, ObserveError> {
    let entries: Result<Vec<_>, _> = lb.maps.vips.iter().collect();
    let mut ranges = Ranges::new(lb.config.slots);
    let mut vips = BTreeMap::new();
    lb.tables.clear();
    for (endpoint, entry) in entries.map_err(failed("VIPS"))? {
        let Some(address) = vip_address(&endpoint) else {
            continue;
        };
        let (offset, len) = (entry.offset(), entry.len());
        let whole = ranges.claim(offset, len) && slots_are_live(lb, offset, len, live);
        if whole {
            lb.tables.insert(address, (offset, len));
        }
        vips.insert(address, whole.then_some(entry.fingerprint));
    }
    lb.ranges = ranges;
    Ok(vips)
}

fn slots_are_live(lb: &Lb, offset: u32, len: u32, live: &BTreeSet<u32>) -> bool {
    (offset..offset.saturating_add(len)).all(|slot| {
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        lb.maps.slots.load(index).is_some_and(|backend| live.contains(&backend))
    })
}

pub(crate) fn vip_address(endpoint: &Endpoint) -> Option<VipAddress> {
    Some(VipAddress {
        addr: IpAddr::from(endpoint.addr),
        port: endpoint.port.get(),
        protocol: protocol(endpoint.protocol)?,
    })
}
