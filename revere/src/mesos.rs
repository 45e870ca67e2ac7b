//! The Mesos operator API: reading its JSON or protobuf on a node, writing it on the master, following it over HTTP.

pub mod client;
pub mod decode;
pub mod encode;
pub(crate) mod legacy;
pub mod pack;
pub mod protobuf;
pub(crate) mod tally;
