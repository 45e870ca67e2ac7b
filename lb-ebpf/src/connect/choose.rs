//! Which backend a socket gets: the less loaded of two, or the one its session keeps to.
#![allow(unsafe_code, reason = "random numbers and clocks are helpers")]

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use lb_common::{
    BackendEntry, Be16, Candidate, FULL_RAMP, Ip, TableRange, VipEntry, backend_flags, flow_hash, ramp,
    second_is_better, vip_flags,
};

use super::call::Call;
use crate::maps::{OPEN_SOCKETS, backend_of_slot, node};

/// A slot may name a backend that has just gone; so often another one is looked at.
const TRIES: u32 = 4;

/// A backend that takes new connections, with its index.
pub(crate) type Chosen = (u32, &'static BackendEntry);

/// Chooses for this call. `None` when the VIP has nobody who takes it.
#[inline(always)]
pub(crate) fn choose(call: &Call<'_>, vip: &VipEntry) -> Option<Chosen> {
    let chosen = if vip.flags & vip_flags::AFFINITY != 0 {
        kept(call, vip.table)
    } else {
        least_loaded(vip.table)
    }?;
    call.takes(&chosen.1.addr).then_some(chosen)
}

/// Power of two choices. The table holds each backend as often as its weight says, so random slots are weighted draws.
#[inline(always)]
fn least_loaded(table: TableRange) -> Option<Chosen> {
    let first = drawn(table)?;
    let mut second = first;
    // A second draw of the same backend compares nothing; one more draw evens out small sets.
    for _ in 0..2 {
        if second.0 == first.0
            && let Some(other) = pick(table, random())
        {
            second = other;
        }
    }
    if second.0 == first.0 {
        return Some(first);
    }
    let slow_start = node().map_or(0, |node| node.slow_start);
    let now = if slow_start == 0 { 0 } else { seconds() };
    let (a, b) = (candidate(&first, now, slow_start), candidate(&second, now, slow_start));
    let dice = if a.ramp == FULL_RAMP && b.ramp == FULL_RAMP {
        0
    } else {
        random()
    };
    Some(if second_is_better(&a, &b, dice) { second } else { first })
}

/// The same backend for the same source: of the address the socket is bound to, else of its network namespace, which
/// stands for the container or the node.
#[inline(always)]
fn kept(call: &Call<'_>, table: TableRange) -> Option<Chosen> {
    let source = call.bound().unwrap_or_else(|| {
        let cookie = call.namespace();
        // No address looks like this: it is not mapped, and below the first that are given out.
        Ip([0, 0, (cookie >> 32) as u32, cookie as u32].map(lb_common::Be32::new))
    });
    let mut hash = flow_hash(&source, Be16::new(0), Be16::new(0), 0);
    for _ in 0..TRIES {
        if let Some(chosen) = pick(table, hash) {
            return Some(chosen);
        }
        hash = hash.wrapping_mul(0x9e37_79b1).rotate_left(16);
    }
    None
}

#[inline(always)]
fn drawn(table: TableRange) -> Option<Chosen> {
    for _ in 0..TRIES {
        if let Some(chosen) = pick(table, random()) {
            return Some(chosen);
        }
    }
    None
}

#[inline(always)]
fn pick(table: TableRange, hash: u32) -> Option<Chosen> {
    let (index, backend) = backend_of_slot(table.slot(hash)?)?;
    (backend.flags & backend_flags::OPEN != 0 && backend.weight != 0).then_some((index, backend))
}

#[inline(always)]
fn candidate(chosen: &Chosen, now: u32, slow_start: u32) -> Candidate {
    Candidate {
        open: OPEN_SOCKETS.get(chosen.0).copied().unwrap_or(0),
        weight: chosen.1.weight,
        ramp: ramp(now, chosen.1.opened, slow_start),
    }
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: no pointers involved.
    unsafe { bpf_get_prandom_u32() }
}

/// Seconds of the monotonic clock.
#[inline(always)]
fn seconds() -> u32 {
    // SAFETY: no pointers involved.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}
