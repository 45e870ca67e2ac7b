//! A framework client from PyPI against the lab's master: pymesos through a whole life cycle.

use anyhow::{Context as _, ensure};
use xtask::setup::pypi;
use xtask::shell;
use xtask::workspace::Workspace;

use super::on_cluster;

/// Where the lab's master serves Mesos' API.
const MASTER: &str = "10.99.0.1:5050";
/// Debian's interpreter, whose packages pymesos needs besides.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn pymesos_lives_a_whole_life() {
    on_cluster(|cluster| {
        let file = cluster.lab.dir.join("framework.py");
        std::fs::write(&file, include_str!("frameworks/life.py"))?;
        let script = file.to_str().context("a plain path")?;
        let mut command = cluster.lab.outside.command(&[PYTHON, script, MASTER]);
        command.env("PYTHONPATH", pypi::folder(&Workspace::find()?));
        let output = shell::output(&mut command)?;
        let said = shell::both(&output);
        ensure!(
            !said.contains("No module named"),
            "this test could not run: pymesos is not installed; `cargo xtask test` without --no-install installs it"
        );
        let done = String::from_utf8_lossy(&output.stdout).trim_end().ends_with("done");
        ensure!(output.status.success() && done, "{said}");
        Ok(())
    });
}
