//! The tunnel between nodes: what stands in front of a packet there.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::XdpContext;
use lb_common::{ENCAP_LEN, NodeConfig, TUNNEL_VNI};

use crate::frame::Frame;
use crate::headers::{Eth, Ipv4, Udp, Vxlan};

pub(crate) mod receive;
pub(crate) mod send;

/// Everything in front of the inner IP header. Two-byte packing keeps the fields where the wire has them.
#[repr(C, packed(2))]
pub(crate) struct Outer {
    pub(crate) eth: Eth,
    pub(crate) ip: Ipv4,
    pub(crate) udp: Udp,
    pub(crate) vxlan: Vxlan,
    pub(crate) inner: Eth,
}

pub(crate) const INNER_IP: usize = size_of::<Outer>();
const _: () = assert!(INNER_IP == ENCAP_LEN + size_of::<Eth>());

/// Whether a UDP packet for this node, without IP options, is from the other end of our tunnel.
#[inline(always)]
pub(crate) fn is_ours(ctx: &XdpContext, node: &NodeConfig) -> bool {
    let Some(outer) = ctx.at::<Outer>(0) else {
        return false;
    };
    // SAFETY: checked by `at`.
    let (plain, port, vni) = unsafe {
        (
            (*outer).ip.version_len == 0x45,
            (*outer).udp.dst,
            (*outer).vxlan.vni.get(),
        )
    };
    plain && port == node.tunnel_port && vni >> 8 == TUNNEL_VNI
}
