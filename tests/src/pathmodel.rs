//! The packet path as it is meant to be, written a second time: packet, tables and flows in; verdict, bytes and flows out.
//!
//! It shares the map layouts, the flow hash and the wire constants of `lb-common` with the programs, and nothing else: no
//! parser, no arithmetic, no order of steps. It looks at whole packets in plain memory, as a reader of the documents would.

mod choose;
mod cookies;
mod egress;
mod errors;
mod flows;
mod ingress;
mod nat;
mod parse;
mod parts;
mod reply;
mod sums;
mod tables;
mod tunnel;
mod write;

pub use cookies::Cookies;
pub use flows::{Flows, Key, PartKey, Store};
pub use lb_common::Reason;
pub use nat::{Nat, Tuple};
pub use tables::{Route, Tables};

/// Everything that decides about packets.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// What user space has written.
    pub tables: Tables,
    /// What earlier packets have left.
    pub flows: Flows,
    /// Cookies that were sent.
    pub cookies: Cookies,
    /// Translated flows.
    pub nat: Nat,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why, and with it the verdict.
    pub reason: Reason,
    /// The frame as it goes on; without meaning when it is dropped.
    pub frame: Vec<u8>,
}
