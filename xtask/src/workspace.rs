//! Where the workspace is, and what `cargo metadata` says about it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell;

/// The workspace as cargo sees it.
#[derive(Debug)]
pub struct Workspace {
    /// Folder with the root Cargo.toml.
    pub root: PathBuf,
    /// Where builds go.
    pub target: PathBuf,
    /// The members.
    pub packages: Vec<Package>,
}

/// A member.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Its name, equal to its folder's.
    pub name: String,
    /// Its Cargo.toml.
    pub manifest_path: PathBuf,
    /// All direct dependencies.
    pub dependencies: Vec<Dependency>,
}

/// A direct dependency.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// The other package.
    pub name: String,
    /// Absent for a normal one, else `dev` or `build`.
    pub kind: Option<String>,
    /// Set when it is a member of this workspace.
    pub path: Option<PathBuf>,
    /// Whether it is behind a feature.
    pub optional: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

impl Workspace {
    /// Asks cargo; never needs the network.
    pub fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(cargo());
        command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
        if here.is_dir() {
            command.current_dir(here);
        }
        let text = shell::capture(&mut command)?;
        let found: Metadata = serde_json::from_str(&text).context("cargo metadata wrote something unknown")?;
        Ok(Self {
            root: found.workspace_root,
            target: found.target_directory,
            packages: found.packages,
        })
    }

    /// A cargo command in the workspace; offline, because `setup` has fetched everything.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command
            .current_dir(&self.root)
            .args(args)
            .env("CARGO_NET_OFFLINE", "true");
        command
    }

    /// Folder of the figures' files, made when missing.
    pub fn figures_dir(&self) -> Result<PathBuf> {
        let dir = self.root.join("target/figures");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

/// The cargo that started us, else the one in `PATH`.
pub fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
