//! Packets in parts whose source this node takes the place of. The first part has the ports and goes the way of whole packets; the
//! others follow it by what it left behind.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::XdpContext;
use lb_common::fragment_ways::{REQUEST, TRANSLATED};
use lb_common::{Be32, FragmentKey4, FragmentValue, NatKey4, NodeConfig, Reason, backend_flags};

use crate::family::{Family, V4};
use crate::fragment::Parts;
use crate::headers::Ipv4;
use crate::maps::Owner;
use crate::nat::leave;

#[inline(always)]
fn key(ip: &Ipv4, way: u8) -> FragmentKey4 {
    V4::part_key(ip.src, ip.dst, ip.id.raw().into(), ip.protocol, way)
}

/// Notes down whose the first part of an answer is, which begins with `back`'s addresses. Asked for by an address, the others have
/// nothing else.
#[inline(always)]
pub(super) fn note_answer(ip: &Ipv4, tuple: &NatKey4) {
    let value = FragmentValue {
        backend: tuple.source.raw(),
        generation: tuple.dest.raw(),
        vip: 0,
        hash: 0,
    };
    V4::note_first(&key(ip, TRANSLATED), &value);
}

/// A later part. `None`: its first one did not pass here, or went elsewhere.
#[inline(always)]
pub(super) fn later(ctx: &XdpContext, node: &NodeConfig, ip: &mut Ipv4) -> Option<Reason> {
    if let Some(first) = V4::first(&key(ip, TRANSLATED)) {
        let (client, server) = (Be32::from_raw(first.backend), Be32::from_raw(first.generation));
        return Some(follow(ctx, node, ip, (server, client), Reason::NatRestored));
    }
    let first = V4::first(&key(ip, REQUEST))?;
    let owner = Owner::at(first.backend).filter(|owner| owner.backend.generation == first.generation)?;
    if !owner.is(backend_flags::BARE) {
        return None;
    }
    let ends = (node.own.0[3], V4::narrow(&owner.backend.addr));
    Some(follow(ctx, node, ip, ends, Reason::NatSent))
}

/// New addresses, and the way there.
#[inline(always)]
fn follow(ctx: &XdpContext, node: &NodeConfig, ip: &mut Ipv4, (from, to): (Be32, Be32), same: Reason) -> Reason {
    if !V4::may_hop(ip) {
        return Reason::NoRoute;
    }
    let answers = same.index() == Reason::NatRestored.index();
    let found = leave::route(ctx, from, to, ip.total_len.get(), ip.protocol);
    if let Err(no) = &found
        && !answers
    {
        // Nobody is told that a later part is too big (RFC 1812, 4.3.2.7).
        return no.reason;
    }
    let moved = V4::moved(ip.src, from).and(V4::moved(ip.dst, to));
    ip.src = from;
    V4::redirect(ip, to, moved, true);
    match found {
        Ok(route) if !answers || route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, same),
        // As its first part did.
        _ => Reason::NatRestoredPass,
    }
}
