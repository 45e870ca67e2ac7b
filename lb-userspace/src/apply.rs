//! Carrying a plan out: each step by itself, a failure costs only its own step.

use std::net::IpAddr;

use aya::maps::MapError;
use lb_common::{Ip, NodeConfig, PeerEntry};
use model::Generation;

use crate::{BackendKey, Lb, Op, OpenError, Plan, open};

mod backend;
mod previous;
mod vip;

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
    #[error("no {wanted} free slots in a row are left of {all}; start the node with more slots")]
    NoSlots {
        /// Slots the VIP's table needs.
        wanted: u32,
        /// Slots there are.
        all: u32,
    },
    /// One VIP has more backends than a table is made for.
    #[error("the VIP has {found} backends that take connections; {most} are the most one VIP may have")]
    TooManyBackends {
        /// How many it has.
        found: usize,
        /// How many it may have.
        most: usize,
    },
    /// All indices are taken.
    #[error("the table of backends has {0} rooms and is full; start the node with more")]
    NoBackends(u32),
    /// All numbers are taken.
    #[error("the tables of VIPs have {0} rooms and are full; start the node with more")]
    NoVips(u32),
    /// Another backend's name within the cluster is the same.
    #[error("backend {0:?} has the tag of another backend that lives; it gets no packets from other nodes")]
    TagTaken(BackendKey),
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
        tracing::debug!(?op, "changes the maps");
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
        Op::SetOwn(own) => change_node(lb, |node| node.own = Ip::from(*own)),
        Op::SetOwn6(own) => {
            let told = own.map_or_else(Ip::default, |own| Ip::from(IpAddr::V6(own)));
            lb.maps.own6.set(0, told, 0).map_err(map("OWN6"))
        }
        Op::SetMtu(mtu) => change_node(lb, |node| node.underlay_mtu = *mtu),
        Op::PutPeer(ip) => {
            let put = lb.maps.peers.insert(Ip::from(*ip), PeerEntry::default(), 0);
            put.map_err(map("PEERS"))
        }
        Op::PutBackend(key, state) => backend::put(lb, key, state),
        Op::SetHop(key, hop) => backend::set_hop(lb, key, *hop),
        Op::PutVip(address, vip) => vip::put(lb, address, vip),
        Op::RemoveVip(address) => vip::remove(lb, address),
        Op::RemoveBackend(key) => backend::remove(lb, key),
        Op::RemovePeer(ip) => lb.maps.peers.remove(&Ip::from(*ip)).map_err(map("PEERS")),
    }
}

fn map(map: &'static str) -> impl Fn(MapError) -> ApplyError {
    move |source| ApplyError::Map { map, source }
}

fn change_node(lb: &mut Lb, change: impl FnOnce(&mut NodeConfig)) -> Result<(), ApplyError> {
    let mut node = lb.maps.node.get(&0, 0).map_err(map("NODE"))?;
    change(&mut node);
    lb.maps.node.set(0, node, 0).map_err(map("NODE"))
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
