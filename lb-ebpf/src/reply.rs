//! Answers that the uplink program gives itself, back on the way the packet came.
#![allow(unsafe_code, reason = "helpers")]

use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Checksum, Ip, NodeConfig, Reason, node_flags};

use crate::bounds::whole_len;
use crate::headers::{ETH_LEN, Eth, Ipv4};
use crate::vip::leave;

pub(crate) mod reset;
pub(crate) mod too_big;

pub(crate) const TTL: u8 = 64;
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);

/// Cuts the frame to so many bytes.
#[inline(always)]
fn cut(ctx: &XdpContext, len: usize) -> bool {
    let more = whole_len(ctx) as i32 - len as i32;
    // SAFETY: the context is this run's own.
    unsafe { bpf_xdp_adjust_tail(ctx.ctx, -more) == 0 }
}

/// Makes room in front of it.
#[inline(always)]
fn room(ctx: &XdpContext, len: usize) -> bool {
    // SAFETY: the context is this run's own.
    unsafe { bpf_xdp_adjust_head(ctx.ctx, -(len as i32)) == 0 }
}

/// The link header of an answer.
#[inline(always)]
pub(crate) fn turned(eth: &Eth) -> Eth {
    Eth {
        dst: eth.src,
        src: eth.dst,
        kind: eth.kind,
    }
}

/// The sum of an address.
#[inline(always)]
pub(crate) fn words(addr: Ip) -> Checksum {
    let [a, b, c, d] = addr.0.map(Be32::raw);
    Checksum::new().add32(a).add32(b).add32(c).add32(d)
}

/// The header of an answer.
#[inline(always)]
pub(crate) fn ipv4(asked: &Ipv4, protocol: u8, len: usize, tos: u8) -> Ipv4 {
    let mut ip = Ipv4 {
        version_len: 0x45,
        tos,
        total_len: Be16::new((len - ETH_LEN) as u16),
        id: Be16::new(0),
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol,
        checksum: Be16::new(0),
        src: asked.dst,
        dst: asked.src,
    };
    ip.checksum = ip.sum();
    ip
}

/// Out again by the interface the packet came in by. `sent` is the reason where that needs no redirect.
#[inline(always)]
fn back(ctx: &XdpContext, node: &NodeConfig, sent: Reason, explain: bool) -> Reason {
    let ifindex = ctx.ingress_ifindex() as u32;
    let redirect = node.flags & node_flags::REDIRECT != 0;
    if explain || redirect {
        leave(ifindex, explain);
    }
    if redirect { Reason::ReplyRedirected } else { sent }
}
