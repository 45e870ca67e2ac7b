//! The way to an address, as the kernel's routes and neighbours tell it.
#![allow(unsafe_code, reason = "helpers")]

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use aya_ebpf::programs::XdpContext;
use lb_common::{Be32, Reason};

use crate::family::Family;
use crate::headers::Eth;
use crate::tunnel::send::{AF_INET, route_request};

const AF_INET6: u8 = 10;

/// Where a packet goes next: by which interface, and with what link header.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub(crate) ifindex: u32,
    pub(crate) eth: Eth,
}

/// Why there is no way.
pub(crate) struct NoWay {
    pub(crate) reason: Reason,
    /// With [`Reason::TooBig`]: how long the packet may be.
    pub(crate) mtu: u16,
}

/// The way from one address to another, for a packet so long from its IP header on.
#[inline(always)]
pub(crate) fn to<F: Family>(
    ctx: &XdpContext,
    from: &F::Addr,
    to: &F::Addr,
    len: u16,
    protocol: u8,
) -> Result<Route, NoWay> {
    let mut words = MaybeUninit::uninit();
    let route = route_request(&mut words);
    route.l4_protocol = protocol;
    route.ifindex = ctx.ingress_ifindex() as u32;
    route.__bindgen_anon_1.tot_len = len;
    let (from, to) = (F::widen(*from), F::widen(*to));
    if F::NUMBER == 4 {
        route.family = AF_INET;
        route.__bindgen_anon_3.ipv4_src = from.0[3].raw();
        route.__bindgen_anon_4.ipv4_dst = to.0[3].raw();
    } else {
        route.family = AF_INET6;
        route.__bindgen_anon_3.ipv6_src = from.0.map(Be32::raw);
        route.__bindgen_anon_4.ipv6_dst = to.0.map(Be32::raw);
    }
    // SAFETY: a whole request of the length told.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), route, size_of::<FibLookup>() as i32, 0) };
    let (reason, mtu) = match u32::try_from(found) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {
            return Ok(Route {
                ifindex: route.ifindex,
                eth: Eth {
                    dst: route.dmac,
                    src: route.smac,
                    kind: F::ETHER,
                },
            });
        }
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => (Reason::NoNeighbour, 0),
        // SAFETY: integers; the kernel has written the MTU there.
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => (Reason::TooBig, unsafe { route.__bindgen_anon_1.mtu_result }),
        _ => (Reason::NoRoute, 0),
    };
    Err(NoWay { reason, mtu })
}
