//! The one task that owns the scheduler core: feeds it inputs and time, makes its records durable, carries out the rest.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::AgentId;
use scheduler::{CommandError, Effect, Record, Reply, Scheduler, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::Core;
use super::handle::{Handle, Input, LinkId};
use crate::store::{Store, StoreError};
use crate::wire::MasterMessage;

/// Inputs taken before their records are made durable together: one disk flush for all of them.
const BATCH: usize = 128;
/// Without a timer in the core, look again after this.
const IDLE: Duration = Duration::from_secs(60);

struct Link {
    id: LinkId,
    sender: mpsc::Sender<MasterMessage>,
}

/// What waits until the batch's records are durable.
enum After {
    Reply(
        oneshot::Sender<Result<Reply, CommandError>>,
        Result<Reply, CommandError>,
    ),
    Ack(AgentId, LinkId, u64),
    Look(Box<dyn FnOnce(&Core) + Send>),
}

/// Wall clock that never runs backwards.
#[derive(Default)]
struct Clock(u64);

impl Clock {
    fn now(&mut self) -> Timestamp {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0 = self.0.max(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Timestamp(self.0)
    }
}

/// See the module.
pub(super) struct Driver {
    core: Core,
    store: Arc<Store>,
    links: BTreeMap<AgentId, Link>,
    inputs: mpsc::Receiver<Input>,
    clock: Clock,
    shutdown: CancellationToken,
}

impl Driver {
    pub(super) fn new(
        config: scheduler::Config,
        store: Arc<Store>,
        records: Vec<Record>,
        shutdown: CancellationToken,
    ) -> (Self, Handle) {
        let (handle, inputs) = Handle::new();
        let mut clock = Clock::default();
        let now = clock.now();
        // Differs at each start, as task ids must; the hasher's keys are random, the time makes sure.
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(now.0);
        let scheduler = Scheduler::new(config, hasher.finish(), records);
        let core = Core::new(scheduler, now);
        let driver = Self {
            core,
            store,
            links: BTreeMap::new(),
            inputs,
            clock,
            shutdown,
        };
        (driver, handle)
    }

    /// Runs until the end is asked for or the store fails.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(BATCH);
        let shutdown = self.shutdown.clone();
        loop {
            let wait = self.until_timeout();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                count = self.inputs.recv_many(&mut batch, BATCH) => if count == 0 { return Ok(()) },
                () = tokio::time::sleep(wait) => {}
            }
            let now = self.clock.now();
            self.core.now = now;
            if self.core.scheduler.poll_timeout().is_some_and(|due| due <= now) {
                self.core.scheduler.handle_timeout(now);
            }
            let mut after = Vec::new();
            for input in batch.drain(..) {
                self.take(now, input, &mut after);
            }
            self.carry_out().await?;
            self.finish(after);
            // A connection given up just now may have set the core thinking.
            self.carry_out().await?;
        }
    }

    fn until_timeout(&mut self) -> Duration {
        let now = self.clock.now();
        self.core.scheduler.poll_timeout().map_or(IDLE, |due| due.since(now))
    }

    fn take(&mut self, now: Timestamp, input: Input, after: &mut Vec<After>) {
        match input {
            Input::Command { command, answer } => {
                let reply = self.core.scheduler.handle_command(now, command);
                after.push(After::Reply(answer, reply));
            }
            Input::Tell { kind, data } => self.core.told.tell(kind, now, data),
            Input::Look(look) => after.push(After::Look(look)),
            Input::Register {
                link,
                registration,
                sender,
                answer,
            } => {
                let registered = self.core.scheduler.handle_registration(now, *registration);
                let agent = registered.agent.clone();
                tracing::info!(%agent, subnet = ?registered.subnet, "node registered");
                // First in the queue: launches of this batch come after it.
                let _ = sender.try_send(MasterMessage::Registered(registered));
                self.links.insert(agent.clone(), Link { id: link, sender });
                self.core.heard.insert(agent.clone(), now);
                let _ = answer.send(agent);
            }
            Input::Status {
                link,
                agent,
                sequence,
                task,
                status,
            } => {
                if self.is_current(&agent, link) {
                    tracing::debug!(%agent, %task, state = status.state.as_str(), "status");
                    self.core.heard.insert(agent.clone(), now);
                    if self.core.scheduler.handle_status(now, &agent, task, status) {
                        after.push(After::Ack(agent, link, sequence));
                    } else {
                        self.drop_link(now, &agent, "the agent must register anew");
                    }
                }
            }
            Input::Heartbeat { link, agent } => {
                if self.is_current(&agent, link) {
                    self.core.heard.insert(agent.clone(), now);
                    if !self.core.scheduler.handle_heartbeat(now, &agent) {
                        self.drop_link(now, &agent, "the agent must register anew");
                    }
                }
            }
            Input::Disconnect { link, agent } => {
                if self.is_current(&agent, link) {
                    self.drop_link(now, &agent, "connection ended");
                }
            }
        }
    }

    fn is_current(&self, agent: &AgentId, link: LinkId) -> bool {
        self.links.get(agent).is_some_and(|known| known.id == link)
    }

    /// Closes an agent's connection: its task ends when the sender is gone.
    fn drop_link(&mut self, now: Timestamp, agent: &AgentId, why: &str) {
        if self.links.remove(agent).is_some() {
            tracing::warn!(%agent, why, "node disconnected");
            self.core.scheduler.handle_disconnect(now, agent);
        }
    }

    /// Tells subscribers first, then makes all records durable in one write, then sends orders to agents.
    ///
    /// The stream may run ahead of the store: what it tells of is already so, a dead backend must not wait for a disk, and
    /// a master that falls in between begins its next stream with a whole snapshot. Orders and answers never run ahead.
    async fn carry_out(&mut self) -> Result<(), StoreError> {
        loop {
            let mut records = Vec::new();
            let mut orders = Vec::new();
            let mut idle = true;
            while let Some(effect) = self.core.scheduler.poll_effect() {
                idle = false;
                self.core.note(&effect);
                match effect {
                    Effect::Persist(record) => records.push(record),
                    Effect::Emit(event) => self.core.emit(event),
                    Effect::Tell(event) => self.core.tell(&event),
                    Effect::Launch { agent, spec } => orders.push((agent, MasterMessage::Launch(spec))),
                    Effect::Kill { agent, task, policy } => orders.push((agent, MasterMessage::Kill { task, policy })),
                }
            }
            if idle {
                return Ok(());
            }
            self.persist(records).await?;
            for (agent, message) in orders {
                self.tell(&agent, message);
            }
        }
    }

    async fn persist(&self, records: Vec<Record>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || store.write(&records)).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// A message that does not go out is repeated by the core.
    fn tell(&mut self, agent: &AgentId, message: MasterMessage) {
        let Some(link) = self.links.get(agent) else { return };
        if link.sender.try_send(message).is_err() {
            let now = self.core.now;
            self.drop_link(now, agent, "it does not read what it is sent");
        }
    }

    fn finish(&mut self, after: Vec<After>) {
        for item in after {
            match item {
                // The asker may have gone away meanwhile.
                After::Reply(answer, reply) => drop(answer.send(reply)),
                After::Ack(agent, link, sequence) => {
                    if self.is_current(&agent, link) {
                        self.tell(&agent, MasterMessage::Ack { sequence });
                    }
                }
                After::Look(look) => look(&self.core),
            }
        }
    }
}
