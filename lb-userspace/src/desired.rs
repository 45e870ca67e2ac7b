//! What the load balancer should hold: a pure function of the snapshot and of which node asks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use model::{Generation, NodeView, Protocol, Snapshot, VipAddress};

/// Names a backend: the same address and port behind two VIPs is one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// Where it listens.
    pub addr: IpAddr,
    /// Where it listens.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The facts of a backend that the kernel half needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// Underlay address of the node it runs on.
    pub node: Ipv4Addr,
    /// Whether that is this node.
    pub local: bool,
    /// Whether it takes new connections for at least one VIP.
    pub open: bool,
}

/// A VIP's backends with their weights; 0 keeps old connections only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredVip {
    /// By backend, so in the same order everywhere.
    pub weights: BTreeMap<BackendKey, u16>,
}

impl DesiredVip {
    /// A number that tells two backend sets apart; stored beside the VIP, so that a table is refilled only when its set
    /// changed. FNV-1a over the set in order.
    pub fn fingerprint(&self) -> u64 {
        /// Grows when the filling algorithm changes, so that old tables are refilled.
        const ALGORITHM: u64 = 1;
        let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ ALGORITHM;
        let mut eat = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for (key, weight) in &self.weights {
            match key.addr {
                IpAddr::V4(v4) => v4.octets().into_iter().for_each(&mut eat),
                IpAddr::V6(v6) => v6.octets().into_iter().for_each(&mut eat),
            }
            key.port.to_le_bytes().into_iter().for_each(&mut eat);
            eat(key.protocol.number());
            weight.to_le_bytes().into_iter().for_each(&mut eat);
        }
        state
    }
}

/// What this node's maps should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Of the snapshot it was made from.
    pub generation: Generation,
    /// This node's underlay address.
    pub own: Option<Ipv4Addr>,
    /// By address.
    pub vips: BTreeMap<VipAddress, DesiredVip>,
    /// All backends of all VIPs.
    pub backends: BTreeMap<BackendKey, BackendState>,
    /// The other nodes, whose tunnel packets are taken.
    pub peers: BTreeSet<Ipv4Addr>,
}

/// Computes it.
pub fn desired(snapshot: &Snapshot, view: &NodeView) -> Desired {
    let mut out = Desired {
        generation: snapshot.generation,
        own: Some(view.ip),
        ..Desired::default()
    };
    for (address, service) in snapshot.services.iter() {
        let vip = out.vips.entry(*address).or_default();
        for backend in &service.backends {
            let key = BackendKey {
                addr: backend.addr,
                port: backend.port,
                protocol: address.protocol,
            };
            let local = backend.agent_ip == view.ip || view.agent.as_ref() == Some(&backend.agent);
            let weight = vip.weights.entry(key).or_default();
            *weight = (*weight).max(backend.weight);
            let state = out.backends.entry(key).or_insert(BackendState {
                node: backend.agent_ip,
                local,
                open: false,
            });
            state.open |= backend.weight > 0;
        }
    }
    out.peers = snapshot
        .nodes
        .values()
        .map(|node| node.ip)
        .filter(|ip| *ip != view.ip)
        .collect();
    out
}
