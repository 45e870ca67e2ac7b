//! `cargo xtask fuzz-bytes`: any bytes to everything that reads bytes from others, by libFuzzer.
//!
//! It needs the nightly compiler, as libFuzzer does, and nothing else: `cargo fuzz` passes the same flags. What was found
//! worth keeping goes into a corpus beside the build, which the next run begins with; the one in the tree stays as it is.
//! Ten minutes are ten minutes of CPU, so that a busy machine tries no less.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

use crate::figures::{self, Figure};
use crate::shell;
use crate::workspace::Workspace;

/// Targets of `fuzz/`.
const TARGETS: [&str; 8] = [
    "message",
    "name",
    "edns",
    "framing",
    "recordio",
    "operator_json",
    "operator_protobuf",
    "record_table",
];

/// As `cargo fuzz` builds: counters at each edge, comparisons seen, memory checked.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Zsanitizer=address";

/// Seconds after which one input counts as hanging.
const HANGS: u32 = 10;

/// MiB of memory after which a target counts as out of it.
const MEMORY: u32 = 4096;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct FuzzBytesArgs {
    /// Seconds of CPU for each target, however long they take.
    #[arg(long, default_value_t = 600)]
    pub seconds: u32,
    /// Only this target.
    #[arg(long)]
    pub target: Option<String>,
}

/// Runs the targets one after the other, all of them, and writes `fuzz-bytes.json`.
pub fn run(workspace: &Workspace, args: &FuzzBytesArgs) -> Result<ExitCode> {
    let wanted: Vec<&str> = TARGETS
        .into_iter()
        .filter(|target| args.target.as_deref().is_none_or(|wanted| wanted == *target))
        .collect();
    ensure!(
        !wanted.is_empty(),
        "there is no such target; there are {}",
        TARGETS.join(", ")
    );
    let programs = build(workspace)?;
    let mut figures = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for target in wanted {
        let (crashed, runs, used) = fuzz(workspace, &programs, target, args.seconds)?;
        println!(
            "{target}: {} in {runs} runs and {used} seconds of CPU",
            if crashed { "FAILED" } else { "nothing" }
        );
        if crashed {
            code = ExitCode::FAILURE;
        }
        figures.push(Figure::failures(&format!("D3.{target}"), u64::from(crashed), runs, 0));
    }
    figures::write(workspace, "fuzz-bytes", &figures)?;
    Ok(code)
}

/// Builds all targets; gives the directory of the programs.
fn build(workspace: &Workspace) -> Result<std::path::PathBuf> {
    const HOST: &str = "x86_64-unknown-linux-gnu";
    let target_dir = workspace.target.join("fuzz");
    let mut command = Command::new("cargo");
    command
        // Not locked: a crate that the workspace got is no reason to run nothing at night.
        .args(["+nightly", "build", "--release", "--target", HOST])
        .current_dir(workspace.root.join("fuzz"))
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target_dir)
        // Set by the cargo that runs xtask; they would choose its own toolchain again.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO");
    shell::run(&mut command).context("cannot build the fuzz targets; they need `rustup toolchain install nightly`")?;
    Ok(target_dir.join(HOST).join("release"))
}

/// Whether the target failed, how many inputs it ran, and the seconds of CPU it used. libFuzzer counts time by the clock,
/// which says nothing on a busy machine: it runs again for what is missing.
fn fuzz(workspace: &Workspace, programs: &Path, target: &str, seconds: u32) -> Result<(bool, u64, u64)> {
    let (mut runs, began) = (0, children_seconds()?);
    loop {
        let used = children_seconds()? - began;
        let Some(left) = u64::from(seconds).checked_sub(used).filter(|left| *left > 0) else {
            return Ok((false, runs, used));
        };
        let (crashed, more) = once(workspace, programs, target, left)?;
        runs += more;
        if crashed {
            return Ok((true, runs, children_seconds()? - began));
        }
    }
}

/// Seconds of CPU that all children which have ended used.
fn children_seconds() -> Result<u64> {
    /// Of a second, USER_HZ.
    const TICKS: u64 = 100;
    let text = std::fs::read_to_string("/proc/self/stat").context("no /proc")?;
    let rest = text.rsplit_once(')').context("no name in /proc/self/stat")?.1;
    // cutime and cstime, the fourteenth and fifteenth after the name.
    let times = rest.split_whitespace().skip(13).take(2);
    Ok(times.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() / TICKS)
}

/// The same for one run of so many seconds.
fn once(workspace: &Workspace, programs: &Path, target: &str, seconds: u64) -> Result<(bool, u64)> {
    let kept = workspace.target.join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    let mut command = Command::new(programs.join(target));
    command
        .args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANGS}"),
            format!("-rss_limit_mb={MEMORY}"),
            "-print_final_stats=1".to_owned(),
            format!("-artifact_prefix={}-", kept.display()),
        ])
        .arg(&kept)
        .arg(workspace.root.join("fuzz/corpus").join(target));
    let output = shell::output(&mut command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let runs = runs(&said);
    if !output.status.success() {
        eprintln!("{}", shell::last_lines(&said, 40));
    }
    ensure!(
        runs.is_some() || !output.status.success(),
        "{target} told no number of runs"
    );
    Ok((!output.status.success(), runs.unwrap_or(0)))
}

/// `stat::number_of_executed_units: 732648`
fn runs(said: &str) -> Option<u64> {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_of_the_tree_is_run_and_has_a_corpus() {
        let workspace = Workspace::find().expect("the workspace");
        let manifest = std::fs::read_to_string(workspace.root.join("fuzz/Cargo.toml")).expect("readable");
        for target in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
            assert!(workspace.root.join("fuzz/corpus").join(target).is_dir(), "{target}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    }

    #[test]
    fn the_number_of_runs_is_read() {
        assert_eq!(runs("x\nstat::number_of_executed_units: 732648\ny"), Some(732_648));
        assert_eq!(runs(""), None);
    }
}
