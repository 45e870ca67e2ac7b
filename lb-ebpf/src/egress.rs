//! Answers of local backends that leave by an uplink: the VIP goes back in as their source.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lb_common::fragment_ways::ANSWER;
use lb_common::{Be16, Reason, Tag, backend_flags, flow_flags, node_flags};

use crate::family::{Family, V4, V6};
use crate::fragment::{self, Parts};
use crate::frame::Frame;
use crate::headers::{ACK, ETH_LEN, Eth, Extension, IPV4, IPV6, Ipv4, Ipv6, SYN, TCP, Tcp, UDP, Udp};
use crate::maps::{Owner, VIP_ENDPOINTS, count, node, reason, revere_trace};
use crate::mode::Live;
use crate::parse::FRAGMENT;
use crate::track;

mod later;
mod rewrite;
mod segment;

use later::{revere_answer_later4, revere_answer_later6};

/// "Go on with the next program": what tcx and clsact both understand.
const NEXT: i32 = -1;
/// Bytes of Ethernet, IPv6, fragment and TCP headers without options: what is asked of the linear part.
const HEADERS: u32 = 82;

#[classifier]
pub(crate) fn revere_egress(ctx: TcContext) -> i32 {
    let reason = restore(&ctx, backend_flags::LOCAL);
    count(reason);
    if reason != Reason::NotBalanced && node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        revere_trace(reason.index(), 0);
    }
    if reason == Reason::RestoreFailed {
        TC_ACT_SHOT
    } else {
        NEXT
    }
}

/// What of an answer is needed after its pointers have become invalid.
pub(crate) struct Answer<F: Family> {
    pub(crate) from: F::Addr,
    pub(crate) to: F::Addr,
    pub(crate) source: Be16,
    pub(crate) dest: Be16,
    /// Where the TCP or UDP header lies.
    pub(crate) l4: usize,
    /// Where the TCP header ends.
    pub(crate) options_end: usize,
    pub(crate) protocol: u8,
    /// Of TCP; 0 for UDP.
    pub(crate) flags: u8,
    /// Of the first part of a packet: its number, with `PART` above it.
    pub(crate) part: u64,
}

/// Set in `Answer::part`.
const PART: u64 = 1 << 32;

/// Turns an answer of a backend that has the flag `whose`: `LOCAL` on an uplink, `LIVE` where clients of this node are.
#[inline(always)]
pub(crate) fn restore(ctx: &TcContext, whose: u8) -> Reason {
    // Headers may lie outside the linear part.
    let wanted = ctx.len().min(HEADERS);
    if Frame::len(ctx) < wanted as usize && ctx.pull_data(wanted).is_err() {
        return Reason::NotBalanced;
    }
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::NotBalanced;
    };
    // SAFETY: checked by `at`.
    let kind = unsafe { (*eth).kind };
    if kind == IPV4 {
        four(ctx, whose)
    } else if kind == IPV6 {
        reason(revere_egress_six(ctx.skb.skb, whose.into()))
    } else {
        Reason::NotBalanced
    }
}

#[inline(always)]
fn four(ctx: &TcContext, whose: u8) -> Reason {
    let Some(ip_at) = ctx.at::<Ipv4>(ETH_LEN) else {
        return Reason::NotBalanced;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let Some(header_len) = ip.header_len() else {
        return Reason::NotBalanced;
    };
    if ip.is_later() {
        return reason(revere_answer_later4(ctx.skb.skb));
    }
    let part = u64::from(ip.id.raw()) | if ip.has_more() { PART } else { 0 };
    match answer::<V4>(ctx, ip.src, ip.dst, ip.protocol, ETH_LEN + header_len) {
        Some(mut answer) => {
            answer.part = part;
            turn::<V4>(ctx, &answer, whose)
        }
        None => Reason::NotBalanced,
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_egress_six(ctx: *mut __sk_buff, whose: u32) -> u32 {
    six(&TcContext::new(ctx), whose as u8).index()
}

#[inline(always)]
fn six(ctx: &TcContext, whose: u8) -> Reason {
    let Some(ip_at) = ctx.at::<Ipv6>(ETH_LEN) else {
        return Reason::NotBalanced;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let (mut next, mut at, mut part) = (ip.next, ETH_LEN + size_of::<Ipv6>(), 0);
    if next == FRAGMENT {
        let Some(extension) = ctx.at::<Extension>(at) else {
            return Reason::NotBalanced;
        };
        // SAFETY: checked by `at`.
        let extension = unsafe { *extension };
        if extension.is_later() {
            return reason(revere_answer_later6(ctx.skb.skb));
        }
        next = extension.next;
        at += size_of::<Extension>();
        part = u64::from(u32::from_ne_bytes(extension.rest)) | PART;
    }
    match answer::<V6>(ctx, ip.src, ip.dst, next, at) {
        Some(mut answer) => {
            answer.part = part;
            turn::<V6>(ctx, &answer, whose)
        }
        None => Reason::NotBalanced,
    }
}

#[inline(always)]
fn answer<F: Family>(ctx: &TcContext, from: F::Addr, to: F::Addr, protocol: u8, l4: usize) -> Option<Answer<F>> {
    let (ports, flags, options_end) = if protocol == TCP {
        let tcp = ctx.at::<Tcp>(l4)?;
        // SAFETY: checked by `at`.
        let (flags, offset) = unsafe { ((*tcp).flags, (*tcp).data_offset) };
        (tcp.cast::<Udp>(), flags, l4 + usize::from(offset >> 4) * 4)
    } else if protocol == UDP {
        (ctx.at::<Udp>(l4)?, 0, l4)
    } else {
        return None;
    };
    // SAFETY: checked by `at`; both headers begin with the ports.
    let (source, dest) = unsafe { ((*ports).src, (*ports).dst) };
    Some(Answer {
        from,
        to,
        source,
        dest,
        l4,
        options_end,
        protocol,
        flags,
        part: 0,
    })
}

#[inline(always)]
fn turn<F: Parts>(ctx: &TcContext, answer: &Answer<F>, whose: u8) -> Reason {
    let tag = F::tag(answer.from, answer.source, answer.protocol);
    let Some((id, owner)) = vip_of::<F>(answer, tag, whose) else {
        return Reason::NotBalanced;
    };
    if answer.part & PART != 0 {
        let key = F::part_key(answer.from, answer.to, answer.part as u32, answer.protocol, ANSWER);
        F::note_first(&key, &fragment::value(&owner, id as u16));
    }
    let Some(vip) = VIP_ENDPOINTS.get(id) else {
        return Reason::NotBalanced;
    };
    if rewrite::source::<F>(ctx, answer, F::narrow(&vip.addr), vip.port).is_err() {
        return Reason::RestoreFailed;
    }
    // What stays on the node or goes to a backend's node plainly is not wrapped.
    if whose == backend_flags::LOCAL
        && answer.flags & (SYN | ACK) == SYN | ACK
        && let Some(node) = node()
    {
        let most = lb_common::largest_segment(node.underlay_mtu, F::HEADERS);
        segment::revere_clamp(ctx.skb.skb, answer.l4 as u32, answer.options_end as u32, most.into());
    }
    Reason::Restored
}

/// The VIP through which the client reaches the backend.
#[inline(always)]
fn vip_of<F: Family>(answer: &Answer<F>, tag: Tag, whose: u8) -> Option<(u32, Owner)> {
    let owner = Owner::of_tag(tag).filter(|owner| owner.is(whose))?;
    if owner.is(backend_flags::SHARED) {
        let id = F::among(answer.to, answer.dest, owner.index, answer.flags);
        return (id != 0).then_some((id, owner));
    }
    let id = owner.backend.vip;
    let key = F::key(answer.to, answer.dest, id);
    let flow = track::of_backend::<F>(&key, owner.index)?;
    track::follow::<Live, F>(flow, answer.flags, flow_flags::FIN_BACKEND);
    Some((u32::from(id), owner))
}
