<<<<<<< HEAD
//! `cargo xtask bench`: figures that need more than a test run, one command each.

mod stale;
=======
//! `cargo xtask bench NAME`: figures that need the lab but no fault of the cluster's own.

mod asker;
mod forward;
mod spoof;
>>>>>>> 5149102 (xtask: bench dns-forward: D8 and D9 in the lab)

use std::process::ExitCode;

use anyhow::Result;
<<<<<<< HEAD
use clap::Subcommand;

use crate::workspace::Workspace;

pub use stale::StaleArgs;

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// From a task's death or birth to the answer of every node's name server.
    DnsStale(StaleArgs),
}

/// Measures and writes `target/figures`.
pub fn run(workspace: &Workspace, command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::DnsStale(args) => stale::run(workspace, args),
=======

use crate::figures;
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

/// The benches by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bench {
    /// D8 and D9: forged replies, and upstream servers that are dead, slow or lie.
    DnsForward,
}

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// Which.
    #[arg(value_enum)]
    pub which: Bench,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Runs one and writes its figures.
pub fn run(workspace: &Workspace, args: &BenchArgs) -> Result<ExitCode> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let revere = dist::build_revere(workspace)?;
    let (name, outcome) = match args.which {
        Bench::DnsForward => ("dns-forward", forward::run(&revere)?),
    };
    figures::write(workspace, name, &outcome.figures)?;
    for figure in &outcome.figures {
        println!(
            "{}: {} {} (n = {}, control {})",
            figure.id, figure.value, figure.unit, figure.n, figure.control
        );
    }
    for failure in &outcome.failures {
        println!("!! {failure}");
    }
    Ok(if outcome.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a bench found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<figures::Figure>,
    /// Targets that were missed.
    pub(crate) failures: Vec<String>,
}

impl Outcome {
    /// Notes a target that was missed.
    pub(crate) fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(why());
        }
>>>>>>> 5149102 (xtask: bench dns-forward: D8 and D9 in the lab)
    }
}
