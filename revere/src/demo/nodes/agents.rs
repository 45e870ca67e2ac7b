//! The nodes as agents: registered, each with one task, of which they tell changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use model::{TaskId, TaskState};
use tokio::sync::{Mutex, OnceCell, Semaphore};

use super::{NodesArgs, Running, micros};
use crate::demo::cluster::agent::{self, status};
use crate::wire::{AgentMessage, AgentStream, MasterMessage};

/// Agents that connect at the same time.
const CONNECTING: usize = 64;
/// Every agent says once a second that it lives, a twentieth of them at a time.
const PARTS: u32 = 20;
/// Changes that are due are made so often.
const STEP: Duration = Duration::from_millis(10);
/// Numbers of one process's changes; those of its first node's number times this are its own.
const NUMBERS: u64 = 1_000_000;

/// One of them.
struct Node {
    sink: Mutex<SplitSink<AgentStream, AgentMessage>>,
    task: OnceCell<TaskId>,
}

/// All of them.
pub(super) struct Agents {
    nodes: Vec<Arc<Node>>,
    lost: Arc<AtomicU64>,
}

/// Registers all; from then on each says that it lives and runs what it is given.
pub(super) async fn register(args: &NodesArgs, running: &Arc<Running>) -> anyhow::Result<Agents> {
    let limit = Arc::new(Semaphore::new(CONNECTING));
    let lost = Arc::new(AtomicU64::new(0));
    let mut open = Vec::new();
    let parts: Vec<Part> = (0..PARTS).map(|_| Part::default()).collect();
    for (number, part) in (0..).zip(&parts) {
        tokio::spawn(live(Arc::clone(part), Duration::from_secs(1) / PARTS * number));
    }
    for number in args.first..args.first + args.nodes {
        let permit = Arc::clone(&limit).acquire_owned().await?;
        let master = args.masters.first().context("no master is named")?.clone();
        let (running, lost) = (Arc::clone(running), Arc::clone(&lost));
        let part = parts.get(usize::try_from(number % PARTS)?).map(Arc::clone);
        open.push(tokio::spawn(async move {
            let (sink, stream) = agent::register(&master, number).await?.split();
            drop(permit);
            let node = Arc::new(Node {
                sink: Mutex::new(sink),
                task: OnceCell::new(),
            });
            let own = Arc::clone(&node);
            tokio::spawn(async move {
                serve(own, stream, running).await;
                lost.fetch_add(1, Ordering::Relaxed);
            });
            if let Some(part) = part {
                part.lock().push(Arc::clone(&node));
            }
            anyhow::Ok(node)
        }));
    }
    let mut nodes = Vec::new();
    for one in open {
        nodes.push(one.await??);
    }
    Ok(Agents { nodes, lost })
}

/// Nodes that speak in the same twentieth of a second: one timer for all of them, as each has a machine of its own.
type Part = Arc<parking_lot::Mutex<Vec<Arc<Node>>>>;

/// Says once a second of each of them that it lives, for as long as somebody listens.
async fn live(part: Part, offset: Duration) {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + offset, Duration::from_secs(1));
    loop {
        tick.tick().await;
        let nodes = part.lock().clone();
        for node in nodes {
            if node.sink.lock().await.send(AgentMessage::Heartbeat).await.is_err() {
                part.lock().retain(|one| !Arc::ptr_eq(one, &node));
            }
        }
    }
}

/// Runs one task; ends with the connection.
async fn serve(node: Arc<Node>, mut stream: SplitStream<AgentStream>, running: Arc<Running>) {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            MasterMessage::Launch(spec) if node.task.set(spec.task.clone()).is_ok() => {
                let told = AgentMessage::Status {
                    sequence: 0,
                    task: spec.task,
                    status: status(TaskState::Running, 1),
                };
                if node.sink.lock().await.send(told).await.is_err() {
                    return;
                }
            }
            MasterMessage::Ack { sequence: 0 } => running.one_more(),
            _ => {}
        }
    }
}

impl Agents {
    /// Connections that ended.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells changes of the nodes' tasks in turn; each carries its number and the time at which it was made.
    pub(super) async fn change(&self, args: &NodesArgs) -> anyhow::Result<()> {
        let all = u64::from(args.per_s) * u64::from(args.seconds);
        let first = u64::from(args.first) * NUMBERS;
        let (began, mut made) = (Instant::now(), 0_u64);
        let mut nodes = self.nodes.iter().cycle();
        let mut step = tokio::time::interval(STEP);
        while made < all {
            step.tick().await;
            let passed = u64::try_from(began.elapsed().as_micros())?;
            let due = (passed * u64::from(args.per_s) / 1_000_000).min(all);
            for number in made..due {
                let node = nodes.next().context("no nodes")?;
                let task = node.task.get().context("a node without a task")?.clone();
                let mut status = status(TaskState::Running, number + 2);
                status.message = Some(format!("n={} t={}", first + number, micros()));
                let sequence = number + 1;
                let told = AgentMessage::Status { sequence, task, status };
                node.sink.lock().await.send(told).await?;
            }
            made = due;
        }
        Ok(())
    }
}
