//! What this node's kernel holds of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::{fs, io};

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use rtnetlink::{IpVersion, RouteMessageBuilder};

use crate::message;
use crate::object::vni_of_name;
use crate::{Config, Device, Link, Object, Overlay, Sysctl};

/// The interface that bears the underlay address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MTU, of which the tunnel's follows.
    pub mtu: u32,
}

/// An interface that bears a VXLAN device's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDevice {
    /// The kernel's number for it.
    pub index: u32,
    /// Its fixed properties, if it is a VXLAN device at all.
    pub device: Option<Device>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
}

/// The kernel's state, as far as the plane owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actual {
    /// Whether `lo` is up.
    pub loopback_up: bool,
    /// The interface that leads to the other nodes.
    pub uplink: Uplink,
    /// The VXLAN devices, by the network that their name tells.
    pub devices: BTreeMap<u32, SeenDevice>,
    /// Our objects; others' are not listed, so that they can't be removed.
    pub objects: BTreeSet<Object>,
    /// Kernel switches that exist.
    pub sysctls: BTreeMap<Sysctl, i32>,
}

/// Why the kernel's state is not known.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A listing failed.
    #[error("listing {what} over netlink failed: {source}")]
    List {
        /// What was asked for.
        what: &'static str,
        /// The cause.
        source: rtnetlink::Error,
    },
    /// No interface has the node's address.
    #[error(
        "no interface of this network namespace has the node's address {ip}: set the node's address to one that `ip address` shows"
    )]
    NoUplink {
        /// The configured address.
        ip: Ipv4Addr,
    },
    /// There is no `lo`.
    #[error("this network namespace has no interface `lo`, which bears the node's service address")]
    NoLoopback,
    /// A kernel switch can't be read.
    #[error("reading {path} failed: {source}; /proc must be mounted")]
    Sysctl {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
}

/// Lists the kernel's state: five dumps and a few small files.
pub async fn observe(overlay: &mut Overlay) -> Result<Actual, ObserveError> {
    let netlink = &overlay.netlink;
    let config = &overlay.config;
    let links: Vec<LinkMessage> = netlink
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(list("interfaces"))?;
    let addresses: Vec<AddressMessage> = netlink
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(list("addresses"))?;
    let uplink = find_uplink(&links, &addresses, config)?;
    let loopback = find(&links, "lo").ok_or(ObserveError::NoLoopback)?;
    let devices: BTreeMap<u32, SeenDevice> = links
        .iter()
        .filter_map(|link| Some((vni_of_name(message::link_name(link)?)?, message::seen_device(link))))
        .collect();
    let by_index: BTreeMap<u32, u32> = devices.iter().map(|(vni, seen)| (seen.index, *vni)).collect();

    let mut objects = BTreeSet::new();
    for address in &addresses {
        let link = match address.header.index {
            index if index == loopback.header.index => Link::Loopback,
            index => match by_index.get(&index) {
                Some(vni) => Link::Device(*vni),
                None => continue,
            },
        };
        objects.extend(message::own_address(address, link, config.service_addr));
    }
    observe_routes(overlay, &by_index, &mut objects).await?;
    if !by_index.is_empty() {
        observe_neighbours(overlay, &by_index, &mut objects).await?;
    }
    let sysctls = read_sysctls(&uplink.name, devices.keys().copied())?;
    Ok(Actual {
        loopback_up: message::is_up(loopback),
        uplink,
        devices,
        objects,
        sysctls,
    })
}

fn list(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> ObserveError {
    move |source| ObserveError::List { what, source }
}

fn find<'a>(links: &'a [LinkMessage], name: &str) -> Option<&'a LinkMessage> {
    links.iter().find(|link| message::link_name(link) == Some(name))
}

fn find_uplink(links: &[LinkMessage], addresses: &[AddressMessage], config: &Config) -> Result<Uplink, ObserveError> {
    let ip = config.uplink_ip;
    let bearer = addresses
        .iter()
        .find(|address| message::local_address(address) == Some(ip));
    let link = bearer.and_then(|address| links.iter().find(|link| link.header.index == address.header.index));
    let link = link.ok_or(ObserveError::NoUplink { ip })?;
    let name = message::link_name(link).unwrap_or_default().to_owned();
    Ok(Uplink {
        index: link.header.index,
        name,
        mtu: message::link_mtu(link),
    })
}

async fn observe_routes(
    overlay: &Overlay,
    devices: &BTreeMap<u32, u32>,
    objects: &mut BTreeSet<Object>,
) -> Result<(), ObserveError> {
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut routes = overlay.netlink.route().get(all).execute();
    while let Some(route) = routes.try_next().await.map_err(list("routes"))? {
        objects.extend(message::own_route(&route, devices).map(Object::Route));
    }
    let mut rules = overlay.netlink.rule().get(IpVersion::V4).execute();
    while let Some(rule) = rules.try_next().await.map_err(list("rules"))? {
        objects.extend(message::own_rule(&rule));
    }
    Ok(())
}

async fn observe_neighbours(
    overlay: &Overlay,
    devices: &BTreeMap<u32, u32>,
    objects: &mut BTreeSet<Object>,
) -> Result<(), ObserveError> {
    for (family, what) in [
        (AddressFamily::Inet, "neighbours"),
        (AddressFamily::Bridge, "forwarding entries"),
    ] {
        let mut entries = overlay.netlink.neighbours().get().set_address_family(family).execute();
        while let Some(entry) = entries.try_next().await.map_err(list(what))? {
            if let Some(vni) = devices.get(&entry.header.ifindex) {
                objects.extend(message::own_neighbour(&entry, *vni));
            }
        }
    }
    Ok(())
}

fn read_sysctls(uplink: &str, devices: impl Iterator<Item = u32>) -> Result<BTreeMap<Sysctl, i32>, ObserveError> {
    let mut values = BTreeMap::new();
    let fixed = [Sysctl::Forward, Sysctl::ReversePathAll, Sysctl::ReversePathUplink];
    for sysctl in fixed.into_iter().chain(devices.map(Sysctl::ReversePathDevice)) {
        let path = sysctl.path(uplink);
        match fs::read_to_string(&path) {
            Ok(text) => values.extend(text.trim().parse().ok().map(|value: i32| (sysctl, value))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ObserveError::Sysctl {
                    path: path.display().to_string(),
                    source,
                });
            }
        }
    }
    Ok(values)
}
