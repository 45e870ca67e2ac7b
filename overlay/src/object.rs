//! The kernel objects that the overlay plane owns, in the order in which they are made.

use std::fmt;
use std::net::Ipv4Addr;

use model::Ipv4Net;

/// The protocol number (`R`) that marks routes, rules, neighbours and addresses as Revere's own.
pub(crate) const PROTOCOL: u8 = 0x52;

/// How the Ethernet addresses of tunnel endpoints begin, as DC/OS has them.
const VTEP_MACS: [u8; 3] = [0x70, 0xb3, 0xd5];

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address of the tunnel endpoint `vtep`: DC/OS's prefix 70:B3:D5 and the low 24 bits of the IPv4 address.
    pub fn of_vtep(vtep: Ipv4Addr) -> Self {
        let [_, b, c, d] = vtep.octets();
        let [x, y, z] = VTEP_MACS;
        Self([x, y, z, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The name of the VXLAN device of a network.
pub(crate) fn device_name(vni: u32) -> String {
    format!("vtep{vni}")
}

/// The network whose VXLAN device would bear that name.
pub(crate) fn vni_of_name(name: &str) -> Option<u32> {
    let vni = name.strip_prefix("vtep")?.parse().ok()?;
    (device_name(vni) == name).then_some(vni)
}

/// A VXLAN device's properties that cannot be changed while it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// The source address of the tunnel's packets.
    pub local: Ipv4Addr,
    /// The device's Ethernet address. Peers have it in their tables, so it is no thing to change on the fly.
    pub mac: Mac,
    /// Whether the device learns peers from packets; always off: the snapshot knows them all.
    pub learning: bool,
}

impl Device {
    /// Whether it is one that this plane made for that network, also an earlier release of it.
    pub(crate) fn is_of(&self, vni: u32) -> bool {
        self.vni == vni && !self.learning && self.mac.0.starts_with(&VTEP_MACS)
    }
}

/// An interface that bears one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// `lo`.
    Loopback,
    /// The VXLAN device of the network with that identifier.
    Device(u32),
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Nowhere: the sender is told at once that the destination is unreachable.
    Unreachable,
    /// Nowhere: the sender is told that it may not go there.
    Prohibited,
    /// Through the VXLAN device of the network `vni` to the tunnel endpoint `gateway`; `source` is what this node's own
    /// packets bear.
    Tunnel {
        /// Whose device.
        vni: u32,
        /// The peer's tunnel endpoint address.
        gateway: Ipv4Addr,
        /// The preferred source address, where it matters.
        source: Option<Ipv4Addr>,
    },
    /// Something else that bears our protocol number but that this version would not make.
    Other,
}

/// One route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The routing table.
    pub table: u32,
    /// What it is for.
    pub to: Ipv4Net,
    /// Lower wins among routes to the same prefix.
    pub metric: u32,
    /// Where it leads.
    pub target: Target,
}

/// One kernel object. The order of the variants is the order of creation: a route comes after what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// An interface address.
    Address {
        /// Where.
        link: Link,
        /// The address.
        addr: Ipv4Addr,
        /// Its prefix length.
        prefix: u8,
    },
    /// VXLAN forwarding entry: frames to `mac` go to the node at `node`.
    Fdb {
        /// On whose device.
        vni: u32,
        /// The peer device's address.
        mac: Mac,
        /// The peer's underlay address.
        node: Ipv4Addr,
    },
    /// Permanent neighbour on a VXLAN device.
    Neighbour {
        /// On whose device.
        vni: u32,
        /// The peer's tunnel endpoint address.
        addr: Ipv4Addr,
        /// The peer device's address.
        mac: Mac,
    },
    /// A route.
    Route(Route),
    /// Packets from `from` look at `table` first.
    Rule {
        /// Source prefix.
        from: Ipv4Net,
        /// Table to look at.
        table: u32,
        /// Place among the rules.
        priority: u32,
    },
}

/// What identifies an object for the kernel: adding a second object with the same key replaces the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Address(Link, Ipv4Addr, u8),
    Fdb(u32, Mac),
    Neighbour(u32, Ipv4Addr),
    Route(u32, Ipv4Net, u32),
    Rule(Ipv4Net, u32, u32),
}

impl Object {
    pub(crate) fn key(&self) -> Key {
        match *self {
            Self::Address { link, addr, prefix } => Key::Address(link, addr, prefix),
            Self::Fdb { vni, mac, .. } => Key::Fdb(vni, mac),
            Self::Neighbour { vni, addr, .. } => Key::Neighbour(vni, addr),
            Self::Route(Route { table, to, metric, .. }) => Key::Route(table, to, metric),
            Self::Rule { from, table, priority } => Key::Rule(from, table, priority),
        }
    }

    /// The network whose VXLAN device takes the object along when it goes.
    pub(crate) fn device(&self) -> Option<u32> {
        match *self {
            Self::Address {
                link: Link::Device(vni),
                ..
            }
            | Self::Fdb { vni, .. }
            | Self::Neighbour { vni, .. }
            | Self::Route(Route {
                target: Target::Tunnel { vni, .. },
                ..
            }) => Some(vni),
            Self::Address { .. } | Self::Route(_) | Self::Rule { .. } => None,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { link, addr, prefix } => write!(f, "address {addr}/{prefix} on {link:?}"),
            Self::Fdb { vni, mac, node } => write!(f, "forwarding entry {mac} to {node} in network {vni}"),
            Self::Neighbour { vni, addr, mac } => write!(f, "neighbour {addr} at {mac} in network {vni}"),
            Self::Route(Route { table, to, target, .. }) => match target {
                Target::Unreachable => write!(f, "unreachable route {to} in table {table}"),
                Target::Prohibited => write!(f, "prohibited route {to} in table {table}"),
                Target::Tunnel { gateway, .. } => write!(f, "route {to} via {gateway} in table {table}"),
                Target::Other => write!(f, "foreign-shaped route {to} in table {table}"),
            },
            Self::Rule { from, table, .. } => write!(f, "rule from {from} lookup {table}"),
        }
    }
}
