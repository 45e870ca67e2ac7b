//! What the kernel half and the user half of the load balancer share: map layouts, reasons, packet arithmetic.
#![no_std]

mod abi;
mod checksum;
mod flow_hash;
mod order;
#[cfg(feature = "user")]
mod pod;
mod reason;

pub use abi::{
    BackendEntry, Endpoint, FlowKey, FlowState, FlowValue, LAYOUT_VERSION, MAX_BACKENDS, MAX_PEERS, MAX_VIPS,
    NodeConfig, Original, PeerEntry, ReverseValue, SlotPair, VipEntry, backend_flags, node_flags,
};
pub use checksum::{Checksum, fold};
pub use flow_hash::flow_hash;
pub use order::{Be16, Be32, Ip};
pub use reason::{Hook, Reason, Verdict};
pub use wire::{ENCAP_LEN, MARKER_MAC, MSS_MARGIN, OUTER_SOURCE_PORTS, TUNNEL_PORT, TUNNEL_VNI};

mod wire;
