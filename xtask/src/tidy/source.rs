//! Rules on single files: header, size, names, `unsafe`, purity, paths of one machine, lint inheritance.

use std::fmt;

use super::code::{blank, has_word};
use super::{FILE_CAP, FILE_MEDIAN, FILE_P90, SourceFile, Violation};

/// Names that say nothing.
const BANNED_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "misc", "manager", "types", "base", "common",
];

/// Files that may hold `unsafe`, with the reason. A name that ends in `/` stands for all below it.
pub const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    (
        "agent/src/container/attribute.rs",
        "mount_setattr(2), which no crate of ours offers",
    ),
    (
        "agent/src/container/init.rs",
        "a container's init after fork: only system calls",
    ),
    (
        "agent/src/exec.rs",
        "what a task's process does between fork and exec; close_range(2)",
    ),
    (
        "agent/src/offload.rs",
        "ioctl(2) of ethtool, which no crate of ours offers",
    ),
    (
        "agent/src/pidfd.rs",
        "tokio asks for a promise about the descriptor it watches",
    ),
    (
        "benches/src/bpf.rs",
        "raw bpf(2) calls for programs of a few instructions, which no loader is needed for",
    ),
    (
        "dns/src/mmsg.rs",
        "recvmmsg(2) and sendmmsg(2), whose structures point into each other",
    ),
    (
        "lb-common/src/pod.rs",
        "tells aya that the map's structs are plain bytes",
    ),
    ("lb-ebpf/src/", "a BPF program: every helper call is unsafe in aya-ebpf"),
    (
        "lb-userspace/src/raw.rs",
        "bpf(2) and mmap calls that aya does not offer",
    ),
    ("lb-userspace/src/raw/", "bpf(2) and mmap calls that aya does not offer"),
];

/// Words that the pure crates must not say, with what to do instead.
const IMPURE: &[(&str, &str)] = &[
    ("SystemTime", "take the time as an argument"),
    ("Instant", "take the time as an argument (a `model` time type)"),
    ("std::fs", "return an effect and let `revere` do the I/O"),
    ("std::process", "return an effect and let `revere` do the I/O"),
    ("std::thread", "return an effect and let `revere` do the work"),
    ("std::env", "take the value as an argument"),
    ("TcpStream", "return an effect and let `revere` do the I/O"),
    ("UdpSocket", "return an effect and let `revere` do the I/O"),
    ("HashMap", "use `BTreeMap`: its order does not depend on a random seed"),
    ("HashSet", "use `BTreeSet`: its order does not depend on a random seed"),
];

/// Paths of the machine this happens to be written on; put together so that this file does not hold them.
const MACHINE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/tmp/", "setup")];

/// All rules that look at one file.
pub fn check(file: &SourceFile) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut add = |line: usize, message: String| {
        found.push(Violation {
            path: file.path.clone(),
            line,
            message,
        });
    };
    for (index, line) in file.text.lines().enumerate() {
        if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
            add(
                index + 1,
                format!("`{path}` is a path of one machine; use a path relative to the project or an argument"),
            );
        }
    }
    if !file.path.ends_with(".rs") {
        return found;
    }
    let first = file.text.lines().next().unwrap_or_default();
    if first.strip_prefix("//! ").is_none_or(|rest| rest.trim().is_empty()) {
        add(
            1,
            "the first line must be `//! ` and one sentence on what the file is for".to_owned(),
        );
    }
    for part in file.path.trim_end_matches(".rs").split('/') {
        if BANNED_NAMES.contains(&part) {
            add(1, format!("`{part}` says nothing; name the file after what it holds"));
        }
    }
    if file.path.ends_with("/mod.rs") {
        add(1, "no mod.rs; use `foo.rs` beside the folder `foo/`".to_owned());
    }
    let code = blank(&file.text);
    found.extend(unsafe_rules(file, &code));
    found.extend(purity(file, &code));
    found
}

fn allowed(path: &str) -> bool {
    UNSAFE_ALLOWED.iter().any(|(entry, _)| covers(entry, path))
}

fn covers(entry: &str, path: &str) -> bool {
    if entry.ends_with('/') {
        path.starts_with(entry)
    } else {
        path == entry
    }
}

fn unsafe_rules(file: &SourceFile, code: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let listed = allowed(&file.path);
    for (index, line) in code.lines().enumerate() {
        let original = file.text.lines().nth(index).unwrap_or_default();
        let message = if line.contains("#![allow(unsafe_code") || line.contains("#[allow(unsafe_code") {
            if original.contains("reason =") || !listed {
                (!listed).then_some("`unsafe` is allowed only in the files listed in xtask/src/tidy/source.rs; write it without, or list the file with a reason")
            } else {
                Some("say why: `reason = \"...\"`")
            }
        } else if has_word(line, "unsafe") && !listed {
            Some(
                "`unsafe` in a file that xtask/src/tidy/source.rs does not list; write it without, or list the file with a reason",
            )
        } else {
            None
        };
        found.extend(message.map(|message| Violation {
            path: file.path.clone(),
            line: index + 1,
            message: message.to_owned(),
        }));
    }
    found
}

/// Entries of the list that no file needs any more.
pub fn stale_unsafe(files: &[SourceFile]) -> Vec<Violation> {
    let needed = |entry: &str| {
        files
            .iter()
            .filter(|file| covers(entry, &file.path) && file.path.ends_with(".rs"))
            .any(|file| {
                blank(&file.text)
                    .lines()
                    .any(|line| has_word(line, "unsafe") || line.contains("allow(unsafe_code"))
            })
    };
    UNSAFE_ALLOWED
        .iter()
        .filter(|(entry, _)| !needed(entry))
        .map(|(entry, _)| Violation {
            path: (*entry).to_owned(),
            line: 1,
            message: "listed in xtask/src/tidy/source.rs as needing `unsafe`, and does not; remove it from the list"
                .to_owned(),
        })
        .collect()
}

fn purity(file: &SourceFile, code: &str) -> Vec<Violation> {
    let pure = file.path.starts_with("model/src/") || file.path.starts_with("scheduler/src/");
    if !pure || is_test(&file.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in code.lines().take(production_lines(&file.text)).enumerate() {
        for (word, instead) in IMPURE {
            // The simulator takes the seed to replay from the environment.
            let replay = *word == "std::env" && file.path.starts_with("scheduler/src/sim");
            if has_word(line, word) && !replay {
                found.push(Violation {
                    path: file.path.clone(),
                    line: index + 1,
                    message: format!("`{word}` in a pure crate; {instead}"),
                });
            }
        }
    }
    found
}

/// Whether the whole file is tests.
fn is_test(path: &str) -> bool {
    let stem = path.rsplit('/').next().unwrap_or(path);
    stem == "tests.rs"
        || stem == "properties.rs"
        || path.starts_with("tests/")
        || path.split('/').any(|part| part == "tests")
}

/// Lines before an inline test module.
pub fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts = |index: usize| {
        lines[index].trim() == "#[cfg(test)]"
            && lines
                .get(index + 1)
                .is_some_and(|next| next.starts_with("mod ") && next.trim_end().ends_with('{'))
    };
    (0..lines.len()).find(|&index| starts(index)).unwrap_or(lines.len())
}

/// How large the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Production lines of the middle file.
    pub median: usize,
    /// Of the file at the ninetieth percentile.
    pub p90: usize,
    /// Of the largest.
    pub max: usize,
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lines median {} p90 {} max {}", self.median, self.p90, self.max)
    }
}

/// Sizes of all production files, and what is too large.
pub fn sizes(files: &[SourceFile]) -> (Sizes, Vec<Violation>) {
    let mut lines: Vec<(usize, &str)> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !is_test(&file.path))
        .map(|file| (production_lines(&file.text), file.path.as_str()))
        .collect();
    lines.sort_unstable();
    let at = |percent: usize| {
        lines
            .get((lines.len() * percent / 100).min(lines.len().saturating_sub(1)))
            .copied()
            .unwrap_or((0, "Cargo.toml"))
    };
    let sizes = Sizes {
        median: at(50).0,
        p90: at(90).0,
        max: at(100).0,
    };
    let violation = |path: &str, message: String| Violation {
        path: path.to_owned(),
        line: 1,
        message,
    };
    let mut found: Vec<Violation> = lines
        .iter()
        .filter(|(count, _)| *count > FILE_CAP)
        .map(|(count, path)| {
            violation(
                path,
                format!("{count} production lines, the cap is {FILE_CAP}; split it by what it does"),
            )
        })
        .collect();
    if sizes.median > FILE_MEDIAN {
        found.push(violation(
            at(50).1,
            format!(
                "half of all files have more than {} lines, the limit is {FILE_MEDIAN}; split the largest",
                sizes.median
            ),
        ));
    }
    if sizes.p90 > FILE_P90 {
        found.push(violation(
            at(90).1,
            format!(
                "a tenth of all files have more than {} lines, the limit is {FILE_P90}; split the largest",
                sizes.p90
            ),
        ));
    }
    (sizes, found)
}

/// Every package inherits the workspace's lints.
pub fn manifest(file: &SourceFile) -> Vec<Violation> {
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let package = lines.iter().position(|line| *line == "[package]");
    let lints = lines.iter().position(|line| *line == "[lints]");
    let inherits = lints.is_some_and(|at| {
        lines[at + 1..]
            .iter()
            .take_while(|line| !line.starts_with('['))
            .any(|line| *line == "workspace = true")
    });
    match package {
        Some(at) if !inherits => vec![Violation {
            path: file.path.clone(),
            line: at + 1,
            message: "this package does not inherit the workspace's lints; add `[lints]` and `workspace = true`"
                .to_owned(),
        }],
        _ => Vec::new(),
    }
}
