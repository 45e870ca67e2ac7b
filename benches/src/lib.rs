//! Inputs that several benches share.

pub mod cluster;
