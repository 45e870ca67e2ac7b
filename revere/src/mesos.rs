//! The Mesos operator API's JSON: reading it on a node, writing it on the master.

pub mod decode;
pub mod encode;

/// Text attribute of an agent that tells its block of the overlay.
pub const SUBNET_ATTRIBUTE: &str = "overlay_subnet";
