//! The `revere` binary.
fn main() {}
