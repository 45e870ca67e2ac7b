//! What the programs and maps cost in the kernel that runs the tests: printed as facts, and bounded.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::maps::MapData;
use lb_userspace::Lb;

use crate::packets::lab::{config, enter};

/// Verified instructions of all programs together.
const INSTRUCTIONS: u32 = 110_000;
/// Bytes of all maps at the default sizes, which are made for 512 VIPs and more.
const MAP_BYTES: u64 = 128 << 20;

/// What the kernel charges for a pinned map.
fn bytes(pin: &std::path::Path) -> u64 {
    let map = MapData::from_pin(pin).expect("a pinned map");
    let fd = map.fd().as_fd().as_raw_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("the kernel tells");
    let line = text.lines().find_map(|line| line.strip_prefix("memlock:"));
    line.expect("memlock").trim().parse().expect("a number")
}

#[test]
fn programs_and_maps_keep_to_their_sizes() {
    let folder = enter();
    let defaults = config(folder.path());
    let config = lb_userspace::Config::new(
        defaults.bpffs.clone(),
        defaults.uplinks.clone(),
        defaults.cgroup.clone(),
        defaults.vip_net,
    );
    let (lb, opened) = Lb::open(config).expect("the load balancer opens");
    for warning in &opened.warnings {
        println!("fact: {warning}");
    }
    let mut instructions = 0;
    for program in lb.verifier_stats().expect("the kernel tells") {
        println!(
            "fact: program {}: {} verified instructions, {} bytes",
            program.name, program.verified_instructions, program.size
        );
        instructions += program.verified_instructions;
    }
    let mut sum = 0;
    for pin in std::fs::read_dir(folder.path().join("bpf/maps")).expect("pins") {
        let pin = pin.expect("a pin").path();
        let bytes = bytes(&pin);
        println!(
            "fact: map {}: {bytes} bytes",
            pin.file_name().expect("a name").display()
        );
        sum += bytes;
    }
    println!(
        "fact: {instructions} verified instructions and {} KiB of maps in all",
        sum >> 10
    );
    assert!(
        instructions > 0 && instructions <= INSTRUCTIONS,
        "{instructions} instructions"
    );
    assert!(sum > 0 && sum <= MAP_BYTES, "{sum} bytes");
}
