//! `cargo xtask bench dns`: the name server beside the programs people use for it today (D0, D4, D6, D7), in a network of its own.

mod abuse;
mod early;
mod load;
mod peers;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::figures::{self, Figure};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{ebpf, shell};

/// Flags of `dns`.
#[derive(Clone, Debug, clap::Args)]
pub struct DnsArgs {
    /// Rounds of each load; the middle one counts.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4)]
    pub seconds: u32,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Programs that are measured or measure.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("dnsperf", "dnsperf", "asks"),
    ("unbound", "unbound", "is measured beside our name server"),
    ("knotd", "knot", "is measured beside our name server"),
    ("dnsmasq", "dnsmasq-base", "is measured beside our name server"),
    ("unshare", "util-linux", "makes the network it happens in"),
    ("ip", "iproute2", "gives that network its addresses"),
];

/// Installs, builds, then runs itself again in namespaces that end with it.
pub(super) fn run(workspace: &Workspace, args: &DnsArgs) -> Result<ExitCode> {
    if super::is_inside() {
        return inside(workspace, args);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this command makes a network namespace: run it as root");
    }
    setup::without_services(PROGRAMS, Install::unless(args.no_install))?;
    shell::run(&mut workspace.cargo(&[
        "build",
        "--locked",
        "--profile=demo",
        "--package=dns",
        "--example=serve",
    ]))?;
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    shell::run(&mut workspace.cargo(&[
        "build",
        "--locked",
        "--profile=demo",
        "--package=benches",
        "--bin=names",
    ]))?;
    super::again(&[])
}

fn inside(workspace: &Workspace, args: &DnsArgs) -> Result<ExitCode> {
    shell::run(Command::new("sh").arg("-c").arg(
        "ip link set lo up && ip addr add 192.0.2.1/24 dev lo && ip addr add 198.51.100.9/32 dev lo && \
         ip addr add 203.0.113.9/32 dev lo && ip route add local 100.64.0.0/10 dev lo",
    ))?;
    let dir = workspace.target.join("bench-dns");
    let mut found: Vec<Figure> = Vec::new();
    let servers = peers::start(workspace, &dir)?;
    found.extend(load::answers_per_cpu_second(&servers, &dir, args)?);
    let ours = servers.first().context("no server of ours")?;
    found.push(abuse::dearest_message(ours)?);
    found.push(abuse::amplification(ours)?);
    found.extend(abuse::flood(ours, args.seconds)?);
    found.extend(early::figures(ours, workspace, &dir, args)?);
    for figure in &found {
        println!(
            "{:14} {:10.2} {} (n = {}, control {}){}",
            figure.id,
            figure.value,
            figure.unit,
            figure.n,
            figure.control,
            figure.peer.as_ref().map_or_else(String::new, |peer| format!(
                ", {peer}: {:.0}",
                figure.peer_value.unwrap_or(0.0)
            ))
        );
    }
    figures::write(workspace, "dns", &found)?;
    Ok(ExitCode::SUCCESS)
}
