//! `cargo xtask tidy`: the house rules that a machine can check. Each violation says where and what to do.

pub mod code;
pub mod docs;
pub mod graph;
pub mod places;
pub mod source;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::shell;
use crate::workspace::Workspace;

/// Hard limit of a file's production lines.
pub const FILE_CAP: usize = 800;
/// Most production lines of the median file.
pub const FILE_MEDIAN: usize = 150;
/// Most production lines of the file at the ninetieth percentile.
pub const FILE_P90: usize = 400;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Relative to the root.
    pub path: String,
    /// First line is 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A tracked (or not ignored) file with its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Relative to the root.
    pub path: String,
    /// Its text; files that are no UTF-8 are left out.
    pub text: String,
}

/// Checks everything and prints what is wrong.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    let files = files(&workspace.root)?;
    let (violations, sizes) = check(workspace, &files);
    for violation in &violations {
        println!("{violation}");
    }
    println!("tidy: {} files, {sizes}, {} violations", files.len(), violations.len());
    Ok(if violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// All rules over all files.
pub fn check(workspace: &Workspace, files: &[SourceFile]) -> (Vec<Violation>, source::Sizes) {
    let mut found = graph::edges(&workspace.root, &workspace.packages);
    for file in files {
        found.extend(source::check(file));
        if file.path.ends_with("Cargo.toml") {
            found.extend(source::manifest(file));
        }
    }
    found.extend(source::stale_unsafe(files));
    found.extend(docs::named_tests(files));
    let (sizes, too_large) = source::sizes(files);
    found.extend(too_large);
    let members: Vec<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let architecture = files
        .iter()
        .find(|file| file.path == "ARCHITECTURE.md")
        .map_or("", |file| file.text.as_str());
    found.extend(places::check(architecture, &members, &places::folders(files)));
    found.sort();
    (found, sizes)
}

/// Every file that git tracks or would add.
pub fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = shell::capture(&mut git).context("tidy asks git which files belong to the project")?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        let full: PathBuf = root.join(path);
        // Deleted but still tracked, or binary: not ours to read.
        if let Ok(text) = std::fs::read_to_string(full) {
            files.push(SourceFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files.dedup_by(|one, other| one.path == other.path);
    Ok(files)
}
