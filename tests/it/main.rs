//! The one test binary that needs root: packet tests and network-namespace tests.

mod namespaces;
mod packets;
