//! A container's network: a namespace, one veth without a bridge, a /32 address and an on-link default route.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::address::{GATEWAY, container_mac, host_mac};
use crate::netlink::{Netlink, Route, VethEnd};
use crate::offload;
use crate::plan::NetworkPlan;

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
/// The link's name inside.
const INSIDE: &str = "eth0";

/// Makes the namespace and its link, and returns the namespace; on failure the text says which step failed.
///
/// To be called by the single-threaded runner: it visits the new namespace and comes back.
pub(crate) fn create(plan: &NetworkPlan) -> Result<File, String> {
    let outside = Netlink::open().map_err(said("open a netlink socket"))?;
    let home = File::open(OWN_NAMESPACE).map_err(said("open the node's network namespace"))?;
    // What an earlier try left behind.
    remove(&plan.link, &plan.netns).map_err(said("remove what was left of the network"))?;
    if let Some(parent) = plan.netns.parent() {
        fs::create_dir_all(parent).map_err(said("create the directory of network namespaces"))?;
    }
    File::create(&plan.netns).map_err(said("create the mount point of the network namespace"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(said("create a network namespace"))?;
    let entered = enter_new(plan);
    setns(&home, CloneFlags::CLONE_NEWNET).map_err(said("return to the node's network namespace"))?;
    let (inside, netns) = entered?;
    connect(plan, &outside, &inside, &netns)?;
    if plan.polls {
        setns(&netns, CloneFlags::CLONE_NEWNET).map_err(said("enter the network namespace again"))?;
        let polls = offload::receive_on(INSIDE);
        setns(&home, CloneFlags::CLONE_NEWNET).map_err(said("return to the node's network namespace"))?;
        if let Err(error) = polls {
            // Its packets go by the stack: whoever sends them past it looks at what the interface takes.
            eprintln!("`node.fast_path` has no effect for this task: receive offload of its interface: {error}");
        }
    }
    Ok(netns)
}

fn enter_new(plan: &NetworkPlan) -> Result<(Netlink, File), String> {
    let inside = Netlink::open().map_err(said("open a netlink socket inside"))?;
    let netns = File::open(OWN_NAMESPACE).map_err(said("open the new network namespace"))?;
    let source = Some(Path::new(OWN_NAMESPACE));
    mount(source, &plan.netns, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(said("bind-mount the network namespace"))?;
    Ok((inside, netns))
}

fn connect(plan: &NetworkPlan, outside: &Netlink, inside: &Netlink, netns: &File) -> Result<(), String> {
    let (here, there) = (host_mac(plan.address), container_mac(plan.address));
    outside
        .add_veth(
            VethEnd {
                name: &plan.link,
                mac: here,
                mtu: plan.mtu,
            },
            VethEnd {
                name: INSIDE,
                mac: there,
                mtu: plan.mtu,
            },
            netns.as_raw_fd(),
        )
        .map_err(said("create a veth pair"))?;
    let loopback = inside.index("lo").map_err(said("find lo inside"))?;
    inside.set_up(loopback).map_err(said("set lo up inside"))?;
    let eth0 = inside.index(INSIDE).map_err(said("find eth0 inside"))?;
    inside
        .add_address(eth0, plan.address)
        .map_err(said("add the address inside"))?;
    inside.set_up(eth0).map_err(said("set eth0 up inside"))?;
    inside
        .add_neighbour(eth0, GATEWAY, here)
        .map_err(said("add the gateway's neighbour entry inside"))?;
    let default = Route {
        to: Ipv4Addr::UNSPECIFIED,
        prefix: 0,
        via: Some(GATEWAY),
        link: eth0,
    };
    inside
        .add_route(default)
        .map_err(said("add the default route inside"))?;
    let link = outside.index(&plan.link).map_err(said("find the host side"))?;
    forward(&plan.link).map_err(said("switch forwarding on for the host side"))?;
    outside.set_up(link).map_err(said("set the host side up"))?;
    outside
        .add_neighbour(link, plan.address, there)
        .map_err(said("add the container's neighbour entry"))?;
    let route = Route {
        to: plan.address,
        prefix: 32,
        via: None,
        link,
    };
    outside.add_route(route).map_err(said("add the route to the container"))
}

/// Lets the container's packets be routed on, whatever the node's other interfaces do, as long as their source is the
/// container's own address: what keeps networks apart goes by it.
fn forward(link: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "1")?;
    fs::write(format!("/proc/sys/net/ipv4/conf/{link}/forwarding"), "1")
}

/// Removes link, mount and mount point; none of them needs to be there.
pub(crate) fn remove(link: &str, netns: &Path) -> io::Result<()> {
    Netlink::open()?.delete(link)?;
    match umount2(netns, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match fs::remove_file(netns) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn said<E: std::fmt::Display>(tried: &str) -> impl FnOnce(E) -> String {
    let tried = tried.to_owned();
    move |error| format!("cannot {tried}: {error}")
}
