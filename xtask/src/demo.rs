//! `cargo xtask demo`: the whole path on real packets, and what breaks (nothing) when something is killed.

mod faults;
mod leader;
mod load;
mod show;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::dist;
use crate::lab::Cluster;
use crate::setup::{self, Install};
use crate::workspace::Workspace;

pub(crate) use faults::signal_kill;
pub use load::{At, Failure, Load, Report, URL, client_app};

/// Flags of the demo.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Leave it running at the end, and say how to enter each node.
    #[arg(long)]
    pub keep: bool,
    /// Write the facts as JSON to standard output; everything else goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// One master with its own file, or three on an etcd of three members, whose leader is killed as well.
    #[arg(long, value_name = "1|3", default_value = "1", value_parser = masters)]
    pub masters: Masters,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// How many masters the demo's cluster has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masters {
    /// With its own file.
    #[default]
    One,
    /// On etcd.
    Three,
}

fn masters(text: &str) -> Result<Masters, String> {
    match text {
        "1" => Ok(Masters::One),
        "3" => Ok(Masters::Three),
        _ => Err("the demo has 1 master or 3".to_owned()),
    }
}

/// One figure of SPECIFICATION.md.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// For example `A1.scale_failed`.
    pub id: &'static str,
    /// What was measured.
    pub value: f64,
    /// `count` or `ms`.
    pub unit: &'static str,
    /// Requests, or trials, that the value stands for.
    pub n: u64,
    /// Failures of the same load without a fault.
    pub control: u64,
}

/// Everything the demo found out.
#[derive(Debug, Default, Serialize)]
pub struct Facts {
    /// Sections in the order shown.
    pub sections: Vec<(String, Value)>,
    /// Measured figures.
    pub figures: Vec<Figure>,
    /// Why it failed; empty when it did not.
    pub failures: Vec<String>,
}

impl Facts {
    /// Keeps and shows one section.
    pub(crate) fn show(&mut self, title: &str, text: &str, value: Value) {
        eprintln!("\n== {title}\n{}", text.trim_end());
        self.sections.push((title.to_owned(), value));
    }

    pub(crate) fn fail(&mut self, why: String) {
        eprintln!("!! {why}");
        self.failures.push(why);
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// A look at everything: minutes.
    Short,
    /// Enough repeats for figures.
    Figures,
}

impl Extent {
    /// Repeats of each fault.
    pub(crate) fn times(self) -> u32 {
        match self {
            Self::Short => 1,
            Self::Figures => 10,
        }
    }
}

/// The demo as a person sees it.
pub fn run(workspace: &Workspace, args: &DemoArgs) -> Result<ExitCode> {
    let ready = setup::run(workspace, Install::unless(args.no_install))?;
    if args.masters == Masters::Three {
        setup::without_services(setup::MASTERS_STORE, Install::unless(args.no_install))?;
    }
    crate::ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let (facts, cluster) = match tell(workspace, args.masters, Extent::Short) {
        Ok((facts, cluster)) => (facts, Some(cluster)),
        Err(error) => {
            eprintln!("{error:#}");
            let mut facts = Facts::default();
            facts
                .failures
                .push(format!("{error:#}").lines().last().unwrap_or("unknown").to_owned());
            (facts, None)
        }
    };
    write_figures(workspace, &facts)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&facts)?);
    }
    let ok = last_line(&facts, args.json);
    match cluster {
        Some(cluster) if args.keep => keep(&cluster)?,
        Some(cluster) => cluster.lab.close()?,
        None => {}
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn last_line(facts: &Facts, json: bool) -> bool {
    let line = match facts.failures.first() {
        None => {
            let count: u64 = facts
                .figures
                .iter()
                .filter(|figure| figure.unit == "count")
                .map(|figure| figure.n)
                .sum();
            format!("demo: OK ({count} requests under faults)")
        }
        Some(why) => format!("demo: FAILED: {why}"),
    };
    if json {
        eprintln!("{line}")
    } else {
        println!("{line}")
    }
    facts.failures.is_empty()
}

/// Leaves it running until the person has seen enough.
fn keep(cluster: &Cluster) -> Result<()> {
    for place in cluster.lab.nodes.iter().chain([&cluster.lab.outside]) {
        eprintln!("enter {}: {}", place.name, place.how_to_enter());
    }
    eprintln!("logs and state: {}", cluster.lab.dir.display());
    eprintln!("running until Ctrl-C, which removes everything");
    loop {
        std::thread::park();
    }
}

/// `cargo xtask figures`: the same with more repeats, and what packets cost.
pub fn figures(workspace: &Workspace, install: Install) -> Result<ExitCode> {
    let ready = setup::run(workspace, install)?;
    crate::ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    let (facts, cluster) = tell(workspace, Masters::One, Extent::Figures)?;
    write_figures(workspace, &facts)?;
    cluster.lab.close()?;
    crate::shell::run(&mut workspace.cargo(&["run", "--locked", "--package=benches", "--bin=packets"]))?;
    Ok(if last_line(&facts, false) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The demo itself.
pub(crate) fn tell(workspace: &Workspace, masters: Masters, extent: Extent) -> Result<(Facts, Cluster)> {
    let revere = dist::build_revere(workspace)?;
    let mut facts = Facts::default();
    let mut cluster = match masters {
        Masters::One => Cluster::start(&revere)?,
        Masters::Three => Cluster::start_many(&revere, &[])?,
    };
    let app = workspace.root.join("examples/named-vip.json");
    cluster
        .cli(&["app", "add", app.to_str().context("a plain path")?])
        .with_context(|| cluster.picture())?;
    let clients = cluster.lab.dir.join("client.json");
    std::fs::write(&clients, client_app().to_string())?;
    cluster
        .cli(&["app", "add", clients.to_str().context("a plain path")?])
        .with_context(|| cluster.picture())?;
    show::cluster(&cluster, &mut facts)?;
    show::names(&cluster, &mut facts)?;
    show::requests(&cluster, &mut facts)?;
    let control = faults::control(&cluster, &mut facts)?;
    faults::kill_instance(&cluster, &mut facts, control, extent)?;
    faults::scale(&cluster, &mut facts, control, extent)?;
    faults::kill_daemons(&mut cluster, &mut facts, control, extent)?;
    if masters == Masters::Three {
        leader::kill_leader(&mut cluster, &mut facts, control)?;
    }
    Ok((facts, cluster))
}

fn write_figures(workspace: &Workspace, facts: &Facts) -> Result<()> {
    if facts.figures.is_empty() {
        return Ok(());
    }
    let file = workspace.figures_dir()?.join("demo.json");
    std::fs::write(&file, serde_json::to_string_pretty(&facts.figures)?)
        .with_context(|| format!("cannot write {}", file.display()))
}
