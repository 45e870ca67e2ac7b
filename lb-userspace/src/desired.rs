//! What the load balancer should hold: a pure function of the snapshot and of which node asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::{Generation, NodeView, Protocol, Service, ServiceOptions, Snapshot, VipAddress};

use crate::MAX_MEMBERS;

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

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = SocketAddr::new(self.addr, self.port);
        write!(f, "{at}/{}", self.protocol)
    }
}

/// VIPs of one backend that answers are told apart by; a backend behind more of them serves the first in order.
pub const VIPS_PER_BACKEND: usize = 8;

/// The facts of a backend that the kernel half needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendState {
    /// Underlay address of the node it runs on.
    pub node: Ipv4Addr,
    /// Whether that is this node.
    pub local: bool,
    /// The largest of its weights; 0 takes no new connections.
    pub weight: u16,
    /// Whether its flows are reset once it takes no more.
    pub reset: bool,
    /// The VIPs it stands behind, in order, at most [`VIPS_PER_BACKEND`].
    pub vips: Vec<VipAddress>,
}

/// A backend as one VIP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Relative share of new connections; 0 keeps old connections only.
    pub weight: u16,
    /// Underlay address of the node it runs on.
    pub node: Ipv4Addr,
    /// Whether that is this node.
    pub local: bool,
}

/// A VIP's backends and what it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredVip {
    /// By backend, so in the same order everywhere.
    pub members: BTreeMap<BackendKey, Member>,
    /// Limits, affinity, sources.
    pub options: ServiceOptions,
}

impl DesiredVip {
    fn of(service: &Service, view: &NodeView) -> Self {
        let mut members: BTreeMap<BackendKey, Member> = BTreeMap::new();
        for backend in &service.backends {
            let key = BackendKey {
                addr: backend.addr,
                port: backend.port,
                protocol: service.vip.protocol,
            };
            let local = backend.agent_ip == view.ip || view.agent.as_ref() == Some(&backend.agent);
            let member = members.entry(key).or_insert(Member {
                weight: 0,
                node: backend.agent_ip,
                local,
            });
            member.weight = member.weight.max(backend.weight);
        }
        Self {
            members,
            options: service.options.clone(),
        }
    }

    /// A number that tells two backend sets or wishes apart; stored beside the VIP, so that a table is refilled only when
    /// its set changed. FNV-1a over the set in order.
    pub fn fingerprint(&self) -> u64 {
        /// Grows when the filling algorithm changes, so that old tables are refilled.
        const ALGORITHM: u64 = 2;
        let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ ALGORITHM;
        let mut eat = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        for (key, member) in &self.members {
            address(key.addr, &mut eat);
            key.port.to_le_bytes().into_iter().for_each(&mut eat);
            eat(key.protocol.number());
            member.weight.to_le_bytes().into_iter().for_each(&mut eat);
        }
        let options = &self.options;
        if *options != ServiceOptions::default() {
            eat(u8::from(options.affinity) | u8::from(options.reset) << 2);
            let limits = [options.max_rate, options.max_connections];
            limits.into_iter().flat_map(u32::to_le_bytes).for_each(&mut eat);
            for cidr in &options.allow {
                address(cidr.addr(), &mut eat);
                eat(cidr.prefix());
            }
        }
        state
    }
}

fn address(addr: IpAddr, eat: &mut impl FnMut(u8)) {
    match addr {
        IpAddr::V4(v4) => v4.octets().into_iter().for_each(eat),
        IpAddr::V6(v6) => v6.octets().into_iter().for_each(eat),
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
    refused: BTreeMap<VipAddress, usize>,
}

/// A VIP that is left out, whole: its backends would take the room of everybody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VIP {vip} is left out: it has {backends} backends, and {MAX_MEMBERS} are the most one VIP may have")]
pub struct Refusal {
    /// The VIP.
    pub vip: VipAddress,
    /// How many backends it has.
    pub backends: usize,
}

/// The parts of a [`Desired`] that may differ from what it was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// VIPs that are new, gone or other than they were.
    pub vips: BTreeSet<VipAddress>,
    /// The same of backends.
    pub backends: BTreeSet<BackendKey>,
    /// Whether nodes came or went.
    pub nodes: bool,
}

/// Computes it.
pub fn desired(snapshot: &Snapshot, view: &NodeView) -> Desired {
    let mut out = Desired {
        generation: snapshot.generation,
        own: Some(view.ip),
        ..Desired::default()
    };
    for (address, service) in snapshot.services.iter() {
        out.change(*address, Some(service), view);
    }
    out.peers = peers(snapshot, view);
    out
}

fn peers(snapshot: &Snapshot, view: &NodeView) -> BTreeSet<Ipv4Addr> {
    let all = snapshot.nodes.values().map(|node| node.ip);
    all.filter(|ip| *ip != view.ip).collect()
}

impl Desired {
    /// Replaces (`None`: forgets) one VIP. The cost is that of the VIP's own backends, whatever else there is.
    pub fn change(&mut self, address: VipAddress, service: Option<&Service>, view: &NodeView) -> Touched {
        let mut touched = Touched::default();
        let next = service.map(|service| DesiredVip::of(service, view));
        let too_many = next
            .as_ref()
            .map(|next| next.members.len())
            .filter(|many| *many > MAX_MEMBERS);
        self.refused.remove(&address);
        self.refused.extend(too_many.map(|many| (address, many)));
        let next = next.filter(|_| too_many.is_none());
        if self.vips.get(&address) == next.as_ref() {
            return touched;
        }
        touched.vips.insert(address);
        let old = self.vips.remove(&address).unwrap_or_default();
        let kept = next.as_ref().map(|next| &next.members);
        let gone = old
            .members
            .keys()
            .filter(|key| kept.is_none_or(|kept| !kept.contains_key(*key)));
        for key in gone {
            touched.backends.insert(*key);
            self.leave(key, &address);
        }
        if let Some(next) = next {
            let resets = old.options.reset != next.options.reset;
            let changed = |(key, member): &(&BackendKey, &Member)| resets || old.members.get(*key) != Some(*member);
            let changed: Vec<BackendKey> = next.members.iter().filter(changed).map(|(key, _)| *key).collect();
            touched.backends.extend(&changed);
            self.put(address, next, &changed);
        }
        touched
    }

    /// What is left out.
    pub fn refused(&self) -> impl Iterator<Item = Refusal> {
        self.refused.iter().map(|(vip, backends)| Refusal {
            vip: *vip,
            backends: *backends,
        })
    }

    /// Replaces a VIP, in which no other backends than these are new or other than they were.
    pub(crate) fn put(&mut self, address: VipAddress, vip: DesiredVip, changed: &[BackendKey]) {
        self.vips.insert(address, vip);
        for key in changed {
            let vips = match self.backends.get_mut(key) {
                Some(state) => std::mem::take(&mut state.vips),
                None => Vec::new(),
            };
            self.settle(*key, vips, Some(address));
        }
    }

    /// Works a backend's state out anew, from the VIPs it was behind and one more.
    fn settle(&mut self, key: BackendKey, mut vips: Vec<VipAddress>, joined: Option<VipAddress>) {
        if let Some(address) = joined
            && let Err(place) = vips.binary_search(&address)
        {
            vips.insert(place, address);
            vips.truncate(VIPS_PER_BACKEND);
        }
        let members = vips.iter().filter_map(|address| {
            let vip = self.vips.get(address)?;
            Some((vip.members.get(&key)?, vip.options.reset))
        });
        let state = members.fold(None, |state: Option<BackendState>, (member, reset)| {
            let known = state.map_or((0, false), |state| (state.weight, state.reset));
            Some(BackendState {
                node: member.node,
                local: member.local,
                weight: known.0.max(member.weight),
                reset: known.1 || reset,
                vips: Vec::new(),
            })
        });
        match state {
            Some(state) => self.backends.insert(key, BackendState { vips, ..state }),
            None => self.backends.remove(&key),
        };
    }

    /// A VIP lost this backend. A backend that stood behind more VIPs than its state names may be left without any name:
    /// then all VIPs are asked, which is rare enough.
    fn leave(&mut self, key: &BackendKey, address: &VipAddress) {
        let Some(state) = self.backends.get_mut(key) else {
            return;
        };
        let mut vips = std::mem::take(&mut state.vips);
        let full = vips.len() == VIPS_PER_BACKEND;
        vips.retain(|known| known != address);
        if full {
            let others = self.vips.iter().filter(|(_, vip)| vip.members.contains_key(key));
            vips = others.map(|(address, _)| *address).take(VIPS_PER_BACKEND).collect();
        }
        self.settle(*key, vips, None);
    }

    /// Brings this to another picture where only these VIPs, and the nodes, may differ from the one before.
    pub fn advance(
        &mut self,
        snapshot: &Snapshot,
        view: &NodeView,
        changed: impl IntoIterator<Item = VipAddress>,
    ) -> Touched {
        self.generation = snapshot.generation;
        let mut touched = Touched::default();
        for address in changed {
            let service = snapshot.services.get(&address).map(AsRef::as_ref);
            let more = self.change(address, service, view);
            touched.vips.extend(more.vips);
            touched.backends.extend(more.backends);
        }
        touched
    }

    /// Takes over the nodes of a picture.
    pub fn set_nodes(&mut self, snapshot: &Snapshot, view: &NodeView) {
        self.own = Some(view.ip);
        self.peers = peers(snapshot, view);
    }
}

#[cfg(test)]
#[path = "desired/tests.rs"]
mod tests;
