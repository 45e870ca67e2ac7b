//! bpf-linker, built once into a cache folder that all checkouts share.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;
use crate::workspace::{Workspace, cargo};

/// Its LLVM must be the compiler's; newer ones need an LLVM that Debian 12 has not.
pub(super) const VERSION: &str = "0.13.0";

/// The linker of one version for one LLVM.
#[derive(Debug)]
pub(super) struct Linker {
    root: PathBuf,
    llvm: u32,
}

impl Linker {
    pub(super) fn new(llvm: u32) -> Result<Self> {
        let cache = match std::env::var_os("XDG_CACHE_HOME") {
            Some(dir) if !dir.is_empty() => PathBuf::from(dir),
            _ => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set; set one")?)
                .join(".cache"),
        };
        Ok(Self {
            root: cache.join("revere").join(format!("bpf-linker-{VERSION}-llvm-{llvm}")),
            llvm,
        })
    }

    pub(super) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    pub(super) fn is_built(&self) -> bool {
        self.bin().join("bpf-linker").is_file()
    }

    /// Builds it when it is not there; half a build is never taken for a whole one.
    pub(super) fn build(&self, workspace: &Workspace) -> Result<()> {
        if self.is_built() {
            return Ok(());
        }
        println!(
            "setup: building bpf-linker {VERSION} with LLVM {} into {} (once, about two minutes)",
            self.llvm,
            self.root.display()
        );
        let half = self.root.with_file_name(format!("half-{VERSION}-llvm-{}", self.llvm));
        let prefix = PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm));
        let mut path = vec![prefix.join("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut install = Command::new(cargo());
        install
            .current_dir(&workspace.root)
            .args([
                "install",
                "bpf-linker",
                "--version",
                VERSION,
                "--locked",
                "--no-default-features",
                "--features",
            ])
            .arg(format!("llvm-{}", self.llvm))
            .arg("--root")
            .arg(&half)
            .env("LLVM_PREFIX", &prefix)
            .env("PATH", std::env::join_paths(path)?);
        shell::run(&mut install)?;
        std::fs::rename(&half, &self.root)
            .with_context(|| format!("cannot move {} to {}", half.display(), self.root.display()))
    }
}
