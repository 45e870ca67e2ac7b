//! One packet for each edge case, with the exact bytes that come out: addresses, ports, checksums, hops, link addresses.

mod build;
mod edges;
mod errors;
mod flows;
mod node;
mod shared;
mod too_big;
mod tunnel;
