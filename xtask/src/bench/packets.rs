//! What packets cost (P1-P4), the whole path beside its peers (P5), clients on a node (P6, P7), changes (P8, P9).

use std::process::ExitCode;

use anyhow::Result;

use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf, shell};

/// What the path is measured with and beside.
const PEERS: &[(&str, &str, &str)] = &[
    ("nft", "nftables", "translates addresses for comparison"),
    ("haproxy", "haproxy", "forwards requests for comparison"),
    ("wrk", "wrk", "sends requests as fast as they are answered"),
];

/// Flags of both.
#[derive(Clone, Debug, clap::Args)]
pub struct PacketArgs {
    /// One short round, to see that it works.
    #[arg(long)]
    pub short: bool,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// The benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Programs by BPF_PROG_TEST_RUN.
    Prog,
    /// Packets and requests through a node.
    Path,
    /// Clients on a node.
    Sockets,
    /// Changes of the table.
    Change,
}

/// Runs one; figures go to target/figures.
pub(super) fn run(workspace: &Workspace, which: Which, args: &PacketArgs) -> Result<ExitCode> {
    let install = Install::unless(args.no_install);
    let ready = setup::run(workspace, install)?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let mut words = vec!["run", "--locked", "--release", "--package=benches"];
    let mut revere = None;
    match which {
        Which::Prog => words.push("--bin=packets"),
        Which::Path => {
            setup::programs(PEERS, install)?;
            revere = Some(dist::build_revere(workspace)?);
            words.push("--bin=path");
        }
        Which::Sockets => words.push("--bin=sockets"),
        Which::Change => words.push("--bin=change"),
    }
    if args.short && matches!(which, Which::Path | Which::Change) {
        words.extend(["--", "--short"]);
    }
    let mut command = workspace.cargo(&words);
    if let Some(revere) = revere {
        command.env("LAB_REVERE", revere);
    }
    shell::run(&mut command)?;
    Ok(ExitCode::SUCCESS)
}
