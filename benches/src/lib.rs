//! Inputs that several benches share, and the packet figures.

mod bpf;
pub mod change;
pub mod cluster;
mod frame;
mod harness;
mod memory;
mod node;
pub mod packets;
pub mod path;
pub mod sockets;
