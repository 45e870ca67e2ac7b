//! One packet for each edge case, with the exact bytes that come out: addresses, ports, checksums, hops, link addresses.

mod bare;
pub(in crate::packets) mod build;
mod cookies;
mod edges;
mod errors;
mod flows;
mod jumbo;
mod nat;
pub(in crate::packets) mod node;
mod parts;
mod reset;
mod shared;
mod too_big;
mod translated_parts;
mod tunnel;
