//! What the snapshot says this node's kernel should hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::{AgentId, Ipv4Net, Node, NodeView, Snapshot};

use crate::object::Key;
use crate::{Config, Device, Link, Mac, Object, Route, Sysctl, Target};

/// The kernel's `main` routing table.
pub(crate) const MAIN_TABLE: u32 = 254;
/// So high that an operator's own route to the same prefix wins.
const LAST_RESORT_METRIC: u32 = 0x5252_0000;
/// Before `main` (32766), after `local` (0), clear of the usual 100s and 1000s of other software.
const RULE_PRIORITY: u32 = 4200;
/// What VXLAN over IPv4 adds to a packet: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub(crate) const ENCAPSULATION: u32 = 50;

/// What should become of the VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// The snapshot doesn't know this node (yet): leave the tunnel as it is, so that a restart breaks nothing.
    Keep,
    /// This node has no overlay subnet: no tunnel.
    Absent,
    /// This node has a subnet.
    Present(Device),
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
    /// The VXLAN device.
    pub tunnel: Tunnel,
    /// Every address, entry, route and rule.
    pub objects: BTreeSet<Object>,
    /// Kernel switches.
    pub sysctls: BTreeSet<Sysctl>,
    /// Nodes that were left out.
    pub problems: Vec<Problem>,
}

/// Derives the desired state. Pure; the same snapshot gives the same answer on every call.
pub fn desired(snapshot: &Snapshot, view: &NodeView, config: &Config) -> Desired {
    let mut wanted = Desired {
        tunnel: Tunnel::Keep,
        objects: always(config),
        sysctls: BTreeSet::from([Sysctl::Forward, Sysctl::ReversePathAll, Sysctl::ReversePathUplink]),
        problems: Vec::new(),
    };
    let Some(own) = own_node(snapshot, view) else {
        return wanted;
    };
    wanted.tunnel = Tunnel::Absent;
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
    wanted.tunnel = Tunnel::Present(Device {
        vni: config.vni,
        port: config.port,
        local: config.uplink_ip,
        mac: Mac::of_vtep(own_vtep),
        learning: false,
    });
    wanted.sysctls.insert(Sysctl::ReversePathDevice);
    // `.1` of the subnet is the node itself, and the source of what the node sends into the overlay.
    let own_addr = own_subnet.nth(1).unwrap_or(own_subnet.network());
    wanted.objects.extend(own_objects(own_vtep, own_addr, config));
    let taken = BTreeMap::from([(own_vtep, own.agent.clone())]);
    add_peers(&mut wanted, snapshot, own, own_addr, taken, config);
    wanted
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

fn own_objects(vtep: Ipv4Addr, own_addr: Ipv4Addr, config: &Config) -> [Object; 4] {
    [
        Object::Address {
            link: Link::Device,
            addr: vtep,
            prefix: config.vtep_net.prefix(),
        },
        Object::Address {
            link: Link::Device,
            addr: own_addr,
            prefix: 32,
        },
        unreachable(config.overlay_net),
        Object::Rule {
            from: config.overlay_net,
            table: config.table,
            priority: RULE_PRIORITY,
        },
    ]
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
    own_addr: Ipv4Addr,
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
        // Two agent ids may share one address (a restart under a new id): the host route is made once.
        wanted.objects.extend(
            peer_objects(peer.ip, subnet, vtep, own_addr, config)
                .into_iter()
                .filter(|object| keys.insert(object.key())),
        );
    }
}

fn peer_objects(
    node: Ipv4Addr,
    subnet: Ipv4Net,
    vtep: Ipv4Addr,
    own_addr: Ipv4Addr,
    config: &Config,
) -> impl IntoIterator<Item = Object> {
    let mac = Mac::of_vtep(vtep);
    let tunnel = |table, to, source| {
        Object::Route(Route {
            table,
            to,
            metric: 0,
            target: Target::Tunnel { gateway: vtep, source },
        })
    };
    // A container that talks to a peer's host goes through the tunnel too, so that its address is kept and is routable there.
    let host = Ipv4Net::new(node, 32).ok().map(|to| tunnel(config.table, to, None));
    [
        Some(Object::Fdb { mac, node }),
        Some(Object::Neighbour { addr: vtep, mac }),
        Some(tunnel(MAIN_TABLE, subnet, Some(own_addr))),
        host,
    ]
    .into_iter()
    .flatten()
}

/// The tunnel endpoint address of a node: the base of `vtep_net`, plus the subnet's number in the overlay, plus one.
fn vtep_address(node: &Node, subnet: Ipv4Net, config: &Config) -> Result<Ipv4Addr, Problem> {
    let overlay = config.overlay_net;
    if !overlay.contains(subnet.network()) || subnet.prefix() < overlay.prefix() {
        return Err(Problem::Outside {
            agent: node.agent.clone(),
            subnet,
            overlay,
        });
    }
    let offset = u32::from(subnet.network()) - u32::from(overlay.network());
    let index = offset.checked_shr(32 - u32::from(subnet.prefix())).unwrap_or(0);
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
