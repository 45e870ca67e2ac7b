//! The Mesos operator API's JSON: reading it on a node, writing it on the master.

pub mod decode;
pub mod encode;
