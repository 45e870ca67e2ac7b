//! Packets whose source this node takes the place of: for backends on nodes without the daemon, and for connections that
//! still come for a backend of this node which has stopped. IPv4 only.
//!
//! A program of its own, which the uplink program hands such packets over to: few packets come here, and all others are spared
//! its room on the stack and its instructions.
#![allow(unsafe_code, reason = "packet memory and map lookups")]

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, NatKey4, NodeConfig, Reason, backend_flags, node_flags};

use crate::family::{Family, V4};
use crate::headers::ETH_LEN;
use crate::maps::{GUARDS, NAT4_BACK, Owner, PROGRAMS, count, node, revere_trace};
use crate::packet::Packet;
use crate::parse;
use crate::uplink::action;

mod flow;
mod heir;
mod leave;

/// What the uplink program ends a packet with that it hands over.
pub(crate) const HAND_OVER: Reason = Reason::NatSent;
const NAT: u32 = 0;

/// Goes on in the program below and does not come back, unless that is not there.
#[inline(always)]
pub(crate) fn hand(ctx: &XdpContext) {
    // SAFETY: nothing is held that would have to be given back.
    unsafe { PROGRAMS.tail_call(ctx, NAT) };
}

/// Whether any source is translated here.
#[inline(always)]
pub(crate) fn is_on(node: &NodeConfig) -> bool {
    node.nat_last.raw() != 0
}

/// Whether a packet for this node's own address may be one of ours.
#[inline(always)]
pub(crate) fn concerns(node: &NodeConfig, server: Be32, port: Be16, tcp: bool) -> bool {
    if server != node.own.0[3] || !is_on(node) {
        return false;
    }
    is_reserved(node, port) || (tcp && GUARDS.get(u32::from(port.get())).is_some_and(|guard| guard.is_over()))
}

#[inline(always)]
fn is_reserved(node: &NodeConfig, port: Be16) -> bool {
    port.get() >= node.nat_first.get() && port.get() <= node.nat_last.get()
}

#[xdp]
pub(crate) fn revere_nat(ctx: XdpContext) -> u32 {
    let reason = translate(&ctx);
    count(reason);
    if node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        revere_trace(reason.index(), ctx.ingress_ifindex() as u32);
    }
    action(reason)
}

#[inline(always)]
fn translate(ctx: &XdpContext) -> Reason {
    let header = match parse::ipv4(ctx, ETH_LEN) {
        Ok(header) => header,
        Err(reason) => return reason,
    };
    let Some(node) = node() else {
        return Reason::NotConfigured;
    };
    let Ok(packet) = header.packet::<V4>(ctx, ETH_LEN) else {
        return Reason::NotVip;
    };
    if !is_on(node) {
        return Reason::NoRoute;
    }
    let own = packet.server() == node.own.0[3];
    if packet.ip().is_fragment() {
        // Later parts have no ports to be known by.
        return if own { Reason::NotVip } else { Reason::Fragment };
    }
    let tuple = NatKey4::new(
        (packet.client(), packet.source),
        (packet.server(), packet.kind.dest),
        packet.kind.protocol,
    );
    if own && is_reserved(node, packet.kind.dest) {
        return answer(ctx, node, &packet, &tuple);
    }
    let owner = match flow::owner(&tuple, packet.kind) {
        Some(owner) => Ok(owner),
        None if own => late(&packet, &tuple),
        None => bare(&tuple),
    };
    match owner {
        Ok(owner) => send(ctx, node, &packet, &tuple, owner),
        Err(reason) => reason,
    }
}

/// For a VIP, and the uplink program has found a backend whose node runs no daemon.
#[inline(always)]
fn bare(tuple: &NatKey4) -> Result<Owner, Reason> {
    let entry = V4::vip(tuple.dest, tuple.dest_port, tuple.protocol).ok_or(Reason::NotVip)?;
    let key = V4::key(tuple.source, tuple.source_port, entry.id as u16);
    // What is of no flow was begun elsewhere, and its backend knows it by another port.
    let flow = V4::flow(&key).or_else(|| V4::half(&key)).ok_or(Reason::NoBackend)?;
    let owner = Owner::of_flow(flow).filter(|owner| owner.is(backend_flags::BARE));
    owner.ok_or(Reason::NoBackend)
}

/// For a backend of this node that has stopped: what another node sent before it heard of that.
#[inline(always)]
fn late(packet: &Packet<V4>, tuple: &NatKey4) -> Result<Owner, Reason> {
    if !packet.kind.is_syn() {
        return Err(Reason::LatePacket);
    }
    heir::choose(tuple, packet.kind).ok_or(Reason::LatePacket)
}

/// To the backend, in this node's name.
#[inline(always)]
fn send(ctx: &XdpContext, node: &NodeConfig, packet: &Packet<V4>, tuple: &NatKey4, owner: Owner) -> Reason {
    if !V4::may_hop(packet.ip()) {
        return Reason::NoRoute;
    }
    let to = (V4::narrow(&owner.backend.addr), owner.backend.port);
    let own = node.own.0[3];
    let Some(port) = flow::port(node, tuple, packet.kind, &owner, to) else {
        return Reason::NoNatPort;
    };
    match leave::route(ctx, own, to.0, packet.len, tuple.protocol) {
        Ok(route) => {
            packet.translate((own, port), to);
            leave::by(ctx, node, &route, Reason::NatSent)
        }
        Err(reason) => reason,
    }
}

/// From a backend to a port of ours: the client's.
#[inline(always)]
fn answer(ctx: &XdpContext, node: &NodeConfig, packet: &Packet<V4>, back: &NatKey4) -> Reason {
    // SAFETY: entries are replaced whole; a copy.
    let Some(tuple) = (unsafe { NAT4_BACK.get(back) }).copied() else {
        return Reason::NotVip;
    };
    if !V4::may_hop(packet.ip()) {
        return Reason::NoRoute;
    }
    flow::answered(&tuple, packet.kind);
    let found = leave::route(ctx, tuple.dest, tuple.source, packet.len, tuple.protocol);
    packet.translate((tuple.dest, tuple.dest_port), (tuple.source, tuple.source_port));
    match found {
        Ok(route) if route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, Reason::NatRestored),
        // To a client of this node, or by an interface that takes nothing from here.
        _ => Reason::NatRestoredPass,
    }
}
