//! What VIPs and backends have seen.
#![allow(unsafe_code, reason = "this CPU's own values")]

use lb_common::{Reason, XDP_DROP_FIRST};

use crate::maps::{BACKEND_STATS, VIP_STATS};
use crate::mode::Mode;

/// A packet for a VIP came to its end.
#[inline(always)]
pub(crate) fn ended<M: Mode>(vip: u32, len: u16, reason: Reason) {
    if !M::EXPLAIN
        && let Some(stats) = VIP_STATS.get_ptr_mut(vip)
    {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        let stats = unsafe { &mut *stats };
        stats.packets += 1;
        stats.bytes += u64::from(len);
        if reason.index() >= XDP_DROP_FIRST {
            stats.drops += 1;
        }
    }
}

/// A packet was given to a backend.
#[inline(always)]
pub(crate) fn given<M: Mode>(backend: u32, len: u16) {
    if !M::EXPLAIN
        && let Some(stats) = BACKEND_STATS.get_ptr_mut(backend)
    {
        // SAFETY: as above.
        let stats = unsafe { &mut *stats };
        stats.packets += 1;
        stats.bytes += u64::from(len);
    }
}

/// A flow was opened.
#[inline(always)]
pub(crate) fn opened<M: Mode>(vip: u32, backend: u32) {
    if M::EXPLAIN {
        return;
    }
    if let Some(stats) = VIP_STATS.get_ptr_mut(vip) {
        // SAFETY: as above.
        unsafe { (*stats).flows += 1 };
    }
    if let Some(stats) = BACKEND_STATS.get_ptr_mut(backend) {
        // SAFETY: as above.
        unsafe { (*stats).flows += 1 };
    }
}

/// A packet belonged to no known flow and opened none.
#[inline(always)]
pub(crate) fn stray<M: Mode>(vip: u32) {
    if !M::EXPLAIN
        && let Some(stats) = VIP_STATS.get_ptr_mut(vip)
    {
        // SAFETY: as above.
        unsafe { (*stats).strays += 1 };
    }
}
