//! Socket hooks: a connect to a VIP goes to a backend, once per socket; no packet is touched afterwards.
#![allow(unsafe_code, reason = "the hook's context and helpers")]

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_set_retval};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use lb_common::{Be16, Be32, Endpoint, Ip, Original, Reason};

use crate::maps::{ORIGINALS, backend_of_slot, count, node, vip};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
/// The third word of an IPv4-mapped IPv6 address.
const MAPPED: u32 = Be32::new(0xffff).raw();

/// What becomes of a call.
enum Outcome {
    Other,
    Balanced(Be32, Be16),
    Refused(Reason),
}

#[cgroup_sock_addr(connect4)]
pub(crate) fn revere_connect4(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: the kernel gives a whole context; fields are read and written one by one as it asks.
    let addr = Be32::from_raw(unsafe { (*call).user_ip4 });
    match connect(&ctx, addr) {
        Outcome::Other => finish(Reason::SocketOther),
        Outcome::Refused(reason) => finish(reason),
        Outcome::Balanced(addr, port) => {
            // SAFETY: as above.
            unsafe {
                (*call).user_ip4 = addr.raw();
                (*call).user_port = u32::from(port.raw());
            }
            finish(Reason::SocketBalanced)
        }
    }
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn revere_connect6(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    let Some(addr) = mapped(call) else {
        return finish(Reason::SocketOther);
    };
    match connect(&ctx, addr) {
        Outcome::Other => finish(Reason::SocketOther),
        Outcome::Refused(reason) => finish(reason),
        Outcome::Balanced(addr, port) => {
            // SAFETY: the address stays mapped; only its IPv4 part and the port change.
            unsafe {
                (*call).user_ip6[3] = addr.raw();
                (*call).user_port = u32::from(port.raw());
            }
            finish(Reason::SocketBalanced)
        }
    }
}

/// A datagram to an address that is no VIP must not leave the node.
#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn revere_sendmsg4(ctx: SockAddrContext) -> i32 {
    let call = ctx.sock_addr;
    // SAFETY: the kernel gives a whole context.
    let addr = Be32::from_raw(unsafe { (*call).user_ip4 });
    let unknown = in_range(addr) && vip(&wanted(call, addr)).is_none();
    finish(if unknown {
        Reason::SocketUnknownVip
    } else {
        Reason::SocketOther
    })
}

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn revere_getpeername4(ctx: SockAddrContext) -> i32 {
    if let Some(original) = original(&ctx) {
        // SAFETY: the kernel gives a whole context.
        unsafe {
            (*ctx.sock_addr).user_ip4 = original.addr.0[3].raw();
            (*ctx.sock_addr).user_port = u32::from(original.port.raw());
        }
    }
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn revere_getpeername6(ctx: SockAddrContext) -> i32 {
    if mapped(ctx.sock_addr).is_some()
        && let Some(original) = original(&ctx)
    {
        // SAFETY: the kernel gives a whole context.
        unsafe {
            (*ctx.sock_addr).user_ip6[3] = original.addr.0[3].raw();
            (*ctx.sock_addr).user_port = u32::from(original.port.raw());
        }
    }
    ALLOW
}

#[inline(always)]
fn finish(reason: Reason) -> i32 {
    count(reason);
    if reason.index() < Reason::SocketUnknownVip.index() {
        return ALLOW;
    }
    // SAFETY: no pointers involved.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

#[inline(always)]
fn mapped(call: *const bpf_sock_addr) -> Option<Be32> {
    // SAFETY: the kernel gives a whole context; words are read one by one.
    let [a, b, c, d] = unsafe {
        [
            (&raw const (*call).user_ip6[0]).read_volatile(),
            (&raw const (*call).user_ip6[1]).read_volatile(),
            (&raw const (*call).user_ip6[2]).read_volatile(),
            (&raw const (*call).user_ip6[3]).read_volatile(),
        ]
    };
    (a == 0 && b == 0 && c == MAPPED).then_some(Be32::from_raw(d))
}

#[inline(always)]
fn wanted(call: *const bpf_sock_addr, addr: Be32) -> Endpoint {
    // SAFETY: the kernel gives a whole context.
    let (port, protocol) = unsafe { ((*call).user_port, (*call).protocol) };
    Endpoint::new(Ip::v4(addr), Be16::from_raw(port as u16), protocol as u8)
}

#[inline(always)]
fn in_range(addr: Be32) -> bool {
    node().is_some_and(|node| addr.raw() & node.vip_mask.raw() == node.vip_network.raw())
}

#[inline(always)]
fn cookie(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper reads the context only.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

#[inline(always)]
fn original(ctx: &SockAddrContext) -> Option<Original> {
    // SAFETY: entries are written whole by this socket's own connect.
    unsafe { ORIGINALS.get(cookie(ctx)) }.copied()
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, addr: Be32) -> Outcome {
    let endpoint = wanted(ctx.sock_addr, addr);
    let Some(entry) = vip(&endpoint) else {
        if in_range(addr) {
            return Outcome::Refused(Reason::SocketUnknownVip);
        }
        // A socket that was connected to a VIP before must not go on showing it.
        let _ = ORIGINALS.remove(cookie(ctx));
        return Outcome::Other;
    };
    let len = entry.len();
    if len == 0 {
        return Outcome::Refused(Reason::SocketNoBackend);
    }
    // The table holds each backend as often as its weight says, so a random slot is a weighted choice.
    // SAFETY: no pointers involved.
    let random = unsafe { bpf_get_prandom_u32() };
    let slot = entry.offset() + ((u64::from(random) * u64::from(len)) >> 32) as u32;
    let Some((_, backend)) = backend_of_slot(slot) else {
        return Outcome::Refused(Reason::SocketNoBackend);
    };
    let original = Original {
        addr: endpoint.addr,
        port: endpoint.port,
        zero: 0,
    };
    // A socket that was not remembered shows the backend as its peer; it works all the same.
    let _ = ORIGINALS.insert(cookie(ctx), original, 0);
    Outcome::Balanced(backend.addr.0[3], backend.port)
}
