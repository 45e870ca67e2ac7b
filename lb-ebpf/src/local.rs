//! Clients of this node whose calls the socket hooks do not see: virtual machines, raw sockets, other cgroup roots. The
//! programs sit on the host's side of such a client's interface; its packets have checksums that nobody has finished and
//! may be far longer than the wire takes, which only the helpers for socket buffers keep right.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use lb_common::{Reason, VipEntry, backend_flags, vip_flags};

use crate::choose;
use crate::egress;
use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, IPV4, IPV6, Ipv4, Ipv6};
use crate::maps::{Owner, count, node, reason};
use crate::mode::Live;
use crate::packet::Packet;
use crate::{settle, stats};

mod rewrite;

/// "Go on with the next program": what tcx and clsact both understand.
const NEXT: i32 = -1;
/// Bytes of Ethernet, the longest IPv4 header and a TCP header: what is asked of the linear part.
const HEADERS: u32 = 94;

/// What a client sends.
#[classifier]
pub(crate) fn revere_local_in(ctx: TcContext) -> i32 {
    end(balance(&ctx))
}

/// What a client gets.
#[classifier]
pub(crate) fn revere_local_out(ctx: TcContext) -> i32 {
    match egress::restore(&ctx, backend_flags::LIVE) {
        Reason::NotBalanced => NEXT,
        Reason::RestoreFailed => end(Reason::LocalFailed),
        _ => end(Reason::LocalRestored),
    }
}

#[inline(always)]
fn end(reason: Reason) -> i32 {
    count(reason);
    if reason == Reason::LocalFailed {
        TC_ACT_SHOT
    } else {
        NEXT
    }
}

#[inline(always)]
fn balance(ctx: &TcContext) -> Reason {
    let wanted = ctx.len().min(HEADERS);
    if Frame::len(ctx) < wanted as usize && ctx.pull_data(wanted).is_err() {
        return Reason::LocalOther;
    }
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::LocalOther;
    };
    // SAFETY: checked by `at`.
    let kind = unsafe { (*eth).kind };
    if kind == IPV4 {
        reason(revere_local_four(ctx.skb.skb))
    } else if kind == IPV6 {
        reason(revere_local_six(ctx.skb.skb))
    } else {
        Reason::LocalOther
    }
}

/// A function for itself: the verifier goes through it once.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_local_four(ctx: *mut __sk_buff) -> u32 {
    four(&TcContext::new(ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_local_six(ctx: *mut __sk_buff) -> u32 {
    six(&TcContext::new(ctx)).index()
}

#[inline(always)]
fn four(ctx: &TcContext) -> Reason {
    let Some(ip_at) = ctx.at::<Ipv4>(ETH_LEN) else {
        return Reason::LocalOther;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let Some(header_len) = ip.header_len().filter(|_| !ip.is_fragment()) else {
        return Reason::LocalOther;
    };
    let total = ip.total_len.get();
    let at = ETH_LEN + header_len;
    match Packet::<V4>::at(ctx, ip_at, ip.protocol, at, usize::MAX, total) {
        Ok(packet) => give::<V4>(ctx, &packet, at),
        Err(_) => Reason::LocalOther,
    }
}

#[inline(always)]
fn six(ctx: &TcContext) -> Reason {
    let Some(ip_at) = ctx.at::<Ipv6>(ETH_LEN) else {
        return Reason::LocalOther;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { &*ip_at };
    let len = ip.payload_len.get().saturating_add(size_of::<Ipv6>() as u16);
    let at = ETH_LEN + size_of::<Ipv6>();
    match Packet::<V6>::at(ctx, ip_at, ip.next, at, usize::MAX, len) {
        Ok(packet) => give::<V6>(ctx, &packet, at),
        Err(_) => Reason::LocalOther,
    }
}

#[inline(always)]
fn give<F: Family>(ctx: &TcContext, packet: &Packet<F>, l4: usize) -> Reason {
    let Some(node) = node() else {
        return Reason::LocalOther;
    };
    let Some(mut vip) = F::vip(packet.server(), packet.kind.dest, packet.kind.protocol).copied() else {
        return if F::in_range(node, packet.server()) {
            Reason::LocalRefused
        } else {
            Reason::LocalOther
        };
    };
    // What has no backend any more is given to another, whose stack resets it.
    vip.flags &= !vip_flags::RESET;
    let owner = match owner::<F>(packet, &vip) {
        Ok(owner) => owner,
        // It tries again in a moment, and finds another.
        Err(Reason::BackendGone) => return Reason::LocalFailed,
        Err(_) => return Reason::LocalRefused,
    };
    stats::given::<Live>(owner.index, packet.len);
    let (id, len) = (vip.id, packet.len);
    let backend = owner.backend;
    let wanted = rewrite::Destination {
        l4,
        protocol: packet.kind.protocol,
        addr: packet.server(),
        port: packet.kind.dest,
    };
    let reason = match rewrite::destination::<F>(ctx, &wanted, F::narrow(&backend.addr), backend.port) {
        Ok(()) => Reason::LocalBalanced,
        Err(_) => Reason::LocalFailed,
    };
    stats::ended::<Live>(id, len, Reason::LocalBackend);
    reason
}

/// The backend of the packet's flow. Its way back passes here whatever node the backend is on, so every flow is known.
#[inline(always)]
fn owner<F: Family>(packet: &Packet<F>, vip: &VipEntry) -> Result<Owner, Reason> {
    let key = F::key(packet.client(), packet.source, vip.id as u16);
    let choice = settle::owner::<Live, F>(vip, &key, packet.kind)?;
    let opens = packet.kind.is_syn() || !packet.kind.is_tcp();
    if !opens && !choice.owner.is(backend_flags::LOCAL) && F::flow(&key).is_none() {
        choose::adopt::<Live, F>(&key, packet.kind, &choice.owner, 0);
    }
    Ok(choice.owner)
}
