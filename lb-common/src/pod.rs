//! Leave for aya to copy the map types as bytes.
#![allow(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use crate::{
    BackendEntry, Endpoint, FlowKey, FlowValue, Ip, NodeConfig, Original, PeerEntry, ReverseValue, SlotPair, VipEntry,
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
    Endpoint,
    FlowKey,
    FlowValue,
    Ip,
    NodeConfig,
    Original,
    PeerEntry,
    ReverseValue,
    SlotPair,
    VipEntry
);
