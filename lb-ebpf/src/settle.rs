//! The backend of a packet whose flow is not under way: the part of the way that few packets take, gone through by the
//! verifier once for each family and mode.
#![allow(unsafe_code, reason = "pointers that the verifier checks")]

use lb_common::{FlowKey4, FlowKey6, Reason, TableRange, VipEntry, backend_flags, flow_flags, vip_flags};

use crate::choose::{self, Choice, NOBODY};
use crate::cookie;
use crate::family::{Family, V4, V6};
use crate::maps::{Owner, reason};
use crate::mode::{Explain, Live, Mode};
use crate::packet::{Kind, slot_hash};
use crate::track::{self, Known};

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_settle4(entry: *const VipEntry, key: *const FlowKey4, kind: u32) -> u64 {
    settle::<Live, V4>(entry, key, kind)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_settle6(entry: *const VipEntry, key: *const FlowKey6, kind: u32) -> u64 {
    settle::<Live, V6>(entry, key, kind)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_explain_settle4(entry: *const VipEntry, key: *const FlowKey4, kind: u32) -> u64 {
    settle::<Explain, V4>(entry, key, kind)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_explain_settle6(entry: *const VipEntry, key: *const FlowKey6, kind: u32) -> u64 {
    settle::<Explain, V6>(entry, key, kind)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_arrive4(key: *const FlowKey4, kind: u32, wanted: u32, alternate: u32) -> u64 {
    arrive::<Live, V4>(key, kind, wanted, alternate)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_arrive6(key: *const FlowKey6, kind: u32, wanted: u32, alternate: u32) -> u64 {
    arrive::<Live, V6>(key, kind, wanted, alternate)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_explain_arrive4(key: *const FlowKey4, kind: u32, wanted: u32, alternate: u32) -> u64 {
    arrive::<Explain, V4>(key, kind, wanted, alternate)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_explain_arrive6(key: *const FlowKey6, kind: u32, wanted: u32, alternate: u32) -> u64 {
    arrive::<Explain, V6>(key, kind, wanted, alternate)
}

/// Whether a packet is to be answered with a reset: 1 if so.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_cut_off4(key: *const FlowKey4, flags: u32, kind: u32) -> u32 {
    cut_off::<V4>(key, flags, kind).into()
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_cut_off6(key: *const FlowKey6, flags: u32, kind: u32) -> u32 {
    cut_off::<V6>(key, flags, kind).into()
}

#[inline(always)]
fn cut_off<F: Family>(key: *const F::Key, flags: u32, kind: u32) -> bool {
    if key.is_null() || flags & vip_flags::RESET == 0 || !Kind::unpacked(kind).can_be_reset() {
        return false;
    }
    // SAFETY: not null, and the verifier lets nobody pass anything shorter.
    // A copy: before Linux 6.2 a lookup takes no key out of a caller's memory.
    let key = unsafe { *key };
    track::is_cut_off::<F>(&key)
}

/// The backend of a packet that came through the tunnel for one of this node; as below. An `alternate` equal to `wanted` says
/// that the sender is sure.
#[inline(always)]
fn arrive<M: Mode, F: Family>(key: *const F::Key, kind: u32, wanted: u32, alternate: u32) -> u64 {
    if key.is_null() {
        return pack(NOBODY, Reason::TunnelMalformed.index());
    }
    // SAFETY: not null, and the verifier lets nobody pass anything shorter.
    // A copy: before Linux 6.2 a lookup takes no key out of a caller's memory.
    let key = &unsafe { *key };
    let kind = Kind::unpacked(kind);
    let last = alternate == wanted;
    if let Some(Known { owner, .. }) = track::known::<M, F>(key, kind) {
        // What this node knows of a flow to another node is from when it was asked first: only who does not know better
        // is told it. Whoever opens a flow does, and so does who is sure.
        if owner.is(backend_flags::LOCAL) || !(last || kind.is_syn()) {
            return pack(owner.index, NOBODY);
        }
        track::supersede::<M, F>(key);
    }
    let Some(wanted) = Owner::at(wanted) else {
        return pack(NOBODY, Reason::TunnelNotLocal.index());
    };
    let left = cookie::is_left::<M>();
    if kind.is_syn() || !kind.is_tcp() {
        if wanted.is(backend_flags::GONE) {
            return pack(NOBODY, Reason::BackendGone.index());
        }
        if wanted.is(backend_flags::SHARED) && F::conflict(key, wanted.index) {
            return pack(NOBODY, Reason::TupleConflict.index());
        }
        if !left && cookie::asks::<M, F>(key, kind, &wanted, cookie::TUNNELLED) {
            return pack(NOBODY, cookie::ASK.index());
        }
        let before = choose::remember::<M, F>(key, kind, &wanted, flow_flags::TUNNELLED);
        return pack(before.unwrap_or(wanted).index, NOBODY);
    }
    let alternate = Owner::at(alternate).filter(|_| !last);
    let how = match alternate {
        Some(_) => cookie::TUNNELLED | cookie::ELSEWHERE,
        None => cookie::TUNNELLED,
    };
    if !left && cookie::asks::<M, F>(key, kind, &wanted, how) {
        return pack(NOBODY, cookie::ASK.index());
    }
    let (owner, flags) = match alternate {
        Some(alternate) => (alternate, flow_flags::TUNNELLED | flow_flags::PREVIOUS),
        None => (wanted, flow_flags::TUNNELLED),
    };
    choose::adopt::<M, F>(key, kind, &owner, flags);
    pack(owner.index, NOBODY)
}

/// Who has a flow if the backend by which this node knows it has not: the one that had its slot before, for it was open when the table
/// changed, else the table's. The owner itself where nobody else can: all flows of a backend of this node pass here, and this node
/// would know it by that one.
#[inline(always)]
fn instead<F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind, owner: u32) -> u32 {
    let (client, source) = F::source(key);
    let hash = slot_hash::<F>(client, source, kind, entry);
    revere_instead(entry.previous.to_bits(), entry.table.to_bits(), hash, owner)
}

/// Of the two tables, in this order. A function of its own: inlined into all four that settle, it is gone through four times.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn revere_instead(first: u64, second: u64, hash: u32, owner: u32) -> u32 {
    for table in [first, second].map(TableRange::from_bits) {
        if let Some(other) = choose::of_table(table, hash)
            && other.index != owner
            && !other.is(backend_flags::LOCAL)
        {
            return other.index;
        }
    }
    owner
}

/// Index of the backend and, above it, of the alternate; or [`NOBODY`] and, above it, a reason.
#[inline(always)]
fn settle<M: Mode, F: Family>(entry: *const VipEntry, key: *const F::Key, kind: u32) -> u64 {
    if entry.is_null() || key.is_null() {
        return pack(NOBODY, Reason::NoBackend.index());
    }
    // SAFETY: not null, and the verifier lets nobody pass anything shorter.
    // A copy: the room of an entry that is removed is used again at once.
    // Of the key too: before Linux 6.2 a lookup takes none out of a caller's memory.
    let (entry, key) = unsafe { (*entry, *key) };
    let key = &key;
    let kind = Kind::unpacked(kind);
    if F::cut_off(key, entry.flags, kind.packed()) {
        return pack(NOBODY, Reason::ResetReplied.index());
    }
    if let Some(Known { owner, doubtful }) = track::known::<M, F>(key, kind) {
        let alternate = if doubtful {
            instead::<F>(&entry, key, kind, owner.index)
        } else {
            owner.index
        };
        return pack(owner.index, alternate);
    }
    match choose::choose::<M, F>(&entry, key, kind) {
        Ok(choice) => pack(choice.owner.index, choice.alternate),
        Err(reason) => pack(NOBODY, reason.index()),
    }
}

#[inline(always)]
fn pack(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The backend of a packet.
#[inline(always)]
pub(crate) fn owner<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind) -> Result<Choice, Reason> {
    match track::under_way::<M, F>(key, kind) {
        Some(owner) => Ok(Choice::sure(owner)),
        None => settled::<M, F>(entry, key, kind),
    }
}

/// The backend of a packet whose flow is not under way.
#[inline(always)]
pub(crate) fn settled<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind) -> Result<Choice, Reason> {
    unpack(F::settle::<M>(entry, key, kind.packed()))
}

/// The backend of a packet that came through the tunnel.
#[inline(always)]
pub(crate) fn arrived<M: Mode, F: Family>(
    key: &F::Key,
    kind: Kind,
    wanted: &Owner,
    alternate: u32,
) -> Result<Owner, Reason> {
    let arrived = F::arrive::<M>(key, kind.packed(), wanted.index, alternate);
    unpack(arrived).map(|choice| choice.owner)
}

#[inline(always)]
fn unpack(settled: u64) -> Result<Choice, Reason> {
    let (low, high) = (settled as u32, (settled >> 32) as u32);
    if low == NOBODY {
        return Err(reason(high));
    }
    match Owner::at(low) {
        Some(owner) => Ok(Choice { owner, alternate: high }),
        None => Err(Reason::NoBackend),
    }
}
