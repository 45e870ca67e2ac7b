//! Fetches clients that only PyPI has, into a folder of their own.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::Install;
use crate::shell;
use crate::workspace::Workspace;

/// A Mesos framework client, and the one of its libraries that Debian does not have.
const PACKAGES: [&str; 2] = ["pymesos==0.3.15", "addict==2.4.0"];

/// Where they are; the interpreter is told by `PYTHONPATH`.
#[must_use]
pub fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/python")
}

/// Fetches them when they are not there.
pub fn fetch(workspace: &Workspace, install: Install) -> Result<()> {
    let folder = folder(workspace);
    if folder.join("pymesos").is_dir() && folder.join("addict").is_dir() {
        return Ok(());
    }
    if install == Install::Nothing {
        bail!("pymesos is missing and --no-install was given; run once without it, as root");
    }
    println!("setup: fetching pymesos, which joins the master in the tests, without installing it");
    let mut command = Command::new("/usr/bin/python3");
    command
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--root-user-action=ignore",
            "--target",
        ])
        .arg(&folder)
        .args(PACKAGES);
    shell::run(&mut command)
}
