//! The XDP program of an uplink: sorts packets and ends each with exactly one reason.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::info;
use lb_common::{Endpoint, Ip, NodeConfig, Reason, node_flags};

use crate::maps::{count, node, vip};
use crate::parse::{ETH_LEN, Eth, Frame, IPV4, Ipv4, TCP, Tcp, TcpPacket, UDP};
use crate::{dsr, vip};

#[xdp]
pub(crate) fn revere_xdp(ctx: XdpContext) -> u32 {
    let reason = sort(&ctx);
    count(reason);
    if node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        info!(
            &ctx,
            "xdp: reason {} on interface {}",
            reason.index(),
            ctx.ingress_ifindex()
        );
    }
    action(reason)
}

/// The numbers of the XDP reasons lie in the order of their verdicts.
#[inline(always)]
fn action(reason: Reason) -> u32 {
    let number = reason.index();
    if number < Reason::TunnelSent.index() {
        XDP_PASS
    } else if number == Reason::TunnelSent.index() {
        XDP_TX
    } else if number == Reason::TunnelRedirected.index() {
        XDP_REDIRECT
    } else {
        XDP_DROP
    }
}

#[inline(always)]
fn sort(ctx: &XdpContext) -> Reason {
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::Truncated;
    };
    // SAFETY: checked by `at`.
    if unsafe { (*eth).kind } != IPV4 {
        return Reason::NotIpv4;
    }
    let Some(ip_at) = ctx.at::<Ipv4>(ETH_LEN) else {
        return Reason::Truncated;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let Some(header_len) = ip.header_len() else {
        return Reason::Truncated;
    };
    let total_len = usize::from(ip.total_len.get());
    if total_len < header_len || ETH_LEN + total_len > ctx.len() {
        return Reason::Truncated;
    }
    let Some(node) = node() else {
        return Reason::NotConfigured;
    };
    if ip.protocol == UDP && header_len == size_of::<Ipv4>() && Ip::v4(ip.dst) == node.own {
        return dsr::receive(ctx, node).unwrap_or(Reason::NotVip);
    }
    let in_range = ip.dst.raw() & node.vip_mask.raw() == node.vip_network.raw();
    if ip.protocol != TCP {
        return if in_range { Reason::VipProtocol } else { Reason::NotVip };
    }
    if ip.is_fragment() {
        return if in_range { Reason::Fragment } else { Reason::NotVip };
    }
    let Some(tcp) = ctx.at::<Tcp>(ETH_LEN + header_len) else {
        return Reason::Truncated;
    };
    let packet = TcpPacket { ip: ip_at, tcp };
    if total_len < header_len + size_of::<Tcp>() {
        return Reason::Truncated;
    }
    to_vip(ctx, node, &packet, in_range)
}

#[inline(always)]
fn to_vip(ctx: &XdpContext, node: &NodeConfig, packet: &TcpPacket, in_range: bool) -> Reason {
    let endpoint = Endpoint::new(Ip::v4(packet.ip().dst), packet.tcp().dst, TCP);
    match vip(&endpoint) {
        Some(entry) => vip::forward(ctx, node, packet, &endpoint, &entry),
        None if in_range => Reason::UnknownVip,
        None => Reason::NotVip,
    }
}
