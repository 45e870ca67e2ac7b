//! Everything of the `revere` binary: configuration, drivers, HTTP APIs, storage, command line.

pub mod cli;
pub mod wire;
