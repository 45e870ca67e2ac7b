//! The maps; their names are their pins' names.
#![allow(unsafe_code, reason = "map values are shared with other CPUs and user space")]

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use lb_common::{
    BackendEntry, Endpoint, FlowKey, FlowValue, Ip, MAX_BACKENDS, MAX_PEERS, MAX_VIPS, NodeConfig, Original, PeerEntry,
    Reason, ReverseValue, SlotPair, VipEntry,
};

/// Rooms for counters; more than there are reasons, so that a new reason needs no new map.
const COUNTER_ROOMS: u32 = 64;
/// Rooms unless user space asks for another number.
const FLOW_ROOMS: u32 = 262_144;
const SLOT_PAIRS: u32 = 2_097_152;
const ORIGINAL_ROOMS: u32 = 65_536;

#[map]
pub(crate) static LAYOUT: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static NODE: Array<NodeConfig> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static VIPS: HashMap<Endpoint, VipEntry> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SLOTS: Array<SlotPair> = Array::with_max_entries(SLOT_PAIRS, BPF_F_MMAPABLE);
#[map]
pub(crate) static BACKENDS: Array<BackendEntry> = Array::with_max_entries(MAX_BACKENDS, 0);
#[map]
pub(crate) static LOCALS: HashMap<Endpoint, u32> = HashMap::with_max_entries(MAX_BACKENDS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static PEERS: HashMap<Ip, PeerEntry> = HashMap::with_max_entries(MAX_PEERS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, FlowValue> = LruHashMap::with_max_entries(FLOW_ROOMS, 0);
#[map]
pub(crate) static REVERSE: LruHashMap<FlowKey, ReverseValue> = LruHashMap::with_max_entries(FLOW_ROOMS, 0);
#[map]
pub(crate) static ORIGINALS: LruHashMap<u64, Original> = LruHashMap::with_max_entries(ORIGINAL_ROOMS, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ROOMS, 0);

/// Counts an end.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.index()) {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        unsafe { *counter += 1 };
    }
}

/// This node's facts.
#[inline(always)]
pub(crate) fn node() -> Option<&'static NodeConfig> {
    NODE.get(0)
}

/// The backend in a slot. `None` when the index names nothing that lives.
#[inline(always)]
pub(crate) fn backend_of_slot(slot: u32) -> Option<(u32, &'static BackendEntry)> {
    let pair = SLOTS.get(slot >> 1)?;
    let index = if slot & 1 == 0 { pair.0[0] } else { pair.0[1] };
    Some((index, live_backend(index)?))
}

/// A backend by index, if it lives.
#[inline(always)]
pub(crate) fn live_backend(index: u32) -> Option<&'static BackendEntry> {
    BACKENDS
        .get(index)
        .filter(|backend| backend.flags & lb_common::backend_flags::LIVE != 0)
}

/// The table entry of a VIP.
#[inline(always)]
pub(crate) fn vip(endpoint: &Endpoint) -> Option<VipEntry> {
    // SAFETY: user space replaces entries whole, and the word that matters is read as one.
    unsafe { VIPS.get(endpoint) }.copied()
}
