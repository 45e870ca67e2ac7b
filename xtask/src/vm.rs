//! `cargo xtask vm`: load, packet and namespace tests on Debian's other kernels, in QEMU by software emulation.

mod guest;
mod image;
mod kernel;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::figures::{self, Figure};
use crate::setup::{self, Install};
use crate::test::Tally;
use crate::workspace::Workspace;
use crate::{dist, ebpf, shell};

pub use kernel::Line;

/// What it needs besides the rest, and why.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86", "boots other kernels"),
    ("busybox", "busybox-static", "is the guests' shell"),
    ("cpio", "cpio", "packs the guests' file system"),
    ("xz", "xz-utils", "unpacks kernel modules"),
    ("strip", "binutils", "makes the guests' programs small"),
];

/// Emulation is some twenty times slower than the machine itself, which may be busy; a guest that hangs must end.
const SHORT_LIMIT: Duration = Duration::from_secs(420);
/// With the three-node lab.
const LONG_LIMIT: Duration = Duration::from_secs(2700);

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct VmArgs {
    /// Only these kernels; else all that Debian's registry has.
    #[arg(long = "kernel", value_enum)]
    pub kernels: Vec<Line>,
    /// Load and packet tests on the oldest kernel only.
    #[arg(long)]
    pub short: bool,
    /// Only tests whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// What one guest's tests came to.
#[derive(Debug)]
pub struct Outcome {
    /// The kernel's own version.
    pub version: String,
    /// Tests.
    pub tally: Tally,
    /// Tests that failed, and what else went wrong.
    pub failures: Vec<String>,
    /// Lines about sizes and missing features.
    pub facts: Vec<String>,
}

/// Runs it all; the last line adds up.
pub fn run(workspace: &Workspace, args: &VmArgs) -> Result<ExitCode> {
    let install = Install::unless(args.no_install);
    let ready = setup::run(workspace, install)?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let (sum, outcomes) = tests(workspace, args)?;
    let figures: Vec<Figure> = outcomes
        .iter()
        .map(|(line, outcome)| {
            let id = format!("V1.{}", line.name());
            Figure::failures(
                &id,
                outcome.tally.failed,
                outcome.tally.passed + outcome.tally.failed,
                0,
            )
            .beside(
                format!("Linux {}", outcome.version),
                figures::count(outcome.tally.passed),
            )
        })
        .collect();
    figures::write(workspace, "vm", &figures)?;
    println!("vm: {} passed, {} failed", sum.passed, sum.failed);
    Ok(if sum.failed == 0 && sum.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same for `cargo xtask test`: builds nothing but what cargo builds.
pub fn tests(workspace: &Workspace, args: &VmArgs) -> Result<(Tally, Vec<(Line, Outcome)>)> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the guests are made of this machine's programs, and only x86-64 kernels are known to `xtask vm`");
    }
    setup::programs(PROGRAMS, Install::unless(args.no_install))?;
    let wanted: Vec<Line> = match (args.kernels.as_slice(), args.short) {
        ([], true) => vec![Line::V6_1],
        ([], false) => Line::ALL.to_vec(),
        (some, _) => some.to_vec(),
    };
    let it = test_binary(workspace)?;
    let revere = if args.short {
        None
    } else {
        Some(dist::build_revere(workspace)?)
    };
    let dir = workspace.target.join("vm");
    let (mut sum, mut outcomes) = (Tally::default(), Vec::new());
    for line in wanted {
        let Some(kernel) = kernel::fetch(&dir, line, Install::unless(args.no_install))? else {
            eprintln!("vm: Debian's registry has no {} kernel here: not run", line.name());
            continue;
        };
        let image = image::build(&dir, &kernel, &it, revere.as_deref())?;
        let job = guest::Job {
            kernel: &kernel,
            image: &image,
            filter: args.only.as_deref().or(args.short.then_some("packets::")),
            limit: if args.short { SHORT_LIMIT } else { LONG_LIMIT },
            log: dir.join(format!("{}.log", line.name())),
        };
        let outcome = guest::run(&job)?;
        show(line, &outcome);
        sum.passed += outcome.tally.passed;
        sum.failed += outcome.tally.failed;
        outcomes.push((line, outcome));
    }
    if outcomes.is_empty() {
        bail!("no kernel could be had");
    }
    Ok((sum, outcomes))
}

fn show(line: Line, outcome: &Outcome) {
    for fact in &outcome.facts {
        eprintln!("{}: {fact}", line.name());
    }
    for failure in &outcome.failures {
        eprintln!("{}: FAIL {failure}", line.name());
    }
    eprintln!(
        "{}: Linux {}: PASS {} FAIL {}",
        line.name(),
        outcome.version,
        outcome.tally.passed,
        outcome.tally.failed
    );
}

/// Builds the test binary and gives its path.
fn test_binary(workspace: &Workspace) -> Result<PathBuf> {
    let mut command: Command = workspace.cargo(&[
        "test",
        "--locked",
        "--package=tests",
        "--test=it",
        "--no-run",
        "--message-format=json",
    ]);
    command.stderr(std::process::Stdio::inherit());
    let said = shell::capture(&mut command)?;
    let found = said.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "it" && message["profile"]["test"] == true;
        is_it.then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    found.context("cargo did not say where it put the test binary `it`")
}
