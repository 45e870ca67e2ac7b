//! Backends behind several VIPs: one client port must reach each through one VIP only, for their answers do not say which.
#![allow(unsafe_code, reason = "map lookups")]

use lb_common::{Be16, Be32, FlowKey6, FlowState, FlowValue, Reason, VipEntry, backend_flags, flow_flags};

use crate::family::{Family, V4, V6};
use crate::maps::{BACKEND_VIPS, Owner};
use crate::mode::Live;
use crate::track::{self, CLOSING};

/// Slots that are looked at for a backend that is free.
const TRIES: u32 = 4;

/// The backend of a slot, or of one of the next, that the client's port does not reach through another VIP.
#[inline(always)]
pub(crate) fn choose<F: Family>(entry: &VipEntry, key: &F::Key, first: Owner, slot: u32) -> Result<Owner, Reason> {
    if !F::conflict(key, first.index) {
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
            && !(owner.is(backend_flags::SHARED) && F::conflict(key, owner.index))
        {
            return Ok(owner);
        }
    }
    Err(Reason::TupleConflict)
}

/// Whether the client's port reaches the backend through a VIP other than the key's: 1 if so.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_conflict4(client: u32, port: u32, vip: u32, index: u32) -> u32 {
    let (client, port) = (Be32::from_raw(client), Be16::from_raw(port as u16));
    conflict::<V4>(client, port, vip as u16, index).into()
}

/// The same for IPv6, where numbers do not suffice.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_conflict6(key: *const FlowKey6, index: u32) -> u32 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    let FlowKey6 { client, port, vip } = unsafe { *key };
    conflict::<V6>(client, port, vip, index).into()
}

#[inline(always)]
fn conflict<F: Family>(client: F::Addr, port: Be16, own: u16, index: u32) -> bool {
    // SAFETY: user space replaces entries whole.
    let Some(ids) = (unsafe { BACKEND_VIPS.get(index) }) else {
        return false;
    };
    for id in ids {
        if *id == 0 {
            break;
        }
        if *id != own && F::taken(&F::key(client, port, *id), index) {
            return true;
        }
    }
    false
}

/// Whether a flow holds the backend: 1 if so.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_taken4(client: u32, port: u32, vip: u32, index: u32) -> u32 {
    let key = V4::key(Be32::from_raw(client), Be16::from_raw(port as u16), vip as u16);
    taken::<V4>(&key, index).into()
}

/// The same for IPv6.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_taken6(key: *const FlowKey6, index: u32) -> u32 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    // A copy: before Linux 6.2 a lookup takes no key out of a caller's memory.
    taken::<V6>(&unsafe { *key }, index).into()
}

#[inline(always)]
fn taken<F: Family>(key: &F::Key, index: u32) -> bool {
    // A flow that is over may have a half-open successor. Both before the backend, whose index then takes the key's room on
    // the stack: Linux 6.1 counts 32 bytes where later ones count 16.
    let (flow, half) = (F::flow(key), F::half(key));
    let Some(owner) = Owner::at(index) else { return false };
    let local = owner.is(backend_flags::LOCAL);
    let held = |flow: Option<&'static mut FlowValue>| flow.is_some_and(|flow| occupies(flow, index, local));
    held(flow) || held(half)
}

/// Where the backend is elsewhere its side of a close is not seen here: one side's has to do.
#[inline(always)]
fn occupies(flow: &FlowValue, index: u32, local: bool) -> bool {
    flow.backend == index
        && (flow.state < CLOSING || flow.state == FlowState::Datagram as u8 || (local && flow.state == CLOSING))
}

/// The VIP through which a client reaches a shared backend of this node, and takes down that an answer went by. A flow
/// that is over gives way to one that is not. 0 when there is none.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_among4(client: u32, port: u32, index: u32, flags: u32) -> u32 {
    among::<V4>(Be32::from_raw(client), Be16::from_raw(port as u16), index, flags as u8)
}

/// The same for IPv6; the key's VIP does not count.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_among6(key: *const FlowKey6, index: u32, flags: u32) -> u32 {
    if key.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    let FlowKey6 { client, port, .. } = unsafe { *key };
    among::<V6>(client, port, index, flags as u8)
}

#[inline(always)]
fn among<F: Family>(client: F::Addr, port: Be16, index: u32, flags: u8) -> u32 {
    // SAFETY: user space replaces entries whole.
    let Some(ids) = (unsafe { BACKEND_VIPS.get(index) }) else {
        return 0;
    };
    let mut found = 0;
    for id in ids {
        if *id == 0 {
            break;
        }
        let key = F::key(client, port, *id);
        if let Some(flow) = track::of_backend::<F>(&key, index) {
            let over = flow.state == FlowState::Closed as u8;
            if found == 0 || !over {
                found = u32::from(*id);
            }
            if !over {
                track::follow::<Live, F>(flow, flags, flow_flags::FIN_BACKEND);
                break;
            }
        }
    }
    found
}
