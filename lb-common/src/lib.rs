//! What the kernel half and the user half of the load balancer share: map layouts, reasons, packet arithmetic.
#![no_std]

mod abi;
mod checksum;
mod flow_hash;
mod order;
#[cfg(feature = "user")]
mod pod;
mod rate;
mod reason;
mod share;
mod time;
mod wire;

pub use abi::*;
pub use checksum::{Checksum, fold};
pub use flow_hash::{affinity_hash, flow_hash};
pub use order::{Be16, Be32, Ip};
pub use rate::{TOO_BIG_BUCKETS, TOO_BIG_BURST, TOO_BIG_RATE, too_big_bucket};
pub use reason::{COUNTER_ROOMS, Hook, Reason, Verdict, XDP_DROP_FIRST, XDP_REDIRECT_FIRST, XDP_TX_FIRST};
pub use share::{Candidate, FULL_RAMP, ramp, second_is_better};
pub use time::seconds;
pub use wire::{
    ENCAP_LEN, MSS_MARGIN, OUTER_SOURCE_PORTS, TUNNEL_PORT, TUNNEL_VERSION, TUNNEL_VNI, largest_segment,
    outer_source_port,
};
