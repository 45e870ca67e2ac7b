//! Packets whose source this node takes the place of: for backends on nodes without the daemon, and for connections that
//! still come for a backend of this node which has stopped. IPv4 only.
//!
//! A program of its own, which the uplink program hands such packets over to: few packets come here, and all others are spared
//! its room on the stack and its instructions.
#![allow(unsafe_code, reason = "packet memory and map lookups")]

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Ip, NatKey4, NodeConfig, Reason, backend_flags, node_flags};

use crate::family::{Family, V4};
use crate::headers::{ETH_LEN, UDP};
use crate::icmp::ICMP4;
use crate::maps::{GUARDS, NAT4_BACK, Owner, PEERS, PROGRAMS, count, node, reason, revere_trace};
use crate::opaque::opaque;
use crate::packet::Packet;
use crate::parse;
use crate::reply::too_big::revere_too_big4;
use crate::tunnel::receive::strip;
use crate::tunnel::{self, Carried, INNER_IP};
use crate::uplink::action;

mod error;
mod flow;
mod heir;
mod leave;
mod parts;

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
    is_reserved(node, port) || (tcp && is_over(port))
}

/// Whether a TCP packet is for a backend of this node that has stopped.
#[inline(always)]
pub(crate) fn is_late(node: &NodeConfig, server: Be32, port: Be16) -> bool {
    server == node.own.0[3] && is_on(node) && is_over(port)
}

#[inline(always)]
fn is_over(port: Be16) -> bool {
    GUARDS.get(u32::from(port.get())).is_some_and(|guard| guard.is_over())
}

#[inline(always)]
fn is_reserved(node: &NodeConfig, port: Be16) -> bool {
    port.get() >= node.nat_first.get() && port.get() <= node.nat_last.get()
}

#[xdp(frags)]
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
    let Some(node) = node() else {
        return Reason::NotConfigured;
    };
    // One way for the verifier, not two.
    let at = match start(ctx) {
        Ok(at) => opaque(at as u64) as usize & 0x7f,
        Err(reason) => return reason,
    };
    let header = match parse::ipv4(ctx, at) {
        Ok(header) => header,
        Err(reason) => return reason,
    };
    if !is_on(node) {
        return Reason::NoRoute;
    }
    // SAFETY: checked by the parser.
    let ip = unsafe { &mut *header.ip };
    if ip.is_later() {
        let other = if ip.dst == node.own.0[3] {
            Reason::NotVip
        } else {
            Reason::Fragment
        };
        return parts::later(ctx, node, ip).unwrap_or(other);
    }
    if header.protocol == ICMP4 {
        // SAFETY: checked by the parser.
        let own = unsafe { (*header.ip).dst } == node.own.0[3];
        return error::turn(ctx, node, if own { Reason::NotVip } else { Reason::ErrorUnknown });
    }
    let Ok(packet) = header.packet::<V4>(ctx, at) else {
        return Reason::NotVip;
    };
    let own = packet.server() == node.own.0[3];
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
        // Its later parts would find nobody.
        None if own && packet.ip().has_more() => Err(Reason::NotVip),
        None if own => late(&packet, &tuple),
        None => bare(&tuple),
    };
    match owner {
        Ok(owner) => send(ctx, node, &packet, &tuple, owner, at),
        Err(reason) => reason,
    }
}

/// Where the packet begins: behind the link header, or in the overlay's tunnel, as the uplink program has seen.
#[inline(always)]
fn start(ctx: &XdpContext) -> Result<usize, Reason> {
    let outer = parse::ipv4(ctx, ETH_LEN)?;
    if outer.protocol != UDP {
        return Ok(ETH_LEN);
    }
    let Some(node) = node() else {
        return Err(Reason::NotConfigured);
    };
    // SAFETY: checked by the parser.
    let source = unsafe { (*outer.ip).src };
    if tunnel::carried(ctx, node) != Carried::Late {
        return Ok(ETH_LEN);
    }
    // SAFETY: a lookup; the value is not read.
    if unsafe { PEERS.get(Ip::v4(source)) }.is_none() {
        return Err(Reason::TunnelNotPeer);
    }
    Ok(INNER_IP)
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
fn send(ctx: &XdpContext, node: &NodeConfig, packet: &Packet<V4>, tuple: &NatKey4, owner: Owner, at: usize) -> Reason {
    if !V4::may_hop(packet.ip()) {
        return Reason::NoRoute;
    }
    let to = (V4::narrow(&owner.backend.addr), owner.backend.port);
    let own = node.own.0[3];
    let Some(port) = flow::port(tuple, packet.kind, &owner, to) else {
        return Reason::NoNatPort;
    };
    match leave::route(ctx, own, to.0, packet.len, tuple.protocol) {
        Ok(route) => {
            packet.translate((own, port), to);
            if at != ETH_LEN && !strip(ctx) {
                return Reason::NoHeadroom;
            }
            leave::by(ctx, node, &route, Reason::NatSent)
        }
        Err(no) if no.reason == Reason::TooBig && at == ETH_LEN => reason(revere_too_big4(ctx.ctx, no.mtu.into())),
        Err(no) => no.reason,
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
    if packet.ip().has_more() {
        parts::note_answer(packet.ip(), &tuple);
    }
    let found = leave::route(ctx, tuple.dest, tuple.source, packet.len, tuple.protocol);
    packet.translate((tuple.dest, tuple.dest_port), (tuple.source, tuple.source_port));
    match found {
        Ok(route) if route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, Reason::NatRestored),
        // To a client of this node, or by an interface that takes nothing from here.
        _ => Reason::NatRestoredPass,
    }
}
