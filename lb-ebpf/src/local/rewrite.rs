//! A new destination for a packet of a client on this node, by the helpers that know unfinished checksums.
#![allow(unsafe_code, reason = "helpers")]

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use lb_common::Be16;

use crate::family::Family;
use crate::headers::{ETH_LEN, TCP};

/// Where the checksum stands in a TCP and in a UDP header, and the destination's port in both.
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;
const PORT: usize = 2;
/// Where the destination stands in an IPv4 and in an IPv6 header, and the checksum in the former.
const V4_DESTINATION: usize = 16;
const V6_DESTINATION: usize = 24;
const V4_SUM: usize = 10;

/// What the packet says now.
pub(super) struct Destination<F: Family> {
    /// Where the TCP or UDP header lies.
    pub(super) l4: usize,
    pub(super) protocol: u8,
    pub(super) addr: F::Addr,
    pub(super) port: Be16,
}

/// Puts address and port of the backend in.
#[inline(always)]
pub(super) fn destination<F: Family>(
    ctx: &TcContext,
    now: &Destination<F>,
    addr: F::Addr,
    port: Be16,
) -> Result<(), i64> {
    let (sum, zero) = if now.protocol == TCP {
        (now.l4 + TCP_SUM, 0)
    } else {
        (now.l4 + UDP_SUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let change = F::moved(now.addr, addr).sum();
    ctx.l4_csum_replace(sum, 0, change, u64::from(BPF_F_PSEUDO_HDR) | zero)?;
    ctx.l4_csum_replace(sum, now.port.raw().into(), port.raw().into(), 2 | zero)?;
    if F::NUMBER == 4 {
        ctx.l3_csum_replace(ETH_LEN + V4_SUM, 0, change, 0)?;
        ctx.store(ETH_LEN + V4_DESTINATION, &F::widen(addr).0[3].raw(), 0)?;
    } else {
        ctx.store(ETH_LEN + V6_DESTINATION, &addr, 0)?;
    }
    ctx.store(now.l4 + PORT, &port.raw(), 0)
}
