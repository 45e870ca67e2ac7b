//! `cargo xtask sim`: many seeded runs of the simulated cluster, and many cases of the matcher against a slow one.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::figures::{self, Figure};
use crate::test;
use crate::workspace::Workspace;

/// Flags of `sim`.
#[derive(Clone, Debug, Args)]
pub struct SimArgs {
    /// Seeds of the cluster.
    #[arg(long, default_value_t = 10_000)]
    pub seeds: u32,
    /// Cases of the matcher.
    #[arg(long, default_value_t = 100_000)]
    pub cases: u32,
}

/// Runs both and writes `target/figures/sim.json`. A seed that fails is printed with the command that replays it.
pub fn run(workspace: &Workspace, args: &SimArgs) -> Result<ExitCode> {
    let mut command = workspace.cargo(&["test", "--locked", "--release", "--package=scheduler", "--lib", "--"]);
    command
        .args([
            "--nocapture",
            "ones_as_asked",
            "planted_bugs_are_found",
            "cases_as_asked",
        ])
        .env("REVERE_SIM_SEEDS", args.seeds.to_string())
        .env("REVERE_MATCH_CASES", args.cases.to_string());
    let tally = test::tests(&mut command)?;
    if tally.failed > 0 || tally.passed != 4 {
        return Ok(ExitCode::FAILURE);
    }
    // The control of the seeds: bugs planted on purpose, all three of them found.
    let figures = [
        Figure::new(
            "S7.seeds",
            f64::from(args.seeds),
            "seeds without violation",
            u64::from(args.seeds),
            3.0,
        ),
        Figure::new(
            "S12.cases",
            f64::from(args.cases),
            "cases without difference",
            u64::from(args.cases),
            0.0,
        ),
    ];
    figures::write(workspace, "sim", &figures)?;
    println!(
        "{} seeds, {} cases, no violation; 3 of 3 planted bugs found",
        args.seeds, args.cases
    );
    Ok(ExitCode::SUCCESS)
}
