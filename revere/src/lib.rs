//! Everything of the `revere` binary: configuration, drivers, HTTP APIs, storage, command line.

pub mod cli;
pub mod config;
#[cfg(test)]
mod conformity;
pub mod demo;
mod etcd;
mod hold;
mod keepalive;
pub mod master;
pub mod mesos;
pub mod metrics;
pub mod node;
pub mod process;
pub mod recordio;
mod store;
pub mod tape;
pub mod wire;
