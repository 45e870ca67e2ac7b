//! Packets in parts whose source this node takes the place of. The first part has the ports and goes the way of whole packets; the
//! others follow it by what it left behind.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::XdpContext;
use lb_common::fragment_ways::{REQUEST, TRANSLATED};
use lb_common::{NodeConfig, Reason, backend_flags};

use super::family::Nat;
use super::{Met, leave};
use crate::headers::ETH_LEN;
use crate::maps::Owner;
use crate::route;

/// Notes down whose the first part of an answer is.
#[inline(always)]
pub(super) fn note_answer<F: Nat>(ctx: &XdpContext, ip: &F::Header, tuple: &F::Tuple) {
    if let Some((key, _)) = F::part(ctx, ETH_LEN, ip, TRANSLATED) {
        let ((client, _), (server, _)) = F::ends(tuple);
        F::note_answer(&key, client, server);
    }
}

/// A later part. `None`: its first one did not pass here, or went elsewhere.
#[inline(always)]
pub(super) fn later<F: Nat>(ctx: &XdpContext, met: &Met<F>) -> Option<Reason> {
    // SAFETY: checked by the parser.
    let ip = unsafe { &mut *met.header.ip };
    let (node, own, len) = (met.node, met.own, (met.header.end - met.at) as u16);
    let (mut key, protocol) = F::part(ctx, ETH_LEN, ip, TRANSLATED)?;
    if let Some((client, server)) = F::answer_of(&key) {
        let ends = (&server, &client);
        return Some(follow::<F>(ctx, node, ip, ends, (len, protocol), Reason::NatRestored));
    }
    F::set_way(&mut key, REQUEST);
    let first = F::first(&key)?;
    let owner = Owner::at(first.backend).filter(|owner| owner.backend.generation == first.generation)?;
    if !owner.is(backend_flags::BARE) {
        return None;
    }
    let ends = (own, F::within(&owner.backend.addr));
    Some(follow::<F>(ctx, node, ip, ends, (len, protocol), Reason::NatSent))
}

/// New addresses, and the way there.
#[inline(always)]
fn follow<F: Nat>(
    ctx: &XdpContext,
    node: &NodeConfig,
    ip: &mut F::Header,
    (from, to): (&F::Addr, &F::Addr),
    (len, protocol): (u16, u8),
    same: Reason,
) -> Reason {
    if !F::may_hop(ip) {
        return Reason::NoRoute;
    }
    let answers = same.index() == Reason::NatRestored.index();
    let found = route::to::<F>(ctx, from, to, len, protocol);
    if let Err(no) = &found
        && !answers
    {
        // Nobody is told that a later part is too big (RFC 1812, 4.3.2.7).
        return no.reason;
    }
    let moved = F::moved(F::src(ip), *from).and(F::moved(F::dst(ip), *to));
    F::redirect(ip, *to, moved, true);
    F::set_src(ip, *from);
    match found {
        Ok(route) if !answers || route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, same),
        // As its first part did.
        _ => Reason::NatRestoredPass,
    }
}
