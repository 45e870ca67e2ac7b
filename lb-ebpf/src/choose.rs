//! Which backend a packet of no known flow is given to.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use lb_common::{FlowState, Origin, Reason, TableRange, VipEntry, backend_flags, flow_flags, vip_flags};

use crate::connect::admit;
use crate::family::Family;
use crate::headers::{FIN, RST};
use crate::maps::Owner;
use crate::mode::{Mode, note};
use crate::packet::{Kind, slot_hash};
use crate::{shared, stats, track};

/// A choice.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) owner: Owner,
    /// Index of who may have the flow if the chosen one does not know it; [`NOBODY`]: only that node itself may know; the
    /// owner's own: there is no doubt.
    pub(crate) alternate: u32,
}

/// No backend's index.
pub(crate) const NOBODY: u32 = u32::MAX;

impl Choice {
    #[inline(always)]
    pub(crate) fn sure(owner: Owner) -> Self {
        Self {
            owner,
            alternate: owner.index,
        }
    }
}

/// Chooses, and remembers what has to be.
#[inline(always)]
pub(crate) fn choose<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind) -> Result<Choice, Reason> {
    let (client, source) = F::source(key);
    let hash = slot_hash::<F>(client, source, kind, entry);
    note::<M>(|decision| decision.hash = hash);
    if kind.is_syn() || !kind.is_tcp() {
        return open::<M, F>(entry, key, kind, hash).map(Choice::sure);
    }
    stray::<M, F>(entry, key, kind, hash)
}

/// A new flow: the table's backend.
#[inline(always)]
fn open<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind, hash: u32) -> Result<Owner, Reason> {
    // What is half-open already has been let in; its SYN comes again.
    if entry.flags & vip_flags::LIMITED != 0 && F::half(key).is_none() {
        admit::ask(entry.id, &F::widen(F::source(key).0), M::EXPLAIN)?;
    }
    let Some(slot) = entry.table.slot(hash) else {
        return Err(Reason::NoBackend);
    };
    let Some(mut owner) = Owner::of_slot(slot) else {
        return Err(Reason::NoBackend);
    };
    if owner.is(backend_flags::GONE) {
        return Err(Reason::BackendGone);
    }
    if owner.is(backend_flags::SHARED) {
        owner = shared::choose::<F>(entry, key, owner, slot)?;
    }
    note::<M>(|decision| {
        decision.slot = slot;
        decision.origin = Origin::Table as u8;
    });
    if let Some(other) = remember::<M, F>(key, kind, &owner, 0) {
        owner = other;
    } else {
        stats::opened::<M>(entry.id, owner.index);
    }
    Ok(owner)
}

/// Puts a new flow among the half-open ones. The same SYN may have come before: then its backend stays, if it still takes
/// connections.
#[inline(always)]
pub(crate) fn remember<M: Mode, F: Family>(key: &F::Key, kind: Kind, owner: &Owner, flags: u8) -> Option<Owner> {
    if M::EXPLAIN {
        return None;
    }
    let state = if kind.is_tcp() {
        FlowState::Opening
    } else {
        FlowState::Datagram
    };
    let value = track::met(owner, state, flags);
    if F::insert_half(key, &value, BPF_NOEXIST.into()).is_ok() {
        return None;
    }
    // The half of a flow that once went from here to another node says nothing about one that comes from there.
    let wanted = match flags & flow_flags::TUNNELLED {
        0 => backend_flags::OPEN,
        _ => backend_flags::OPEN | backend_flags::LOCAL,
    };
    if let Some(half) = F::half(key)
        && let Some(before) = Owner::of_flow(half)
        && before.has_all(wanted)
    {
        half.seen = value.seen;
        return Some(before);
    }
    // Without the entry the backend's answers are not restored; the client tries again.
    let _ = F::insert_half(key, &value, BPF_ANY.into());
    None
}

/// A packet that opens nothing, of no flow known here. After a change of the table it may belong to the backend that had
/// its slot before: all flows of a backend of this node pass here, so a local one that does not know it never had it.
#[inline(always)]
fn stray<M: Mode, F: Family>(entry: &VipEntry, key: &F::Key, kind: Kind, hash: u32) -> Result<Choice, Reason> {
    stats::stray::<M>(entry.id);
    let current = of_table(entry.table, hash);
    let before = of_table(entry.previous, hash);
    let (owner, origin, alternate) = match (current, before) {
        (None, None) => return Err(Reason::NoBackend),
        (None, Some(before)) => (before, Origin::Previous, NOBODY),
        (Some(current), Some(before)) if before.index != current.index => {
            if current.is(backend_flags::LOCAL) {
                (before, Origin::Previous, NOBODY)
            } else {
                (current, Origin::Table, before.index)
            }
        }
        (Some(current), _) => (current, Origin::Table, NOBODY),
    };
    note::<M>(|decision| {
        decision.slot = entry.table.slot(hash).unwrap_or(u32::MAX);
        decision.origin = origin as u8;
    });
    // Written only where the entry changes the answer, or the way back needs it.
    let previous = matches!(origin, Origin::Previous);
    if previous || owner.is(backend_flags::LOCAL) {
        let flags = if previous { flow_flags::PREVIOUS } else { 0 };
        adopt::<M, F>(key, kind, &owner, flags);
    }
    Ok(Choice { owner, alternate })
}

/// Remembers a flow that was met in its middle.
#[inline(always)]
pub(crate) fn adopt<M: Mode, F: Family>(key: &F::Key, kind: Kind, owner: &Owner, flags: u8) {
    if M::EXPLAIN || kind.flags & RST != 0 {
        return;
    }
    let (state, flags) = if kind.flags & FIN != 0 {
        (FlowState::Closing, flags | flow_flags::FIN_CLIENT)
    } else {
        (FlowState::Established, flags)
    };
    F::insert_flow(key, &track::met(owner, state, flags));
}

#[inline(always)]
pub(crate) fn of_table(table: TableRange, hash: u32) -> Option<Owner> {
    table.slot(hash).and_then(Owner::of_slot)
}
