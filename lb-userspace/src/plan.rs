//! What to change: two set differences, first what is added, then what is removed.

use std::net::Ipv4Addr;

use model::{Generation, VipAddress};

use crate::{Actual, BackendKey, BackendState, Desired, DesiredVip};

/// One change of the kernel's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Attach a hook that somebody took off.
    Attach(String),
    /// Tell the programs this node's address.
    SetOwn(Ipv4Addr),
    /// Take tunnel packets of a node.
    PutPeer(Ipv4Addr),
    /// Make or change a backend.
    PutBackend(BackendKey, BackendState),
    /// Make a VIP or give it another table; one atomic step for packets.
    PutVip(VipAddress, DesiredVip),
    /// Forget a VIP.
    RemoveVip(VipAddress),
    /// Forget a backend; its flows end.
    RemoveBackend(BackendKey),
    /// Take no more tunnel packets of a node.
    RemovePeer(Ipv4Addr),
}

/// The changes that lead from `Actual` to `Desired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Reached when all is done.
    pub generation: Generation,
    /// Carried out first: hooks, peers, backends, then the VIPs that point at them.
    pub adds: Vec<Op>,
    /// Carried out last: VIPs, then the backends they pointed at, peers.
    pub removes: Vec<Op>,
}

impl Plan {
    /// Whether nothing is to do.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty()
    }
}

/// Computes it.
pub fn plan(desired: &Desired, actual: &Actual) -> Plan {
    Plan {
        generation: desired.generation,
        adds: adds(desired, actual),
        removes: removes(desired, actual),
    }
}

fn adds(desired: &Desired, actual: &Actual) -> Vec<Op> {
    let hooks = actual.unattached.iter().cloned().map(Op::Attach);
    let own = desired.own.filter(|own| actual.own != Some(*own)).map(Op::SetOwn);
    let peers = desired.peers.difference(&actual.peers).copied().map(Op::PutPeer);
    let backends = desired.backends.iter().filter_map(|(key, state)| {
        let known = actual.backends.get(key).map(|known| known.state);
        (known != Some(*state)).then_some(Op::PutBackend(*key, *state))
    });
    let vips = desired.vips.iter().filter_map(|(address, vip)| {
        let known = actual.vips.get(address).copied().flatten();
        (known != Some(vip.fingerprint())).then(|| Op::PutVip(*address, vip.clone()))
    });
    hooks.chain(own).chain(peers).chain(backends).chain(vips).collect()
}

fn removes(desired: &Desired, actual: &Actual) -> Vec<Op> {
    let vips = actual.vips.keys().filter(|address| !desired.vips.contains_key(address));
    let backends = actual.backends.keys().filter(|key| !desired.backends.contains_key(key));
    let peers = actual.peers.difference(&desired.peers);
    vips.copied()
        .map(Op::RemoveVip)
        .chain(backends.copied().map(Op::RemoveBackend))
        .chain(peers.copied().map(Op::RemovePeer))
        .collect()
}
