//! The simulated driver of the core: it carries effects out in order and may die between any two.

use model::TaskEvent;

use crate::{Config, Effect, Record, Scheduler};

use super::world::{Bug, Event, Message, World};

pub(super) fn config() -> Config {
    Config {
        reregister_timeout: std::time::Duration::from_secs(120),
        retry: std::time::Duration::from_secs(5),
        // Agents here say that they live every 4 to 7 seconds.
        suspect_after: std::time::Duration::from_secs(10),
        ..Config::default()
    }
}

impl World {
    pub(super) fn master_up(&mut self) {
        self.next_master();
        let seed = self.random.next();
        let mut core = Scheduler::new(config(), seed, self.store.records());
        let mut first = Vec::new();
        while let Some(effect) = core.poll_effect() {
            first.push(effect);
        }
        for effect in first {
            let Effect::Persist(record) = effect else {
                panic!("a new core may only persist, not {effect:?}")
            };
            self.copied(&record);
            self.store.apply(record);
        }
        let state = core.state();
        self.core = Some(core);
        self.note("master up");
        if self.wanted_unsure {
            self.wanted = self.store.wanted();
            self.wanted_unsure = false;
            // What was half taken has no order to keep.
            self.layered = None;
            self.mixed.extend(self.wanted.keys().cloned());
        }
        self.table.apply(TaskEvent::Snapshot(state));
    }

    pub(super) fn master_down(&mut self) {
        self.core = None;
        self.held_is_lost();
        self.note("master down");
        self.connections.clear();
        self.framework.stream = None;
        for number in 0..self.agents.len() {
            self.agents[number].connection = None;
            self.agents[number].registered = false;
        }
        // One of the others takes over, mostly soon.
        let longest = if self.random.below(2) == 0 { 3_000 } else { 60_000 };
        let delay = if self.faults { self.random.below(longest) } else { 1_000 };
        self.after(delay, Event::MasterUp);
    }

    pub(super) fn master_receives(&mut self, from: usize, connection: u64, message: Message) {
        let now = self.master_now();
        let Some(core) = &mut self.core else {
            if let Message::Register(_) = message {
                self.agents[from].connection = None;
            }
            return;
        };
        if let Message::Register(registration) = message {
            if self.agents[from].connection != Some(connection) {
                return;
            }
            let told: Vec<_> = registration
                .tasks
                .iter()
                .map(|t| (t.spec.task.clone(), t.status.timestamp_ms))
                .collect();
            let registered = core.handle_registration(now, *registration);
            self.forget_orders(&registered.agent);
            self.note(registered.agent.as_str());
            self.connections.insert(registered.agent.clone(), (from, connection));
            self.send_down(from, connection, Message::Registered(registered));
            self.carry_out();
            for (task, timestamp) in told {
                self.acknowledge(from, connection, Message::Ack(task, timestamp));
            }
            return;
        }
        // Only the connection that is the agent's newest speaks for it.
        let speaker = self
            .connections
            .iter()
            .find(|(_, newest)| **newest == (from, connection));
        let Some(id) = speaker.map(|(id, _)| id.clone()) else {
            return;
        };
        let known = match message {
            Message::Status(task, status) => {
                let timestamp = status.timestamp_ms;
                if self.bug == Some(Bug::LostAcknowledgement) && status.state.is_terminal() {
                    self.send_down(from, connection, Message::Ack(task, timestamp));
                    return;
                }
                let known = core.handle_status(now, &id, task.clone(), status);
                self.carry_out();
                if self.core.is_some() && known {
                    self.acknowledge(from, connection, Message::Ack(task, timestamp));
                }
                known
            }
            Message::Heartbeat => {
                let known = core.handle_heartbeat(now, &id);
                self.carry_out();
                known
            }
            Message::VolumesGone(owner) => {
                let known = core.handle_volumes_gone(now, &id, &owner);
                self.carry_out();
                known
            }
            Message::Disconnect => {
                core.handle_disconnect(now, &id);
                self.connections.remove(&id);
                self.carry_out();
                true
            }
            other => panic!("the master received {other:?}"),
        };
        if !known && self.agents[from].connection == Some(connection) {
            self.break_connection(from);
        }
    }

    /// Carries out what the core wants, in order; it may die in between.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.core.as_mut().and_then(Scheduler::poll_effect) {
            if self.bad_luck(400) {
                self.wanted_unsure = true;
                self.master_down();
                return;
            }
            self.carry_or_hold(effect);
        }
    }

    /// Carries one out.
    pub(super) fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(record) => {
                if let Record::PutInstance(instance) = &record {
                    let text = format!("{} {}", instance.id, instance.status.state.as_str());
                    self.note(&text);
                }
                self.copied(&record);
                self.store.apply(record);
            }
            Effect::Launch { agent, spec } => {
                assert!(
                    self.store.has_task(&spec.task),
                    "{} was launched but not persisted",
                    spec.task
                );
                if self.bug == Some(Bug::DoubleLaunch) {
                    let other = self.connections.keys().find(|other| **other != agent).cloned();
                    if let Some(other) = other {
                        self.order(&other, Message::Launch(spec.clone()));
                    }
                }
                self.order(&agent, Message::Launch(spec));
            }
            Effect::RemoveVolumes { agent, owner } => self.order(&agent, Message::RemoveVolumes(owner)),
            Effect::LaunchPod { agent, specs } => {
                for spec in &specs {
                    assert!(
                        self.store.has_task(&spec.task),
                        "{} was launched but not persisted",
                        spec.task
                    );
                }
                self.order(&agent, Message::LaunchPod(specs));
            }
            Effect::Kill { agent, task, .. } => self.order(&agent, Message::Kill(task)),
            Effect::Emit(event) => {
                self.table.apply(event);
            }
            Effect::ToFramework { stream, event } => self.tell_framework(stream, *event),
            // Nobody follows, and nobody has secrets.
            Effect::Tell(_) | Effect::Secrets { .. } => {}
        }
    }

    fn order(&mut self, agent: &model::AgentId, message: Message) {
        if let Some((number, connection)) = self.connections.get(agent).copied() {
            self.send_down(number, connection, message);
        }
    }
}
