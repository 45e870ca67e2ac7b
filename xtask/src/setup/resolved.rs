//! Fetches systemd-resolved without installing it: its package would put the machine's own resolv.conf under its hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::Install;
use crate::shell;
use crate::workspace::Workspace;

/// The program and the library of exactly its version.
const PACKAGES: [&str; 2] = ["systemd-resolved", "libsystemd-shared"];
/// Where Debian puts the program.
const PROGRAM: &str = "lib/systemd/systemd-resolved";

fn dir(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools/systemd-resolved")
}

/// The program, and the folder of its library; `None` when it is nowhere.
#[must_use]
pub fn find(workspace: &Workspace) -> Option<(PathBuf, PathBuf)> {
    let dir = dir(workspace);
    let fetched = (dir.join(PROGRAM), library(&dir));
    if let (program, Some(library)) = fetched
        && program.is_file()
    {
        return Some((program, library));
    }
    let system = Path::new("/").join(PROGRAM);
    system.is_file().then(|| (system, PathBuf::from("/nonexistent")))
}

/// The folder that holds `libsystemd-shared-*.so`, whatever the machine's architecture is called.
fn library(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir.join("usr/lib")).ok()?.flatten();
    let mut folders = entries.map(|entry| entry.path().join("systemd"));
    folders.find(|folder| folder.is_dir())
}

/// Fetches it when it is not there.
pub fn fetch(workspace: &Workspace, install: Install) -> Result<()> {
    if find(workspace).is_some() {
        return Ok(());
    }
    if install == Install::Nothing {
        bail!("systemd-resolved is missing and --no-install was given; run once without it, as root");
    }
    let dir = dir(workspace);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    println!("setup: fetching systemd-resolved, which the tests run beside the name server, without installing it");
    let download = || {
        let mut command = Command::new("apt-get");
        command
            .current_dir(&dir)
            .args(["-o", "APT::Sandbox::User=root", "-qq", "download"])
            .args(PACKAGES);
        command
    };
    if !shell::output(&mut download())?.status.success() {
        // Without package lists there is nothing to be found.
        shell::run(Command::new("apt-get").args(["-qq", "update"]))?;
        shell::run(&mut download())?;
    }
    for entry in std::fs::read_dir(&dir)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            shell::run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&dir))?;
            std::fs::remove_file(&path)?;
        }
    }
    if find(workspace).is_none() {
        bail!("the package systemd-resolved holds no {PROGRAM}: is this Debian 12?");
    }
    Ok(())
}
