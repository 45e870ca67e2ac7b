//! `cargo xtask dist`: completions and man pages, as `revere` itself writes them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shell;
use crate::workspace::Workspace;

/// Cargo profile of the `revere` that demo and tests run: optimised, without the long link of a release.
pub const PROFILE: &str = "demo";

/// Builds `revere` and gives its path; `LAB_REVERE` names one that is built already.
pub fn build_revere(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(built) = std::env::var_os("LAB_REVERE") {
        return Ok(built.into());
    }
    let profile = format!("--profile={PROFILE}");
    shell::run(&mut workspace.cargo(&["build", "--locked", "--package=revere", &profile]))?;
    Ok(workspace.target.join(PROFILE).join("revere"))
}

/// Writes everything into target/dist.
pub fn run(workspace: &Workspace) -> Result<()> {
    let revere = build_revere(workspace)?;
    let dist = workspace.root.join("target/dist");
    let man = dist.join("man");
    let completions = dist.join("completions");
    for dir in [&man, &completions] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    for shell_name in ["bash", "zsh", "fish"] {
        let script = shell::capture(Command::new(&revere).args(["completions", shell_name]))?;
        std::fs::write(completions.join(format!("revere.{shell_name}")), script)?;
    }
    shell::run(Command::new(&revere).arg("man").arg(&man))?;
    println!("written: {}", dist.display());
    Ok(())
}
