//! The XDP program of an uplink: sorts packets and ends each with exactly one reason.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{Decision, NodeConfig, Reason, XDP_DROP_FIRST, XDP_REDIRECT_FIRST, XDP_TX_FIRST, node_flags};

use crate::family::{Family, V4, V6};
use crate::fragment::{revere_later4, revere_later6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, IPV4, IPV6, UDP};
use crate::icmp::{ICMP4, ICMP6};
use crate::maps::{count, node, reason, revere_trace};
use crate::mode::{Explain, Live, Mode, note};
use crate::nat::{HAND_OVER, hand};
use crate::packet::NoPacket;
use crate::tunnel::Carried;
use crate::{cookie, parse, tunnel, vip};

/// Returned instead of a reason's number by the way of IPv6: what goes on from its caller, for the stacks of all callers together
/// are small.
const IS_ICMP: u32 = u32::MAX;
const IS_LATER: u32 = u32::MAX - 1;

#[xdp(frags)]
pub(crate) fn revere_xdp(ctx: XdpContext) -> u32 {
    let mut reason = sort::<Live>(&ctx);
    if reason == HAND_OVER {
        hand(&ctx);
        reason = Reason::NoRoute;
    }
    if reason == cookie::ASK {
        cookie::hand(&ctx);
        reason = Reason::NoRoute;
    }
    count(reason);
    if node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        revere_trace(reason.index(), ctx.ingress_ifindex() as u32);
    }
    action(reason)
}

/// The same for one packet of a test run: leaves nothing behind but its decision.
#[xdp(frags)]
pub(crate) fn revere_explain(ctx: XdpContext) -> u32 {
    note::<Explain>(|decision| {
        *decision = Decision {
            slot: u32::MAX,
            backend: u32::MAX,
            ..Decision::default()
        };
    });
    let reason = sort::<Explain>(&ctx);
    note::<Explain>(|decision| decision.reason = reason.index());
    action(reason)
}

/// The numbers of the XDP reasons lie in the order of their verdicts.
#[inline(always)]
pub(crate) fn action(reason: Reason) -> u32 {
    let number = reason.index();
    if number < XDP_TX_FIRST {
        XDP_PASS
    } else if number < XDP_REDIRECT_FIRST {
        XDP_TX
    } else if number < XDP_DROP_FIRST {
        XDP_REDIRECT
    } else {
        XDP_DROP
    }
}

#[inline(always)]
fn sort<M: Mode>(ctx: &XdpContext) -> Reason {
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::Truncated;
    };
    // SAFETY: checked by `at`.
    let kind = unsafe { (*eth).kind };
    if kind == IPV4 {
        four::<M>(ctx)
    } else if kind == IPV6 {
        let ended = M::six(ctx.ctx);
        if ended == IS_ICMP {
            return reason(V6::error(ctx.ctx, M::HOW));
        }
        if ended == IS_LATER {
            // Explained are first packets only.
            return if M::EXPLAIN {
                Reason::Fragment
            } else {
                reason(revere_later6(ctx.ctx))
            };
        }
        reason(ended)
    } else {
        Reason::NotIp
    }
}

#[inline(always)]
fn four<M: Mode>(ctx: &XdpContext) -> Reason {
    let header = match parse::ipv4(ctx, ETH_LEN) {
        Ok(header) => header,
        Err(reason) => return reason,
    };
    let Some(node) = node() else {
        return Reason::NotConfigured;
    };
    // SAFETY: checked by the parser.
    let ip = unsafe { &*header.ip };
    if ip.is_later() {
        // Explained are first packets only.
        return if M::EXPLAIN {
            Reason::Fragment
        } else {
            reason(revere_later4(ctx.ctx))
        };
    }
    // First parts of ICMP and of tunnel packets are the stack's.
    if !ip.has_more() {
        if header.protocol == UDP && ip.dst == V4::narrow(&node.own) {
            match tunnel::carried(ctx, node) {
                Carried::Ours => return reason(M::receive(ctx.ctx)),
                Carried::Late => return HAND_OVER,
                Carried::Other => {}
            }
        }
        if header.protocol == ICMP4 {
            return reason(V4::error(ctx.ctx, M::HOW));
        }
    }
    let own = V4::narrow(&node.own);
    if ip.src == own && own.raw() != 0 {
        return Reason::OwnSource;
    }
    balance::<M, V4>(ctx, node, &header)
}

/// Apart from the way of IPv4, so that neither holds up the other.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_six(ctx: *mut xdp_md) -> u32 {
    six::<Live>(&XdpContext::new(ctx)).map_or_else(|elsewhere| elsewhere, Reason::index)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_six_explain(ctx: *mut xdp_md) -> u32 {
    six::<Explain>(&XdpContext::new(ctx)).map_or_else(|elsewhere| elsewhere, Reason::index)
}

#[inline(always)]
fn six<M: Mode>(ctx: &XdpContext) -> Result<Reason, u32> {
    let header = match parse::ipv6(ctx, ETH_LEN) {
        Ok(header) => header,
        Err(reason) => return Ok(reason),
    };
    let Some(node) = node() else {
        return Ok(Reason::NotConfigured);
    };
    if parse::is_later(header.protocol) {
        return Err(IS_LATER);
    }
    if header.protocol == ICMP6 {
        return Err(IS_ICMP);
    }
    Ok(balance::<M, V6>(ctx, node, &header))
}

#[inline(always)]
fn balance<M: Mode, F: Family>(ctx: &XdpContext, node: &NodeConfig, header: &parse::Header<F::Header>) -> Reason {
    // SAFETY: checked by the parser.
    let server = F::dst(unsafe { &*header.ip });
    let packet = match header.packet::<F>(ctx, ETH_LEN) {
        Ok(packet) => packet,
        Err(NoPacket::Truncated) => return Reason::Truncated,
        Err(NoPacket::Protocol) if F::in_range(node, server) => return Reason::VipProtocol,
        Err(NoPacket::Protocol) => return Reason::NotVip,
    };
    match F::vip(server, packet.kind.dest, packet.kind.protocol) {
        Some(entry) => vip::forward::<M, F>(ctx, &packet, entry),
        None if F::in_range(node, server) => Reason::UnknownVip,
        None if F::is_translated(node, server, packet.kind) => HAND_OVER,
        None => Reason::NotVip,
    }
}
