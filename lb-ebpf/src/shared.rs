//! Backends behind several VIPs: one client port must reach each through one VIP only, for their answers do not say which.
#![allow(unsafe_code, reason = "map lookups")]

use lb_common::{FlowState, FlowValue, Reason, VipEntry, backend_flags};

use crate::family::Family;
use crate::maps::{BACKEND_VIPS, Owner};
use crate::mode::Mode;
use crate::packet::Packet;
use crate::track::CLOSING;

/// Slots that are looked at for a backend that is free.
const TRIES: u32 = 4;

/// The backend of a slot, or of one of the next, that the client's port does not reach through another VIP.
#[inline(always)]
pub(crate) fn choose<M: Mode, F: Family>(
    packet: &Packet<F>,
    entry: &VipEntry,
    first: Owner,
    slot: u32,
) -> Result<Owner, Reason> {
    if !conflict::<F>(packet, entry.id, first.index) {
        return Ok(first);
    }
    let (offset, len) = (entry.table.offset(), entry.table.len());
    let mut at = slot;
    for _ in 1..TRIES {
        at += 1;
        if at >= offset + len {
            at = offset;
        }
        if let Some(owner) = Owner::of_slot(at)
            && owner.index != first.index
            && !(owner.is(backend_flags::SHARED) && conflict::<F>(packet, entry.id, owner.index))
        {
            return Ok(owner);
        }
    }
    Err(Reason::TupleConflict)
}

/// Whether the client's port reaches the backend through a VIP other than `own`.
#[inline(never)]
pub(crate) fn conflict<F: Family>(packet: &Packet<F>, own: u32, index: u32) -> bool {
    // SAFETY: user space replaces entries whole.
    let Some(ids) = (unsafe { BACKEND_VIPS.get(index) }) else {
        return false;
    };
    let Some(owner) = Owner::at(index) else { return false };
    let local = owner.is(backend_flags::LOCAL);
    for id in ids {
        if *id == 0 {
            break;
        }
        if u32::from(*id) == own {
            continue;
        }
        let key = F::key(packet.client(), packet.source, *id);
        let taken = |flow: Option<&'static mut FlowValue>| flow.is_some_and(|flow| occupies(flow, index, local));
        if taken(F::flow(&key)) || taken(F::half(&key)) {
            return true;
        }
    }
    false
}

/// Where the backend is elsewhere its side of a close is not seen here: one side's has to do.
#[inline(always)]
fn occupies(flow: &FlowValue, index: u32, local: bool) -> bool {
    flow.backend == index
        && (flow.state < CLOSING || flow.state == FlowState::Datagram as u8 || (local && flow.state == CLOSING))
}
