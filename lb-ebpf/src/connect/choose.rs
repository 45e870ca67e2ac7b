//! Which backend a socket gets: the less loaded of two, or the one its session keeps to.
#![allow(unsafe_code, reason = "random numbers and clocks are helpers")]

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use lb_common::{
    BackendEntry, Be16, Candidate, Ip, TableRange, VipEntry, backend_flags, flow_hash, ramp, second_is_better,
    vip_flags,
};

use super::call::{Call, Family};
use crate::maps::{OPEN_SOCKETS, backend_of_slot, live_backend, node};

/// Slots looked at. One may name a backend that has just gone.
const DRAWS: u32 = 3;
/// And once more where nobody of them takes connections: of two backends one of which has stopped, all of so many draws meet that
/// one once in a million times.
const LATE_DRAWS: u32 = 17;
const NOBODY: Candidate = Candidate {
    open: 0,
    weight: 0,
    ramp: 0,
};

/// A backend that takes new connections, with its index.
pub(crate) type Chosen = (u32, &'static BackendEntry);

/// Chooses for this call. `None` when the VIP has nobody who takes it.
#[inline(always)]
pub(crate) fn choose<F: Family>(call: &Call<'_, F>, vip: &VipEntry) -> Option<Chosen> {
    let chosen: Chosen = if vip.flags & vip_flags::AFFINITY != 0 {
        kept(call, vip.table)?
    } else {
        let index = revere_least_loaded(vip.table.offset(), vip.table.len());
        (index, live_backend(index)?)
    };
    call.takes(&chosen.1.addr).then_some(chosen)
}

/// Power of two choices. The table holds each backend as often as its weight says, so random slots are weighted draws. A
/// third draw stands in for one that found nobody or the same backend again.
///
/// A function for itself, of numbers only: the verifier walks it once per program instead of once per way to it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_least_loaded(offset: u32, len: u32) -> u32 {
    let table = TableRange::new(offset, len);
    let slow_start = node().map_or(0, |node| node.slow_start);
    let (now, dice) = if slow_start == 0 { (0, 0) } else { (seconds(), random()) };
    // An index, not a reference: what the verifier knows of two indices is the same, and it walks on but once.
    let mut best = u32::MAX;
    let mut load = NOBODY;
    let mut compared = 0;
    for _ in 0..DRAWS {
        if compared == 2 {
            break;
        }
        let Some((index, backend)) = pick(table, random()) else {
            continue;
        };
        if index == best {
            continue;
        }
        let found = candidate(index, backend, now, slow_start);
        if compared == 0 || second_is_better(&load, &found, dice) {
            best = index;
            load = found;
        }
        compared += 1;
    }
    if compared == 0 {
        revere_anybody(offset, len)
    } else {
        best
    }
}

/// Somebody all the same, where the draws met only backends that take nothing: they have just stopped to listen, and the table
/// does not say so yet. At last one of these: if somebody listens there again it answers, and if not it refuses.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_anybody(offset: u32, len: u32) -> u32 {
    let table = TableRange::new(offset, len);
    for _ in 0..LATE_DRAWS {
        if let Some((index, _)) = pick(table, random()) {
            return index;
        }
    }
    let last = table.slot(random()).and_then(backend_of_slot);
    last.filter(|(_, backend)| backend.flags & backend_flags::GONE != 0)
        .map_or(u32::MAX, |(index, _)| index)
}

/// The same backend for the same source: of the address the socket is bound to, else of its network namespace, which
/// stands for the container or the node.
#[inline(always)]
fn kept<F: Family>(call: &Call<'_, F>, table: TableRange) -> Option<Chosen> {
    let source = call.bound().unwrap_or_else(|| {
        let cookie = call.namespace();
        // No address looks like this: it is not mapped, and below the first that are given out.
        Ip([0, 0, (cookie >> 32) as u32, cookie as u32].map(lb_common::Be32::new))
    });
    let mut hash = flow_hash(&source, Be16::new(0), Be16::new(0), 0);
    for _ in 0..DRAWS {
        if let Some(chosen) = pick(table, hash) {
            return Some(chosen);
        }
        hash = hash.wrapping_mul(0x9e37_79b1).rotate_left(16);
    }
    let index = revere_anybody(table.offset(), table.len());
    Some((index, live_backend(index)?))
}

#[inline(always)]
fn pick(table: TableRange, hash: u32) -> Option<Chosen> {
    let (index, backend) = backend_of_slot(table.slot(hash)?)?;
    (backend.flags & backend_flags::OPEN != 0 && backend.weight != 0).then_some((index, backend))
}

#[inline(always)]
fn candidate(index: u32, backend: &BackendEntry, now: u32, slow_start: u32) -> Candidate {
    // Below 0 for a moment, when a socket is closed while its backend's index gets a new owner.
    let open = OPEN_SOCKETS.get(index).copied().unwrap_or(0).cast_signed().max(0);
    Candidate {
        open: open.cast_unsigned(),
        weight: backend.weight,
        ramp: ramp(now, backend.opened, slow_start),
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
