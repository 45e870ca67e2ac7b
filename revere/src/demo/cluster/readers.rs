//! Many readers of a master's task stream, some of which stop reading, while tasks change a thousand times a second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use model::{TaskId, TaskState};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, timeout};

use super::agent::{self, status};
use super::ask::{Asker, follow};
use crate::wire::{AgentMessage, AgentStream, MasterMessage};

/// Tasks that change in turn, all on one agent: what it tells is told on in that order.
const TASKS: u32 = 32;
/// Readers that stop after the head of the answer.
const SLOW: usize = 5;
/// Bytes that the system takes for such a reader.
const SLOW_BUFFER: u32 = 4_096;
/// Steps of a second in which changes are made.
const STEPS: u32 = 100;
/// Time that everything may take beyond the changes themselves.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) readers: u32,
    pub(super) per_s: u32,
    pub(super) seconds: u32,
}

/// What one reader saw.
#[derive(Debug, Default)]
struct Seen {
    changes: u64,
    out_of_order: u64,
    /// Microseconds.
    most_behind: u64,
}

/// Microseconds of the wall clock, the same for everybody on this machine.
fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Runs it all, and tells figures.
pub(super) async fn run(master: &str, load: Load) -> anyhow::Result<Value> {
    let (stream, tasks) = start_tasks(master).await?;
    let wanted = u64::from(load.per_s / STEPS * STEPS) * u64::from(load.seconds);
    let limit = PATIENCE + Duration::from_secs(u64::from(load.seconds));
    let mut readers = Vec::new();
    for _ in 0..load.readers {
        let body = follow(master, None).await?;
        readers.push(tokio::spawn(timeout(limit, read(body, wanted))));
    }
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(follow(master, Some(SLOW_BUFFER)).await?);
    }
    change(stream, &tasks, load).await?;
    let mut all = Seen::default();
    let mut complete = 0_u32;
    for reader in readers {
        let seen = reader.await?.context("a reader did not get all in time")??;
        complete += u32::from(seen.changes == wanted);
        all.changes += seen.changes;
        all.out_of_order += seen.out_of_order;
        all.most_behind = all.most_behind.max(seen.most_behind);
    }
    let mut dropped = 0_u32;
    for mut body in slow {
        let to_the_end = async { while let Some(Ok(_)) = body.frame().await {} };
        dropped += u32::from(timeout(PATIENCE, to_the_end).await.is_ok());
    }
    Ok(json!({
        "readers": load.readers, "complete": complete, "changes": wanted, "told": all.changes,
        "out_of_order": all.out_of_order, "behind_s": Duration::from_micros(all.most_behind).as_secs_f64(),
        "slow": SLOW, "slow_dropped": dropped,
    }))
}

/// An agent and its running tasks.
async fn start_tasks(master: &str) -> anyhow::Result<(AgentStream, Vec<TaskId>)> {
    let mut stream = agent::register(master, 0).await?;
    let app = json!({"id": "/changing", "cmd": "exec sleep 1000", "cpus": 0.01, "mem": 1, "instances": TASKS});
    Asker::new(master)
        .await?
        .ask("POST", "/v2/apps", &app.to_string())
        .await?;
    let (mut tasks, mut acknowledged) = (Vec::new(), 0);
    while acknowledged < TASKS {
        match stream.next().await.context("the master closed the connection")?? {
            MasterMessage::Launch(spec) if !tasks.contains(&spec.task) => {
                let sequence = u64::try_from(tasks.len())?;
                let (task, status) = (spec.task.clone(), status(TaskState::Running, 1));
                tasks.push(spec.task);
                stream.send(AgentMessage::Status { sequence, task, status }).await?;
            }
            MasterMessage::Ack { .. } => acknowledged += 1,
            _ => {}
        }
    }
    Ok((stream, tasks))
}

/// Changes tasks in turn; each change carries its number and the time at which it was made.
async fn change(stream: AgentStream, tasks: &[TaskId], load: Load) -> anyhow::Result<()> {
    let (mut sink, mut answers) = stream.split();
    let acknowledged = tokio::spawn(async move { while let Some(Ok(_)) = answers.next().await {} });
    let mut step = tokio::time::interval(Duration::from_secs(1) / STEPS);
    step.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u64;
    for _ in 0..load.seconds * STEPS {
        step.tick().await;
        for _ in 0..load.per_s / STEPS {
            let turn = usize::try_from(number)? % tasks.len();
            let mut status = status(TaskState::Running, number + 2);
            status.message = Some(format!("n={number} t={}", micros()));
            let (task, sequence) = (tasks.get(turn).context("a task")?.clone(), number + 1_000);
            sink.feed(AgentMessage::Status { sequence, task, status }).await?;
            number += 1;
        }
        sink.flush().await?;
    }
    if acknowledged.is_finished() {
        bail!("the master closed the agent's connection");
    }
    // The connection stays open until the program ends: an agent that is gone would be one more change.
    std::mem::forget(sink);
    Ok(())
}

/// Reads until so many changes were seen.
async fn read(mut body: Incoming, wanted: u64) -> anyhow::Result<Seen> {
    let (mut seen, mut next, mut rest) = (Seen::default(), 0_u64, Vec::new());
    while seen.changes < wanted {
        let frame = body.frame().await.context("a reader was dropped")??;
        let Ok(bytes) = frame.into_data() else { continue };
        rest.extend_from_slice(&bytes);
        let now = micros();
        let mut done = 0;
        while let Some(record) = record(&rest[done..]) {
            done += record.0;
            let Some((number, at)) = change_of(record.1) else {
                continue;
            };
            seen.changes += 1;
            seen.out_of_order += u64::from(number != next);
            next = number + 1;
            seen.most_behind = seen.most_behind.max(now.saturating_sub(at));
        }
        rest.drain(..done);
    }
    Ok(seen)
}

/// The first whole record of RecordIO, and the bytes that it takes with its length.
fn record(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let head = bytes.iter().position(|byte| *byte == b'\n')?;
    let length: usize = std::str::from_utf8(bytes.get(..head)?).ok()?.parse().ok()?;
    let end = head + 1 + length;
    Some((end, bytes.get(head + 1..end)?))
}

/// Number and time of the change that a record tells.
fn change_of(record: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(record).ok()?;
    let (_, after) = text.split_once("\"n=")?;
    let (number, after) = after.split_once(" t=")?;
    let (at, _) = after.split_once('"')?;
    Some((number.parse().ok()?, at.parse().ok()?))
}
