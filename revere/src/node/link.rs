//! The agent's connection to the master: registration, orders down, statuses up until each is acknowledged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::{Agent, AgentEvent, Known};
use futures_util::{SinkExt as _, StreamExt as _};
use model::{AgentId, NodeView, TaskEvent, TaskId, TaskState, TaskStatus};
use parking_lot::Mutex;
use scheduler::{InstanceId, Registered, Registration, ReportedTask};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::config::Settings;
use super::disk::save_agent_id;
use super::masters::Masters;
use super::planes::LbPlane;
use super::status::Status;
use super::stream::Backoff;
use crate::wire::{AgentMessage, AgentStream, ConnectError, MasterMessage, WireError, connect};

/// How often the agent says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Silence after which the master counts as gone.
const SILENCE: Duration = Duration::from_secs(15);

/// A status that is not acknowledged for so long is sent again.
const RESEND: Duration = Duration::from_secs(5);

/// Statuses on their way to the link; a full queue slows the agent's reports, not the tasks.
const STATUSES: usize = 1024;

/// Why the connection ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection to the master broke: {0}")]
    Wire(#[from] WireError),
    #[error("the master closed the connection")]
    Closed,
    #[error("the master was silent for {SILENCE:?}")]
    Silent,
    #[error("the master refuses this node: {0}")]
    Refused(String),
}

/// Hands what the agent says on: ends first of all to the maps, then to the table; statuses to the link.
pub(super) async fn pump(
    mut events: mpsc::Receiver<AgentEvent>,
    lb: Option<Arc<Mutex<LbPlane>>>,
    table: mpsc::Sender<TaskEvent>,
    statuses: mpsc::Sender<Report>,
) {
    while let Some(event) = events.recv().await {
        match event {
            AgentEvent::Exited { task } => {
                // The pictures know a framework's task by its own id.
                let task = model::launched_task(&task).map_or(task, |(_, task)| task);
                if let Some(lb) = &lb {
                    lb.lock().local_exit(&task);
                }
                if table.send(TaskEvent::LocalExit(task)).await.is_err() {
                    return;
                }
            }
            AgentEvent::Status { task, status, .. } => {
                // Nobody listens on a node that takes no tasks from a master.
                let _ = statuses.send(Report::Status(task, status)).await;
            }
            AgentEvent::VolumesGone { owner } => {
                let _ = statuses.send(Report::VolumesGone(InstanceId(owner))).await;
            }
        }
    }
}

/// What the agent has to say to the master.
#[derive(Debug)]
pub(super) enum Report {
    /// A task's newest status.
    Status(TaskId, TaskStatus),
    /// An instance's volumes are no longer here. Said once: the master asks again where it did not hear it.
    VolumesGone(InstanceId),
}

/// The queue between [`pump`] and [`Link`].
pub(super) fn statuses() -> (mpsc::Sender<Report>, mpsc::Receiver<Report>) {
    mpsc::channel(STATUSES)
}

/// Statuses that the master has not acknowledged, by sequence.
#[derive(Debug, Default)]
struct Pending {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    task: TaskId,
    status: TaskStatus,
    sent: Option<Instant>,
}

impl Pending {
    fn add(&mut self, task: TaskId, status: TaskStatus) {
        // One that was never sent says nothing that this one does not.
        self.waiting
            .retain(|_, older| older.task != task || older.sent.is_some());
        let waiting = Waiting {
            task,
            status,
            sent: None,
        };
        self.waiting.insert(self.next, waiting);
        self.next += 1;
    }

    /// A new connection: nothing was sent on it; of each task the newest status is enough.
    fn restart(&mut self) {
        let newest: BTreeMap<TaskId, u64> = self.waiting.iter().map(|(seq, one)| (one.task.clone(), *seq)).collect();
        self.waiting.retain(|seq, one| newest.get(&one.task) == Some(seq));
        for one in self.waiting.values_mut() {
            one.sent = None;
        }
    }

    /// What to send now, in order.
    fn due(&mut self, now: Instant) -> Vec<AgentMessage> {
        let old = |sent: Instant| now.saturating_duration_since(sent) >= RESEND;
        let due = self.waiting.iter_mut().filter(|(_, one)| one.sent.is_none_or(old));
        due.map(|(sequence, one)| {
            one.sent = Some(now);
            AgentMessage::Status {
                sequence: *sequence,
                task: one.task.clone(),
                status: one.status.clone(),
            }
        })
        .collect()
    }

    /// The master has it; returns the task if that was its end.
    fn acknowledged(&mut self, sequence: u64) -> Option<TaskId> {
        let one = self.waiting.remove(&sequence)?;
        one.status.state.is_terminal().then_some(one.task)
    }
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) masters: Masters,
    pub(super) settings: Arc<Settings>,
    pub(super) agent: Agent,
    pub(super) id: Option<AgentId>,
    pub(super) id_file: PathBuf,
    pub(super) views: watch::Sender<NodeView>,
    pub(super) statuses: mpsc::Receiver<Report>,
    pub(super) status: Arc<Status>,
}

impl Link {
    /// Keeps a connection to one of the masters, for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut pending = Pending::default();
        let mut turn = 0;
        loop {
            let masters = self.masters.borrow_and_update().clone();
            if masters.is_empty() {
                self.status.agent_down("no leading master is known yet");
                // Without a sender nobody will ever tell one, and the node ends with its other parts.
                if self.masters.changed().await.is_err() {
                    return std::future::pending().await;
                }
                continue;
            }
            let master = &masters[turn % masters.len()];
            turn += 1;
            let Err(error) = self.serve(master, &mut pending, &mut backoff).await;
            self.status.agent_down(&error.to_string());
            let wait = backoff.next();
            tracing::warn!(%master, ?wait, "{error}; trying again");
            sleep(wait).await;
        }
    }

    async fn serve(
        &mut self,
        master: &str,
        pending: &mut Pending,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, LinkError> {
        let mut stream = connect(master).await?;
        stream
            .send(AgentMessage::Register(Box::new(self.registration())))
            .await?;
        match next(&mut stream, Instant::now()).await? {
            MasterMessage::Registered(registered) => self.registered(registered),
            MasterMessage::Refused(why) => return Err(LinkError::Refused(why)),
            other => return Err(LinkError::Refused(format!("it answers a registration with {other:?}"))),
        }
        *backoff = Backoff::default();
        pending.restart();
        let mut heard = Instant::now();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for message in pending.due(Instant::now()) {
                stream.send(message).await?;
            }
            tokio::select! {
                message = next(&mut stream, heard) => {
                    heard = Instant::now();
                    self.obey(message?, pending)?;
                }
                Some(report) = self.statuses.recv() => match report {
                    Report::Status(task, status) => pending.add(task, status),
                    Report::VolumesGone(owner) => stream.send(AgentMessage::VolumesGone(owner)).await?,
                },
                _ = heartbeat.tick() => stream.send(AgentMessage::Heartbeat).await?,
            }
        }
    }

    fn registration(&self) -> Registration {
        let tasks = self
            .agent
            .tasks()
            .into_iter()
            .map(|(spec, status)| ReportedTask { spec, status });
        let settings = &self.settings;
        Registration {
            agent: self.id.clone(),
            hostname: settings.hostname.clone(),
            ip: settings.ip,
            http_port: settings.api_listen.port(),
            resources: settings.resources,
            ports: settings.ports.clone(),
            attributes: settings.config.attributes.clone(),
            domain: settings.config.domain(),
            taken: super::taken::taken(settings),
            tasks: tasks.collect(),
        }
    }

    fn registered(&mut self, registered: Registered) {
        tracing::info!(agent = %registered.agent, subnet = ?registered.subnet.map(|net| net.to_string()), "registered");
        if let Some(subnet) = registered.subnet {
            self.agent.set_subnet(subnet);
        }
        if self.id.as_ref() != Some(&registered.agent) {
            if let Err(error) = save_agent_id(&self.id_file, &registered.agent) {
                tracing::warn!("{error}; after a restart this node registers as a new one");
            }
            self.id = Some(registered.agent.clone());
        }
        self.status.agent_up(&registered.agent, registered.subnet);
        self.views.send_if_modified(|view| {
            let changed = view.agent.as_ref() != Some(&registered.agent);
            view.agent = Some(registered.agent.clone());
            changed
        });
        for task in registered.unknown {
            tracing::info!(%task, "the master does not want this task any more");
            self.agent.kill(task, None);
        }
    }

    fn obey(&mut self, message: MasterMessage, pending: &mut Pending) -> Result<(), LinkError> {
        match message {
            MasterMessage::Registered(registered) => self.registered(registered),
            MasterMessage::Launch(spec) => self.agent.launch(*spec),
            MasterMessage::LaunchPod(specs) => self.agent.launch_pod(specs),
            MasterMessage::Kill { task, policy } => {
                if self.agent.kill(task.clone(), Some(policy)) == Known::No {
                    pending.add(task, lost());
                }
            }
            MasterMessage::Secrets { task, values } => self.agent.take_secrets(task, values),
            MasterMessage::RemoveVolumes(owner) => self.agent.remove_volumes(owner.0),
            MasterMessage::Ack { sequence } => {
                if let Some(task) = pending.acknowledged(sequence) {
                    self.agent.acknowledge(&task);
                }
            }
            MasterMessage::Refused(why) => return Err(LinkError::Refused(why)),
            MasterMessage::Heartbeat => {}
        }
        Ok(())
    }
}

/// The answer to an order about a task that this node does not have.
fn lost() -> TaskStatus {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TaskStatus {
        state: TaskState::Lost,
        reason: None,
        healthy: None,
        addresses: Vec::new(),
        message: Some("this node does not have the task".to_owned()),
        checks: Default::default(),
        timestamp_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    }
}

/// The next message, unless the master has been silent for too long since `heard`.
async fn next(stream: &mut AgentStream, heard: Instant) -> Result<MasterMessage, LinkError> {
    match timeout_at(heard + SILENCE, stream.next()).await {
        Ok(Some(message)) => Ok(message?),
        Ok(None) => Err(LinkError::Closed),
        Err(_) => Err(LinkError::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus {
            state,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: 1,
        }
    }

    fn states(messages: &[AgentMessage]) -> Vec<(u64, TaskState)> {
        let one = |message: &AgentMessage| match message {
            AgentMessage::Status { sequence, status, .. } => (*sequence, status.state),
            other => panic!("{other:?}"),
        };
        messages.iter().map(one).collect()
    }

    #[test]
    fn statuses_are_sent_until_acknowledged() {
        let task = TaskId::new("t");
        let mut pending = Pending::default();
        let now = Instant::now();
        pending.add(task.clone(), status(TaskState::Running));
        assert_eq!(states(&pending.due(now)), [(0, TaskState::Running)]);
        assert_eq!(pending.due(now), [], "once is enough for now");
        assert_eq!(states(&pending.due(now + RESEND)), [(0, TaskState::Running)]);
        pending.add(task.clone(), status(TaskState::Killing));
        pending.add(task.clone(), status(TaskState::Killed));
        assert_eq!(states(&pending.due(now + RESEND)), [(2, TaskState::Killed)]);
        pending.restart();
        assert_eq!(states(&pending.due(now)), [(2, TaskState::Killed)]);
        assert_eq!(pending.acknowledged(0), None);
        assert_eq!(pending.acknowledged(2), Some(task));
        assert_eq!(pending.due(now + RESEND + RESEND), []);
    }
}
