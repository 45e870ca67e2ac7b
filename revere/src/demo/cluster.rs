//! Thousands of agents that run nothing, each on a connection of its own, and the load that a bench puts on a master with
//! them.

pub(super) mod agent;
mod ask;
mod readers;
mod start;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

use ask::Asker;

/// Agents that connect at the same time.
const CONNECTING: usize = 64;
/// Apps posted at the same time.
const POSTING: usize = 16;
/// Times that single apps are started.
const TRIALS: u32 = 100;
/// Times that lists are asked for.
const ASKED: u32 = 200;
/// All of it must be done within this.
const PATIENCE: Duration = Duration::from_secs(540);

/// `revere demo-cluster`.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// The master's address.
    #[arg(long)]
    pub master: String,
    /// Simulated agents.
    #[arg(long, default_value_t = 100)]
    pub agents: u32,
    /// Apps.
    #[arg(long, default_value_t = 10)]
    pub apps: u32,
    /// Tasks of each.
    #[arg(long, default_value_t = 10)]
    pub instances: u32,
    /// Measure only how these many readers of the task stream keep up with a thousand changes a second.
    #[arg(long, default_value_t = 0)]
    pub readers: u32,
    /// For so many seconds.
    #[arg(long, default_value_t = 20)]
    pub seconds: u32,
    /// Measure only how soon a task runs on a node that is there already.
    #[arg(long)]
    pub real: bool,
}

/// Changes a second that readers keep up with.
const CHANGES_PER_S: u32 = 1_000;

/// Tasks that were told RUNNING and acknowledged, and a word at each.
#[derive(Debug, Default)]
pub(super) struct Running {
    count: AtomicU64,
    more: Notify,
}

impl Running {
    pub(super) fn one_more(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.more.notify_waiters();
    }

    pub(super) async fn reach(&self, wanted: u64) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let more = self.more.notified();
                if self.count.load(Ordering::Relaxed) >= wanted {
                    return;
                }
                more.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        let there = self.count.load(Ordering::Relaxed);
        waited.map_err(|_| anyhow::anyhow!("only {there} of {wanted} tasks ran in {} s", PATIENCE.as_secs()))
    }
}

/// Connects, deploys, asks, and tells figures as one line of JSON.
pub async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let told = if args.readers > 0 {
        let load = readers::Load {
            readers: args.readers,
            per_s: CHANGES_PER_S,
            seconds: args.seconds,
        };
        readers::run(&args.master, load).await?
    } else if args.real {
        start::run(&args.master, TRIALS).await?
    } else {
        full(&args).await?
    };
    Ok(writeln!(std::io::stdout().lock(), "{told}")?)
}

/// Placements, starts and lists at full size.
async fn full(args: &ClusterArgs) -> anyhow::Result<Value> {
    let running = Arc::new(Running::default());
    connect(args, &running).await?;
    let idle = starts(args, &running, "idle", TRIALS).await?;
    let before = running.count.load(Ordering::Relaxed);
    let tasks = u64::from(args.apps) * u64::from(args.instances);
    let began = Instant::now();
    post_all(args).await?;
    running.reach(before + tasks).await?;
    let took = began.elapsed();
    let full = starts(args, &running, "full", TRIALS).await?;
    let apps = asked(args, "/v2/apps").await?;
    let summary = asked(args, "/state-summary").await?;
    // Are writes slowed while somebody asks for all of it without end?
    let asking = tokio::spawn(ask_on(args.master.clone()));
    let beside = starts(args, &running, "beside", TRIALS).await?;
    asking.abort();
    let placed = running.count.load(Ordering::Relaxed) - before;
    Ok(json!({
        "placed": placed,
        "per_s": f64::from(args.apps) * f64::from(args.instances) / took.as_secs_f64(),
        "seconds": took.as_secs_f64(),
        "starts": TRIALS,
        "start_idle_ms_p50": ms(&idle.running, 50),
        "start_ms_p50": ms(&full.running, 50),
        "write_ms_p50": ms(&full.taken, 50),
        "write_beside_ms_p50": ms(&beside.taken, 50),
        "lists": ASKED,
        "apps_ms_p99": ms(&apps, 99),
        "apps_ms_p50": ms(&apps, 50),
        "summary_ms_p99": ms(&summary, 99),
        "summary_ms_p50": ms(&summary, 50),
    }))
}

/// The time below which so many of a hundred lie.
fn ms(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

async fn connect(args: &ClusterArgs, running: &Arc<Running>) -> anyhow::Result<()> {
    let limit = Arc::new(Semaphore::new(CONNECTING));
    let mut open = VecDeque::new();
    for number in 0..args.agents {
        let (master, running, limit) = (args.master.clone(), Arc::clone(running), Arc::clone(&limit));
        let permit = limit.acquire_owned().await?;
        open.push_back(tokio::spawn(async move {
            let stream = agent::register(&master, number).await?;
            drop(permit);
            tokio::spawn(agent::serve(stream, running));
            anyhow::Ok(())
        }));
    }
    for one in open {
        one.await??;
    }
    Ok(())
}

fn app(id: &str, instances: u32) -> Value {
    json!({"id": id, "cmd": "exec sleep 1000", "cpus": 0.1, "mem": 32, "instances": instances,
        "labels": {"team": "bench"}, "portDefinitions": [{"port": 0, "name": "http", "labels": {"VIP_0": format!("{id}:80")}}]})
}

async fn post_all(args: &ClusterArgs) -> anyhow::Result<()> {
    let limit = Arc::new(Semaphore::new(POSTING));
    let mut open = Vec::new();
    for number in 0..args.apps {
        let permit = Arc::clone(&limit).acquire_owned().await?;
        let (master, instances) = (args.master.clone(), args.instances);
        open.push(tokio::spawn(async move {
            let mut asker = Asker::new(&master).await?;
            let body = app(&format!("/g{}/app-{number}", number % 50), instances).to_string();
            asker.ask("POST", "/v2/apps", &body).await?;
            drop(permit);
            anyhow::Ok(())
        }));
    }
    for one in open {
        one.await??;
    }
    Ok(())
}

/// Times of starting one task, sorted.
struct Starts {
    /// Until the answer to the POST.
    taken: Vec<Duration>,
    /// From then until the master knows that the task runs.
    running: Vec<Duration>,
}

async fn starts(args: &ClusterArgs, running: &Running, name: &str, trials: u32) -> anyhow::Result<Starts> {
    let mut asker = Asker::new(&args.master).await?;
    let (mut taken, mut ran) = (Vec::new(), Vec::new());
    for number in 0..trials {
        let wanted = running.count.load(Ordering::Relaxed) + 1;
        let began = Instant::now();
        let body = app(&format!("/{name}/one-{number}"), 1).to_string();
        asker.ask("POST", "/v2/apps", &body).await?;
        let answered = Instant::now();
        running.reach(wanted).await?;
        taken.push(answered - began);
        ran.push(answered.elapsed());
    }
    taken.sort();
    ran.sort();
    Ok(Starts { taken, running: ran })
}

/// How long a list takes, sorted. The first time, which nobody counts on, is left out.
async fn asked(args: &ClusterArgs, path: &str) -> anyhow::Result<Vec<Duration>> {
    let mut asker = Asker::new(&args.master).await?;
    asker.ask("GET", path, "").await?;
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let began = Instant::now();
        asker.ask("GET", path, "").await?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(times)
}

async fn ask_on(master: String) -> anyhow::Result<()> {
    let mut asker = Asker::new(&master).await?;
    loop {
        asker.ask("GET", "/v2/apps", "").await?;
        asker.ask("GET", "/state-summary", "").await?;
    }
}
