//! Debian's kernel packages: found, downloaded and unpacked beside the build, never installed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::setup::Install;
use crate::shell;

/// A line of kernels that Debian keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Line {
    /// Debian 12's own.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's, offered to Debian 12.
    #[value(name = "6.12")]
    V6_12,
}

impl Line {
    /// Oldest first.
    pub const ALL: &'static [Self] = &[Self::V6_1, Self::V6_12];

    /// As people say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// Packages that depend on the newest of the line, best first. `cloud` has the same network stack and BPF without
    /// drivers of real hardware: a third of the download.
    fn meta(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["linux-image-cloud-amd64", "linux-image-amd64"],
            Self::V6_12 => &[
                "linux-image-6.12-cloud-amd64",
                "linux-image-6.12-amd64",
                "linux-image-amd64",
            ],
        }
    }
}

/// Modules that tests need where the kernel has them not built in; their own needs are found.
const MODULES: &[&str] = &[
    "veth",
    "vxlan",
    "bridge",
    "dummy",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_ct",
    "nft_numgen",
    "tcp_diag",
    "udp_diag",
    "overlay",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) line: Line,
    pub(super) vmlinuz: PathBuf,
    /// In the order they must be loaded in.
    pub(super) modules: Vec<PathBuf>,
}

/// Downloads and unpacks what is not there yet; `None` if Debian has no such kernel for this release.
pub(super) fn fetch(dir: &Path, line: Line, install: Install) -> Result<Option<Kernel>> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let Some(package) = package(line)? else {
        return Ok(None);
    };
    let tree = dir.join(&package);
    if !tree.join("unpacked").is_file() {
        if install == Install::Nothing {
            bail!("{package} is not downloaded and --no-install was given; run once without it");
        }
        eprintln!("vm: downloading {package}");
        let file = download(dir, &package)?;
        shell::run(Command::new("dpkg").arg("-x").arg(&file).arg(&tree))?;
        std::fs::write(tree.join("unpacked"), "")?;
        std::fs::remove_file(&file)?;
    }
    let vmlinuz = std::fs::read_dir(tree.join("boot"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
        })
        .with_context(|| format!("{package} holds no vmlinuz"))?;
    let modules = modules(&tree)?;
    Ok(Some(Kernel { line, vmlinuz, modules }))
}

/// The package with the newest kernel of the line.
fn package(line: Line) -> Result<Option<String>> {
    let prefix = format!("linux-image-{}.", line.name());
    for meta in line.meta() {
        let said = shell::output(Command::new("apt-cache").args(["depends", meta]))?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let found = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(&prefix));
        if let Some(name) = found {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

fn download(dir: &Path, package: &str) -> Result<PathBuf> {
    let mut fetch = Command::new("apt-get");
    fetch.args(["download", "-q", package]).current_dir(dir);
    if !shell::output(&mut fetch)?.status.success() {
        shell::run(Command::new("apt-get").arg("update"))?;
        shell::run(&mut fetch)?;
    }
    let start = format!("{package}_");
    std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&start))
        })
        .with_context(|| format!("apt-get downloaded no {package}"))
}

/// The modules and what they depend on, dependencies first, each unpacked.
fn modules(tree: &Path) -> Result<Vec<PathBuf>> {
    let mut all = BTreeMap::new();
    index(&tree.join("lib/modules"), &mut all)?;
    let plain = tree.join("modules");
    std::fs::create_dir_all(&plain)?;
    let mut order = Vec::new();
    for name in MODULES {
        add(name, &all, &plain, &mut order)?;
    }
    Ok(order)
}

/// Every module file below, by its name.
fn index(dir: &Path, all: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, all)?;
        } else if let Some((name, _)) = path.file_name().and_then(|name| name.to_str()?.split_once(".ko")) {
            all.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

fn add(name: &str, all: &BTreeMap<String, PathBuf>, plain: &Path, order: &mut Vec<PathBuf>) -> Result<()> {
    let to = plain.join(format!("{name}.ko"));
    // What is no module is built in, or the kernel does not have it; the tests will say.
    let Some(from) = all.get(name) else { return Ok(()) };
    if order.contains(&to) {
        return Ok(());
    }
    if !to.is_file() {
        let bytes = if from.extension().is_some_and(|ext| ext == "xz") {
            let output = Command::new("xz")
                .arg("-dc")
                .arg(from)
                .output()
                .context("cannot start xz")?;
            output.stdout
        } else {
            std::fs::read(from)?
        };
        std::fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    for needed in depends(&std::fs::read(&to)?) {
        add(&needed, all, plain, order)?;
    }
    order.push(to);
    Ok(())
}

/// The line `depends=` of a module's own description.
fn depends(module: &[u8]) -> Vec<String> {
    let mark = b"\0depends=";
    let Some(at) = module.windows(mark.len()).position(|window| window == mark) else {
        return Vec::new();
    };
    let rest = &module[at + mark.len()..];
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&rest[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::depends;

    #[test]
    fn a_module_tells_what_it_needs() {
        let file = b"..\0license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0name=vxlan\0";
        assert_eq!(depends(file), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(depends(b"license=GPL\0depends=\0").is_empty());
    }
}
