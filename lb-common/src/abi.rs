//! The layout of every map: integers and arrays only, no holes, sizes asserted.

mod backend;
mod cookie;
mod flow;
mod fragment;
mod name;
mod nat;
mod node;
mod observe;
mod socket;
mod vip;

pub use backend::{BackendEntry, BackendStats, MAX_BACKENDS, Tag, backend_flags};
pub use cookie::{COOKIE_SECONDS, CookieCount, ListenPlace};
pub use flow::{FlowKey4, FlowKey6, FlowState, FlowValue, flow_flags};
pub use fragment::{FragmentKey4, FragmentKey6, FragmentValue, fragment_ways};
pub use name::{
    MAX_NAMES, NAME_BODY, NAME_CLIENTS, NAME_LABELS, NAME_LAYOUT, NAME_QUESTION, NAME_ROOM, NAME_SERVERS, NAME_WORDS,
    NameAnswer, NameClients, NameConfig, NameCount, NameKey, NameServer, name_part, small_letters,
};
pub use nat::{Guard, ListenerEntry, NatKey4, NatKey6, NatParts6};
pub use node::{MAX_PEERS, NodeConfig, PeerEntry, node_flags};
pub use observe::{Decision, FlowEvent, FlowEventKind, Origin};
pub use socket::{DatagramKey, SocketEntry};
pub use vip::{
    Endpoint, Endpoint4, MAX_VIPS, RateBucket, SlotPair, SourceKey, SourceKeyV4, TableRange, VipEntry, VipOptions,
    VipStats, vip_flags,
};

/// Version of all layouts below together. A pinned set of maps with another one is migrated where docs/abi.md says how,
/// else refused, never reused.
pub const LAYOUT_VERSION: u32 = 2;

macro_rules! layout {
    ($($type:ty: $size:literal, $align:literal;)*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == $size, concat!("size of ", stringify!($type)));
            assert!(align_of::<$type>() == $align, concat!("alignment of ", stringify!($type)));
        };)*
    };
}

layout! {
    Endpoint: 20, 4;
    Endpoint4: 8, 4;
    TableRange: 8, 8;
    VipEntry: 32, 8;
    VipOptions: 24, 4;
    VipStats: 48, 8;
    RateBucket: 16, 8;
    SlotPair: 8, 8;
    SourceKey: 24, 4;
    SourceKeyV4: 12, 4;
    BackendEntry: 64, 4;
    BackendStats: 24, 8;
    Tag: 8, 8;
    FlowKey4: 8, 4;
    FlowKey6: 20, 4;
    FlowValue: 16, 4;
    FragmentKey4: 12, 4;
    FragmentKey6: 40, 4;
    FragmentValue: 12, 4;
    NatKey4: 16, 4;
    NatKey6: 40, 4;
    NatParts6: 32, 4;
    Guard: 4, 4;
    ListenerEntry: 12, 4;
    ListenPlace: 8, 4;
    PeerEntry: 4, 4;
    NodeConfig: 52, 4;
    SocketEntry: 32, 4;
    DatagramKey: 32, 8;
    Decision: 48, 4;
    FlowEvent: 56, 8;
    NameKey: 104, 8;
    NameAnswer: 352, 8;
    NameServer: 8, 4;
    NameClients: 8, 4;
    NameConfig: 108, 4;
}
