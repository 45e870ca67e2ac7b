//! The process that outlives its owner by a moment and takes everything away.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Reads from the owner until it is gone, then kills the PID namespace and removes cgroups and files. Bash is the
/// namespace's first process because it reaps orphans.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
unshare --fork --pid --kill-child --mount-proc --net --mount --propagation private \
    bash -c 'while :; do sleep 1000 & wait $!; done' </dev/null >/dev/null 2>&1 &
echo "$!"
cat >/dev/null
kill -KILL "$!"; wait "$!" 2>/dev/null
left=
for group in $(find "$CGROUPS" -path "*$LAB*" -type d -depth 2>/dev/null); do
    for try in $(seq 200); do
        rmdir "$group" 2>/dev/null && break
        [ -d "$group" ] || break
        sleep 0.02
    done
    [ -d "$group" ] && left="$left $group"
done
rm -rf "$DIR" || left="$left $DIR"
[ -z "$left" ] || { echo "left behind:$left"; exit 1; }
"#;

/// A running janitor.
#[derive(Debug)]
pub struct Janitor {
    child: Child,
    /// First process of the lab's PID namespace, as seen from here.
    pub init: u32,
}

impl Janitor {
    pub(super) fn start(dir: &Path, cgroups: &Path, lab: &str) -> Result<Self> {
        // v1 hierarchies hold cgroups of the lab's tasks too: look below the parent of a separate v2 mount.
        let all: PathBuf = if cgroups.ends_with("unified") {
            cgroups.parent().unwrap_or(cgroups).to_owned()
        } else {
            cgroups.to_owned()
        };
        let mut child = Command::new("bash")
            .args(["-c", SCRIPT])
            .env("CGROUPS", all)
            .env("LAB", lab)
            .env("DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start bash")?;
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().context("the janitor has no output")?);
        out.read_line(&mut line)?;
        child.stdout = Some(out.into_inner());
        let unshare: u32 = line
            .trim()
            .parse()
            .context("cannot make namespaces: `unshare` did not start")?;
        let init = only_child(unshare).context(
            "cannot make namespaces: `unshare --pid --net --mount` failed; is this root with all capabilities?",
        )?;
        Ok(Self { child, init })
    }

    pub(super) fn finish(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let mut said = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut out, &mut said)?;
        }
        if !self.child.wait()?.success() {
            bail!("the lab did not end cleanly: {}", said.trim());
        }
        Ok(())
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            eprintln!("xtask: {error:#}");
        }
    }
}

/// Waits until `pid` has a child, and gives it.
pub(super) fn only_child(pid: u32) -> Option<u32> {
    super::place::wait_for(std::time::Duration::from_secs(10), || first_child(pid))
}

/// A child of `pid`, if it has one now.
pub(super) fn first_child(pid: u32) -> Option<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    listed.split_whitespace().next()?.parse().ok()
}
