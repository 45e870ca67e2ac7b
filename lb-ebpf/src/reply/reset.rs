//! A reset, told to the client of a connection whose backend is gone, so that it does not wait for an answer.
#![allow(unsafe_code, reason = "packet memory")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be16, Be32, Checksum, Reason};

use super::{TTL, back, cut, ipv4, turned, words};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, Eth, Ipv4, Ipv6, RST, TCP, Tcp};
use crate::maps::node;
use crate::parse;

const TCP_LEN: usize = size_of::<Tcp>();
/// A TCP header of five words.
const DATA_OFFSET: u8 = 0x50;

#[repr(C, packed(2))]
struct Message<H> {
    eth: Eth,
    ip: H,
    tcp: Tcp,
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_reset4(ctx: *mut xdp_md, explain: u32) -> u32 {
    four(&XdpContext::new(ctx), explain != 0).index()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_reset6(ctx: *mut xdp_md, explain: u32) -> u32 {
    six(&XdpContext::new(ctx), explain != 0).index()
}

#[inline(always)]
fn four(ctx: &XdpContext, explain: bool) -> Reason {
    let (Ok(header), Some(node)) = (parse::ipv4(ctx, ETH_LEN), node()) else {
        return Reason::NoBackend;
    };
    let (Some(eth), Some(tcp)) = (ctx.at::<Eth>(0), ctx.at::<Tcp>(header.offset)) else {
        return Reason::NoBackend;
    };
    // SAFETY: checked by `at` and by the parser.
    let (eth, ip, tcp) = unsafe { (*eth, *header.ip, answer(&*tcp)) };
    if !cut(ctx, size_of::<Message<Ipv4>>()) {
        return Reason::NoBackend;
    }
    let Some(message) = ctx.at::<Message<Ipv4>>(0) else {
        return Reason::NoBackend;
    };
    let sum = Checksum::new().add32(ip.src.raw()).add32(ip.dst.raw());
    // SAFETY: checked by `at` after the end moved.
    unsafe {
        (*message).eth = turned(&eth);
        (*message).ip = ipv4(&ip, TCP, size_of::<Message<Ipv4>>(), 0);
        (*message).tcp = summed(tcp, sum);
    }
    back(ctx, node, Reason::ResetReplied, explain)
}

#[inline(always)]
fn six(ctx: &XdpContext, explain: bool) -> Reason {
    let (Ok(header), Some(node)) = (parse::ipv6(ctx, ETH_LEN), node()) else {
        return Reason::NoBackend;
    };
    let (Some(eth), Some(tcp)) = (ctx.at::<Eth>(0), ctx.at::<Tcp>(header.offset)) else {
        return Reason::NoBackend;
    };
    // SAFETY: checked by `at` and by the parser.
    let (eth, src, dst, tcp) = unsafe { (*eth, (*header.ip).src, (*header.ip).dst, answer(&*tcp)) };
    if !cut(ctx, size_of::<Message<Ipv6>>()) {
        return Reason::NoBackend;
    }
    let Some(message) = ctx.at::<Message<Ipv6>>(0) else {
        return Reason::NoBackend;
    };
    // SAFETY: checked by `at` after the end moved.
    unsafe {
        (*message).eth = turned(&eth);
        (*message).ip = Ipv6 {
            version_class_label: Be32::new(0x6000_0000),
            payload_len: Be16::new(TCP_LEN as u16),
            next: TCP,
            hop_limit: TTL,
            src: dst,
            dst: src,
        };
        (*message).tcp = summed(tcp, words(src).and(words(dst)));
    }
    back(ctx, node, Reason::ResetReplied, explain)
}

/// What the client acknowledged is the number it takes a reset with (RFC 5961).
#[inline(always)]
fn answer(asked: &Tcp) -> Tcp {
    Tcp {
        src: asked.dst,
        dst: asked.src,
        sequence: asked.acknowledged,
        acknowledged: Be32::new(0),
        data_offset: DATA_OFFSET,
        flags: RST,
        window: Be16::new(0),
        checksum: Be16::new(0),
        urgent: Be16::new(0),
    }
}

/// With its checksum; `addresses` is their sum.
#[inline(always)]
fn summed(tcp: Tcp, addresses: Checksum) -> Tcp {
    let first = Be16::new(u16::from(DATA_OFFSET) << 8 | u16::from(RST));
    let checksum = addresses
        .add16(Be16::new(TCP.into()).raw())
        .add16(Be16::new(TCP_LEN as u16).raw())
        .add16(tcp.src.raw())
        .add16(tcp.dst.raw())
        .add32(tcp.sequence.raw())
        .add16(first.raw())
        .finish();
    Tcp { checksum, ..tcp }
}
