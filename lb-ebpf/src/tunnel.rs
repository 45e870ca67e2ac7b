//! The tunnel between nodes: what stands in front of a packet there.
#![allow(unsafe_code, reason = "packet memory is reached by checked pointers")]

use aya_ebpf::programs::XdpContext;
use lb_common::{ENCAP_LEN, NodeConfig, TUNNEL_VNI};

use crate::frame::Frame;
use crate::headers::{Eth, IPV4, Ipv4, TCP, Tcp, Udp, Vxlan};
use crate::nat;

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

/// What a UDP packet for this node, without IP options, carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// Nothing of interest.
    Other,
    /// A packet from the other end of our own tunnel.
    Ours,
    /// What a container elsewhere sends to a backend of this node that has stopped: by the overlay, as all it sends to nodes.
    Late,
}

#[inline(always)]
pub(crate) fn carried(ctx: &XdpContext, node: &NodeConfig) -> Carried {
    let Some(outer) = ctx.at::<Outer>(0) else {
        return Carried::Other;
    };
    // SAFETY: checked by `at`.
    let (plain, port, vni) = unsafe {
        (
            (*outer).ip.version_len == 0x45,
            (*outer).udp.dst,
            (*outer).vxlan.vni.get(),
        )
    };
    if !plain || port != node.tunnel_port {
        return Carried::Other;
    }
    if vni >> 8 == TUNNEL_VNI {
        return Carried::Ours;
    }
    let (Some(ip), Some(tcp)) = (ctx.at::<Ipv4>(INNER_IP), ctx.at::<Tcp>(INNER_IP + size_of::<Ipv4>())) else {
        return Carried::Other;
    };
    // SAFETY: checked by `at`.
    let (kind, ip, port) = unsafe { ((*outer).inner.kind, &*ip, (*tcp).dst) };
    if kind == IPV4
        && ip.version_len == 0x45
        && ip.protocol == TCP
        && !ip.is_later()
        && nat::is_late(node, ip.dst, port)
    {
        return Carried::Late;
    }
    Carried::Other
}
