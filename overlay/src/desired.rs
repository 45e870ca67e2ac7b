//! What the snapshot says this node's kernel should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::{AgentId, Ipv4Net, Network, Node, NodeView, Snapshot};

use crate::object::Key;
use crate::{Config, Device, Link, Mac, Object, Route, Sysctl, Target};

/// The kernel's `main` routing table.
pub(crate) const MAIN_TABLE: u32 = 254;
/// So high that an operator's own route to the same prefix wins.
const LAST_RESORT_METRIC: u32 = 0x5252_0000;
/// Before `main` (32766), after `local` (0), clear of the usual 100s and 1000s of other software.
const RULE_PRIORITY: u32 = 4200;
/// The routing table of a network other than the default one is this plus its identifier: nobody else's by a wide margin.
const OWN_TABLES: u32 = 0x5200_0000;
/// What VXLAN over IPv4 adds to a packet: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub(crate) const ENCAPSULATION: u32 = 50;

/// What should become of the VXLAN devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tunnels {
    /// The snapshot doesn't know this node (yet): leave them as they are, so that a restart breaks nothing.
    Keep,
    /// One for each network by its identifier, and no more; none on a node without an overlay subnet.
    Exactly(BTreeMap<u32, Device>),
}

/// A node that can't take part, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The subnet is not cut from the overlay's range.
    #[error("node {agent} has subnet {subnet}, which is not inside the overlay {overlay}: give it one that is")]
    Outside {
        /// Whose subnet.
        agent: AgentId,
        /// The subnet.
        subnet: Ipv4Net,
        /// The configured range.
        overlay: Ipv4Net,
    },
    /// The range of tunnel endpoint addresses has no place for it.
    #[error(
        "node {agent} has subnet {subnet}, number {index}, and {vtep_net} has no tunnel address for it: use a larger vtep_net on every node"
    )]
    NoRoom {
        /// Whose subnet.
        agent: AgentId,
        /// The subnet.
        subnet: Ipv4Net,
        /// Its number inside the overlay.
        index: u32,
        /// The configured range.
        vtep_net: Ipv4Net,
    },
    /// Another node has the same tunnel endpoint address.
    #[error(
        "nodes {agent} and {other} both lead to tunnel address {vtep}, so {agent} is left out: give them different subnets of one size"
    )]
    Taken {
        /// The node left out.
        agent: AgentId,
        /// The node that has it.
        other: AgentId,
        /// The address.
        vtep: Ipv4Addr,
    },
}

/// The desired state of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The VXLAN devices.
    pub tunnels: Tunnels,
    /// Every address, entry, route and rule.
    pub objects: BTreeSet<Object>,
    /// Kernel switches.
    pub sysctls: BTreeSet<Sysctl>,
    /// Nodes that were left out.
    pub problems: Vec<Problem>,
}

/// One network as this node sees it.
struct Part<'a> {
    network: &'a Network,
    table: u32,
    /// `.1` of this node's block is the node itself, and the source of what the node sends into the network.
    own_addr: Option<Ipv4Addr>,
}

/// Derives the desired state. Pure; the same snapshot gives the same answer on every call.
pub fn desired(snapshot: &Snapshot, view: &NodeView, config: &Config) -> Desired {
    let mut wanted = Desired {
        tunnels: Tunnels::Keep,
        objects: always(config),
        sysctls: BTreeSet::from([Sysctl::Forward, Sysctl::ReversePathAll, Sysctl::ReversePathUplink]),
        problems: Vec::new(),
    };
    let Some(own) = own_node(snapshot, view) else {
        return wanted;
    };
    wanted.tunnels = Tunnels::Exactly(BTreeMap::new());
    let Some(own_subnet) = own.subnet else {
        return wanted;
    };
    let own_vtep = match vtep_address(own, own_subnet, config) {
        Ok(vtep) => vtep,
        Err(problem) => {
            wanted.problems.push(problem);
            return wanted;
        }
    };
    let default = default_network(own_subnet, config);
    let parts = parts(own, own_subnet, &default, config);
    let device = |part: &Part<'_>| Device {
        vni: part.network.vni,
        port: config.port,
        local: config.uplink_ip,
        mac: Mac::of_vtep(own_vtep),
        learning: false,
    };
    let devices = parts.iter().map(|part| (part.network.vni, device(part)));
    wanted.tunnels = Tunnels::Exactly(devices.collect());
    wanted.objects.insert(Object::Address {
        link: Link::Device(config.vni),
        addr: own_vtep,
        prefix: config.vtep_net.prefix(),
    });
    for part in &parts {
        wanted.sysctls.insert(Sysctl::ReversePathDevice(part.network.vni));
        wanted.objects.extend(own_objects(part));
        wanted.objects.extend(strangers(part, &parts));
    }
    let taken = BTreeMap::from([(own_vtep, own.agent.clone())]);
    add_peers(&mut wanted, snapshot, own, &parts, taken, config);
    wanted
}

/// The default overlay, told like the others.
fn default_network(own_subnet: Ipv4Net, config: &Config) -> Network {
    Network {
        name: config.overlay_name.clone(),
        vni: config.vni,
        subnet: config.overlay_net,
        prefix: own_subnet.prefix(),
        peers: BTreeSet::new(),
    }
}

/// The default overlay, then the others that this node was told of.
fn parts<'a>(own: &'a Node, own_subnet: Ipv4Net, default: &'a Network, config: &Config) -> Vec<Part<'a>> {
    let first = |block: Ipv4Net| block.nth(1).unwrap_or(block.network());
    let number = own_subnet.index_in(config.overlay_net);
    let others = own.networks.iter().map(|network| Part {
        network,
        table: OWN_TABLES.saturating_add(network.vni),
        own_addr: number.and_then(|number| network.block(number)).map(first),
    });
    let default = Part {
        network: default,
        table: config.table,
        own_addr: Some(first(own_subnet)),
    };
    std::iter::once(default).chain(others).collect()
}

/// What a node has even when it knows nobody.
fn always(config: &Config) -> BTreeSet<Object> {
    let mut objects = BTreeSet::from([unreachable(config.vip_net)]);
    if let Some(addr) = config.service_addr {
        objects.insert(Object::Address {
            link: Link::Loopback,
            addr,
            prefix: 32,
        });
    }
    objects
}

fn own_objects(part: &Part<'_>) -> impl Iterator<Item = Object> {
    let own_addr = part.own_addr.map(|addr| Object::Address {
        link: Link::Device(part.network.vni),
        addr,
        prefix: 32,
    });
    let rule = Object::Rule {
        from: part.network.subnet,
        table: part.table,
        priority: RULE_PRIORITY,
    };
    [own_addr, Some(unreachable(part.network.subnet)), Some(rule)]
        .into_iter()
        .flatten()
}

/// What keeps a network's tasks from those of others. It stands where packets that come from the network look first, so
/// that it holds whatever leads to the others elsewhere.
fn strangers(part: &Part<'_>, all: &[Part<'_>]) -> impl Iterator<Item = Object> {
    let table = part.table;
    let others = all.iter().filter(|other| !part.network.meets(other.network));
    others.map(move |other| {
        Object::Route(Route {
            table,
            to: other.network.subnet,
            metric: 0,
            target: Target::Prohibited,
        })
    })
}

fn unreachable(to: Ipv4Net) -> Object {
    Object::Route(Route {
        table: MAIN_TABLE,
        to,
        metric: LAST_RESORT_METRIC,
        target: Target::Unreachable,
    })
}

/// The node that asks: by agent id, or by address while it has none. A node that came back under a new id may
/// have an old twin with the same address; the id settles which one counts.
fn own_node<'a>(snapshot: &'a Snapshot, view: &NodeView) -> Option<&'a Node> {
    let by_id = view.agent.as_ref().and_then(|agent| snapshot.nodes.get(agent));
    by_id.or_else(|| snapshot.nodes.values().find(|node| node.ip == view.ip))
}

fn add_peers(
    wanted: &mut Desired,
    snapshot: &Snapshot,
    own: &Node,
    parts: &[Part<'_>],
    mut taken: BTreeMap<Ipv4Addr, AgentId>,
    config: &Config,
) {
    let mut keys: BTreeSet<Key> = BTreeSet::new();
    for peer in snapshot.nodes.values() {
        let Some(subnet) = peer.subnet.filter(|_| peer.agent != own.agent && peer.ip != own.ip) else {
            continue;
        };
        let vtep = match vtep_address(peer, subnet, config) {
            Ok(vtep) => vtep,
            Err(problem) => {
                wanted.problems.push(problem);
                continue;
            }
        };
        if let Some(other) = taken.get(&vtep) {
            wanted.problems.push(Problem::Taken {
                agent: peer.agent.clone(),
                other: other.clone(),
                vtep,
            });
            continue;
        }
        taken.insert(vtep, peer.agent.clone());
        let number = subnet.index_in(config.overlay_net);
        for part in parts {
            let block = if part.network.vni == config.vni {
                Some(subnet)
            } else {
                number.and_then(|number| part.network.block(number))
            };
            // Two agent ids may share one address (a restart under a new id): the host route is made once.
            wanted.objects.extend(
                peer_objects(part, peer.ip, block, vtep)
                    .into_iter()
                    .filter(|object| keys.insert(object.key())),
            );
        }
    }
}

/// The way to a peer in one network; to its block there, if it has one.
fn peer_objects(
    part: &Part<'_>,
    node: Ipv4Addr,
    block: Option<Ipv4Net>,
    vtep: Ipv4Addr,
) -> impl IntoIterator<Item = Object> {
    let mac = Mac::of_vtep(vtep);
    let vni = part.network.vni;
    let tunnel = |table, to, source| {
        Object::Route(Route {
            table,
            to,
            metric: 0,
            target: Target::Tunnel {
                vni,
                gateway: vtep,
                source,
            },
        })
    };
    // A container that talks to a peer's host goes through the tunnel too, so that its address is kept and is routable there.
    let host = Ipv4Net::new(node, 32).ok().map(|to| tunnel(part.table, to, None));
    [
        Some(Object::Fdb { vni, mac, node }),
        Some(Object::Neighbour { vni, addr: vtep, mac }),
        block.map(|block| tunnel(MAIN_TABLE, block, part.own_addr)),
        host,
    ]
    .into_iter()
    .flatten()
}

/// The tunnel endpoint address of a node: the base of `vtep_net`, plus the subnet's number in the overlay, plus one.
fn vtep_address(node: &Node, subnet: Ipv4Net, config: &Config) -> Result<Ipv4Addr, Problem> {
    let overlay = config.overlay_net;
    let index = subnet.index_in(overlay).ok_or_else(|| Problem::Outside {
        agent: node.agent.clone(),
        subnet,
        overlay,
    })?;
    let vtep_net = config.vtep_net;
    // The last address of the range is its broadcast address, so the one after ours must still be inside.
    let vtep = index
        .checked_add(2)
        .and_then(|next| vtep_net.nth(next))
        .and_then(|_| vtep_net.nth(index + 1));
    vtep.ok_or_else(|| Problem::NoRoom {
        agent: node.agent.clone(),
        subnet,
        index,
        vtep_net,
    })
}

#[cfg(test)]
pub(crate) mod tests;
