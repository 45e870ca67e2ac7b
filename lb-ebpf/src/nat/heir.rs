//! Who takes over what still comes for a backend of this node that has stopped.
#![allow(unsafe_code, reason = "map lookups")]

use lb_common::{BackendEntry, NatKey4, backend_flags};

use crate::choose::{NOBODY, of_table};
use crate::family::{Family, V4};
use crate::maps::{GUARDS, Owner, VIP_ENDPOINTS};
use crate::packet::{Kind, slot_hash};

/// Slots that are looked at.
const TRIES: u32 = 8;

/// Another backend of the same VIP, on another node: what comes back from one of this node would not pass here.
#[inline(always)]
pub(super) fn choose(tuple: &NatKey4, kind: Kind) -> Option<Owner> {
    Owner::at(revere_heir(tuple, kind.packed()))
}

/// Its index, or [`NOBODY`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_heir(tuple: *const NatKey4, kind: u32) -> u32 {
    if tuple.is_null() {
        return NOBODY;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything but a whole key.
    let tuple = unsafe { *tuple };
    find(&tuple, Kind::unpacked(kind)).map_or(NOBODY, |owner| owner.index)
}

#[inline(always)]
fn find(tuple: &NatKey4, kind: Kind) -> Option<Owner> {
    let guard = GUARDS.get(u32::from(tuple.dest_port.get()))?;
    if !guard.is_over() || guard.vip() == 0 {
        return None;
    }
    let vip = VIP_ENDPOINTS.get(u32::from(guard.vip()))?;
    let entry = V4::vip(vip.addr.as_v4()?, vip.port, tuple.protocol)?;
    // The number may be another VIP's by now.
    if entry.id != u32::from(guard.vip()) {
        return None;
    }
    let mut hash = slot_hash::<V4>(tuple.source, tuple.source_port, kind, entry);
    for _ in 0..TRIES {
        if let Some(owner) = of_table(entry.table, hash)
            && takes_over(owner.backend)
        {
            return Some(owner);
        }
        hash = hash.wrapping_mul(0x9e37_79b1).rotate_left(16);
    }
    None
}

/// It has to be reached at its node's own address, by the way the packet came.
#[inline(always)]
fn takes_over(backend: &BackendEntry) -> bool {
    const ASKED: u8 = backend_flags::LIVE | backend_flags::OPEN | backend_flags::LOCAL;
    backend.flags & ASKED == backend_flags::LIVE | backend_flags::OPEN
        && backend.addr.as_v4().is_some()
        && backend.addr == backend.node
}
