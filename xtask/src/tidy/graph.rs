//! Who may depend on whom: the one place where the edges between crates are written down for the machine.

use std::path::Path;

use super::Violation;
use crate::workspace::{Dependency, Package};

/// A crate's allowed edges.
struct Rule {
    name: &'static str,
    /// Members it may use.
    edges: &'static [&'static str],
    /// Outside crates it may not use, each with all that start so.
    banned: &'static [&'static str],
    /// When given, the only outside crates of its normal dependencies.
    only: Option<&'static [&'static str]>,
}

/// Clocks, randomness, I/O and the kernel: what the pure crates must not even see.
const IMPURE: &[&str] = &[
    "tokio",
    "aya",
    "hickory",
    "rtnetlink",
    "netlink",
    "rand",
    "getrandom",
    "fastrand",
    "chrono",
    "time",
    "jiff",
    "uuid",
    "rustix",
    "nix",
    "libc",
    "async",
];

const fn rule(name: &'static str, edges: &'static [&'static str], banned: &'static [&'static str]) -> Rule {
    Rule {
        name,
        edges,
        banned,
        only: None,
    }
}

/// The table of ARCHITECTURE.md. A new edge gets a page in docs/decisions.
const RULES: &[Rule] = &[
    rule("model", &[], IMPURE),
    rule("scheduler", &["model"], IMPURE),
    Rule {
        name: "lb-common",
        edges: &[],
        banned: &[],
        only: Some(&["aya"]),
    },
    Rule {
        name: "lb-ebpf",
        edges: &["lb-common"],
        banned: &[],
        only: Some(&["aya-ebpf", "aya-log-ebpf", "aya-ebpf-bindings", "aya-ebpf-cty"]),
    },
    rule("lb-userspace", &["model", "lb-common"], &["hickory", "rtnetlink"]),
    rule("dns", &["model"], &["aya", "rtnetlink"]),
    rule("overlay", &["model"], &["aya", "hickory"]),
    rule("agent", &["model"], &["aya", "hickory"]),
    rule(
        "revere",
        &[
            "model",
            "scheduler",
            "lb-common",
            "lb-userspace",
            "dns",
            "overlay",
            "agent",
        ],
        &["aya"],
    ),
    rule("xtask", &[], &["tokio", "aya", "hickory"]),
    rule(
        "benches",
        &["xtask", "lb-userspace", "dns", "model", "lb-common"],
        &["hickory"],
    ),
    rule(
        "tests",
        &["xtask", "lb-userspace", "dns", "model", "lb-common"],
        &["hickory"],
    ),
];

/// Every edge that no rule allows.
pub fn edges(root: &Path, packages: &[Package]) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in packages {
        let path = package
            .manifest_path
            .strip_prefix(root)
            .unwrap_or(&package.manifest_path)
            .display()
            .to_string();
        let text = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
        let mut add = |line: usize, message: String| {
            found.push(Violation {
                path: path.clone(),
                line,
                message,
            })
        };
        let Some(rule) = RULES.iter().find(|rule| rule.name == package.name) else {
            add(
                1,
                format!(
                    "crate `{}` has no line in the table of xtask/src/tidy/graph.rs; add it there and in ARCHITECTURE.md",
                    package.name
                ),
            );
            continue;
        };
        for dependency in &package.dependencies {
            if let Some(message) = refuse(rule, dependency) {
                add(line_of(&text, &dependency.name), message);
            }
        }
    }
    found
}

/// Why `dependency` is not allowed, if it is not.
fn refuse(rule: &Rule, dependency: &Dependency) -> Option<String> {
    let (owner, name) = (rule.name, dependency.name.as_str());
    if dependency.path.is_some() {
        let allowed = rule.edges.contains(&name);
        return (!allowed).then(|| {
            format!("`{owner}` may not depend on `{name}` (only on: {}); move the code, or decide a new edge in docs/decisions", list(rule.edges))
        });
    }
    let starts = |prefix: &&str| name == *prefix || name.starts_with(&format!("{prefix}-"));
    if rule.banned.iter().any(starts) {
        return Some(format!(
            "`{owner}` may not use `{name}`; do that work in the crate whose job it is"
        ));
    }
    match rule.only {
        Some(only) if dependency.kind.is_none() && !only.contains(&name) => Some(format!(
            "`{owner}` may use only {} from outside, not `{name}`",
            list(only)
        )),
        Some(_) if owner == "lb-common" && dependency.kind.is_none() && !dependency.optional => Some(format!(
            "`{name}` in `lb-common` must be optional, behind feature `user`"
        )),
        _ => None,
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn line_of(manifest: &str, name: &str) -> usize {
    let starts = |line: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(starts).map_or(1, |index| index + 1)
}
