//! The one test binary that needs root: packet tests and network-namespace tests.
#![allow(clippy::expect_used, reason = "a test that cannot go on panics and says why")]

mod namespaces;
mod packets;
mod sockets;
