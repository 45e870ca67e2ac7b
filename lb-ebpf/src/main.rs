//! The BPF programs; built for the BPF target only, by `cargo xtask build-ebpf`.
fn main() {}
