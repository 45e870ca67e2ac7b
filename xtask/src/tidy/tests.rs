//! Each rule against a planted violation and against text that only looks like one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::source::{Sizes, check, manifest, production_lines, sizes};
use super::{SourceFile, code, graph, places};
use crate::workspace::{Dependency, Package};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    }
}

fn messages(path: &str, text: &str) -> Vec<(usize, String)> {
    check(&file(path, text))
        .into_iter()
        .map(|violation| (violation.line, violation.message))
        .collect()
}

fn one(path: &str, text: &str, line: usize, part: &str) {
    let found = messages(path, text);
    assert!(
        found.len() == 1 && found[0].0 == line && found[0].1.contains(part),
        "{found:?}"
    );
}

#[test]
fn a_file_without_header_is_found() {
    one("dns/src/zone.rs", "use std::fmt;\n", 1, "first line");
    one("dns/src/zone.rs", "//! \n", 1, "first line");
    assert!(messages("dns/src/zone.rs", "//! Zones.\n").is_empty());
}

#[test]
fn empty_names_are_found() {
    one("dns/src/utils.rs", "//! X.\n", 1, "`utils` says nothing");
    one("dns/src/helpers/zone.rs", "//! X.\n", 1, "`helpers` says nothing");
    one("dns/src/zone/mod.rs", "//! X.\n", 1, "no mod.rs");
}

#[test]
fn unsafe_is_found_in_code_only() {
    one(
        "dns/src/zone.rs",
        "//! X.\nfn f() { unsafe { g() } }\n",
        2,
        "does not list",
    );
    one(
        "dns/src/zone.rs",
        "//! X.\n#![allow(unsafe_code, reason = \"x\")]\n",
        2,
        "only in the files listed",
    );
    assert!(
        messages(
            "dns/src/zone.rs",
            "//! X.\n// unsafe\nconst A: &str = \"unsafe\"; /* unsafe */ let unsafe_thing = r#\"unsafe\"#;\n"
        )
        .is_empty()
    );
    one(
        "lb-userspace/src/raw.rs",
        "//! X.\n#![allow(unsafe_code)]\n",
        2,
        "say why",
    );
    let gone = super::source::stale_unsafe(&[file("lb-userspace/src/raw.rs", "//! X.\nfn f() {}\n")]);
    assert!(
        gone.iter().any(|violation| violation.path == "lb-userspace/src/raw.rs"),
        "{gone:?}"
    );
}

#[test]
fn clocks_and_files_are_found_in_pure_crates() {
    one(
        "model/src/table.rs",
        "//! X.\nuse std::time::Instant;\n",
        2,
        "`Instant` in a pure crate",
    );
    one(
        "scheduler/src/core.rs",
        "//! X.\nuse std::collections::HashMap;\n",
        2,
        "BTreeMap",
    );
    one(
        "scheduler/src/core.rs",
        "//! X.\nfn f() { std::fs::read(p); }\n",
        2,
        "std::fs",
    );
    assert!(messages("agent/src/run.rs", "//! X.\nuse std::time::Instant;\n").is_empty());
    assert!(
        messages(
            "model/src/table.rs",
            "//! X.\n/// No `Instant` here.\nstruct InstantLike;\n"
        )
        .is_empty()
    );
}

#[test]
fn paths_of_one_machine_are_found_everywhere() {
    let path = concat!("/wo", "rk/main");
    one("README.md", &format!("x\nsee {path}\n"), 2, "path of one machine");
    assert!(messages("README.md", "network/workers\n").is_empty());
}

#[test]
fn large_files_are_found() {
    let long = |lines: usize| format!("//! X.\n{}", "x\n".repeat(lines - 1));
    let (found, violations) = sizes(&[
        file("dns/src/a.rs", &long(801)),
        file("dns/src/b.rs", &long(10)),
        file("dns/src/c.rs", &long(10)),
    ]);
    assert_eq!(found.max, 801);
    assert!(
        violations
            .iter()
            .any(|violation| violation.path == "dns/src/a.rs" && violation.message.contains("cap is 800")),
        "{violations:?}"
    );
    let many: Vec<SourceFile> = (0..9).map(|n| file(&format!("dns/src/{n}.rs"), &long(151))).collect();
    let (found, violations) = sizes(&many);
    assert_eq!(
        found,
        Sizes {
            median: 151,
            p90: 151,
            max: 151
        }
    );
    assert!(
        violations.len() == 1 && violations[0].message.contains("half of all files"),
        "{violations:?}"
    );
    let tests = file("dns/src/tests.rs", &long(5000));
    assert_eq!(sizes(&[tests]).0.max, 0);
    assert_eq!(production_lines("//! X.\nfn f() {}\n#[cfg(test)]\nmod tests {\n}\n"), 2);
}

#[test]
fn a_manifest_without_lints_is_found() {
    let bad = manifest(&file(
        "dns/Cargo.toml",
        "[package]\nname = \"dns\"\n\n[dependencies]\nworkspace = true\n",
    ));
    assert!(bad.len() == 1 && bad[0].message.contains("inherit"), "{bad:?}");
    assert!(manifest(&file("dns/Cargo.toml", "[package]\n[lints]\nworkspace = true\n")).is_empty());
    assert!(manifest(&file("Cargo.toml", "[workspace]\n")).is_empty());
}

fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
    Package {
        name: name.to_owned(),
        manifest_path: PathBuf::from(format!("/nowhere/{name}/Cargo.toml")),
        dependencies: dependencies
            .iter()
            .map(|(name, member)| Dependency {
                name: (*name).to_owned(),
                kind: None,
                path: member.then(|| PathBuf::from("/nowhere")),
                optional: false,
            })
            .collect(),
    }
}

#[test]
fn forbidden_edges_are_found() {
    let root = Path::new("/nowhere");
    let said = |packages: &[Package]| {
        graph::edges(root, packages)
            .into_iter()
            .map(|violation| violation.to_string())
            .collect::<Vec<_>>()
    };
    let good = [
        package("dns", &[("model", true), ("hickory-server", false)]),
        package("model", &[("serde", false)]),
    ];
    assert!(said(&good).is_empty(), "{:?}", said(&good));
    for (bad, part) in [
        (
            package("dns", &[("overlay", true)]),
            "`dns` may not depend on `overlay`",
        ),
        (package("model", &[("tokio", false)]), "`model` may not use `tokio`"),
        (
            package("overlay", &[("aya-log", false)]),
            "`overlay` may not use `aya-log`",
        ),
        (package("lb-ebpf", &[("serde", false)]), "may use only aya-ebpf"),
        (package("lb-common", &[("aya", false)]), "must be optional"),
        (package("newcomer", &[]), "has no line in the table"),
    ] {
        let found = said(&[bad]);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
    }
}

#[test]
fn architecture_and_folders_must_agree() {
    let text =
        "# A\n\n| folder | holds |\n|---|---|\n| `model` | x |\n| `ghost` | x |\n\n| other | x |\n| `no` | x |\n";
    let folders: BTreeSet<String> = ["model", "extra"].map(str::to_owned).into();
    let found: Vec<String> = places::check(text, &["model", "lost"], &folders)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("ARCHITECTURE.md:6:") && line.contains("`ghost` does not exist")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|line| line.contains("folder `extra` is not in the table")),
        "{found:?}"
    );
    assert!(found.iter().any(|line| line.contains("crate `lost`")), "{found:?}");
}

#[test]
fn blanking_keeps_lines_and_lifetimes() {
    let text = "fn f<'a>(x: &'a str) { let c = '\"'; let d = '\\''; let e = \"a\\\"b\nc\"; }";
    let blanked = code::blank(text);
    assert_eq!(blanked.lines().count(), text.lines().count());
    assert!(
        blanked.contains("fn f<'a>(x: &'a str)") && !blanked.contains('c'.to_string().repeat(2).as_str()),
        "{blanked}"
    );
    assert!(blanked.ends_with("; }"), "{blanked}");
}
