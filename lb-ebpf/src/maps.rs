//! The maps; their names are their pins' names.
#![allow(unsafe_code, reason = "map values are shared with other CPUs and user space")]

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf};
use lb_common::{
    BackendEntry, BackendStats, COUNTER_ROOMS, CookieCount, DatagramKey, Decision, Endpoint, Endpoint4, FlowKey4,
    FlowKey6, FlowValue, FragmentKey4, FragmentKey6, FragmentValue, Guard, Ip, ListenPlace, ListenerEntry,
    MAX_BACKENDS, MAX_PEERS, MAX_VIPS, NatKey4, NatKey6, NatParts6, NodeConfig, PeerEntry, RateBucket, Reason,
    SlotPair, SocketEntry, TOO_BIG_BUCKETS, Tag, VipEntry, VipOptions, VipStats, backend_flags,
};

use crate::cookie::Ask;
use crate::nat::Room;

/// Rooms unless user space asks for another number.
const FLOW_ROOMS: u32 = 262_144;
const FLOW6_ROOMS: u32 = 65_536;
const HALF_ROOMS: u32 = 65_536;
const HALF6_ROOMS: u32 = 16_384;
const FRAGMENT_ROOMS: u32 = 8_192;
const FRAGMENT6_ROOMS: u32 = 2_048;
const SLOT_PAIRS: u32 = 524_288;
const SOCKET_ROOMS: u32 = 131_072;
const DATAGRAM_ROOMS: u32 = 32_768;
const VIP_ROOMS: u32 = 4_096;
const SOURCE_ROOMS: u32 = 16_384;
const NAT_ROOMS: u32 = 16_384;
const NAT6_ROOMS: u32 = 8_192;
const LISTENER_ROOMS: u32 = 16_384;
const COOKIE_COUNT_ROOMS: u32 = CookieCount::ALL.len() as u32;
const EVENT_BYTES: u32 = 1 << 20;
const TRACE_BYTES: u32 = 1 << 16;

#[map]
pub(crate) static LAYOUT: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static NODE: Array<NodeConfig> = Array::with_max_entries(1, 0);
#[map]
pub(crate) static VIPS4: HashMap<Endpoint4, VipEntry> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static VIPS6: HashMap<Endpoint, VipEntry> = HashMap::with_max_entries(MAX_VIPS, BPF_F_NO_PREALLOC);
/// By `VipEntry::id`, as are the three below.
#[map]
pub(crate) static VIP_OPTIONS: Array<VipOptions> = Array::with_max_entries(VIP_ROOMS, BPF_F_MMAPABLE);
/// What the client sees: from the id back to the VIP, for answers.
#[map]
pub(crate) static VIP_ENDPOINTS: Array<Endpoint> = Array::with_max_entries(VIP_ROOMS, 0);
#[map]
pub(crate) static VIP_STATS: PerCpuArray<VipStats> = PerCpuArray::with_max_entries(VIP_ROOMS, 0);
#[map]
pub(crate) static VIP_RATES: PerCpuArray<RateBucket> = PerCpuArray::with_max_entries(VIP_ROOMS, 0);
#[map]
pub(crate) static SLOTS: Array<SlotPair> = Array::with_max_entries(SLOT_PAIRS, BPF_F_MMAPABLE);
#[map]
pub(crate) static BACKENDS: Array<BackendEntry> = Array::with_max_entries(MAX_BACKENDS, 0);
#[map]
pub(crate) static BACKEND_STATS: PerCpuArray<BackendStats> = PerCpuArray::with_max_entries(MAX_BACKENDS, 0);
/// All VIPs of a shared backend: up to eight ids, 0 ends the list; by backend index.
#[map]
pub(crate) static BACKEND_VIPS: HashMap<u32, [u16; 8]> = HashMap::with_max_entries(MAX_BACKENDS, BPF_F_NO_PREALLOC);
/// Open connections of this node's sockets; by backend index, mapped by user space.
#[map]
pub(crate) static OPEN_SOCKETS: Array<u64> = Array::with_max_entries(MAX_BACKENDS, BPF_F_MMAPABLE);
/// Every live backend of the cluster.
#[map]
pub(crate) static TAGS: HashMap<Tag, u32> = HashMap::with_max_entries(MAX_BACKENDS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static PEERS: HashMap<Ip, PeerEntry> = HashMap::with_max_entries(MAX_PEERS, BPF_F_NO_PREALLOC);
/// Sources that VIPs allow; key data: `VipEntry::id` (host order) and the address.
#[map]
pub(crate) static SOURCES4: LpmTrie<[u32; 2], u8> = LpmTrie::with_max_entries(SOURCE_ROOMS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static SOURCES6: LpmTrie<[u32; 5], u8> = LpmTrie::with_max_entries(SOURCE_ROOMS, BPF_F_NO_PREALLOC);
#[map]
pub(crate) static FLOWS4: LruHashMap<FlowKey4, FlowValue> = LruHashMap::with_max_entries(FLOW_ROOMS, 0);
#[map]
pub(crate) static FLOWS6: LruHashMap<FlowKey6, FlowValue> = LruHashMap::with_max_entries(FLOW6_ROOMS, 0);
/// Flows of which only a SYN was seen: a flood of SYNs evicts only these.
#[map]
pub(crate) static HALF4: LruHashMap<FlowKey4, FlowValue> = LruHashMap::with_max_entries(HALF_ROOMS, 0);
#[map]
pub(crate) static HALF6: LruHashMap<FlowKey6, FlowValue> = LruHashMap::with_max_entries(HALF6_ROOMS, 0);
/// Where first parts of packets went. Small: each is of use for the moment until the last part has come.
#[map]
pub(crate) static FRAGMENTS4: LruHashMap<FragmentKey4, FragmentValue> = LruHashMap::with_max_entries(FRAGMENT_ROOMS, 0);
#[map]
pub(crate) static FRAGMENTS6: LruHashMap<FragmentKey6, FragmentValue> =
    LruHashMap::with_max_entries(FRAGMENT6_ROOMS, 0);
/// Flows with a translated source: the client's direction, then the backend's, which leads to the client's.
#[map]
pub(crate) static NAT4: LruHashMap<NatKey4, FlowValue> = LruHashMap::with_max_entries(NAT_ROOMS, 0);
#[map]
pub(crate) static NAT4_BACK: LruHashMap<NatKey4, NatKey4> = LruHashMap::with_max_entries(NAT_ROOMS, 0);
/// The same of IPv6.
#[map]
pub(crate) static NAT6: LruHashMap<NatKey6, FlowValue> = LruHashMap::with_max_entries(NAT6_ROOMS, 0);
#[map]
pub(crate) static NAT6_BACK: LruHashMap<NatKey6, NatKey6> = LruHashMap::with_max_entries(NAT6_ROOMS, 0);
/// Whose the later parts of answers are. IPv4 has them among the other parts.
#[map]
pub(crate) static NAT6_PARTS: LruHashMap<FragmentKey6, NatParts6> = LruHashMap::with_max_entries(FRAGMENT6_ROOMS, 0);
/// This node's own IPv6 address, which translated packets leave with; zero = there is none.
#[map]
pub(crate) static OWN6: Array<Ip> = Array::with_max_entries(1, 0);
/// The program for translated packets of IPv6, as `PROGRAMS` has that for IPv4.
#[map]
pub(crate) static NAT6_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Where the programs for translated packets put what the stack has no room for.
#[map]
pub(crate) static NAT_ROOM: PerCpuArray<Room<NatKey4>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static NAT6_ROOM: PerCpuArray<Room<NatKey6>> = PerCpuArray::with_max_entries(1, 0);
/// By TCP port of this node's own address.
#[map]
pub(crate) static GUARDS: Array<Guard> = Array::with_max_entries(1 << 16, 0);
/// Listening sockets of this node's backends, by cookie.
#[map]
pub(crate) static LISTENERS: HashMap<u64, ListenerEntry> = HashMap::with_max_entries(LISTENER_ROOMS, BPF_F_NO_PREALLOC);
/// Programs that the uplink program hands a packet over to; see `hand`.
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);
/// Where backends of this node listen, by index.
#[map]
pub(crate) static LISTEN_PLACES: HashMap<u32, ListenPlace> =
    HashMap::with_max_entries(LISTENER_ROOMS, BPF_F_NO_PREALLOC);
/// SYNs that go to listeners unasked, by `VipEntry::id`.
#[map]
pub(crate) static SYN_RATES: PerCpuArray<RateBucket> = PerCpuArray::with_max_entries(VIP_ROOMS, 0);
/// When the last cookie of a VIP was sent, in seconds of the monotonic clock; by `VipEntry::id`.
#[map]
pub(crate) static COOKIE_TIMES: Array<u32> = Array::with_max_entries(VIP_ROOMS, 0);
/// What the uplink program asks the program for cookies.
#[map]
pub(crate) static COOKIE_ASK: PerCpuArray<Ask> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static COOKIE_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COOKIE_COUNT_ROOMS, 0);
/// The program for cookies, and the uplink program, which it gives back to; see `cookie`.
#[map]
pub(crate) static COOKIE_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2, 0);
/// Connected sockets, from `connect` to `close`. No entry may be thrown out: `OPEN_SOCKETS` counts each.
#[map]
pub(crate) static SOCKETS: HashMap<u64, SocketEntry> = HashMap::with_max_entries(SOCKET_ROOMS, BPF_F_NO_PREALLOC);
/// New connections of sockets; by `VipEntry::id`.
#[map]
pub(crate) static SOCKET_RATES: Array<RateBucket> = Array::with_max_entries(VIP_ROOMS, 0);
#[map]
pub(crate) static DATAGRAMS: LruHashMap<DatagramKey, SocketEntry> = LruHashMap::with_max_entries(DATAGRAM_ROOMS, 0);
/// Who was told of late that a packet is too big, by `too_big_bucket` of the client.
#[map]
pub(crate) static TOO_BIG_RATES: PerCpuArray<RateBucket> = PerCpuArray::with_max_entries(TOO_BIG_BUCKETS, 0);
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_ROOMS, 0);
#[map]
pub(crate) static DECISION: PerCpuArray<Decision> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(EVENT_BYTES, 0);
#[map]
pub(crate) static EVENTS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// While `node_flags::TRACE` is set: the reason of each packet and its interface, 0 at the way out.
#[map]
static TRACE: RingBuf = RingBuf::with_byte_size(TRACE_BYTES, 0);

/// Tells how a packet ended.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn revere_trace(reason: u32, interface: u32) -> u32 {
    // Whoever traces sees that lines are missing by the counters.
    let _ = TRACE.output::<[u32; 2]>([reason, interface], 0);
    0
}

/// Counts an end.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(reason.index()) {
        // SAFETY: this CPU's own value; the kernel keeps the map alive while the program runs.
        unsafe { *counter += 1 };
    }
}

/// A reason from its number.
#[inline(always)]
pub(crate) fn reason(number: u32) -> Reason {
    // SAFETY: only functions of this object that return the number of a reason are asked for it.
    unsafe { core::mem::transmute::<u32, Reason>(number) }
}

/// This node's facts.
#[inline(always)]
pub(crate) fn node() -> Option<&'static NodeConfig> {
    NODE.get(0)
}

/// A backend and its index.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) index: u32,
    pub(crate) backend: &'static BackendEntry,
}

impl Owner {
    /// A backend by index, if it lives.
    #[inline(always)]
    pub(crate) fn at(index: u32) -> Option<Self> {
        let backend = BACKENDS.get(index)?;
        (backend.flags & backend_flags::LIVE != 0).then_some(Self { index, backend })
    }

    /// The backend in a slot, if it lives.
    #[inline(always)]
    pub(crate) fn of_slot(slot: u32) -> Option<Self> {
        let pair = SLOTS.get(slot >> 1)?;
        Self::at(if slot & 1 == 0 { pair.0[0] } else { pair.0[1] })
    }

    /// The backend that the cluster knows by a tag, if it lives.
    #[inline(always)]
    pub(crate) fn of_tag(tag: Tag) -> Option<Self> {
        // SAFETY: the value is one word.
        Self::at(*unsafe { TAGS.get(tag) }?)
    }

    /// The backend of a flow, unless its index has another owner now.
    #[inline(always)]
    pub(crate) fn of_flow(flow: &FlowValue) -> Option<Self> {
        Self::at(flow.backend).filter(|owner| owner.backend.generation == flow.generation)
    }

    /// Whether it ends the connections it has.
    #[inline(always)]
    pub(crate) fn resets(&self) -> bool {
        // Whoever only stopped to listen may go on with what it has.
        const ASKED: u8 = backend_flags::OPEN | backend_flags::RESET | backend_flags::GONE;
        self.backend.flags & ASKED == backend_flags::RESET
    }

    #[inline(always)]
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.backend.flags & flag != 0
    }

    #[inline(always)]
    pub(crate) fn has_all(&self, flags: u8) -> bool {
        self.backend.flags & flags == flags
    }
}

/// The backend in a slot. `None` when the index names nothing that lives.
#[inline(always)]
pub(crate) fn backend_of_slot(slot: u32) -> Option<(u32, &'static BackendEntry)> {
    Owner::of_slot(slot).map(|owner| (owner.index, owner.backend))
}

/// A backend by index, if it lives.
#[inline(always)]
pub(crate) fn live_backend(index: u32) -> Option<&'static BackendEntry> {
    Owner::at(index).map(|owner| owner.backend)
}

/// What the tables say of a VIP.
#[inline(always)]
pub(crate) fn vip_of(endpoint: &Endpoint) -> Option<VipEntry> {
    // SAFETY: user space replaces entries whole, and the words that matter are read as one.
    let entry = match endpoint.addr.as_v4() {
        Some(v4) => unsafe { VIPS4.get(Endpoint4::new(v4, endpoint.port, endpoint.protocol)) },
        None => unsafe { VIPS6.get(endpoint) },
    };
    // A copy: the room of an entry that is removed is used again at once.
    entry.copied()
}
