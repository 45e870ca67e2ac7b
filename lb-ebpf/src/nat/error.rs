//! ICMP errors about translated flows: what they quote is put back as whoever they are for sent it.
#![allow(
    unsafe_code,
    reason = "packet memory is reached by checked pointers, and map lookups"
)]

use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, NatKey4, NodeConfig, Reason};

use crate::family::{Family, V4};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Icmp, Ipv4, UDP, Udp};
use crate::icmp::ICMP4;
use crate::maps::{NAT4, NAT4_BACK, Owner};
use crate::nat::{is_reserved, leave};
use crate::packet::udp_sum;

type Peer = (Be32, Be16);

/// Turns it towards the backend or the client. `other` is the reason if it quotes no such flow.
#[inline(always)]
pub(super) fn turn(ctx: &XdpContext, node: &NodeConfig, other: Reason) -> Reason {
    turned(ctx, node).unwrap_or(other)
}

#[inline(always)]
fn turned(ctx: &XdpContext, node: &NodeConfig) -> Option<Reason> {
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
    let sent = NatKey4::new((quote.src, ports.src), (quote.dst, ports.dst), quote.protocol);
    let (source, dest) = if quote.src == node.own.0[3] && is_reserved(node, ports.src) {
        to_client(&sent)?
    } else {
        to_backend(node, &sent)?
    };
    let found = leave::route(ctx, ip.src, source.0, ip.total_len.get(), ICMP4);
    let moved = V4::moved(quote.src, source.0).and(V4::moved(quote.dst, dest.0));
    let (old, new) = (quote.checksum, moved.apply(quote.checksum));
    let mut change = moved.replace16(old, new);
    let ported =
        |sum: lb_common::Checksum, ports: &Udp| sum.replace16(ports.src, source.1).replace16(ports.dst, dest.1);
    change = ported(change, ports);
    // Of TCP's header only what lies before its checksum has to be there.
    if quote.protocol == UDP {
        let old = ports.checksum;
        let new = udp_sum(old, ported(moved, ports).apply(old));
        change = change.replace16(old, new);
        ports.checksum = new;
    }
    quote.checksum = new;
    let was = quote.dst;
    (quote.src, quote.dst) = (source.0, dest.0);
    (ports.src, ports.dst) = (source.1, dest.1);
    icmp.checksum = change.apply(icmp.checksum);
    // From the very host that the quoted packet was for: whoever sent that knows it by the address it sent to.
    let from = if ip.src == was { dest.0 } else { ip.src };
    let outer = V4::moved(ip.dst, source.0).and(V4::moved(ip.src, from));
    ip.src = from;
    V4::redirect(ip, source.0, outer, true);
    Some(match found {
        Ok(route) if route.ifindex == ctx.ingress_ifindex() as u32 => leave::by(ctx, node, &route, Reason::NatRestored),
        _ => Reason::NatRestoredPass,
    })
}

/// What this node sent to a backend: the client sent it to where it believed the backend to be.
#[inline(always)]
fn to_client(sent: &NatKey4) -> Option<(Peer, Peer)> {
    let answer = NatKey4::new(
        (sent.dest, sent.dest_port),
        (sent.source, sent.source_port),
        sent.protocol,
    );
    // SAFETY: entries are replaced whole; a copy.
    let tuple = unsafe { NAT4_BACK.get(answer) }.copied()?;
    Some(((tuple.source, tuple.source_port), (tuple.dest, tuple.dest_port)))
}

/// What a client got from this node: the backend sent it to a port of ours.
#[inline(always)]
fn to_backend(node: &NodeConfig, sent: &NatKey4) -> Option<(Peer, Peer)> {
    let tuple = NatKey4::new(
        (sent.dest, sent.dest_port),
        (sent.source, sent.source_port),
        sent.protocol,
    );
    // SAFETY: the fields that are read are plain words.
    let flow = unsafe { NAT4.get(tuple) }?;
    let owner = Owner::of_flow(flow)?;
    let from = (V4::narrow(&owner.backend.addr), owner.backend.port);
    Some((from, (node.own.0[3], flow.port)))
}
