//! Socket hooks: a call to a VIP goes to a backend, chosen once per socket; no packet of it is touched afterwards.

use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use lb_common::Reason;

use crate::maps::{count, node};

pub(crate) mod admit;
mod call;
mod choose;
mod datagram;
mod listener;
mod memory;
mod open;
mod tell;

use call::{Call, V4, V6};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;

#[cgroup_sock_addr(connect4)]
pub(crate) fn revere_connect4(ctx: SockAddrContext) -> i32 {
    finish(open::open(&Call::<V4>::new(&ctx)))
}

#[cgroup_sock_addr(connect6)]
pub(crate) fn revere_connect6(ctx: SockAddrContext) -> i32 {
    finish(open::open(&Call::<V6>::new(&ctx)))
}

#[cgroup_sock_addr(sendmsg4)]
pub(crate) fn revere_sendmsg4(ctx: SockAddrContext) -> i32 {
    finish(datagram::send(&Call::<V4>::new(&ctx)))
}

#[cgroup_sock_addr(sendmsg6)]
pub(crate) fn revere_sendmsg6(ctx: SockAddrContext) -> i32 {
    finish(datagram::send(&Call::<V6>::new(&ctx)))
}

#[cgroup_sock_addr(recvmsg4)]
pub(crate) fn revere_recvmsg4(ctx: SockAddrContext) -> i32 {
    datagram::receive(&Call::<V4>::new(&ctx));
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub(crate) fn revere_recvmsg6(ctx: SockAddrContext) -> i32 {
    datagram::receive(&Call::<V6>::new(&ctx));
    ALLOW
}

#[cgroup_sock_addr(getpeername4)]
pub(crate) fn revere_getpeername4(ctx: SockAddrContext) -> i32 {
    open::peer(&Call::<V4>::new(&ctx));
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub(crate) fn revere_getpeername6(ctx: SockAddrContext) -> i32 {
    open::peer(&Call::<V6>::new(&ctx));
    ALLOW
}

/// The last descriptor of a socket was closed.
#[cgroup_sock(sock_release)]
pub(crate) fn revere_sock_release(ctx: SockContext) -> i32 {
    let cookie = call::cookie(&ctx);
    memory::forget(cookie);
    listener::closed(&ctx, cookie);
    ALLOW
}

#[inline(always)]
fn finish(reason: Reason) -> i32 {
    count(reason);
    if reason.index() < Reason::SocketUnknownVip.index() {
        return ALLOW;
    }
    call::set_error(reason);
    REFUSE
}

/// Whether an address lies in one of the VIP ranges.
#[inline(always)]
fn in_range(addr: &lb_common::Ip) -> bool {
    let Some(node) = node() else { return false };
    match addr.as_v4() {
        Some(v4) => v4.raw() & node.vip_mask.raw() == node.vip_network.raw() && node.vip_mask.raw() != 0,
        None => {
            addr.0[0] == node.vip6_network[0]
                && addr.0[1] == node.vip6_network[1]
                && (node.vip6_network[0].raw() | node.vip6_network[1].raw()) != 0
        }
    }
}
