//! ICMP errors about translated flows: what they quote is put back as whoever they are for sent it.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::XdpContext;
use lb_common::{Be32, Checksum, Ip, NodeConfig, Reason};

use super::family::{End, Nat};
use super::{Met, is_reserved, leave};
use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Icmp, Ipv4, Ipv6, UDP, Udp};
use crate::icmp::{ICMP4, ICMP6};
use crate::maps::Owner;
use crate::packet::udp_sum;
use crate::route::{self, NoWay, Route};

/// Turns it towards the backend or the client.
#[inline(always)]
pub(super) fn turn4(ctx: &XdpContext, met: &Met<V4>) -> Reason {
    turned4(ctx, met.node, met.own).unwrap_or_else(|| other(met))
}

#[inline(always)]
pub(super) fn turn6(ctx: &XdpContext, met: &Met<V6>) -> Reason {
    turned6(ctx, met.node, met.own).unwrap_or_else(|| other(met))
}

/// What quotes no such flow.
#[inline(always)]
fn other<F: Nat>(met: &Met<F>) -> Reason {
    if met.is_own() {
        Reason::NotVip
    } else {
        Reason::ErrorUnknown
    }
}

#[inline(always)]
fn turned4(ctx: &XdpContext, node: &NodeConfig, own: &'static Be32) -> Option<Reason> {
    const AT_ICMP: usize = ETH_LEN + size_of::<Ipv4>();
    const AT_QUOTE: usize = AT_ICMP + size_of::<Icmp>();
    // The uplink program hands over only errors without IP options whose quote is one too.
    let ip = ctx.at::<Ipv4>(ETH_LEN)?;
    let icmp = ctx.at::<Icmp>(AT_ICMP)?;
    let quote = ctx.at::<Ipv4>(AT_QUOTE)?;
    let ports = ctx.at::<Udp>(AT_QUOTE + size_of::<Ipv4>())?;
    // SAFETY: checked by `at`.
    let (ip, icmp, quote, ports) = unsafe { (&mut *ip, &mut *icmp, &mut *quote, &mut *ports) };
    if ip.version_len != 0x45 || ip.protocol != ICMP4 || quote.version_len != 0x45 {
        return None;
    }
    if !V4::may_hop(ip) {
        return Some(Reason::NoRoute);
    }
    let ends = ((&quote.src, ports.src), (&quote.dst, ports.dst));
    let (source, dest) = sent_by::<V4>(node, own, ends, quote.protocol)?;
    let found = route::to::<V4>(ctx, &ip.src, source.0, ip.total_len.get(), ICMP4);
    let moved = V4::moved(quote.src, *source.0).and(V4::moved(quote.dst, *dest.0));
    let (old, new) = (quote.checksum, moved.apply(quote.checksum));
    let change = moved
        .replace16(old, new)
        .and(put_ports::<V4>(ports, quote.protocol, moved, source, dest));
    quote.checksum = new;
    let was = quote.dst;
    (quote.src, quote.dst) = (*source.0, *dest.0);
    icmp.checksum = change.apply(icmp.checksum);
    // From the very host that the quoted packet was for: whoever sent that knows it by the address it sent to.
    let from = if ip.src == was { *dest.0 } else { ip.src };
    let outer = V4::moved(ip.dst, *source.0).and(V4::moved(ip.src, from));
    ip.src = from;
    V4::redirect(ip, *source.0, outer, true);
    Some(end(ctx, node, found))
}

/// The same of IPv6, where the sum of the error is over its own addresses too and the quoted header has none.
#[inline(always)]
fn turned6(ctx: &XdpContext, node: &NodeConfig, own: &'static Ip) -> Option<Reason> {
    const AT_ICMP: usize = ETH_LEN + size_of::<Ipv6>();
    const AT_QUOTE: usize = AT_ICMP + size_of::<Icmp>();
    let ip = ctx.at::<Ipv6>(ETH_LEN)?;
    let icmp = ctx.at::<Icmp>(AT_ICMP)?;
    let quote = ctx.at::<Ipv6>(AT_QUOTE)?;
    let ports = ctx.at::<Udp>(AT_QUOTE + size_of::<Ipv6>())?;
    // SAFETY: checked by `at`.
    let (ip, icmp, quote, ports) = unsafe { (&mut *ip, &mut *icmp, &mut *quote, &mut *ports) };
    if ip.next != ICMP6 || !quote.is_version_6() {
        return None;
    }
    if !V6::may_hop(ip) {
        return Some(Reason::NoRoute);
    }
    let ends = ((&quote.src, ports.src), (&quote.dst, ports.dst));
    let (source, dest) = sent_by::<V6>(node, own, ends, quote.next)?;
    let len = ip.payload_len.get() + size_of::<Ipv6>() as u16;
    let found = route::to::<V6>(ctx, &ip.src, source.0, len, ICMP6);
    let moved = V6::moved(quote.src, *source.0).and(V6::moved(quote.dst, *dest.0));
    let change = moved.and(put_ports::<V6>(ports, quote.next, moved, source, dest));
    let was = quote.dst;
    (quote.src, quote.dst) = (*source.0, *dest.0);
    // As above.
    let from = if ip.src == was { *dest.0 } else { ip.src };
    let outer = V6::moved(ip.dst, *source.0).and(V6::moved(ip.src, from));
    icmp.checksum = change.and(outer).apply(icmp.checksum);
    ip.src = from;
    V6::redirect(ip, *source.0, outer, true);
    Some(end(ctx, node, found))
}

#[inline(always)]
fn end(ctx: &XdpContext, node: &NodeConfig, found: Result<Route, NoWay>) -> Reason {
    match found {
        Ok(route) if route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, Reason::NatRestored),
        _ => Reason::NatRestoredPass,
    }
}

/// Ports as their sender wrote them, and what that changes in a sum over the quoted header's own; `moved`: its addresses.
#[inline(always)]
fn put_ports<F: Family>(ports: &mut Udp, protocol: u8, moved: Checksum, source: End<F>, dest: End<F>) -> Checksum {
    let ported = |sum: Checksum, ports: &Udp| sum.replace16(ports.src, source.1).replace16(ports.dst, dest.1);
    let mut change = ported(Checksum::new(), ports);
    // Of TCP's header only what lies before its checksum has to be there.
    if protocol == UDP {
        let old = ports.checksum;
        let new = udp_sum(old, ported(moved, ports).apply(old));
        change = change.replace16(old, new);
        ports.checksum = new;
    }
    (ports.src, ports.dst) = (source.1, dest.1);
    change
}

/// Source and destination of a quoted packet when it was sent; `to`: where it was sent to.
#[inline(always)]
fn sent_by<F: Nat>(
    node: &NodeConfig,
    own: &'static F::Addr,
    (from, to): (End<F>, End<F>),
    protocol: u8,
) -> Option<(End<'static, F>, End<'static, F>)> {
    let room = F::room()?;
    F::put_tuple(&mut room.back, to, from, protocol);
    if from.0 == own && is_reserved(node, from.1) {
        // What this node sent to a backend: the client sent it to where it believed the backend to be.
        return F::asked(&room.back, &mut room.tuple).then(|| F::ends(&room.tuple));
    }
    // What a client got from this node: the backend sent it to a port of ours.
    let flow = F::known(&room.back)?;
    let owner = Owner::of_flow(flow)?;
    let from = (F::within(&owner.backend.addr), owner.backend.port);
    Some((from, (own, flow.port)))
}
