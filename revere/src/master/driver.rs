//! The one task that owns the scheduler core: feeds it inputs and time, makes its records durable, carries out the rest.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use model::AgentId;
use scheduler::{CommandError, Effect, Record, Reply, Scheduler, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::core::Core;
use super::events::Events;
use super::flight::Flight;
use super::handle::{Answer, Gone, Handle, Hearers, Input, LinkId, Look};
use super::streams::Streams;
use crate::store::etcd::MOST_OPS;
use crate::store::{StateStore, StoreError, Trouble, key};
use crate::wire::MasterMessage;

mod frameworks;

use frameworks::{Told, refuse};

/// Inputs taken before their records are made durable together: one disk flush for all of them. All that can wait, since
/// thousands of heartbeats would fill smaller batches and leave a flush to few statuses.
const BATCH: usize = super::handle::INPUT_QUEUE;
/// Records of several inputs that etcd makes durable together at most. With their events they are one transaction of etcd's; more
/// would go through the journal, which takes many, and while those are on their way more would come than before. What one
/// input brings about is one write all the same, however much it is.
const RECORDS: usize = MOST_OPS - 20;
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
    /// Records of several inputs that become one write at most.
    most_records: usize,
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
        let mut core = Core::new(scheduler, now);
        if let Some((origin, recorded)) = store.events() {
            core.told = Events::leading(&origin, &recorded);
        }
        let most_records = match &store {
            // One flush, however many there are.
            StateStore::Embedded(_) => usize::MAX,
            StateStore::Etcd(_) => RECORDS,
        };
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
            most_records,
            gathered_until: None,
            flight: None,
        };
        (driver, handle)
    }

    /// Runs until the end is asked for or the store fails.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let (mut inputs, mut waiting) = (Vec::with_capacity(BATCH), VecDeque::with_capacity(BATCH));
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
                () = std::future::ready(()), if open && !waiting.is_empty() => {}
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
            waiting.extend(inputs.drain(..));
            if open {
                self.take_some(now, &mut waiting);
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

    /// Takes inputs in their order, until there is enough to write. While the store does not answer only the last form of each
    /// record counts, and all that agents tell is taken.
    fn take_some(&mut self, now: Timestamp, waiting: &mut VecDeque<Input>) {
        while (self.flight.is_some() || self.batch.records.len() < self.most_records)
            && let Some(input) = waiting.pop_front()
        {
            self.take(now, input);
            self.gather();
        }
    }

    fn take(&mut self, now: Timestamp, input: Input) {
        let trouble = self.trouble.borrow().clone();
        match (input, trouble) {
            (Input::Command { answer, .. }, Some(trouble)) => {
                // The asker may have gone away meanwhile.
                let _ = answer.send(Err(Gone::NotTaken(trouble.reason().to_owned())));
            }
            (Input::Look(look), Some(_)) => look(&mut self.core),
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
            Input::Tell { kind, data, to } => match to {
                Hearers::All => self.core.told.tell(kind, now, data),
                Hearers::Own => self.core.told.tell_here(kind, now, data),
            },
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
    /// a master that falls in between begins its next stream with a whole snapshot. Orders and answers never run ahead, nor
    /// do Marathon's events where the store keeps them: whoever leads next goes on behind the last one in it.
    fn carry_out(&mut self) {
        loop {
            self.gather();
            if self.flight.is_some() {
                return;
            }
            let Batch { records, orders, after } = std::mem::take(&mut self.batch);
            let events = self.core.told.take_unrecorded().map(Arc::new);
            if self.store.suspect(self.core.scheduler.suspects()) || !records.is_empty() || events.is_some() {
                let records = records.into_values().collect();
                let write = self.store.clone().write(records, events.clone());
                self.flight = Some(Flight::new(write, events, orders, after));
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
        if let Some(flight) = self.flight.take() {
            let Flight {
                events, orders, after, ..
            } = flight;
            if let Some(events) = events {
                self.core.told.publish(&events);
            }
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
                After::Look(look) => look(&mut self.core),
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
                After::Look(look) => look(&mut self.core),
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

#[cfg(test)]
mod tests {
    use scheduler::Registration;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn many_inputs_are_several_writes_unless_one_waits() {
        let store = StateStore::Embedded(Arc::new(Store::memory()));
        let config = scheduler::Config::default();
        let (mut driver, _handle) = Driver::new(config, store, Vec::new(), CancellationToken::new());
        assert_eq!(
            driver.most_records,
            usize::MAX,
            "a file is flushed once for all of them"
        );
        driver.most_records = RECORDS;
        let (sender, _messages) = mpsc::channel(1);
        let register = |number: u8| Input::Register {
            link: LinkId(number.into()),
            registration: Box::new(Registration {
                agent: None,
                hostname: number.to_string(),
                ip: [10, 0, 0, number].into(),
                http_port: 5051,
                resources: Default::default(),
                ports: Vec::new(),
                attributes: Default::default(),
                domain: Default::default(),
                taken: Vec::new(),
                tasks: Vec::new(),
            }),
            sender: sender.clone(),
            answer: oneshot::channel().0,
        };
        let mut waiting: VecDeque<Input> = (0..=u8::MAX).map(register).collect();
        driver.take_some(Timestamp(1), &mut waiting);
        assert!(!waiting.is_empty(), "more than one transaction of etcd's");
        let records = driver.batch.records.len();
        assert!((RECORDS..=MOST_OPS).contains(&records), "{records}");
        // The order is kept.
        let Some(Input::Register { registration, .. }) = waiting.front() else {
            panic!("no registration waits");
        };
        assert_eq!(registration.hostname, driver.links.len().to_string());
        // Inputs are taken while a write waits only if the store does not answer.
        let never = std::future::pending();
        driver.flight = Some(Flight::new(never, None, Vec::new(), Vec::new()));
        driver.take_some(Timestamp(2), &mut waiting);
        assert!(waiting.is_empty() && driver.links.len() == 256);
    }
}
