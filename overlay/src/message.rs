//! Netlink messages to and from the plane's own objects.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use model::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{InfoData, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};

use crate::object::PROTOCOL;
use crate::{Device, Link, Mac, Object, Route, SeenDevice, Target};

pub(crate) const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(PROTOCOL);

pub(crate) fn link_name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

pub(crate) fn link_mtu(link: &LinkMessage) -> u32 {
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or(1500)
}

pub(crate) fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

pub(crate) fn seen_device(link: &LinkMessage) -> SeenDevice {
    SeenDevice {
        index: link.header.index,
        device: vxlan(link),
        mtu: link_mtu(link),
        up: is_up(link),
    }
}

/// The fixed properties, if the link is a VXLAN device of the kind we make (a source address, no group or remote).
fn vxlan(link: &LinkMessage) -> Option<Device> {
    let (mut vni, mut port, mut local, mut learning, mut mac) = (None, None, None, None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    let LinkInfo::Data(InfoData::Vxlan(properties)) = info else {
                        continue;
                    };
                    for property in properties {
                        match property {
                            InfoVxlan::Id(value) => vni = Some(*value),
                            InfoVxlan::Port(value) => port = Some(*value),
                            InfoVxlan::Local(value) => local = Some(*value),
                            InfoVxlan::Learning(value) => learning = Some(*value),
                            InfoVxlan::Group(_) | InfoVxlan::Group6(_) | InfoVxlan::Link(_) => return None,
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Some(Device {
        vni: vni?,
        port: port?,
        local: local?,
        mac: mac?,
        learning: learning?,
    })
}

/// The interface's own IPv4 address in an address message.
pub(crate) fn local_address(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(addr)) => Some(*addr),
        _ => None,
    })
}

/// A VXLAN device's addresses are all ours; those on `lo` when they bear our mark. Kernels before 5.18 keep no mark,
/// so the service address is known by its value too.
pub(crate) fn own_address(message: &AddressMessage, link: Link, service: Option<Ipv4Addr>) -> Option<Object> {
    let addr = local_address(message)?;
    let marked = message
        .attributes
        .contains(&AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    let prefix = message.header.prefix_len;
    let ours = link != Link::Loopback || marked || (service == Some(addr) && prefix == 32);
    ours.then_some(Object::Address { link, addr, prefix })
}

pub(crate) fn address_message(index: u32, addr: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new()
        .index(index)
        .address(addr, prefix)
        .build();
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    message
}

/// A route with our protocol number. `devices` are the networks of VXLAN devices by the kernel's numbers for these.
pub(crate) fn own_route(message: &RouteMessage, devices: &BTreeMap<u32, u32>) -> Option<Route> {
    if message.header.protocol != ROUTE_PROTOCOL || message.header.address_family != AddressFamily::Inet {
        return None;
    }
    let mut to = Ipv4Addr::UNSPECIFIED;
    let (mut table, mut metric) = (u32::from(message.header.table), 0);
    let (mut gateway, mut source, mut oif) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(addr)) => to = *addr,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => gateway = Some(*addr),
            RouteAttribute::PrefSource(RouteAddress::Inet(addr)) => source = Some(*addr),
            RouteAttribute::Oif(index) => oif = Some(*index),
            _ => {}
        }
    }
    let vni = oif.and_then(|index| devices.get(&index)).copied();
    let target = match (message.header.kind, gateway, vni) {
        (RouteType::Unreachable, ..) => Target::Unreachable,
        (RouteType::Prohibit, ..) => Target::Prohibited,
        (RouteType::Unicast, Some(gateway), Some(vni)) => Target::Tunnel { vni, gateway, source },
        _ => Target::Other,
    };
    let to = Ipv4Net::new(to, message.header.destination_prefix_length).ok()?;
    Some(Route {
        table,
        to,
        metric,
        target,
    })
}

/// The message that makes `route`; `None` for what this version does not make, or when the device is missing.
pub(crate) fn route_message(route: &Route, device: Option<u32>) -> Option<RouteMessage> {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.to.network(), route.to.prefix())
        .table_id(route.table)
        .priority(route.metric)
        .protocol(ROUTE_PROTOCOL);
    let builder = match route.target {
        Target::Unreachable => builder.kind(RouteType::Unreachable),
        Target::Prohibited => builder.kind(RouteType::Prohibit),
        Target::Tunnel { gateway, source, .. } => {
            let builder = builder.gateway(gateway).output_interface(device?).onlink();
            match source {
                Some(source) => builder.pref_source(source),
                None => builder,
            }
        }
        Target::Other => return None,
    };
    Some(builder.build())
}

/// The message that deletes our route with this table, prefix and metric, whatever it leads to.
pub(crate) fn route_removal(route: &Route) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(route.to.network(), route.to.prefix())
        .table_id(route.table)
        .priority(route.metric)
        .protocol(ROUTE_PROTOCOL)
        .kind(RouteType::Unspec)
        .scope(RouteScope::NoWhere)
        .build()
}

pub(crate) fn own_rule(message: &RuleMessage) -> Option<Object> {
    if !message.attributes.contains(&RuleAttribute::Protocol(ROUTE_PROTOCOL)) {
        return None;
    }
    let (mut from, mut table, mut priority) = (Ipv4Addr::UNSPECIFIED, u32::from(message.header.table), 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(IpAddr::V4(addr)) => from = *addr,
            RuleAttribute::Table(value) => table = *value,
            RuleAttribute::Priority(value) => priority = *value,
            _ => {}
        }
    }
    let from = Ipv4Net::new(from, message.header.src_len).ok()?;
    Some(Object::Rule { from, table, priority })
}

pub(crate) fn rule_message(from: Ipv4Net, table: u32, priority: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.action = RuleAction::ToTable;
    message.header.src_len = from.prefix();
    message.attributes = vec![
        RuleAttribute::Source(from.network().into()),
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(ROUTE_PROTOCOL),
    ];
    message
}

/// A forwarding entry or a permanent neighbour on a VXLAN device. Other neighbour states are the kernel's own tries.
pub(crate) fn own_neighbour(message: &NeighbourMessage, vni: u32) -> Option<Object> {
    let (mut addr, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => addr = ipv4(destination),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            _ => {}
        }
    }
    match message.header.family {
        AddressFamily::Bridge => Some(Object::Fdb {
            vni,
            mac: mac?,
            node: addr?,
        }),
        AddressFamily::Inet if message.header.state == NeighbourState::Permanent => Some(Object::Neighbour {
            vni,
            addr: addr?,
            mac: mac?,
        }),
        _ => None,
    }
}

/// A forwarding entry's destination is decoded as bare bytes, because its family says bridge.
fn ipv4(address: &NeighbourAddress) -> Option<Ipv4Addr> {
    match address {
        NeighbourAddress::Inet(addr) => Some(*addr),
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from),
        _ => None,
    }
}
