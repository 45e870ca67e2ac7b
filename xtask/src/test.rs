//! `cargo xtask test`: every check there is, one after the other, and one line that adds up.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::demo::{self, DemoArgs};
use crate::failures::{self, TestOutput};
use crate::fault::{self, Fault, FaultArgs};
use crate::setup::{self, Install};
use crate::vm::{self, VmArgs};
use crate::workspace::Workspace;
use crate::{dist, ebpf, tidy};

/// Tests and steps, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
}

impl Tally {
    fn of(ok: bool) -> Self {
        Self {
            passed: u64::from(ok),
            failed: u64::from(!ok),
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs everything, goes on after a failure.
pub fn run(workspace: &Workspace, install: Install) -> Result<ExitCode> {
    let began = Instant::now();
    let mut sum = Tally::default();
    let ready = setup::run(workspace, install)?;
    setup::programs(setup::NAME_CLIENTS, install)?;
    setup::libraries(setup::TEST_LIBRARIES, install)?;
    setup::without_services(setup::CONTAINER_PROGRAMS, install)?;
    setup::without_services(setup::API_FOLLOWERS, install)?;
    setup::without_services(setup::MASTERS_STORE, install)?;
    setup::resolved::fetch(workspace, install)?;
    setup::pypi::fetch(workspace, install)?;
    let mut step = |name: &str, work: &mut dyn FnMut() -> Result<Tally>| step(&mut sum, name, work);
    step("house rules", &mut || {
        Ok(Tally::of(tidy::run(workspace)? == ExitCode::SUCCESS))
    });
    step("format", &mut || {
        status(&mut workspace.cargo(&["fmt", "--all", "--check"]))
    });
    step("BPF object", &mut || {
        ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
        Ok(Tally::of(true))
    });
    step("clippy", &mut || {
        status(&mut workspace.cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--exclude=lb-ebpf",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    });
    step("fuzz targets", &mut || {
        // A workspace of their own, so that nothing above has looked at them. Their dependencies are the same.
        let mut command = workspace.cargo(&["check", "--manifest-path", "fuzz/Cargo.toml", "--bins"]);
        // What they have beside the others' is fetched with them.
        command.arg("--target-dir").arg(&workspace.target);
        status(command.env("CARGO_NET_OFFLINE", "false"))
    });
    step("unit tests and simulation", &mut || {
        tests(&mut workspace.cargo(&["test", "--locked", "--no-fail-fast"]))
    });
    step("the program", &mut || {
        dist::build_revere(workspace)?;
        Ok(Tally::of(true))
    });
    on_real_packets(workspace, install, &mut step);
    Ok(last_line(sum, began))
}

/// One check: its name, what it counted, its time. Goes on after a failure.
fn step(sum: &mut Tally, name: &str, work: &mut dyn FnMut() -> Result<Tally>) {
    eprintln!("\n---- {name}");
    let at = Instant::now();
    let tally = work().unwrap_or_else(|error| {
        failures::note(format!("---- {name}\n{error:#}"));
        eprintln!("{error:#}");
        Tally::of(false)
    });
    let word = if tally.failed == 0 { "ok" } else { "FAILED" };
    eprintln!(
        "---- {name}: {word}, {} passed, {} failed, {} s",
        tally.passed,
        tally.failed,
        at.elapsed().as_secs()
    );
    sum.add(tally);
}

/// Runs a check by its name.
type Step<'a> = dyn FnMut(&str, &mut dyn FnMut() -> Result<Tally>) + 'a;

/// The checks that need the program, root, and time.
fn on_real_packets(workspace: &Workspace, install: Install, step: &mut Step<'_>) {
    step("packets and namespaces", &mut || {
        let revere = workspace.target.join(dist::PROFILE).join("revere");
        tests(
            workspace
                .cargo(&["test", "--locked", "--no-fail-fast", "--package=tests", "--test=it"])
                .env("LAB_REVERE", revere),
        )
    });
    step("programs on Debian's kernels", &mut || {
        let args = VmArgs {
            kernels: vm::Line::ALL.to_vec(),
            short: true,
            only: Some("verifier".to_owned()),
            no_install: install == Install::Nothing,
        };
        Ok(vm::tests(workspace, &args)?.0)
    });
    step("faults", &mut || {
        let args = FaultArgs {
            // The first one's load without a fault is the longest, and the control of those that follow.
            which: vec![
                Fault::R3,
                Fault::R1,
                Fault::R2,
                Fault::R5,
                Fault::R6,
                Fault::R11,
                Fault::R4,
                Fault::R7,
                Fault::R8,
                Fault::R9,
                Fault::R10,
                Fault::R12,
                Fault::R13,
                Fault::L1,
                Fault::S15,
                Fault::S16,
                Fault::S26,
            ],
            short: true,
            flows: None,
            starts: None,
            old: None,
            no_install: true,
        };
        let (passed, failed) = fault::faults(workspace, &args)?;
        Ok(Tally { passed, failed })
    });
    step("demo", &mut || {
        let args = DemoArgs {
            keep: false,
            json: false,
            masters: demo::Masters::One,
            no_install: true,
        };
        Ok(Tally::of(demo::run(workspace, &args)? == ExitCode::SUCCESS))
    });
}

fn last_line(sum: Tally, began: Instant) -> ExitCode {
    for text in failures::take() {
        eprintln!("\n{}", text.trim_end());
    }
    eprintln!("\ntook {} s", began.elapsed().as_secs());
    println!("{} passed, {} failed", sum.passed, sum.failed);
    if sum.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn status(command: &mut Command) -> Result<Tally> {
    Ok(Tally::of(command.status().context("cannot start cargo")?.success()))
}

/// Runs `cargo test` to its end, shows its output and adds its result lines up.
pub(crate) fn tests(command: &mut Command) -> Result<Tally> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let mut tally = Tally::default();
    let mut failures = TestOutput::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line?;
        tally.add(result_line(&line));
        failures.read(&line);
        eprintln!("{line}");
    }
    failures.note();
    // A test program that does not build, or dies, has no result line.
    if !child.wait()?.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// `test result: ok. 12 passed; 0 failed; ...`
pub(crate) fn result_line(line: &str) -> Tally {
    let Some(rest) = line.strip_prefix("test result: ") else {
        return Tally::default();
    };
    let number = |word: &str| {
        let part = rest
            .split(['.', ';'])
            .map(str::trim)
            .find_map(|part| part.strip_suffix(word));
        part.and_then(|part| part.trim().parse().ok()).unwrap_or(0)
    };
    Tally {
        passed: number("passed"),
        failed: number("failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(result_line(line), Tally { passed: 12, failed: 3 });
        assert_eq!(result_line("test zone::a ... ok"), Tally::default());
    }
}
