//! The tunnel between nodes: what stands in front of a packet there.

use lb_common::ENCAP_LEN;

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
