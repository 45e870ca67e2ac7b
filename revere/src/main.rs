//! The `revere` binary: reads the command line and hands over.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = revere::cli::Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("revere: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: revere::cli::Command) -> anyhow::Result<()> {
    anyhow::bail!("{command:?} is not carried out by this build")
}
