//! "Too big": told to the sender of a packet that does not fit the way to its backend's node.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_ktime_get_coarse_ns};
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Checksum, Reason, TOO_BIG_BURST, TOO_BIG_RATE, too_big_bucket};

use super::{TTL, back, cut, ipv4, room, turned, words};
use crate::family::{Family, V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, Icmp, Ipv4, Ipv6};
use crate::icmp::{ICMP4, ICMP6};
use crate::maps::{TOO_BIG_RATES, node};

/// As much as `bpf_csum_diff` takes at once on older kernels, and of IPv4 nearly as much as RFC 1812 lets be quoted.
const PIECE: usize = 512;
/// What IPv6 hosts may rely on: less is not told, for they would not heed it.
const LEAST_MTU6: u32 = 1280;
/// "Internetwork control", as RFC 1812 wants it.
const TOS: u8 = 0xc0;
/// Set above the MTU by whoever only asks what would be.
pub(crate) const EXPLAIN: u32 = 1 << 16;

#[repr(C, packed(2))]
struct Message4 {
    eth: Eth,
    ip: Ipv4,
    icmp: Icmp,
    quote: [u8; PIECE],
}

#[repr(C, packed(2))]
struct Message6 {
    eth: Eth,
    ip: Ipv6,
    icmp: Icmp,
    /// Extension headers may take the first piece; the ports behind them must be in the quote.
    quote: [[u8; PIECE]; 2],
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_too_big4(ctx: *mut xdp_md, how: u32) -> u32 {
    four(&XdpContext::new(ctx), how & !EXPLAIN, how & EXPLAIN != 0).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_too_big6(ctx: *mut xdp_md, how: u32) -> u32 {
    six(&XdpContext::new(ctx), how & !EXPLAIN, how & EXPLAIN != 0).index()
}

#[inline(always)]
fn four(ctx: &XdpContext, mtu: u32, explain: bool) -> Reason {
    const QUOTE_END: usize = ETH_LEN + PIECE;
    let (Some(_), Some(node)) = (ctx.at::<[u8; QUOTE_END]>(0), node()) else {
        return Reason::TooBig;
    };
    let (Some(eth), Some(ip)) = (ctx.at::<Eth>(0), ctx.at::<Ipv4>(ETH_LEN)) else {
        return Reason::TooBig;
    };
    // SAFETY: checked by `at`.
    let (eth, ip) = unsafe { (*eth, *ip) };
    if !may_tell::<V4>(&eth, ip.src, explain) {
        return Reason::TooBig;
    }
    let ahead = size_of::<Message4>() - QUOTE_END;
    if !(cut(ctx, QUOTE_END) && room(ctx, ahead)) {
        return Reason::NoHeadroom;
    }
    let Some(message) = ctx.at::<Message4>(0) else {
        return Reason::NoHeadroom;
    };
    // SAFETY: checked by `at` after the head moved.
    unsafe {
        let quote = (&raw mut (*message).quote).cast::<u8>();
        let sum = Checksum::new().add32(sum_of(quote, 0));
        (*message).icmp = icmp(3, 4, mtu, sum);
        (*message).ip = ipv4(&ip, ICMP4, size_of::<Message4>(), TOS);
        (*message).eth = turned(&eth);
    }
    back(ctx, node, Reason::TooBigReplied, explain)
}

#[inline(always)]
fn six(ctx: &XdpContext, mtu: u32, explain: bool) -> Reason {
    const QUOTE_END: usize = ETH_LEN + 2 * PIECE;
    let (Some(_), Some(node)) = (ctx.at::<[u8; QUOTE_END]>(0), node()) else {
        return Reason::TooBig;
    };
    let (Some(eth), Some(ip)) = (ctx.at::<Eth>(0), ctx.at::<Ipv6>(ETH_LEN)) else {
        return Reason::TooBig;
    };
    // SAFETY: checked by `at`.
    let (eth, (src, dst)) = unsafe { (*eth, ((*ip).src, (*ip).dst)) };
    if mtu < LEAST_MTU6 || !may_tell::<V6>(&eth, src, explain) {
        return Reason::TooBig;
    }
    let ahead = size_of::<Message6>() - QUOTE_END;
    if !(cut(ctx, QUOTE_END) && room(ctx, ahead)) {
        return Reason::NoHeadroom;
    }
    let Some(message) = ctx.at::<Message6>(0) else {
        return Reason::NoHeadroom;
    };
    let len = (size_of::<Message6>() - ETH_LEN - size_of::<Ipv6>()) as u16;
    // SAFETY: checked by `at` after the head moved.
    unsafe {
        let quote = (&raw mut (*message).quote).cast::<u8>();
        let first = sum_of(quote, 0);
        let sum = words(src)
            .and(words(dst))
            .add32(Be32::new(len.into()).raw())
            .add32(Be32::new(ICMP6.into()).raw())
            .add32(sum_of(quote.add(PIECE), first));
        (*message).icmp = icmp(2, 0, mtu, sum);
        (*message).ip = Ipv6 {
            version_class_label: Be32::new(0x6000_0000),
            payload_len: Be16::new(len),
            next: ICMP6,
            hop_limit: TTL,
            src: dst,
            dst: src,
        };
        (*message).eth = turned(&eth);
    }
    back(ctx, node, Reason::TooBigReplied, explain)
}

/// Whether there is one sender to tell (RFC 1812, 4.3.2.7), and it was not told too often of late.
#[inline(always)]
fn may_tell<F: Family>(eth: &Eth, client: F::Addr, explain: bool) -> bool {
    if eth.dst[0] & 1 != 0 || !F::is_one_host(client) {
        return false;
    }
    if explain {
        return true;
    }
    let Some(bucket) = TOO_BIG_RATES.get_ptr_mut(too_big_bucket(&F::widen(client))) else {
        return false;
    };
    // SAFETY: this CPU's own value; the clock takes no pointers.
    unsafe { (*bucket).take(bpf_ktime_get_coarse_ns(), TOO_BIG_RATE, TOO_BIG_BURST) }
}

/// # Safety
///
/// `piece` points at so many bytes of the packet.
#[inline(always)]
unsafe fn sum_of(piece: *mut u8, seed: u32) -> u32 {
    // SAFETY: the caller's; the helper only reads.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, piece.cast(), PIECE as u32, seed) };
    sum as u32
}

/// The message's header; `sum` is that of everything else.
#[inline(always)]
fn icmp(kind: u8, code: u8, mtu: u32, sum: Checksum) -> Icmp {
    let rest = Be32::new(mtu);
    let first = Be16::new(u16::from(kind) << 8 | u16::from(code));
    Icmp {
        kind,
        code,
        checksum: sum.add16(first.raw()).add32(rest.raw()).finish(),
        rest,
    }
}
