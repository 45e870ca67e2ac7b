//! Carrying a plan out: each step by itself, a failure costs only its own step.

use std::net::Ipv4Addr;

use aya::maps::MapError;
use lb_common::{BackendEntry, Be16, Endpoint, Ip, PeerEntry, VipEntry, backend_flags};
use model::{Generation, VipAddress};

use crate::{BackendKey, BackendState, DesiredVip, Lb, Op, OpenError, Plan, fill_table, open};

/// Why one step failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A map refused.
    #[error("could not write map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// The kernel's answer.
        source: MapError,
    },
    /// The slot array is full.
    #[error("no {wanted} free slots in a row are left; start the node with more slots")]
    NoSlots {
        /// Slots the VIP's table needs.
        wanted: u32,
    },
    /// All indices are taken.
    #[error("the table of backends is full")]
    NoBackends,
    /// A VIP names a backend whose own step failed.
    #[error("backend {0:?} of the VIP is not in the table of backends")]
    UnknownBackend(BackendKey),
    /// A hook could not be attached again.
    #[error(transparent)]
    Attach(#[from] OpenError),
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Steps carried out.
    pub done: usize,
    /// Steps that failed, and why; the next observe and plan try them again.
    pub failed: Vec<(Op, ApplyError)>,
}

/// Carries the plan out, adds first.
pub fn apply(lb: &mut Lb, plan: &Plan) -> Report {
    let mut report = Report::default();
    for op in plan.adds.iter().chain(&plan.removes) {
        match step(lb, op) {
            Ok(()) => report.done += 1,
            Err(error) => report.failed.push((op.clone(), error)),
        }
    }
    if report.failed.is_empty() {
        lb.generation = plan.generation.max(Generation::default());
    }
    report
}

fn step(lb: &mut Lb, op: &Op) -> Result<(), ApplyError> {
    match op {
        Op::Attach(hook) => open::attach_one(lb, hook).map_err(ApplyError::from),
        Op::SetOwn(own) => set_own(lb, *own),
        Op::PutPeer(ip) => {
            let put = lb.maps.peers.insert(Ip::from(*ip), PeerEntry::default(), 0);
            put.map_err(map("PEERS"))
        }
        Op::PutBackend(key, state) => put_backend(lb, key, state),
        Op::PutVip(address, vip) => put_vip(lb, address, vip),
        Op::RemoveVip(address) => {
            lb.maps.vips.remove(&endpoint(address)).map_err(map("VIPS"))?;
            free_table(lb, address);
            Ok(())
        }
        Op::RemoveBackend(key) => remove_backend(lb, key),
        Op::RemovePeer(ip) => lb.maps.peers.remove(&Ip::from(*ip)).map_err(map("PEERS")),
    }
}

fn map(map: &'static str) -> impl Fn(MapError) -> ApplyError {
    move |source| ApplyError::Map { map, source }
}

fn endpoint(address: &VipAddress) -> Endpoint {
    Endpoint::new(
        Ip::from(address.addr),
        Be16::new(address.port),
        address.protocol.number(),
    )
}

fn own_endpoint(key: &BackendKey) -> Endpoint {
    Endpoint::new(Ip::from(key.addr), Be16::new(key.port), key.protocol.number())
}

fn set_own(lb: &mut Lb, own: Ipv4Addr) -> Result<(), ApplyError> {
    let mut node = lb.maps.node.get(&0, 0).map_err(map("NODE"))?;
    node.own = Ip::from(own);
    lb.maps.node.set(0, node, 0).map_err(map("NODE"))
}

fn put_backend(lb: &mut Lb, key: &BackendKey, state: &BackendState) -> Result<(), ApplyError> {
    let known = lb.indices.get(key).is_some();
    let index = lb.indices.take(*key).ok_or(ApplyError::NoBackends)?;
    let old = lb.maps.backends.get(&index, 0).map_err(map("BACKENDS"))?;
    let mut flags = backend_flags::LIVE;
    if state.open {
        flags |= backend_flags::OPEN;
    }
    if state.local {
        flags |= backend_flags::LOCAL;
    }
    let entry = BackendEntry {
        addr: Ip::from(key.addr),
        node: Ip::from(state.node),
        port: Be16::new(key.port),
        protocol: key.protocol.number(),
        flags,
        generation: if known {
            old.generation.max(1)
        } else {
            next(old.generation)
        },
    };
    lb.maps.backends.set(index, entry, 0).map_err(map("BACKENDS"))?;
    if state.local {
        lb.maps
            .locals
            .insert(own_endpoint(key), index, 0)
            .map_err(map("LOCALS"))
    } else {
        absent_is_fine(lb.maps.locals.remove(&own_endpoint(key))).map_err(map("LOCALS"))
    }
}

/// The generation of an index's next owner; never 0, which marks an index that was never used.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn put_vip(lb: &mut Lb, address: &VipAddress, vip: &DesiredVip) -> Result<(), ApplyError> {
    let mut indices = Vec::with_capacity(vip.weights.len());
    for key in vip.weights.keys() {
        indices.push(lb.indices.get(key).ok_or(ApplyError::UnknownBackend(*key))?);
    }
    let table = fill_table(vip);
    let wanted = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let offset = lb.ranges.take(wanted).ok_or(ApplyError::NoSlots { wanted })?;
    let first = usize::try_from(offset).unwrap_or(usize::MAX);
    for (slot, position) in table.iter().enumerate() {
        lb.maps.slots.store(first + slot, indices[*position]);
    }
    let entry = VipEntry::new(offset, wanted, vip.fingerprint());
    if let Err(source) = lb.maps.vips.insert(endpoint(address), entry, 0) {
        if wanted > 0 {
            lb.ranges.free(offset);
        }
        return Err(ApplyError::Map { map: "VIPS", source });
    }
    free_table(lb, address);
    lb.tables.insert(*address, (offset, wanted));
    Ok(())
}

fn free_table(lb: &mut Lb, address: &VipAddress) {
    if let Some((offset, len)) = lb.tables.remove(address)
        && len > 0
    {
        lb.ranges.free(offset);
    }
}

fn remove_backend(lb: &mut Lb, key: &BackendKey) -> Result<(), ApplyError> {
    absent_is_fine(lb.maps.locals.remove(&own_endpoint(key))).map_err(map("LOCALS"))?;
    let Some(index) = lb.indices.get(key) else {
        return Ok(());
    };
    let mut entry = lb.maps.backends.get(&index, 0).map_err(map("BACKENDS"))?;
    entry.flags = 0;
    lb.maps.backends.set(index, entry, 0).map_err(map("BACKENDS"))?;
    lb.indices.free(key);
    Ok(())
}
