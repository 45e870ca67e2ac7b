//! Marathon's own clients against the lab's master: Debian's python3-marathon through a whole life cycle.

use anyhow::{Context as _, ensure};
use xtask::shell;

use super::on_cluster;

/// Where the lab's master serves Marathon's API.
const MASTER: &str = "http://10.99.0.1:8080";
/// Debian's interpreter: the package belongs to no other.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn python3_marathon_lives_a_whole_life() {
    on_cluster(|cluster| {
        let file = cluster.lab.dir.join("life.py");
        std::fs::write(&file, include_str!("marathon/life.py"))?;
        let script = file.to_str().context("a plain path")?;
        let mut command = cluster.lab.outside.command(&[PYTHON, script, MASTER]);
        let output = shell::output(&mut command)?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(
            !said.contains("No module named"),
            "this test could not run: python3-marathon is not installed; `cargo xtask test` without --no-install installs it"
        );
        ensure!(output.status.success() && said.trim_end().ends_with("done"), "{said}");
        Ok(())
    });
}
