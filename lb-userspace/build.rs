//! Embeds the BPF objects if they were built; without them the crate builds all the same and opening says what to do.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(revere_bpf_object)");
    println!("cargo::rerun-if-env-changed=REVERE_BPF_OBJECT");
    let built = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/revere-lb.o");
    let object = env::var_os("REVERE_BPF_OBJECT").map_or(built, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    // Beside it, from the same build.
    let names = object.with_file_name("revere-names.o");
    println!("cargo::rustc-check-cfg=cfg(revere_names_object)");
    println!("cargo::rerun-if-changed={}", names.display());
    if let Ok(object) = object.canonicalize() {
        println!("cargo::rustc-cfg=revere_bpf_object");
        println!("cargo::rustc-env=REVERE_BPF_OBJECT_PATH={}", object.display());
    }
    if let Ok(names) = names.canonicalize() {
        println!("cargo::rustc-cfg=revere_names_object");
        println!("cargo::rustc-env=REVERE_NAMES_OBJECT_PATH={}", names.display());
    }
}
