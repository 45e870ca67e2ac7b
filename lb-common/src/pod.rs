//! Leave for aya to copy the map types as bytes.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::{
    BackendEntry, BackendStats, DatagramKey, Decision, Endpoint, Endpoint4, FlowEvent, FlowKey4, FlowKey6, FlowValue,
    FragmentKey4, FragmentKey6, FragmentValue, Guard, Ip, ListenPlace, ListenerEntry, NameAnswer, NameConfig, NameKey,
    NatKey4, NatKey6, NatParts6, NodeConfig, PeerEntry, RateBucket, SlotPair, SocketEntry, SourceKey, SourceKeyV4, Tag,
    VipEntry, VipOptions, VipStats,
};

macro_rules! pod {
    ($($type:ty),*) => {
        $(
            // SAFETY: `repr(C)`, integers and arrays only, no padding (sizes are asserted in `abi`).
            unsafe impl aya::Pod for $type {}
        )*
    };
}

pod!(
    BackendEntry,
    BackendStats,
    DatagramKey,
    Decision,
    Endpoint,
    Endpoint4,
    FlowEvent,
    FlowKey4,
    FlowKey6,
    FlowValue,
    FragmentKey4,
    FragmentKey6,
    FragmentValue,
    Guard,
    Ip,
    ListenPlace,
    ListenerEntry,
    NatKey4,
    NatKey6,
    NatParts6,
    NameAnswer,
    NameConfig,
    NameKey,
    NodeConfig,
    PeerEntry,
    RateBucket,
    SlotPair,
    SocketEntry,
    SourceKey,
    SourceKeyV4,
    Tag,
    VipEntry,
    VipOptions,
    VipStats
);
