//! `cargo xtask fault R1 R4 ...`: one fault each, under load, after the same load without it.

mod bench;
mod clock;
mod cold;
mod flood;
mod foreign;
mod frames;
mod history;
mod hole;
mod kill;
mod leak;
mod leave;
mod masters;
mod odd;
mod partition;
mod pmtu;
mod replace;
mod roll;
mod tasks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::failures;
use crate::figures::{self, Figure};
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf};

use bench::Bench;
pub(crate) use frames::checksum;
pub(crate) use leak::link_address;

/// The faults by their names in SPECIFICATION.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Fault {
    /// `kill -9` and restart of daemons.
    R1,
    /// All daemons gone, then all stopped.
    R2,
    /// Another version and back.
    R3,
    /// Packets past the handler while it is replaced.
    R4,
    /// A crash loop leaves nothing behind.
    R5,
    /// Somebody else undoes our work.
    R6,
    /// One of many backends leaves.
    R7,
    /// One joins.
    R8,
    /// Rolling updates.
    R9,
    /// How long new connections fail after a process is killed, stopped, or a node goes silent.
    R10,
    /// A flood of SYNs.
    R11,
    /// Paths that carry less than their ends believe.
    R12,
    /// Odd packets all have a reason.
    R13,
    /// What is left of thousands of tasks and networks.
    L1,
    /// `kill -9` of the leading master.
    S1,
    /// What clients of all masters saw has one order.
    S2,
    /// The leading master is stopped and goes on.
    S6,
    /// Masters and members of etcd are cut off from each other.
    S10,
    /// Wall clocks jump.
    S11,
    /// Everything ends and starts again.
    S15,
    /// Everything is taken from a backup.
    S16,
    /// Masters are replaced while nodes stream.
    S26,
}

impl Fault {
    /// Wants three masters on etcd.
    fn wants_many(self) -> bool {
        matches!(
            self,
            Self::S1 | Self::S2 | Self::S6 | Self::S10 | Self::S11 | Self::S15 | Self::S16 | Self::S26
        )
    }
}

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct FaultArgs {
    /// Which; all when none is named.
    #[arg(value_enum, ignore_case = true)]
    pub which: Vec<Fault>,
    /// Seconds instead of minutes, for tests.
    #[arg(long)]
    pub short: bool,
    /// Flows to hold, over all; by default what this machine's cores can serve beside everything else.
    #[arg(long)]
    pub flows: Option<u32>,
    /// L1: task starts, and a tenth as many networks and as many launches while daemons are killed.
    #[arg(long)]
    pub starts: Option<u64>,
    /// R3: the other version's program.
    #[arg(long)]
    pub old: Option<PathBuf>,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// What a fault did.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) figures: Vec<Figure>,
    /// Why it failed; empty when it did not.
    pub(crate) failures: Vec<String>,
}

impl Finding {
    pub(crate) fn check(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            let why = why();
            eprintln!("!! {why}");
            self.failures.push(why);
        }
    }
}

/// Runs them one after the other on one cluster each.
pub fn run(workspace: &Workspace, args: &FaultArgs) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "fault makes network namespaces, loads BPF programs and ends daemons in them: run it as root, with the target folder that root built"
        );
    }
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    setup::without_services(setup::MASTERS_STORE, Install::unless(args.no_install))?;
    setup::programs(setup::CUTS, Install::unless(args.no_install))?;
    ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let (passed, failed) = faults(workspace, args)?;
    println!("fault: {passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same without setup; counts faults that were borne and that were not.
pub fn faults(workspace: &Workspace, args: &FaultArgs) -> Result<(u64, u64)> {
    let revere = dist::build_revere(workspace)?;
    let which: Vec<Fault> = if args.which.is_empty() {
        clap::ValueEnum::value_variants().to_vec()
    } else {
        args.which.clone()
    };
    let (mut passed, mut failed) = (0, 0);
    let mut bench = None;
    for fault in which {
        eprintln!("\n==== {fault:?}");
        let usable = bench.take().filter(|bench: &Bench| bench.many == fault.wants_many());
        let mut own = match usable {
            Some(bench) => bench,
            None => Bench::start(&revere, args, fault.wants_many())?,
        };
        let before = packets(&own);
        let found = one(&mut own, fault, args);
        let found = found.unwrap_or_else(|error| {
            let mut finding = Finding::default();
            finding.check(false, || format!("{error:#}"));
            finding
        });
        if !found.figures.is_empty() {
            figures::write(workspace, &format!("fault-{fault:?}"), &found.figures)?;
        }
        for figure in &found.figures {
            println!(
                "{}: {} {} (n = {}, control {})",
                figure.id, figure.value, figure.unit, figure.n, figure.control
            );
        }
        if found.failures.is_empty() {
            passed += 1;
            bench = Some(own);
        } else {
            let told = format!("{fault:?}: FAILED: {}", found.failures.join("; "));
            println!("{told}");
            let mut told = vec![told];
            failed += 1;
            for (node, was, now) in before
                .iter()
                .zip(packets(&own))
                .map(|((node, was), (_, now))| (node, was, now))
            {
                let more = now
                    .iter()
                    .map(|(name, count)| (name, count - was.get(name).copied().unwrap_or_default()));
                for (name, more) in more.filter(|(_, more)| *more != 0.0) {
                    told.push(format!("  node{node} {name} {more:+}"));
                    eprintln!("  node{node} {name} {more:+}");
                }
            }
            failures::note(told.join("\n"));
            let logs = keep_logs(workspace, fault, &own)?;
            eprintln!("what the daemons said: {}", logs.display());
            // The next one starts on a cluster that nothing has happened to.
            own.close()?;
        }
    }
    if let Some(bench) = bench {
        bench.close()?;
    }
    Ok((passed, failed))
}

/// Every node's counters of packets that are not zero; none of one that does not answer.
fn packets(bench: &Bench) -> Vec<(u8, BTreeMap<String, f64>)> {
    let counts = |number| {
        let mut counts = bench.counts(number).unwrap_or_default();
        counts.retain(|name, count| name.starts_with("revere_node_packets") && *count > 0.0);
        (number, counts)
    };
    bench::nodes().map(counts).collect()
}

/// Copies the daemons' logs out of the lab before it goes.
fn keep_logs(workspace: &Workspace, fault: Fault, bench: &Bench) -> Result<PathBuf> {
    let kept = workspace.target.join("fault-logs").join(format!("{fault:?}"));
    // What an earlier run left would be taken for this one's.
    let _ = std::fs::remove_dir_all(&kept);
    std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    for ((_, counts), place) in packets(bench).into_iter().zip(&bench.cluster.lab.nodes) {
        let text: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        let copy = kept.join(format!("{}-packets.txt", place.name));
        std::fs::write(&copy, text).with_context(|| format!("cannot write {}", copy.display()))?;
        for entry in std::fs::read_dir(&place.dir)?.flatten() {
            let log = entry.path();
            if log.extension().is_some_and(|kind| kind == "log") {
                let copy = kept.join(format!("{}-{}", place.name, entry.file_name().to_string_lossy()));
                std::fs::copy(&log, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
            }
        }
    }
    Ok(kept)
}

fn one(bench: &mut Bench, fault: Fault, args: &FaultArgs) -> Result<Finding> {
    match fault {
        Fault::R1 => kill::restarts(bench),
        Fault::R2 => kill::absence(bench),
        Fault::R3 => match &args.old {
            Some(old) if !old.is_file() => bail!("there is no program {}", old.display()),
            old => kill::versions(bench, old.as_deref()),
        },
        Fault::R4 => leak::run(bench),
        Fault::R5 => kill::crash_loop(bench),
        Fault::R6 => foreign::run(bench),
        Fault::R7 => leave::leaves(bench),
        Fault::R8 => leave::joins(bench),
        Fault::R9 => roll::run(bench),
        Fault::R10 => hole::run(bench),
        Fault::R11 => flood::run(bench),
        Fault::R12 => pmtu::run(bench),
        Fault::R13 => odd::run(bench),
        Fault::L1 => tasks::run(bench),
        Fault::S1 => masters::killed(bench),
        Fault::S2 => history::run(bench),
        Fault::S6 => masters::stopped(bench),
        Fault::S10 => partition::run(bench),
        Fault::S11 => clock::run(bench),
        Fault::S15 => cold::start(bench),
        Fault::S16 => cold::restore(bench),
        Fault::S26 => replace::run(bench),
    }
}
