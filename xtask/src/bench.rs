//! `cargo xtask bench`: figures that need more than a test run, one command each.

mod asker;
mod dns;
mod forward;
mod overlay;
mod packets;
mod restart;
mod scale;
mod scheduler;
mod spoof;
mod stale;

use std::ffi::OsStr;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use crate::figures;
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

pub use dns::DnsArgs;
pub use overlay::OverlayArgs;
pub use packets::PacketArgs;
pub use restart::RestartArgs;
pub use scale::ScaleArgs;
pub use scheduler::SchedulerArgs;
pub use stale::StaleArgs;

/// Says that the namespaces are made.
const INSIDE: &str = "XTASK_BENCH_INSIDE";

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// The name server beside unbound, Knot and dnsmasq (D0), hostile messages (D4), amplification (D6), a flood (D7).
    Dns(DnsArgs),
    /// From a task's death or birth to the answer of every node's name server.
    DnsStale(StaleArgs),
    /// D10: names while a node's daemon is killed or restarts.
    DnsRestart(RestartArgs),
    /// D8 and D9: forged replies, and upstream servers that are dead, slow or lie.
    DnsForward(ForwardArgs),
    /// One master with thousands of simulated agents and a hundred thousand tasks (S20-S24).
    Scheduler(SchedulerArgs),
    /// Ten thousand simulated nodes on three masters (S25).
    Scale(ScaleArgs),
    /// Containers beside a runtime by hand (O4), a node that joins a thousand others (O3).
    Overlay(OverlayArgs),
    /// Packets through the programs by test runs (P1-P4).
    Prog(PacketArgs),
    /// Packets and requests of a client through a node, beside nftables and haproxy (P5).
    Path(PacketArgs),
    /// `connect` and throughput of clients on a node, through a VIP and past it (P6, P7).
    Sockets(PacketArgs),
    /// One change of the table by its size, and everything from nothing (P8, P9).
    Change(PacketArgs),
}

/// Flags of `dns-forward`.
#[derive(Clone, Debug, clap::Args)]
pub struct ForwardArgs {
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Measures and writes `target/figures`.
pub fn run(workspace: &Workspace, command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Dns(args) => dns::run(workspace, args),
        BenchCommand::DnsStale(args) => stale::run(workspace, args),
        BenchCommand::DnsRestart(args) => restart::run(workspace, args),
        BenchCommand::DnsForward(args) => forward(workspace, args),
        BenchCommand::Scheduler(args) => scheduler::run(workspace, args),
        BenchCommand::Scale(args) => scale::run(workspace, args),
        BenchCommand::Overlay(args) => overlay::run(workspace, args),
        BenchCommand::Prog(args) => packets::run(workspace, packets::Which::Prog, args),
        BenchCommand::Path(args) => packets::run(workspace, packets::Which::Path, args),
        BenchCommand::Sockets(args) => packets::run(workspace, packets::Which::Sockets, args),
        BenchCommand::Change(args) => packets::run(workspace, packets::Which::Change, args),
    }
}

fn forward(workspace: &Workspace, args: &ForwardArgs) -> Result<ExitCode> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let revere = dist::build_revere(workspace)?;
    let outcome = forward::run(&revere)?;
    outcome.tell(workspace, "dns-forward")
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
    }

    /// Writes the figures to `target/figures`, prints them and what was missed, and tells how to exit.
    fn tell(&self, workspace: &Workspace, name: &str) -> Result<ExitCode> {
        figures::write(workspace, name, &self.figures)?;
        for figure in &self.figures {
            println!(
                "{:18} {:10.2} {:7} (n = {}, control {:.2})",
                figure.id, figure.value, figure.unit, figure.n, figure.control
            );
        }
        for failure in &self.failures {
            println!("!! {failure}");
        }
        Ok(match self.failures.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs this program with the same words once more, in network, mount and PID namespaces that take everything along, however it ends.
fn again(told: &[(&str, &OsStr)]) -> Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let apart = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ];
    let status = Command::new("unshare")
        .args(apart)
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .envs(told.iter().copied())
        .status()
        .context("cannot start unshare")?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
