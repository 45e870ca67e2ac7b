//! The tasks of one Mesos agent, asked for again and again: for clusters whose masters are out of reach.
//!
//! What dcos-net did. Only this node's tasks are known then; other nodes' backends and names are not.

use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, StateSnapshot, TaskEvent};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::status::Status;
use super::stream::{Backoff, note_rejects, resolve};
use crate::mesos::client::{ApiError, Client};
use crate::mesos::decode::{DecodeError, agent_state};

/// Between two looks, as dcos-net had it.
const POLL: Duration = Duration::from_secs(2);

/// Longest wait after failures, as dcos-net had it.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the node is stopping")]
    Stopping,
}

#[derive(Debug)]
pub(super) struct Poller {
    pub(super) agent: String,
    pub(super) client: Client,
    pub(super) pause: Duration,
    pub(super) events: mpsc::Sender<TaskEvent>,
    pub(super) status: Arc<Status>,
    /// What was told last.
    pub(super) last: Option<StateSnapshot>,
}

impl Poller {
    pub(super) fn new(agent: String, client: Client, events: mpsc::Sender<TaskEvent>, status: Arc<Status>) -> Self {
        Self {
            agent,
            client,
            pause: POLL,
            events,
            status,
            last: None,
        }
    }

    /// Asks for ever. An agent that does not answer takes nothing away: the last good state stays, and its age grows.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::between(self.pause, LONGEST);
        let mut up = false;
        loop {
            match self.look().await {
                Ok(()) => {
                    if !up {
                        self.status.stream_up(&self.agent);
                        up = true;
                    }
                    self.status.stream_alive();
                    backoff = Backoff::between(self.pause, LONGEST);
                    sleep(self.pause).await;
                }
                Err(PollError::Stopping) => return,
                Err(error) => {
                    up = false;
                    self.status.stream_down(&error.to_string());
                    let wait = backoff.next();
                    tracing::warn!(agent = %self.agent, ?wait, "{error}; trying again");
                    sleep(wait).await;
                }
            }
        }
    }

    async fn look(&mut self) -> Result<(), PollError> {
        let agent = self.client.call(&self.agent, "GET_AGENT").await?;
        let state = self.client.call(&self.agent, "GET_STATE").await?;
        let (mut state, rejects) = agent_state(&agent, &state)?;
        for agent in &mut state.agents {
            resolve(agent).await;
        }
        if self.last.as_ref() == Some(&state) {
            return Ok(());
        }
        note_rejects(&self.status, &rejects);
        // An agent that registered anew has another id; nobody else will ever tell the end of the old one.
        for gone in ids(self.last.as_ref()).filter(|old| !ids(Some(&state)).any(|id| id == *old)) {
            self.send(TaskEvent::AgentRemoved(gone.clone())).await?;
        }
        self.send(TaskEvent::Snapshot(state.clone())).await?;
        self.last = Some(state);
        Ok(())
    }

    async fn send(&self, event: TaskEvent) -> Result<(), PollError> {
        self.events.send(event).await.map_err(|_| PollError::Stopping)
    }
}

fn ids(state: Option<&StateSnapshot>) -> impl Iterator<Item = &AgentId> {
    state
        .into_iter()
        .flat_map(|state| state.agents.iter().map(|agent| &agent.id))
}

#[cfg(test)]
#[path = "poll/tests.rs"]
mod tests;
