//! The way out of a translated packet.
#![allow(unsafe_code, reason = "packet memory")]

use aya_ebpf::programs::XdpContext;
use lb_common::{NodeConfig, Reason, node_flags};

use crate::frame::Frame;
use crate::headers::Eth;
use crate::route::Route;
use crate::vip::leave;

/// Puts the link addresses in. `same` is the reason where the packet leaves by the interface it came in by.
#[inline(always)]
pub(super) fn by(ctx: &XdpContext, node: &NodeConfig, route: &Route, same: Reason) -> Reason {
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::NoRoute;
    };
    // SAFETY: checked by `at`.
    unsafe { *eth = route.eth };
    if route.ifindex == ctx.ingress_ifindex() as u32 && node.flags & node_flags::REDIRECT == 0 {
        return same;
    }
    leave(route.ifindex, false);
    Reason::NatRedirected
}
