//! Everything of the `revere` binary: configuration, drivers, HTTP APIs, storage, command line.

pub mod cli;
pub mod demo;
pub mod mesos;
pub mod recordio;
pub mod wire;
