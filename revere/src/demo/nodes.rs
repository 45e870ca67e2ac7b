//! Thousands of nodes without a kernel's work: each with its connection as an agent and its task stream, as a daemon has them.
//!
//! A few run the daemon's own code for the stream. The others send what it sends and take what it takes, but what many of
//! them are told alike is read once: see [`reader`].

mod agents;
mod reader;
mod seen;

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use model::{TaskEvent, TaskStatus};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use super::cluster::Running;
use crate::mesos::client::{Access, Client};
use crate::node;
use reader::Reader;
use seen::Seen;

/// Streams that begin at the same time: those of all nodes, as after an outage of all masters. Whom to serve when is the masters' matter.
const BEGINNING: usize = 16_384;
/// Everything must have come to pass within this.
const PATIENCE: Duration = Duration::from_secs(300);
/// Events that a whole node's code may be ahead of us.
const EVENTS: usize = 4_096;
/// What a record of theirs may have.
const MOST_RECORD: usize = 256 << 20;

/// `revere demo-nodes`: does the next thing for each line it reads, and answers each with a line of JSON.
#[derive(Clone, Debug, Args)]
pub struct NodesArgs {
    /// The masters' addresses.
    #[arg(long, value_delimiter = ',', required = true)]
    pub masters: Vec<String>,
    /// Simulated nodes.
    #[arg(long)]
    pub nodes: u32,
    /// Number of the first of them.
    #[arg(long, default_value_t = 0)]
    pub first: u32,
    /// How many of them run a daemon's own code for their stream.
    #[arg(long, default_value_t = 3)]
    pub whole: u32,
    /// Changes a second that these nodes tell of their tasks.
    #[arg(long)]
    pub per_s: u32,
    /// For so many seconds.
    #[arg(long)]
    pub seconds: u32,
    /// Changes that each node will be told, those of other processes' nodes included.
    #[arg(long)]
    pub wanted: u64,
}

/// Microseconds of the wall clock, the same for everybody on this machine.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Number and time of the change that a status tells of.
fn change_of(status: &TaskStatus) -> Option<(u64, u64)> {
    let (number, at) = status.message.as_deref()?.strip_prefix("n=")?.split_once(" t=")?;
    Some((number.parse().ok()?, at.parse().ok()?))
}

/// Registers, follows, changes, each when it is told to.
pub async fn run(args: NodesArgs) -> anyhow::Result<()> {
    let running = Arc::new(Running::default());
    let agents = agents::register(&args, &running).await?;
    say(&json!({"registered": args.nodes}))?;
    expect("run").await?;
    running.reach(u64::from(args.nodes)).await?;
    say(&json!({"running": args.nodes}))?;
    expect("follow").await?;
    let began = Instant::now();
    let seen = Arc::new(Seen::new(args.wanted));
    let streams = follow(&args, &seen).await?;
    say(
        &json!({"following": args.nodes, "seconds": began.elapsed().as_secs_f64(), "snapshot": seen.snapshot(), "bytes": seen.bytes()}),
    )?;
    expect("change").await?;
    let before = seen.bytes();
    agents.change(&args).await?;
    seen.complete(args.nodes, PATIENCE).await;
    let mut told = seen.told();
    told["bytes"] = (seen.bytes() - before).into();
    told["lost"] = agents.lost().into();
    say(&told)?;
    // Until whoever gives the orders has measured what this process took.
    let _ = expect("end").await;
    drop(streams);
    Ok(())
}

fn say(told: &Value) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{told}")?)
}

async fn expect(wanted: &'static str) -> anyhow::Result<()> {
    let reading = tokio::task::spawn_blocking(|| std::io::stdin().lines().next().transpose());
    let order = reading.await??.context("nobody gives orders any more")?;
    if order != wanted {
        bail!("the order was `{order}` instead of `{wanted}`");
    }
    Ok(())
}

/// Begins all streams, spread over the masters; returns once each has what it begins with.
async fn follow(args: &NodesArgs, seen: &Arc<Seen>) -> anyhow::Result<tokio::task::JoinSet<()>> {
    let limit = Arc::new(Semaphore::new(BEGINNING));
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..args.nodes {
        let permit = Arc::clone(&limit).acquire_owned().await?;
        let turn = usize::try_from(args.first + number)?;
        let seen = Arc::clone(seen);
        if number < args.whole {
            let client = Client::new(&Access::default())?;
            let (events, taken) = mpsc::channel(EVENTS);
            let follower = node::follow(args.masters.clone(), turn, client, MOST_RECORD, events);
            streams.spawn(follower);
            streams.spawn(take(taken, seen, permit));
        } else {
            streams.spawn(Reader::new(args.masters.clone(), turn, seen).run(permit));
        }
    }
    let all = u32::try_from(BEGINNING)?;
    let begun = tokio::time::timeout(PATIENCE, limit.acquire_many(all)).await;
    drop(begun.context("not every stream began in time")??);
    Ok(streams)
}

/// What a whole node's code hands on.
async fn take(mut events: mpsc::Receiver<TaskEvent>, seen: Arc<Seen>, begins: tokio::sync::OwnedSemaphorePermit) {
    let (mut begins, mut changes) = (Some(begins), 0);
    while let Some(event) = events.recv().await {
        match event {
            TaskEvent::Snapshot(_) => {
                begins.take();
                seen.began(true);
            }
            TaskEvent::TaskUpdated { status, .. } => {
                if let Some(change) = change_of(&status) {
                    seen.one(change);
                    seen.has(changes, changes + 1);
                    changes += 1;
                }
            }
            _ => {}
        }
    }
}
