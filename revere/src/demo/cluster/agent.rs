//! One simulated agent: takes launches and says at once that they run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use model::{Resources, TaskState, TaskStatus};
use scheduler::{Domain, Registration};

use super::Running;
use crate::wire::{self, AgentMessage, AgentStream, MasterMessage};

/// As real agents do.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(in crate::demo) async fn register(master: &str, number: u32) -> anyhow::Result<AgentStream> {
    let mut stream = wire::connect(master).await?;
    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 1)).saturating_add(number));
    let registration = Registration {
        agent: None,
        hostname: ip.to_string(),
        ip,
        http_port: 5051,
        resources: Resources {
            cpus_milli: 4_000,
            mem_mb: 4_096,
            disk_mb: 0,
        },
        ports: vec![(31_000, 32_000)],
        attributes: [("rack".to_owned(), format!("r{}", number % 40))].into(),
        domain: Domain::default(),
        taken: Vec::new(),
        tasks: Vec::new(),
    };
    stream.send(AgentMessage::Register(Box::new(registration))).await?;
    match stream.next().await.context("the master closed the connection")?? {
        MasterMessage::Registered(_) => Ok(stream),
        other => bail!("{other:?} instead of an answer to the registration"),
    }
}

/// Serves until the connection ends.
pub(super) async fn serve(mut stream: AgentStream, running: Arc<Running>) {
    let mut sequence = 0_u64;
    let mut runs: BTreeSet<u64> = BTreeSet::new();
    let mut known = BTreeMap::new();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.tick().await;
    loop {
        let message = tokio::select! {
            _ = heartbeat.tick() => {
                if stream.send(AgentMessage::Heartbeat).await.is_err() {
                    return;
                }
                continue;
            }
            message = stream.next() => match message {
                Some(Ok(message)) => message,
                _ => return,
            },
        };
        let told = match message {
            MasterMessage::Launch(spec) => {
                if known.insert(spec.task.clone(), ()).is_some() {
                    continue;
                }
                Some((spec.task, TaskState::Running))
            }
            MasterMessage::Kill { task, .. } => {
                known.remove(&task);
                Some((task, TaskState::Killed))
            }
            MasterMessage::Ack { sequence } => {
                if runs.remove(&sequence) {
                    running.one_more();
                }
                None
            }
            _ => None,
        };
        let Some((task, state)) = told else { continue };
        sequence += 1;
        if state == TaskState::Running {
            runs.insert(sequence);
        }
        let message = AgentMessage::Status {
            sequence,
            task,
            status: status(state, sequence),
        };
        if stream.send(message).await.is_err() {
            return;
        }
    }
}

pub(in crate::demo) fn status(state: TaskState, timestamp_ms: u64) -> TaskStatus {
    TaskStatus {
        state,
        reason: None,
        healthy: None,
        addresses: Vec::new(),
        message: None,
        checks: Box::default(),
        timestamp_ms,
    }
}
