//! The one task that owns the scheduler core: feeds it inputs and time, makes its records durable, carries out the rest.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use model::AgentId;
use scheduler::{CommandError, Effect, Record, Reply, Scheduler, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::core::Core;
use super::flight::Flight;
use super::handle::{Answer, Gone, Handle, Input, LinkId, Look};
use super::streams::Streams;
use crate::store::{StateStore, StoreError, Trouble, key};
use crate::wire::MasterMessage;

mod frameworks;

use frameworks::{Told, refuse};

/// Inputs taken before their records are made durable together: one disk flush for all of them. All that can wait, since
/// thousands of heartbeats would fill smaller batches and leave a flush to few statuses.
const BATCH: usize = super::handle::INPUT_QUEUE;
/// Without a timer in the core, look again after this.
const IDLE: Duration = Duration::from_secs(60);

struct Link {
    id: LinkId,
    sender: mpsc::Sender<MasterMessage>,
}

/// What waits until the batch's records are durable.
pub(super) enum After {
    Reply(oneshot::Sender<Answer>, Result<Reply, CommandError>),
    Ack(AgentId, LinkId, u64),
    Look(Look),
    Framework(Told),
}

/// What inputs brought about and what has to be durable before it is carried out. Of each record the last form counts,
/// so that what gathers while a store does not answer is no more than the state itself.
#[derive(Default)]
struct Batch {
    records: BTreeMap<String, Record>,
    orders: Vec<(AgentId, MasterMessage)>,
    after: Vec<After>,
}

/// See the module.
pub(super) struct Driver {
    core: Core,
    store: StateStore,
    trouble: watch::Receiver<Option<Trouble>>,
    links: BTreeMap<AgentId, Link>,
    streams: Streams,
    inputs: mpsc::Receiver<Input>,
    clock: Clock,
    shutdown: CancellationToken,
    batch: Batch,
    /// When events that were gathered go out.
    gathered_until: Option<Timestamp>,
    /// The write on its way; inputs wait for it unless the store is in trouble.
    flight: Option<Flight>,
}

impl Driver {
    pub(super) fn new(
        config: scheduler::Config,
        store: StateStore,
        records: Vec<Record>,
        shutdown: CancellationToken,
    ) -> (Self, Handle) {
        let (handle, inputs) = Handle::new();
        let mut clock = Clock::new();
        let now = clock.now();
        // Differs at each start, as task ids must; the hasher's keys are random, the time makes sure.
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(now.0);
        let scheduler = Scheduler::new(config, hasher.finish(), records);
        let core = Core::new(scheduler, now);
        let driver = Self {
            core,
            trouble: store.trouble(),
            store,
            links: BTreeMap::new(),
            streams: Streams::default(),
            inputs,
            clock,
            shutdown,
            batch: Batch::default(),
            gathered_until: None,
            flight: None,
        };
        (driver, handle)
    }

    /// Runs until the end is asked for or the store fails.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let mut inputs = Vec::with_capacity(BATCH);
        let shutdown = self.shutdown.clone();
        let mut trouble = self.trouble.clone();
        loop {
            let (wait, gathering) = self.until_timeout();
            // What is read must be durable, so nothing is taken in while a write is on its way. A store that does not
            // answer is the exception: what nodes tell and what readers ask goes on, and only changes are refused.
            let open = self.flight.is_none() || trouble.borrow().is_some();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                written = super::flight::landed(&mut self.flight) => {
                    written?;
                    self.land();
                }
                () = changed(&mut trouble) => self.meet_trouble(),
                count = self.inputs.recv_many(&mut inputs, BATCH), if open => if count == 0 { return Ok(()) },
                () = tokio::time::sleep(wait), if open => {}
                // Whatever the disk does: a dead backend is told at once.
                () = tokio::time::sleep(gathering), if self.gathered_until.is_some() => {}
            }
            let now = self.clock.now();
            self.core.now = now;
            if open && self.core.scheduler.poll_timeout().is_some_and(|due| due <= now) {
                self.core.scheduler.handle_timeout(now);
            }
            for input in inputs.drain(..) {
                self.take(now, input);
            }
            self.carry_out();
            self.gathered_until = self.core.send_gathered();
        }
    }

    /// Time until the core wants to be asked, and until gathered events go out.
    fn until_timeout(&mut self) -> (Duration, Duration) {
        let now = self.clock.now();
        let left = |due: Option<Timestamp>| due.map_or(IDLE, |due| due.since(now));
        (left(self.core.scheduler.poll_timeout()), left(self.gathered_until))
    }

    /// Whoever looks may begin to follow: all that happened before is told before.
    fn look(&mut self, look: Look) {
        self.core.send_all();
        look(&self.core);
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        let trouble = self.trouble.borrow().clone();
        match (input, trouble) {
            (Input::Command { answer, .. }, Some(trouble)) => {
                // The asker may have gone away meanwhile.
                let _ = answer.send(Err(Gone::NotTaken(trouble.reason().to_owned())));
            }
            (Input::Look(look), Some(_)) => self.look(look),
            // Its connection closes, and it finds who leads.
            (Input::Register { .. }, Some(Trouble::Lead(_))) => {}
            (input, Some(trouble)) => {
                if let Some(input) = refuse(input, trouble.reason()) {
                    self.take_in(now, input);
                }
            }
            (input, _) => self.take_in(now, input),
        }
    }

    fn take_in(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Command { command, answer } => {
                let reply = self.core.scheduler.handle_command(now, command);
                self.batch.after.push(After::Reply(answer, reply));
            }
            Input::Tell { kind, data } => self.core.told.tell(kind, now, data),
            Input::Look(look) => self.batch.after.push(After::Look(look)),
            framework @ (Input::Subscribe { .. }
            | Input::Framework { .. }
            | Input::StreamEnd(_)
            | Input::Operator { .. }
            | Input::Teardown { .. }) => self.take_framework(now, framework),
            agent => self.take_agent(now, agent),
        }
    }

    /// What agents say.
    fn take_agent(&mut self, now: Timestamp, input: Input) {
        // Only the newest connection speaks for its agent.
        if let Input::Status { link, agent, .. }
        | Input::Heartbeat { link, agent }
        | Input::VolumesGone { link, agent, .. }
        | Input::Disconnect { link, agent } = &input
            && !self.is_current(agent, *link)
        {
            return;
        }
        match input {
            Input::Register {
                link,
                registration,
                sender,
                answer,
            } => {
                self.gather();
                let registered = self.core.scheduler.handle_registration(now, *registration);
                self.forget_orders(&registered.agent);
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
                tracing::debug!(%agent, %task, state = status.state.as_str(), "status");
                self.core.heard.insert(agent.clone(), now);
                if self.core.scheduler.handle_status(now, &agent, task, status) {
                    self.batch.after.push(After::Ack(agent, link, sequence));
                } else {
                    self.drop_link(now, &agent, "the agent must register anew");
                }
            }
            Input::Heartbeat { agent, .. } => {
                self.core.heard.insert(agent.clone(), now);
                if !self.core.scheduler.handle_heartbeat(now, &agent) {
                    self.drop_link(now, &agent, "the agent must register anew");
                }
            }
            Input::VolumesGone { agent, owner, .. } => {
                tracing::info!(%agent, %owner, "volumes removed");
                self.core.heard.insert(agent.clone(), now);
                if !self.core.scheduler.handle_volumes_gone(now, &agent, &owner) {
                    self.drop_link(now, &agent, "the agent must register anew");
                }
            }
            Input::Disconnect { agent, .. } => {
                self.drop_link(now, &agent, "connection ended");
            }
            _ => {}
        }
    }

    fn is_current(&self, agent: &AgentId, link: LinkId) -> bool {
        self.links.get(agent).is_some_and(|known| known.id == link)
    }

    /// What waits to be sent over an agent's earlier connection is void: the core has been told since what the agent has,
    /// and orders anew what it misses.
    fn forget_orders(&mut self, agent: &AgentId) {
        let flying = self.flight.as_mut().map(|flight| &mut flight.orders);
        for orders in [&mut self.batch.orders].into_iter().chain(flying) {
            orders.retain(|(to, _)| to != agent);
        }
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
    fn carry_out(&mut self) {
        loop {
            self.gather();
            if self.flight.is_some() {
                return;
            }
            let Batch { records, orders, after } = std::mem::take(&mut self.batch);
            if self.store.suspect(self.core.scheduler.suspects()) || !records.is_empty() {
                let write = self.store.clone().write(records.into_values().collect());
                self.flight = Some(Flight::new(write, orders, after));
                return;
            }
            if orders.is_empty() && after.is_empty() {
                return;
            }
            // A connection given up just now may have set the core thinking.
            self.finish(orders, after);
        }
    }

    /// Tells what may be told at once, and puts the rest into the batch.
    fn gather(&mut self) {
        while let Some(effect) = self.core.scheduler.poll_effect() {
            self.core.note(&effect);
            let batch = &mut self.batch;
            match effect {
                Effect::Persist(record) => drop(batch.records.insert(key(&record), record)),
                Effect::Emit(event) => self.core.emit(event),
                Effect::Tell(event) => self.core.tell(&event),
                Effect::ToFramework { stream, event } => {
                    batch.after.push(After::Framework(Told::Event(stream, *event)));
                }
                Effect::Launch { agent, spec } => batch.orders.push((agent, MasterMessage::Launch(spec))),
                Effect::LaunchPod { agent, specs } => batch.orders.push((agent, MasterMessage::LaunchPod(specs))),
                Effect::Kill { agent, task, policy } => {
                    batch.orders.push((agent, MasterMessage::Kill { task, policy }));
                }
                Effect::Secrets { agent, task, values } => {
                    batch.orders.push((agent, MasterMessage::Secrets { task, values }));
                }
                Effect::RemoveVolumes { agent, owner } => {
                    batch.orders.push((agent, MasterMessage::RemoveVolumes(owner)));
                }
            }
        }
    }

    /// The write is durable.
    fn land(&mut self) {
        if let Some(Flight { orders, after, .. }) = self.flight.take() {
            self.finish(orders, after);
        }
    }

    /// Whoever waits for a store that does not answer is told so; who may not lead lets its agents go.
    fn meet_trouble(&mut self) {
        let Some(trouble) = self.trouble.borrow().clone() else {
            return;
        };
        let waiting = self.flight.as_mut().map(|flight| std::mem::take(&mut flight.after));
        let mut kept = Vec::new();
        for item in waiting.into_iter().flatten() {
            match item {
                After::Reply(answer, _) => drop(answer.send(Err(Gone::Unknown(trouble.reason().to_owned())))),
                After::Look(look) => self.look(look),
                After::Framework(told) => {
                    kept.extend(Self::doubt(told, trouble.reason()).map(After::Framework));
                }
                ack @ After::Ack(..) => kept.push(ack),
            }
        }
        if let Some(flight) = &mut self.flight {
            flight.after = kept;
        }
        if matches!(trouble, Trouble::Lead(_)) {
            let agents: Vec<AgentId> = self.links.keys().cloned().collect();
            for agent in agents {
                self.drop_link(self.core.now, &agent, "this master may not lead any more");
            }
            self.end_streams();
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

    fn finish(&mut self, orders: Vec<(AgentId, MasterMessage)>, after: Vec<After>) {
        for (agent, message) in orders {
            self.tell(&agent, message);
        }
        for item in after {
            match item {
                // The asker may have gone away meanwhile.
                After::Reply(answer, reply) => drop(answer.send(Ok(reply))),
                After::Ack(agent, link, sequence) => {
                    if self.is_current(&agent, link) {
                        self.tell(&agent, MasterMessage::Ack { sequence });
                    }
                }
                After::Look(look) => self.look(look),
                After::Framework(told) => self.finish_framework(told),
            }
        }
    }
}

/// Ends when there is something new; never of a store that has nothing to tell.
async fn changed(trouble: &mut watch::Receiver<Option<Trouble>>) {
    if trouble.changed().await.is_err() {
        std::future::pending().await
    }
}
