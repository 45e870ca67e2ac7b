//! `cargo xtask`: one command per chore.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::demo::DemoArgs;
use xtask::workspace::Workspace;

/// The project's chores. Commands that need something missing install it first and say so.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the house rules: edges between crates, sizes, names, headers, lints.
    Tidy,
    /// Install what the other commands need: Debian packages, the BPF linker.
    Setup(SetupArgs),
    /// Build the BPF object.
    BuildEbpf(SetupArgs),
    /// Three nodes, a named VIP, a killed instance, in network namespaces.
    Demo(DemoArgs),
    /// Everything: rules, lints, unit tests, simulation, packet tests, namespace tests, the demo.
    Test(SetupArgs),
    /// Measure the figures of SPECIFICATION.md into target/figures.
    Figures(SetupArgs),
    /// Load, packet and namespace tests on Debian's other kernels, in QEMU.
    Vm(xtask::vm::VmArgs),
    /// Faults under load, each after the same load without it.
    Fault(xtask::fault::FaultArgs),
    /// Measure one thing by itself into target/figures.
    #[command(subcommand)]
    Bench(xtask::bench::BenchCommand),
    /// Many packets through the programs and the model of the packet path.
    FuzzPackets(xtask::fuzz::FuzzArgs),
    /// Many seeds of the simulated cluster, many cases of the matcher.
    Sim(xtask::sim::SimArgs),
    /// Any bytes to every parser, by libFuzzer (D3); ten minutes for each target.
    FuzzBytes(xtask::fuzz_bytes::FuzzBytesArgs),
    /// Write completions and man pages into target/dist.
    Dist,
}

#[derive(Debug, clap::Args)]
struct SetupArgs {
    /// Install nothing; only report what is missing.
    #[arg(long)]
    no_install: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match command {
        Command::Tidy => return xtask::tidy::run(&workspace),
        Command::Setup(args) => drop(xtask::setup::run(&workspace, args.install())?),
        Command::BuildEbpf(args) => {
            let ready = xtask::setup::run(&workspace, args.install())?;
            let object = xtask::ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
            eprintln!("built {}", object.display());
        }
        Command::Demo(args) => return xtask::demo::run(&workspace, &args),
        Command::Test(args) => return xtask::test::run(&workspace, args.install()),
        Command::Figures(args) => return xtask::demo::figures(&workspace, args.install()),
        Command::Vm(args) => return xtask::vm::run(&workspace, &args),
        Command::Fault(args) => return xtask::fault::run(&workspace, &args),
        Command::Bench(command) => return xtask::bench::run(&workspace, &command),
        Command::FuzzPackets(args) => xtask::fuzz::run(&workspace, &args)?,
        Command::Sim(args) => return xtask::sim::run(&workspace, &args),
        Command::FuzzBytes(args) => return xtask::fuzz_bytes::run(&workspace, &args),
        Command::Dist => xtask::dist::run(&workspace)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl SetupArgs {
    fn install(&self) -> xtask::setup::Install {
        xtask::setup::Install::unless(self.no_install)
    }
}
