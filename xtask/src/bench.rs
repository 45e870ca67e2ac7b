//! `cargo xtask bench`: figures that need more than a test run, one command each.

mod stale;

use std::process::ExitCode;

use anyhow::Result;
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
    }
}
