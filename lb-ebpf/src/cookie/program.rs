//! The program that is asked: a cookie, a flow, an end, or back to the uplink program.
//!
//! A program of its own, so that the uplink program is spared its instructions and its room on the stack.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers; helpers")]

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_load_bytes;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::{CookieCount, NodeConfig, Reason, flow_flags, node_flags};

use super::reply::{self, Replies};
use super::socket::{Head, Said, Seen};
use super::{Ask, ELSEWHERE, SIX, TUNNELLED, UPLINK, count, note_sent};
use crate::choose::adopt;
use crate::family::{V4, V6};
use crate::frame::Frame;
use crate::headers::{ETH_LEN, TCP, Tcp};
use crate::maps::{self, COOKIE_ASK, COOKIE_PROGRAMS, Owner, node, reason, revere_trace};
use crate::mode::Live;
use crate::opaque::opaque;
use crate::packet::Kind;
use crate::stats;
use crate::tunnel::INNER_IP;
use crate::uplink::action;

/// Options that are looked at for the largest segment.
const MAX_OPTIONS: usize = 6;
const MSS_OPTION: u8 = 2;
const MSS_OPTION_LEN: u8 = 4;
/// Returned instead of a reason's number: the uplink program is to go on; without, and with a question left open.
const KNOWN: u32 = u32::MAX;
const LEFT: u32 = u32::MAX - 1;

#[xdp(frags)]
pub(crate) fn revere_cookie(ctx: XdpContext) -> u32 {
    let Some(ask) = COOKIE_ASK.get_ptr_mut(0) else {
        return action(Reason::NoRoute);
    };
    // SAFETY: this CPU's own value.
    let six = unsafe { (*ask).how } & SIX != 0;
    let said = if six {
        revere_cookie6(ctx.ctx)
    } else {
        revere_cookie4(ctx.ctx)
    };
    let mut ended = Reason::NoRoute;
    if said == KNOWN || said == LEFT {
        // SAFETY: this CPU's own value; nothing is held that would have to be given back.
        unsafe {
            (*ask).left = u32::from(said == LEFT);
            COOKIE_PROGRAMS.tail_call(&ctx, UPLINK);
        }
    } else {
        ended = reason(said);
    }
    maps::count(ended);
    if node().is_some_and(|node| node.flags & node_flags::TRACE != 0) {
        revere_trace(ended.index(), ctx.ingress_ifindex() as u32);
    }
    action(ended)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_cookie4(ctx: *mut xdp_md) -> u32 {
    decide::<V4>(&XdpContext::new(ctx)).unwrap_or(LEFT)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_cookie6(ctx: *mut xdp_md) -> u32 {
    decide::<V6>(&XdpContext::new(ctx)).unwrap_or(LEFT)
}

/// The number of a reason, or one of the two above; `None` is the second.
#[inline(always)]
fn decide<F: Replies>(ctx: &XdpContext) -> Option<u32> {
    // SAFETY: this CPU's own value; a copy.
    let ask = unsafe { *COOKIE_ASK.get_ptr_mut(0)? };
    let node = node()?;
    let owner = Owner::at(ask.backend).filter(|owner| owner.backend.generation == ask.generation)?;
    let at = if ask.how & TUNNELLED != 0 { INNER_IP } else { ETH_LEN };
    // One way for the verifier, not two.
    let at = opaque(at as u64) as usize & 0x7f;
    let header = F::parse(ctx, at)?;
    if header.protocol != TCP || header.end - header.offset < size_of::<Tcp>() {
        return None;
    }
    // SAFETY: checked by `at` and by the parser.
    let (tcp, client, server) = unsafe { (*ctx.at::<Tcp>(header.offset)?, F::src(&*header.ip), F::dst(&*header.ip)) };
    let len = (header.end - at) as u16;
    let kind = Kind {
        protocol: TCP,
        flags: tcp.flags,
        dest: tcp.dst,
    };
    let opens = kind.is_syn();
    let mss = if opens {
        segment::<F>(ctx, header.offset, header.end, &tcp)
    } else {
        F::LEAST_SEGMENT
    };
    let [high, low] = mss.to_be_bytes();
    let mut seen = Seen::<F> {
        ip: F::header(client, F::narrow(&owner.backend.addr)),
        head: Head {
            tcp: Tcp {
                dst: owner.backend.port,
                data_offset: 0x60,
                ..tcp
            },
            mss: [MSS_OPTION, MSS_OPTION_LEN, high, low],
        },
    };
    let said = super::socket::ask::<F>(ctx, ask.namespace, &mut seen, opens);
    if opens {
        let packet = reply::Asked { client, server, tcp };
        return answer::<F>(ctx, node, &ask, &owner, &packet, said, len);
    }
    Some(admit::<F>(
        &ask,
        &owner,
        kind,
        F::key(client, tcp.src, ask.vip as u16),
        said,
        len,
    ))
}

/// What becomes of a SYN.
#[inline(always)]
fn answer<F: Replies>(
    ctx: &XdpContext,
    node: &NodeConfig,
    ask: &Ask,
    owner: &Owner,
    packet: &reply::Asked<F>,
    said: Said,
    len: u16,
) -> Option<u32> {
    let Said::Yes(cookie) = said else {
        count(if said == Said::No {
            CookieCount::NotNeeded
        } else {
            CookieCount::NotPossible
        });
        return None;
    };
    let Some(sent) = reply::send::<F>(ctx, node, packet, cookie, ask.how & TUNNELLED != 0) else {
        count(CookieCount::NotPossible);
        return None;
    };
    // The frame leaves only when this program ends: it cannot come back before this is known.
    note_sent(ask.vip);
    count(CookieCount::Sent);
    if ask.how & TUNNELLED == 0 {
        stats::given::<Live>(owner.index, len);
        stats::ended::<Live>(ask.vip, len, sent);
    }
    Some(sent.index())
}

/// What becomes of a packet that opens nothing and is of no known flow.
#[inline(always)]
fn admit<F: Replies>(ask: &Ask, owner: &Owner, kind: Kind, key: F::Key, said: Said, len: u16) -> u32 {
    let tunnelled = ask.how & TUNNELLED != 0;
    if said == Said::Nobody || (said == Said::No && ask.how & ELSEWHERE != 0) {
        count(CookieCount::Elsewhere);
        return LEFT;
    }
    if said == Said::No {
        count(CookieCount::Refused);
        if !tunnelled {
            stats::stray::<Live>(ask.vip);
            stats::ended::<Live>(ask.vip, len, Reason::BadCookie);
        }
        return Reason::BadCookie.index();
    }
    let flags = if tunnelled { flow_flags::TUNNELLED } else { 0 };
    adopt::<Live, F>(&key, kind, owner, flags);
    if said == Said::Connection {
        count(CookieCount::Known);
    } else {
        count(CookieCount::Accepted);
        if !tunnelled {
            stats::opened::<Live>(ask.vip, owner.index);
        }
    }
    KNOWN
}

/// The largest segment that a SYN's sender takes.
#[inline(always)]
fn segment<F: Replies>(ctx: &XdpContext, offset: usize, end: usize, tcp: &Tcp) -> u16 {
    let end = end.min(offset + usize::from(tcp.data_offset >> 4) * 4);
    match revere_segment(ctx.ctx, (offset + size_of::<Tcp>()) as u32, end as u32) {
        0 => F::LEAST_SEGMENT,
        told => told as u16,
    }
}

/// The same, 0 if the SYN does not tell.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_segment(ctx: *mut xdp_md, start: u32, end: u32) -> u32 {
    let mut at = start;
    let mut bytes = [0_u8; 4];
    for _ in 0..MAX_OPTIONS {
        if at + 4 > end {
            return 0;
        }
        // SAFETY: as many bytes as there is room for.
        if unsafe { bpf_xdp_load_bytes(ctx, at, bytes.as_mut_ptr().cast(), 4) } != 0 {
            return 0;
        }
        let [kind, len, high, low] = bytes;
        if kind == 0 {
            return 0;
        }
        if kind == 1 {
            at += 1;
            continue;
        }
        if kind == MSS_OPTION && len == MSS_OPTION_LEN {
            return u16::from_be_bytes([high, low]).into();
        }
        if len < 2 {
            return 0;
        }
        at += u32::from(len);
    }
    0
}
