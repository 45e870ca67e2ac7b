//! The guest's file system: programs of this machine with their libraries, kernel modules, one script; packed by cpio.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use crate::shell;

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// What tests call by name and busybox does not have, or not with the flags they use.
const PROGRAMS: &[&str] = &[
    "sh", "ip", "tc", "bridge", "ethtool", "ss", "nsenter", "unshare", "bash", "find", "dig", "nft", "mount", "umount",
    "sysctl",
];

/// Builds the image for one kernel.
pub(super) fn build(dir: &Path, kernel: &Kernel, it: &Path, revere: Option<&Path>) -> Result<PathBuf> {
    let root = dir.join(format!("root-{}", kernel.line.name()));
    if root.exists() {
        std::fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    for sub in [
        "bin", "dev", "proc", "sys", "tmp", "run", "etc", "modules", "root", "new", "var",
    ] {
        std::fs::create_dir_all(root.join(sub))?;
    }
    let busybox = shell::find("busybox").context("there is no busybox")?;
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    let mut programs: Vec<(PathBuf, String)> = Vec::new();
    for name in PROGRAMS {
        // Not every test needs every program; one that is missing is told by the test that needs it.
        if let Some(path) = shell::find(name) {
            programs.push((path, (*name).to_owned()));
        }
    }
    programs.push((it.to_owned(), "it".to_owned()));
    if let Some(revere) = revere {
        programs.push((revere.to_owned(), "revere".to_owned()));
    }
    let mut libraries = BTreeSet::new();
    for (from, name) in &programs {
        let to = root.join("bin").join(name);
        std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        libraries.extend(needed(from)?);
    }
    for name in ["it", "revere"] {
        let file = root.join("bin").join(name);
        if file.is_file() {
            shell::run(Command::new("strip").arg("--strip-debug").arg(&file))?;
        }
    }
    for library in libraries {
        let to = root.join(library.strip_prefix("/").unwrap_or(&library));
        std::fs::create_dir_all(to.parent().context("a library is in a folder")?)?;
        std::fs::copy(&library, &to).with_context(|| format!("cannot copy {}", library.display()))?;
    }
    small_files(&root, kernel)?;
    pack(&root, &dir.join(format!("{}.cpio", kernel.line.name())))
}

fn small_files(root: &Path, kernel: &Kernel) -> Result<()> {
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module is a file")?;
        std::fs::copy(module, root.join("modules").join(name))?;
        order.push_str(&format!("{}\n", name.to_string_lossy()));
    }
    for (name, text) in [
        ("modules/order", order.as_str()),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/resolv.conf", ""),
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        std::fs::write(root.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let init = root.join("init");
    std::fs::write(&init, INIT)?;
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(())
}

/// Shared libraries of a program, the loader among them.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = shell::output(Command::new("ldd").arg(program))?;
    // A static program is none of ldd's; it needs nothing.
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(said
        .lines()
        .filter_map(|line| {
            let path = line.split("=> ").last()?.split_whitespace().next()?;
            path.starts_with('/').then(|| PathBuf::from(path))
        })
        .collect())
}

fn pack(root: &Path, to: &Path) -> Result<PathBuf> {
    let file = std::fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut find = Command::new("find")
        .arg(".")
        .arg("-print0")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start find")?;
    let names = find.stdout.take().context("find has no output")?;
    let status = Command::new("cpio")
        .args(["--null", "--create", "--format=newc", "--quiet", "--owner=0:0"])
        .current_dir(root)
        .stdin(names)
        .stdout(file)
        .status()
        .context("cannot start cpio")?;
    if !find.wait()?.success() || !status.success() {
        bail!("could not pack {}", root.display());
    }
    Ok(to.to_owned())
}
