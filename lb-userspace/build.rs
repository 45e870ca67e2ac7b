//! Embeds the BPF object if it was built; without it the crate builds all the same and `Lb::open` says what to do.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(revere_bpf_object)");
    println!("cargo::rerun-if-env-changed=REVERE_BPF_OBJECT");
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/revere-lb.o");
    let object = env::var_os("REVERE_BPF_OBJECT").map_or(built, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    if let Ok(object) = object.canonicalize() {
        println!("cargo::rustc-cfg=revere_bpf_object");
        println!("cargo::rustc-env=REVERE_BPF_OBJECT_PATH={}", object.display());
    }
}
