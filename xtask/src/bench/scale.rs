//! `cargo xtask bench scale`: ten thousand simulated nodes on three masters and an etcd of three members, while tasks change a
//! thousand times a second (S25), in namespaces of its own.
//!
//! Masters, etcd and the nodes share this machine's cores; what each of them took is told.

mod cost;
mod judge;
mod load;
mod servers;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::Outcome;
use crate::lab::wait_for;
use crate::setup::{self, Install};
use crate::workspace::Workspace;
use crate::{dist, ebpf, shell};

use cost::Costs;
use load::{Load, Plan};
use servers::Servers;

/// Tasks of one app; each task fills a node.
const INSTANCES: u32 = 100;
/// Nodes of the run that everything is compared with.
const FEW: u32 = 12;
/// Longest wait for a step that all nodes take.
const PATIENCE: Duration = Duration::from_secs(400);

/// Flags of `scale`.
#[derive(Clone, Debug, clap::Args)]
pub struct ScaleArgs {
    /// Simulated nodes.
    #[arg(long, default_value_t = 10_000)]
    pub nodes: u32,
    /// Task changes a second.
    #[arg(long, default_value_t = 1_000)]
    pub per_s: u32,
    /// For so many seconds.
    #[arg(long, default_value_t = 30)]
    pub seconds: u32,
    /// Processes that the nodes are spread over: each may open 20,000 descriptors.
    #[arg(long, default_value_t = 4)]
    pub processes: u32,
    /// 200 nodes and 50 changes a second for a few seconds, to see that it works.
    #[arg(long)]
    pub short: bool,
    /// Leave the masters' and the load's processes to `perf` for so long and print what they did (seconds into the changes).
    #[arg(long)]
    pub profile: bool,
    /// Install nothing; only report what is missing.
    #[arg(long)]
    pub no_install: bool,
}

/// Builds, then runs itself again in namespaces that end with it.
pub(super) fn run(workspace: &Workspace, args: &ScaleArgs) -> Result<ExitCode> {
    if super::is_inside() {
        return inside(workspace, args);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("this command makes namespaces: run it as root");
    }
    if std::env::var_os("LAB_REVERE").is_none() {
        let ready = setup::run(workspace, Install::unless(args.no_install))?;
        ebpf::build(&workspace.root, ready.toolchain, &ready.linker_dir)?;
    }
    setup::without_services(setup::MASTERS_STORE, Install::unless(args.no_install))?;
    let revere = dist::build_revere(workspace)?;
    super::again(&[("LAB_REVERE", revere.as_os_str())])
}

impl ScaleArgs {
    fn plan(&self) -> Plan {
        let plan = Plan {
            nodes: self.nodes,
            per_s: self.per_s,
            seconds: self.seconds,
            processes: self.processes,
            idle: Duration::from_secs(10),
        };
        match self.short {
            true => Plan {
                nodes: 200,
                per_s: 50,
                seconds: 5,
                processes: 2,
                idle: Duration::from_secs(1),
            },
            false => plan,
        }
    }
}

fn inside(workspace: &Workspace, args: &ScaleArgs) -> Result<ExitCode> {
    shell::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let dir = workspace.target.join("tmp/bench-scale");
    std::fs::create_dir_all(&dir)?;
    // A disk that something else keeps busy would be measured, and decide who leads.
    shell::run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&dir))?;
    let plan = args.plan();
    // Of a task that changes again before its change is durable only the last form is told: no task may change too often.
    let few = Plan {
        nodes: FEW,
        per_s: FEW / 4,
        processes: 1,
        ..plan.clone()
    };
    eprintln!("control: {FEW} nodes, {} changes a second", few.per_s);
    let control = measure(&dir.join("few"), &few, false)?;
    eprintln!("{} nodes, {} changes a second", plan.nodes, plan.per_s);
    let full = measure(&dir.join("full"), &plan, args.profile)?;
    let mut outcome = Outcome::default();
    judge::judge(&mut outcome, (&plan, &full), (&few, &control), args.short)?;
    outcome.tell(workspace, if args.short { "scale-short" } else { "scale" })
}

/// What one run found.
#[derive(Debug)]
struct Run {
    told: load::Told,
    /// Seconds until all nodes had registered, until their tasks ran, until all had their streams.
    registered: f64,
    running: f64,
    following: f64,
    /// While nothing changed.
    idle: Costs,
    /// While tasks changed.
    busy: Costs,
}

/// One run on servers of its own.
fn measure(dir: &std::path::Path, plan: &Plan, profile: bool) -> Result<Run> {
    let servers = Servers::start(dir)?;
    let measured = steps(dir, &servers, plan, profile);
    measured.with_context(|| servers.picture())
}

fn steps(dir: &std::path::Path, servers: &Servers, plan: &Plan, profile: bool) -> Result<Run> {
    let began = Instant::now();
    let mut load = Load::start(dir, &servers.urls()?, plan)?;
    load.all("registered", PATIENCE)?;
    let registered = began.elapsed().as_secs_f64();
    eprintln!("{registered:.1} s: all have registered");
    let posted = Instant::now();
    for first in (0..plan.nodes).step_by(usize::try_from(INSTANCES)?) {
        let instances = INSTANCES.min(plan.nodes - first);
        let app = json!({"id": format!("/nodes/from-{first}"), "cmd": "exec sleep 1000", "cpus": 4, "mem": 32,
            "instances": instances, "labels": {"team": "bench"},
            "portDefinitions": [{"port": 0, "name": "http", "labels": {"VIP_0": format!("/nodes/from-{first}:80")}}]});
        let (status, body) = servers.ask("POST", "/v2/apps", &app.to_string())?;
        ensure!(status == 201, "an app was answered with {status}: {body}");
    }
    load.order("run")?;
    load.all("running", PATIENCE)?;
    let running = posted.elapsed().as_secs_f64();
    eprintln!("{running:.1} s: all tasks run");
    let asked = Instant::now();
    load.order("follow")?;
    load.all("following", PATIENCE)?;
    let following = asked.elapsed().as_secs_f64();
    eprintln!("{following:.1} s: all have their streams");
    let idle = Costs::over(servers, &load, plan.idle)?;
    load.order("change")?;
    let perf = profile.then(|| cost::profile(dir)).transpose()?;
    let busy = Costs::over(servers, &load, Duration::from_secs(u64::from(plan.seconds)))?;
    let told = load.told(PATIENCE)?;
    if let Some(perf) = perf {
        eprintln!("{}", cost::profiled(perf, dir)?);
    }
    Ok(Run {
        told,
        registered,
        running,
        following,
        idle,
        busy,
    })
}

/// Waits for something of a program that was started.
fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> Result<T> {
    wait_for(Duration::from_secs(30), look).with_context(|| format!("waited in vain until {what}"))
}
