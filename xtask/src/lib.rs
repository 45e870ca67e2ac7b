//! All automation of the project: house rules, setup, the eBPF build, the namespace lab, the demo, the test run.
#![allow(clippy::print_stdout, reason = "these commands talk to a person on a terminal")]

pub mod bench;
pub mod demo;
pub mod dist;
pub mod ebpf;
pub mod failures;
pub mod fault;
pub mod figures;
pub mod fuzz;
pub mod fuzz_bytes;
pub mod history;
pub mod lab;
pub mod setup;
pub mod shell;
pub mod sim;
pub mod test;
pub mod tidy;
pub mod vm;
pub mod workspace;
