//! Builds the BPF objects that `lb-userspace` embeds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Where `lb-userspace` looks for the load balancer's object, from the workspace's root.
pub const OBJECT: &str = "target/bpf/revere-lb.o";
/// And for the one with the program that answers names.
pub const NAMES_OBJECT: &str = "target/bpf/revere-names.o";

/// A target of rustc's for BPF in little-endian byte order, which every machine we support has.
const TARGET: &str = "bpfel-unknown-none";

/// A compiler that can build Rust's `core` for BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BpfToolchain {
    /// rustup's nightly with the component rust-src.
    NightlyRustSrc,
    /// Debian's packages rustc-web and rust-web-src.
    DebianRustcWeb,
}

/// Builds the objects with the linker found in `linker_dir` and returns the path of the load balancer's.
pub fn build(root: &Path, toolchain: BpfToolchain, linker_dir: &Path) -> anyhow::Result<PathBuf> {
    if !linker_dir.join("bpf-linker").is_file() {
        bail!(
            "there is no bpf-linker in {}; `cargo xtask setup` builds it",
            linker_dir.display()
        );
    }
    let target_dir = root.join("target/bpf-build");
    let status = command(root, toolchain, linker_dir, &target_dir)?
        .status()
        .with_context(|| format!("could not start cargo for the BPF target with {toolchain:?}"))?;
    if !status.success() {
        bail!("building lb-ebpf with {toolchain:?} failed ({status}); the compiler's message is above");
    }
    let built = target_dir.join(TARGET).join("release");
    let object = root.join(OBJECT);
    install(&built.join("lb-ebpf"), &object)?;
    install(&built.join("names-ebpf"), &root.join(NAMES_OBJECT))?;
    Ok(object)
}

fn command(root: &Path, toolchain: BpfToolchain, linker_dir: &Path, target_dir: &Path) -> anyhow::Result<Command> {
    let arch = std::env::consts::ARCH;
    let flags = [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(linker_dir.to_owned()).chain(std::env::split_paths(&path)))
        .context("PATH holds a directory that cannot be part of it")?;
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "build",
            "--package",
            "lb-ebpf",
            "--release",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
        ])
        .current_dir(root)
        // Set by the cargo that runs xtask; they would choose its own toolchain again.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS")
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    match toolchain {
        BpfToolchain::NightlyRustSrc => cargo.env("RUSTUP_TOOLCHAIN", "nightly"),
        // Debian's compiler is a stable one; the variable opens the options that build `core`.
        BpfToolchain::DebianRustcWeb => cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1"),
    };
    Ok(cargo)
}

/// Copies only a changed object, so that an unchanged one makes cargo build nothing again.
fn install(built: &Path, object: &Path) -> anyhow::Result<()> {
    let new = fs::read(built).with_context(|| format!("could not read {}", built.display()))?;
    if fs::read(object).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let folder = object.parent().context("the object's path has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let part = object.with_extension("part");
    fs::write(&part, &new).with_context(|| format!("could not write {}", part.display()))?;
    fs::rename(&part, object).with_context(|| format!("could not write {}", object.display()))
}
