//! Carries out a plan over netlink, and goes on after failures.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan};

use crate::message;
use crate::object::device_name;
use crate::{Device, Link, Object, Op, Overlay, Plan, Route, Sysctl};

const LOOPBACK: &str = "lo";

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// How many operations succeeded.
    pub done: usize,
    /// The others. The next full pass tries them again.
    pub failed: Vec<(Op, ApplyError)>,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel said no.
    #[error("the kernel refused: {0}; changing the network needs CAP_NET_ADMIN")]
    Kernel(#[source] rtnetlink::Error),
    /// The kernel has no VXLAN.
    #[error("this kernel has no VXLAN device ({0}): load the module `vxlan` or use a kernel with CONFIG_VXLAN")]
    NoVxlan(#[source] rtnetlink::Error),
    /// The interface it needs is missing.
    #[error("there is no interface `{0}` to do it on; an earlier operation failed or somebody removed it")]
    NoInterface(String),
    /// A kernel switch can't be written.
    #[error("writing {path} failed: {source}; /proc/sys must be writable")]
    Sysctl {
        /// The file.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The object is not of a kind that is made.
    #[error("this object can only be removed")]
    NotMade,
}

/// The kernel's numbers for the interfaces that operations name.
#[derive(Debug, Default)]
struct Indices(BTreeMap<String, u32>);

impl Indices {
    fn of(&self, name: &str) -> Option<u32> {
        self.0.get(name).copied()
    }

    fn need(&self, name: &str) -> Result<u32, ApplyError> {
        self.of(name).ok_or_else(|| ApplyError::NoInterface(name.to_owned()))
    }

    async fn look(&mut self, netlink: &Handle, name: String) {
        match index_of(netlink, &name).await {
            Some(index) => self.0.insert(name, index),
            None => self.0.remove(&name),
        };
    }
}

/// Carries out `plan`: adds in order, then removes.
pub async fn apply(overlay: &mut Overlay, plan: &Plan) -> Report {
    let mut report = Report::default();
    let mut indices = Indices::default();
    let ops = || plan.adds.iter().chain(&plan.removes);
    let names: BTreeSet<String> = ops().filter_map(interface).collect();
    for name in names {
        indices.look(&overlay.netlink, name).await;
    }
    for op in ops() {
        let outcome = carry_out(overlay, op, &indices).await;
        if let (Op::AddDevice(..) | Op::RemoveDevice(_), Some(name)) = (op, interface(op)) {
            indices.look(&overlay.netlink, name).await;
        }
        match outcome {
            Ok(()) => {
                tracing::debug!(%op, "overlay changed");
                report.done += 1;
            }
            Err(error) => report.failed.push((op.clone(), error)),
        }
    }
    report
}

/// The interface that an operation is about.
fn interface(op: &Op) -> Option<String> {
    match op {
        Op::LoopbackUp => Some(LOOPBACK.to_owned()),
        Op::SetSysctl(_) => None,
        Op::RemoveDevice(vni) | Op::SetMtu(vni, _) | Op::DeviceUp(vni) => Some(device_name(*vni)),
        Op::AddDevice(device, _) => Some(device_name(device.vni)),
        Op::Add(object) | Op::Remove(object) => bearer(object),
    }
}

/// The interface that an object is on.
fn bearer(object: &Object) -> Option<String> {
    match object {
        Object::Address {
            link: Link::Loopback, ..
        } => Some(LOOPBACK.to_owned()),
        object => object.device().map(device_name),
    }
}

async fn carry_out(overlay: &Overlay, op: &Op, indices: &Indices) -> Result<(), ApplyError> {
    let netlink = &overlay.netlink;
    let link = |vni: u32| indices.need(&device_name(vni)).map(LinkUnspec::new_with_index);
    match op {
        Op::LoopbackUp => {
            set_link(
                netlink,
                LinkUnspec::new_with_index(indices.need(LOOPBACK)?).up().build(),
            )
            .await
        }
        Op::DeviceUp(vni) => set_link(netlink, link(*vni)?.up().build()).await,
        Op::SetMtu(vni, mtu) => set_link(netlink, link(*vni)?.mtu(*mtu).build()).await,
        Op::AddDevice(spec, mtu) => add_device(netlink, &device_name(spec.vni), spec, *mtu).await,
        Op::RemoveDevice(vni) => match indices.of(&device_name(*vni)) {
            Some(index) => gone_is_fine(netlink.link().del(index).execute().await),
            None => Ok(()),
        },
        Op::SetSysctl(sysctl) => write_sysctl(overlay, *sysctl).await,
        Op::Add(object) => {
            let index = bearer(object).map_or(Ok(0), |name| indices.need(&name));
            add(netlink, object, index).await
        }
        Op::Remove(object) => {
            let index = bearer(object).and_then(|name| indices.of(&name));
            remove(netlink, object, index).await
        }
    }
}

async fn index_of(netlink: &Handle, name: &str) -> Option<u32> {
    let mut links = netlink.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.ok().flatten().map(|link| link.header.index)
}

async fn set_link(netlink: &Handle, message: netlink_packet_route::link::LinkMessage) -> Result<(), ApplyError> {
    netlink.link().set(message).execute().await.map_err(ApplyError::Kernel)
}

async fn add_device(netlink: &Handle, name: &str, spec: &Device, mtu: u32) -> Result<(), ApplyError> {
    let link = LinkVxlan::new(name, spec.vni)
        .port(spec.port)
        .local(spec.local)
        .learning(spec.learning)
        .address(spec.mac.0.to_vec())
        .mtu(mtu)
        .up()
        .build();
    netlink
        .link()
        .add(link)
        .execute()
        .await
        .map_err(|error| match errno(&error) {
            Some(errno_of_linux::EOPNOTSUPP) => ApplyError::NoVxlan(error),
            _ => ApplyError::Kernel(error),
        })
}

async fn write_sysctl(overlay: &Overlay, sysctl: Sysctl) -> Result<(), ApplyError> {
    let uplink = match sysctl {
        Sysctl::ReversePathUplink => uplink_name(overlay).await?,
        _ => String::new(),
    };
    let path = sysctl.path(&uplink);
    // One small write to procfs never waits, and must be done by this thread: the file follows the thread's namespace.
    fs::write(&path, sysctl.wanted().to_string()).map_err(|source| ApplyError::Sysctl {
        path: path.display().to_string(),
        source,
    })
}

async fn uplink_name(overlay: &Overlay) -> Result<String, ApplyError> {
    let ip = overlay.config.uplink_ip;
    let missing = || ApplyError::NoInterface(format!("with address {ip}"));
    let mut addresses = overlay.netlink.address().get().set_address_filter(ip.into()).execute();
    let address = addresses
        .try_next()
        .await
        .map_err(ApplyError::Kernel)?
        .ok_or_else(missing)?;
    let mut links = overlay.netlink.link().get().match_index(address.header.index).execute();
    let link = links
        .try_next()
        .await
        .map_err(ApplyError::Kernel)?
        .ok_or_else(missing)?;
    message::link_name(&link).map(str::to_owned).ok_or_else(missing)
}

async fn add(netlink: &Handle, object: &Object, index: Result<u32, ApplyError>) -> Result<(), ApplyError> {
    match *object {
        Object::Address { addr, prefix, .. } => {
            let mut request = netlink.address().add(index?, addr.into(), prefix);
            *request.message_mut() = message::address_message(request.message_mut().header.index, addr, prefix);
            there_is_fine(request.execute().await)
        }
        Object::Fdb { mac, node, .. } => {
            let request = netlink.neighbours().add_bridge(index?, &mac.0).destination(node.into());
            request
                .flags(NeighbourFlags::Own)
                .replace()
                .execute()
                .await
                .map_err(ApplyError::Kernel)
        }
        Object::Neighbour { addr, mac, .. } => {
            let mut request = netlink
                .neighbours()
                .add(index?, addr.into())
                .link_layer_address(&mac.0)
                .replace();
            request
                .message_mut()
                .attributes
                .push(NeighbourAttribute::Protocol(message::ROUTE_PROTOCOL));
            request.execute().await.map_err(ApplyError::Kernel)
        }
        Object::Route(route) => add_route(netlink, &route, index).await,
        Object::Rule { from, table, priority } => {
            // No `replace`: for rules the kernel takes that as one more rule.
            let mut request = netlink.rule().add();
            *request.message_mut() = message::rule_message(from, table, priority);
            there_is_fine(request.execute().await)
        }
    }
}

async fn add_route(netlink: &Handle, route: &Route, index: Result<u32, ApplyError>) -> Result<(), ApplyError> {
    let device = match route.target {
        crate::Target::Tunnel { .. } => Some(index?),
        _ => None,
    };
    let message = message::route_message(route, device).ok_or(ApplyError::NotMade)?;
    netlink
        .route()
        .add(message)
        .replace()
        .execute()
        .await
        .map_err(ApplyError::Kernel)
}

async fn remove(netlink: &Handle, object: &Object, index: Option<u32>) -> Result<(), ApplyError> {
    let gone = match (*object, index) {
        (Object::Route(route), _) => netlink.route().del(message::route_removal(&route)).execute().await,
        (Object::Rule { from, table, priority }, _) => {
            netlink
                .rule()
                .del(message::rule_message(from, table, priority))
                .execute()
                .await
        }
        // Without its interface the object is gone already.
        (_, None) => Ok(()),
        (Object::Address { addr, prefix, .. }, Some(index)) => {
            netlink
                .address()
                .del(message::address_message(index, addr, prefix))
                .execute()
                .await
        }
        (Object::Fdb { mac, node, .. }, Some(index)) => {
            let mut entry = NeighbourMessage::default();
            entry.header.family = AddressFamily::Bridge;
            entry.header.ifindex = index;
            entry.header.flags = NeighbourFlags::Own;
            entry.attributes = vec![
                NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet(node)),
            ];
            netlink.neighbours().del(entry).execute().await
        }
        (Object::Neighbour { addr, .. }, Some(index)) => {
            let mut entry = NeighbourMessage::default();
            entry.header.family = AddressFamily::Inet;
            entry.header.ifindex = index;
            entry.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(addr))];
            netlink.neighbours().del(entry).execute().await
        }
    };
    gone_is_fine(gone)
}

/// The kernel's error numbers that mean something here (the same on every Linux architecture but EOPNOTSUPP, which
/// is 95 on all that Revere runs on).
mod errno_of_linux {
    pub(super) const ENOENT: i32 = 2;
    pub(super) const ESRCH: i32 = 3;
    pub(super) const EEXIST: i32 = 17;
    pub(super) const ENODEV: i32 = 19;
    pub(super) const EOPNOTSUPP: i32 = 95;
    pub(super) const EADDRNOTAVAIL: i32 = 99;
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().saturating_abs()),
        _ => None,
    }
}

/// Somebody else may have deleted it between the listing and now.
fn gone_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), ApplyError> {
    use errno_of_linux::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
    match outcome {
        Err(error) if !matches!(errno(&error), Some(ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL)) => {
            Err(ApplyError::Kernel(error))
        }
        _ => Ok(()),
    }
}

/// Somebody else may have made it between the listing and now.
fn there_is_fine(outcome: Result<(), rtnetlink::Error>) -> Result<(), ApplyError> {
    match outcome {
        Err(error) if errno(&error) != Some(errno_of_linux::EEXIST) => Err(ApplyError::Kernel(error)),
        _ => Ok(()),
    }
}
