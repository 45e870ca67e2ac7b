//! One agent's connection: frames in become inputs of the driver, messages of the driver become frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use model::AgentId;
use scheduler::Registration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::handle::{Handle, Input, LinkId};
use crate::wire::{AgentMessage, MasterMessage, MasterStream, WireError};

/// Messages waiting for one agent; more than any burst of launches on one machine. A full queue ends the connection.
const LINK_QUEUE: usize = 4096;
/// A connection that does not register in time is closed.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// A write that takes longer means a dead connection.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Interval of our own heartbeats, so that the agent notices a dead master.
const HEARTBEAT: Duration = Duration::from_secs(5);

static NEXT_LINK: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no registration came within {} s", REGISTER_WITHIN.as_secs())]
    NoRegistration,
    #[error("it does not read what it is sent")]
    SlowReader,
}

/// Serves an agent until either side ends the connection.
pub(super) async fn serve(mut stream: MasterStream, handle: Handle, shutdown: CancellationToken) {
    if let Err(error) = talk(&mut stream, &handle, &shutdown).await {
        tracing::warn!(%error, "connection of a node ended");
        let refused = MasterMessage::Refused(error.to_string());
        let _ = tokio::time::timeout(WRITE_WITHIN, stream.send(refused)).await;
    }
}

async fn talk(stream: &mut MasterStream, handle: &Handle, shutdown: &CancellationToken) -> Result<(), LinkError> {
    let first = tokio::time::timeout(REGISTER_WITHIN, stream.next()).await;
    let registration = match first {
        Ok(Some(Ok(AgentMessage::Register(registration)))) => registration,
        Ok(Some(Err(error))) => return Err(error.into()),
        Ok(None) => return Ok(()),
        Ok(Some(Ok(_))) | Err(_) => return Err(LinkError::NoRegistration),
    };
    let link = LinkId(NEXT_LINK.fetch_add(1, Ordering::Relaxed));
    let Some((agent, messages)) = register(link, registration, handle).await else {
        return Ok(());
    };
    let result = exchange(stream, messages, handle, link, &agent, shutdown).await;
    let _ = handle.send(Input::Disconnect { link, agent }).await;
    result
}

async fn register(
    link: LinkId,
    registration: Box<Registration>,
    handle: &Handle,
) -> Option<(AgentId, mpsc::Receiver<MasterMessage>)> {
    let (sender, messages) = mpsc::channel(LINK_QUEUE);
    let (answer, agent) = oneshot::channel();
    handle
        .send(Input::Register {
            link,
            registration,
            sender,
            answer,
        })
        .await
        .ok()?;
    Some((agent.await.ok()?, messages))
}

async fn exchange(
    stream: &mut MasterStream,
    mut messages: mpsc::Receiver<MasterMessage>,
    handle: &Handle,
    link: LinkId,
    agent: &AgentId,
    shutdown: &CancellationToken,
) -> Result<(), LinkError> {
    let mut heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    let over = shutdown.cancelled();
    tokio::pin!(over);
    loop {
        let outgoing = tokio::select! {
            () = &mut over => return Ok(()),
            incoming = stream.next() => {
                let input = match incoming {
                    None => return Ok(()),
                    Some(message) => input(message?, link, agent),
                };
                if let Some(input) = input && handle.send(input).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            message = messages.recv() => match message {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = heartbeat.tick() => MasterMessage::Heartbeat,
        };
        match tokio::time::timeout(WRITE_WITHIN, stream.send(outgoing)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(LinkError::SlowReader),
        }
    }
}

/// A second registration on one connection makes no sense and is left out.
fn input(message: AgentMessage, link: LinkId, agent: &AgentId) -> Option<Input> {
    let agent = agent.clone();
    match message {
        AgentMessage::Register(_) => None,
        AgentMessage::Status { sequence, task, status } => Some(Input::Status {
            link,
            agent,
            sequence,
            task,
            status,
        }),
        AgentMessage::VolumesGone(owner) => Some(Input::VolumesGone { link, agent, owner }),
        AgentMessage::Heartbeat => Some(Input::Heartbeat { link, agent }),
    }
}
