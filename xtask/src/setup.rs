//! `cargo xtask setup`: what the other commands need, installed once, each with its reason.

mod linker;
pub mod pypi;
pub mod resolved;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::ebpf::BpfToolchain;
use crate::shell;
use crate::workspace::{Workspace, cargo};

/// Oldest kernel that the data plane is tested on (Debian 12's).
const KERNEL: (u32, u32) = (6, 1);

/// Whether missing things may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// Install what is missing.
    Missing,
    /// Only say what is missing.
    Nothing,
}

impl Install {
    /// From the flag `--no-install`.
    #[must_use]
    pub fn unless(no_install: bool) -> Self {
        if no_install { Self::Nothing } else { Self::Missing }
    }
}

/// What setup found or made.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The compiler of the BPF object.
    pub toolchain: BpfToolchain,
    /// Folder of the `bpf-linker` program.
    pub linker_dir: PathBuf,
}

/// Programs, the Debian package of each, and what it is for.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("ip", "iproute2", "builds the lab's networks"),
    ("dig", "dnsutils", "shows the names' answers in the demo"),
    ("ethtool", "ethtool", "makes the lab's links behave like wires"),
    ("nsenter", "util-linux", "runs programs inside the lab's nodes"),
    ("cc", "gcc", "links Rust programs"),
    ("g++", "g++", "links the BPF linker with LLVM"),
    ("make", "make", "builds the memory allocator"),
    ("curl", "curl", "asks the nodes' APIs in tests"),
    ("git", "git", "tells tidy which files belong to the project"),
];

/// Programs that the names of a lab are looked up with, for `cargo xtask test`.
pub const NAME_CLIENTS: &[(&str, &str, &str)] = &[
    ("kdig", "knot-dnsutils", "looks names up in the tests"),
    ("drill", "ldnsutils", "looks names up in the tests"),
    ("host", "bind9-host", "looks names up in the tests"),
    ("unbound", "unbound", "forwards to the name server in the tests"),
    (
        "musl-gcc",
        "musl-tools",
        "builds a program with another C library for the tests",
    ),
];

/// What the tests of containers need, for `cargo xtask test`; none of its services is started.
pub const CONTAINER_PROGRAMS: &[(&str, &str, &str)] = &[
    ("docker-registry", "docker-registry", "serves images in the tests"),
    ("busybox", "busybox-static", "is the content of the tests' images"),
];

/// Keeps the state of many masters in the tests; its service is not to start.
pub const MASTERS_STORE: &[(&str, &str, &str)] = &[(
    "etcd",
    "etcd-server",
    "keeps what several masters share, in the tests and in faults of masters",
)];

/// Cuts masters off from each other in faults.
pub const CUTS: &[(&str, &str, &str)] = &[("nft", "nftables", "loses packets between masters in their faults")];

/// Programs that follow Marathon's API, for `cargo xtask test`. They come with services that are not to start.
pub const API_FOLLOWERS: &[(&str, &str, &str)] =
    &[("prometheus", "prometheus", "finds tasks by Marathon's API in the tests")];

/// Debian packages without a program of their own name, for `cargo xtask test`: of ZooKeeper, which does not start by itself,
/// and of the libraries that Marathon's and Mesos' clients are made of.
pub const TEST_LIBRARIES: &[(&str, &str)] = &[
    (
        "zookeeper",
        "tells nodes the leading master in the tests of zk:// addresses",
    ),
    (
        "python3-marathon",
        "is Marathon's own client in the test of its whole life cycle",
    ),
    (
        "python3-http-parser",
        "is a library of pymesos, a framework in the tests",
    ),
    ("python3-kazoo", "is a library of pymesos"),
    ("python3-six", "is a library of pymesos"),
    ("python3-pip", "fetches pymesos"),
];

/// Debian's compiler that can build `core` for BPF, and the LLVM of its version.
const DEBIAN_BPF: &[(&str, &str)] = &[
    (
        "rustc-web",
        "compiles the BPF program (no nightly Rust with rust-src is installed)",
    ),
    ("rust-web-src", "source of `core` for the BPF target"),
];

/// Checks everything, installs what is missing and may be installed.
pub fn run(workspace: &Workspace, install: Install) -> Result<Ready> {
    kernel()?;
    if !rustix::process::geteuid().is_root() {
        bail!(
            "this command makes network namespaces and loads BPF programs: run it as root (`sudo -E env PATH=$PATH cargo xtask ...`)"
        );
    }
    let (toolchain, llvm) = toolchain()?;
    let mut packages: Vec<(String, String)> = PROGRAMS
        .iter()
        .filter(|(program, _, _)| shell::find(program).is_none())
        .map(|(program, package, why)| ((*package).to_owned(), format!("`{program}` {why}")))
        .collect();
    let bpf = if toolchain == BpfToolchain::DebianRustcWeb {
        DEBIAN_BPF
    } else {
        &[]
    };
    packages.extend(
        bpf.iter()
            .filter(|(name, _)| !installed(name))
            .map(|(name, why)| ((*name).to_owned(), (*why).to_owned())),
    );
    let linker = linker::Linker::new(llvm)?;
    if !linker.is_built() {
        let name = format!("llvm-{llvm}-dev");
        if !installed(&name) {
            packages.push((name, "LLVM of the compiler's version, for the BPF linker".to_owned()));
        }
    }
    if install == Install::Nothing {
        report(&packages, &linker)?;
    } else {
        apt(&packages)?;
        fetch(workspace)?;
        linker.build(workspace)?;
    }
    Ok(Ready {
        toolchain,
        linker_dir: linker.bin(),
    })
}

/// Installs the Debian packages of programs that only some commands need: `(program, package, what it is for)`.
pub fn programs(wanted: &[(&str, &str, &str)], install: Install) -> Result<()> {
    let missing: Vec<(String, String)> = wanted
        .iter()
        .filter(|(program, _, _)| shell::find(program).is_none())
        .map(|(program, package, why)| ((*package).to_owned(), format!("`{program}` {why}")))
        .collect();
    if install == Install::Nothing && !missing.is_empty() {
        for (name, why) in &missing {
            eprintln!("setup: missing package {name}: {why}");
        }
        bail!("something is missing and --no-install was given; run once without it, as root");
    }
    apt(&missing)
}

/// Installs Debian packages without a program of their own: `(package, what it is for)`.
pub fn libraries(wanted: &[(&str, &str)], install: Install) -> Result<()> {
    let missing: Vec<(String, String)> = wanted
        .iter()
        .filter(|(package, _)| !installed(package))
        .map(|(package, why)| ((*package).to_owned(), (*why).to_owned()))
        .collect();
    if install == Install::Nothing && !missing.is_empty() {
        for (name, why) in &missing {
            eprintln!("setup: missing package {name}: {why}");
        }
        bail!("something is missing and --no-install was given; run once without it, as root");
    }
    apt(&missing)
}

/// Stands in the way of services that packages start by themselves.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// As [`programs`], without starting any service that comes with them.
pub fn without_services(wanted: &[(&str, &str, &str)], install: Install) -> Result<()> {
    let ours = install == Install::Missing && !Path::new(POLICY).exists();
    if ours {
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {POLICY}"))?;
        shell::run(Command::new("chmod").args(["755", POLICY]))?;
    }
    let done = programs(wanted, install);
    if ours {
        std::fs::remove_file(POLICY).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    done
}

fn report(packages: &[(String, String)], linker: &linker::Linker) -> Result<()> {
    for (name, why) in packages {
        eprintln!("setup: missing package {name}: {why}");
    }
    if !linker.is_built() {
        eprintln!("setup: missing bpf-linker in {}", linker.bin().display());
    }
    if !packages.is_empty() || !linker.is_built() {
        bail!("something is missing and --no-install was given; run once without it, as root");
    }
    eprintln!("setup: nothing is missing");
    Ok(())
}

fn kernel() -> Result<()> {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read the kernel's version: is this Linux with /proc?")?;
    let mut parts = text
        .trim()
        .split(['.', '-', '+'])
        .map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < KERNEL {
        bail!(
            "kernel {} is too old: the data plane is tested from Linux {}.{} on, which Debian 12 has; install a newer one",
            text.trim(),
            KERNEL.0,
            KERNEL.1
        );
    }
    Ok(())
}

/// Nightly with rust-src if it is there, else Debian's; with the LLVM version of the choice.
fn toolchain() -> Result<(BpfToolchain, u32)> {
    let listed = Command::new("rustup")
        .args(["component", "list", "--toolchain", "nightly", "--installed"])
        .output();
    let nightly = listed
        .is_ok_and(|output| output.status.success() && String::from_utf8_lossy(&output.stdout).contains("rust-src"));
    if !nightly {
        return Ok((BpfToolchain::DebianRustcWeb, 22));
    }
    let version = shell::capture(Command::new("rustup").args(["run", "nightly", "rustc", "-vV"]))?;
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: ")?.split('.').next()?.parse().ok());
    let llvm = llvm.context("`rustc -vV` of nightly does not tell its LLVM version")?;
    // The versions that bpf-linker 0.13 can be linked with; Debian 12 has 22 only.
    if !matches!(llvm, 21..=23) {
        bail!(
            "nightly Rust uses LLVM {llvm}, which bpf-linker {} cannot be linked with; use another nightly, or remove its rust-src to use Debian's rustc-web",
            linker::VERSION
        );
    }
    if llvm != 22 && !installed(&format!("llvm-{llvm}-dev")) {
        println!(
            "setup: nightly Rust uses LLVM {llvm}, and llvm-{llvm}-dev is not installed; using Debian's rustc-web with LLVM 22 instead"
        );
        return Ok((BpfToolchain::DebianRustcWeb, 22));
    }
    Ok((BpfToolchain::NightlyRustSrc, llvm))
}

fn installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Status}", package])
        .output();
    query.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("install ok installed"))
}

fn apt(packages: &[(String, String)]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    println!(
        "setup: installing {} Debian packages (about 1.4 GB on disk if LLVM is among them):",
        packages.len()
    );
    for (name, why) in packages {
        println!("  {name}: {why}");
    }
    if shell::find("apt-get").is_none() {
        bail!(
            "there is no apt-get: this is no Debian; install by hand: {}",
            packages
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(apt().arg("update"))?;
    shell::run(
        apt()
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages.iter().map(|(name, _)| name)),
    )
}

/// All crates into cargo's cache, so that later runs need no network.
fn fetch(workspace: &Workspace) -> Result<()> {
    let command = || {
        let mut command = Command::new(cargo());
        command
            .current_dir(&workspace.root)
            .args(["fetch", "--locked", "--quiet"]);
        command
    };
    if shell::output(command().arg("--offline"))?.status.success() {
        return Ok(());
    }
    println!("setup: fetching the crates of Cargo.lock, for later runs without the network");
    shell::run(&mut command())
}
