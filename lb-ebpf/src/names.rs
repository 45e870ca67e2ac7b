//! The object with the XDP program that answers questions for names before the name server's sockets; BPF target only.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
#[path = "names/answer.rs"]
mod answer;
#[cfg(target_arch = "bpf")]
#[path = "names/bounds.rs"]
mod bounds;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
#[allow(dead_code, reason = "shared with the load balancer's object, which needs more of it")]
mod headers;
#[cfg(target_arch = "bpf")]
#[path = "names/maps.rs"]
mod maps;
#[cfg(target_arch = "bpf")]
mod object;
#[cfg(target_arch = "bpf")]
mod opaque;
#[cfg(target_arch = "bpf")]
#[path = "names/question.rs"]
mod question;

/// On the host there is nothing to run.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
