//! The two programs made of one code: the one that works, and its twin that only explains.
#![allow(unsafe_code, reason = "the decision lies in a map")]

use aya_ebpf::bindings::xdp_md;
use lb_common::Decision;

use crate::maps::DECISION;
use crate::tunnel::receive::{revere_receive, revere_receive_explain};
use crate::uplink::{revere_six, revere_six_explain};

/// Which of the two.
pub(crate) trait Mode {
    /// Write down decisions; make no entries and no counts.
    const EXPLAIN: bool;
    /// The same for `icmp`.
    const HOW: u64 = if Self::EXPLAIN { crate::icmp::EXPLAIN } else { 0 };

    /// The way of IPv6: the number of a reason.
    fn six(ctx: *mut xdp_md) -> u32;

    /// The way out of the tunnel: the number of a reason.
    fn receive(ctx: *mut xdp_md) -> u32;
}

/// Handles packets.
pub(crate) struct Live;

impl Mode for Live {
    const EXPLAIN: bool = false;

    #[inline(always)]
    fn six(ctx: *mut xdp_md) -> u32 {
        revere_six(ctx)
    }

    #[inline(always)]
    fn receive(ctx: *mut xdp_md) -> u32 {
        revere_receive(ctx)
    }
}

/// Explains one packet of a test run.
pub(crate) struct Explain;

impl Mode for Explain {
    const EXPLAIN: bool = true;

    #[inline(always)]
    fn six(ctx: *mut xdp_md) -> u32 {
        revere_six_explain(ctx)
    }

    #[inline(always)]
    fn receive(ctx: *mut xdp_md) -> u32 {
        revere_receive_explain(ctx)
    }
}

/// Writes a part of the decision down.
#[inline(always)]
pub(crate) fn note<M: Mode>(write: impl FnOnce(&mut Decision)) {
    if M::EXPLAIN
        && let Some(decision) = DECISION.get_ptr_mut(0)
    {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        write(unsafe { &mut *decision });
    }
}
