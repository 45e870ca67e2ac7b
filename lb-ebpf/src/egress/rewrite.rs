//! A new source for an answer. The helpers know checksums that the device is still to finish; plain arithmetic breaks those.
#![allow(unsafe_code, reason = "helpers")]

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::programs::TcContext;
use lb_common::Be16;

use super::Answer;
use crate::family::Family;
use crate::headers::{ETH_LEN, TCP};

/// Where the checksum stands in a TCP and in a UDP header.
const TCP_SUM: usize = 16;
const UDP_SUM: usize = 6;
/// Where the source stands in an IPv4 and in an IPv6 header, and the checksum in the former.
const V4_SOURCE: usize = 12;
const V6_SOURCE: usize = 8;
const V4_SUM: usize = 10;

/// Puts address and port of the VIP in.
#[inline(always)]
pub(super) fn source<F: Family>(ctx: &TcContext, answer: &Answer<F>, addr: F::Addr, port: Be16) -> Result<(), i64> {
    let (sum, zero) = if answer.protocol == TCP {
        (answer.l4 + TCP_SUM, 0)
    } else {
        (answer.l4 + UDP_SUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | zero;
    // A field of four bytes or one of sixteen: the sum of the change is all that the helper has to know.
    let change = F::moved(answer.from, addr).sum();
    ctx.l4_csum_replace(sum, 0, change, pseudo)?;
    ctx.l4_csum_replace(sum, answer.source.raw().into(), port.raw().into(), 2 | zero)?;
    network::<F>(ctx, addr, change)?;
    ctx.store(answer.l4, &port.raw(), 0)
}

/// Puts the address alone in; `change` is what that does to a sum.
#[inline(always)]
pub(super) fn network<F: Family>(ctx: &TcContext, addr: F::Addr, change: u64) -> Result<(), i64> {
    if F::NUMBER == 4 {
        ctx.l3_csum_replace(ETH_LEN + V4_SUM, 0, change, 0)?;
        ctx.store(ETH_LEN + V4_SOURCE, &F::widen(addr).0[3].raw(), 0)
    } else {
        ctx.store(ETH_LEN + V6_SOURCE, &addr, 0)
    }
}
