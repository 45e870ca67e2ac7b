//! The way out of a translated packet.
#![allow(unsafe_code, reason = "packet memory and helpers")]

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be32, NodeConfig, Reason, node_flags};

use crate::frame::Frame;
use crate::headers::{Eth, IPV4};
use crate::tunnel::send::{AF_INET, route_request};
use crate::vip::leave;

/// Where a packet goes next.
pub(super) struct Route {
    pub(super) ifindex: u32,
    to: [u8; 6],
    from: [u8; 6],
}

/// Why there is no way.
pub(super) struct NoWay {
    pub(super) reason: Reason,
    /// With [`Reason::TooBig`]: how long the packet may be.
    pub(super) mtu: u16,
}

/// The way to an address.
#[inline(always)]
pub(super) fn route(ctx: &XdpContext, from: Be32, to: Be32, len: u16, protocol: u8) -> Result<Route, NoWay> {
    let mut words = MaybeUninit::uninit();
    let route = route_request(&mut words);
    route.family = AF_INET;
    route.l4_protocol = protocol;
    route.ifindex = ctx.ingress_ifindex() as u32;
    route.__bindgen_anon_1.tot_len = len;
    route.__bindgen_anon_3.ipv4_src = from.raw();
    route.__bindgen_anon_4.ipv4_dst = to.raw();
    // SAFETY: a whole request of the length told.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), route, size_of::<FibLookup>() as i32, 0) };
    let (reason, mtu) = match u32::try_from(found) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {
            return Ok(Route {
                ifindex: route.ifindex,
                to: route.dmac,
                from: route.smac,
            });
        }
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => (Reason::NoNeighbour, 0),
        // SAFETY: integers; the kernel has written the MTU there.
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => (Reason::TooBig, unsafe { route.__bindgen_anon_1.mtu_result }),
        _ => (Reason::NoRoute, 0),
    };
    Err(NoWay { reason, mtu })
}

/// Puts the link addresses in. `same` is the reason where the packet leaves by the interface it came in by.
#[inline(always)]
pub(super) fn by(ctx: &XdpContext, node: &NodeConfig, route: &Route, same: Reason) -> Reason {
    let Some(eth) = ctx.at::<Eth>(0) else {
        return Reason::NoRoute;
    };
    // SAFETY: checked by `at`.
    unsafe {
        (*eth).dst = route.to;
        (*eth).src = route.from;
        (*eth).kind = IPV4;
    }
    if route.ifindex == ctx.ingress_ifindex() as u32 && node.flags & node_flags::REDIRECT == 0 {
        return same;
    }
    leave(route.ifindex, false);
    Reason::NatRedirected
}
