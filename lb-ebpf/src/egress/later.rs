//! Later parts of an answer: they have no ports, and get the source that the first one got.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use lb_common::Reason;
use lb_common::fragment_ways::ANSWER;

use super::rewrite;
use crate::family::{V4, V6};
use crate::fragment::Parts;
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Extension, Ipv4, Ipv6};
use crate::maps::VIP_ENDPOINTS;

#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_answer_later4(ctx: *mut __sk_buff) -> u32 {
    four(&TcContext::new(ctx)).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn revere_answer_later6(ctx: *mut __sk_buff) -> u32 {
    six(&TcContext::new(ctx)).index()
}

#[inline(always)]
fn four(ctx: &TcContext) -> Reason {
    let Some(ip) = ctx.at::<Ipv4>(ETH_LEN) else {
        return Reason::NotBalanced;
    };
    // SAFETY: checked by `at`.
    let ip = unsafe { *ip };
    let key = V4::part_key(ip.src, ip.dst, ip.id.raw().into(), ip.protocol, ANSWER);
    turn::<V4>(ctx, &key, ip.src)
}

#[inline(always)]
fn six(ctx: &TcContext) -> Reason {
    let (Some(ip), Some(extension)) = (
        ctx.at::<Ipv6>(ETH_LEN),
        ctx.at::<Extension>(ETH_LEN + size_of::<Ipv6>()),
    ) else {
        return Reason::NotBalanced;
    };
    // SAFETY: checked by `at`.
    let (src, dst, id) = unsafe { ((*ip).src, (*ip).dst, u32::from_ne_bytes((*extension).rest)) };
    turn::<V6>(ctx, &V6::part_key(src, dst, id, 0, ANSWER), src)
}

#[inline(always)]
fn turn<F: Parts>(ctx: &TcContext, key: &F::PartKey, from: F::Addr) -> Reason {
    let Some(vip) = F::first(key).and_then(|first| VIP_ENDPOINTS.get(first.vip.into())) else {
        return Reason::NotBalanced;
    };
    let addr = F::narrow(&vip.addr);
    match rewrite::network::<F>(ctx, addr, F::moved(from, addr).sum()) {
        Ok(()) => Reason::Restored,
        Err(_) => Reason::RestoreFailed,
    }
}
