//! How frameworks come, go, come back and end.

use model::{FrameworkId, FrameworkInfo, Reason, TaskEvent, TaskState};

use crate::{FrameworkEvent, FrameworkRecord, FrameworkSpec, Record, StreamId, Timestamp};

use super::super::Scheduler;
use super::super::node::Link;
use super::super::timers::Timer;
use super::{COMPLETED_FRAMEWORKS, FrameworkTimer, Joined};

/// Longest id that a framework may bring; it is part of names of directories.
const MAX_ID: usize = 64;

/// What a subscriber got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Its id.
    pub framework: FrameworkId,
    /// Its stream.
    pub stream: StreamId,
}

impl Scheduler {
    /// A framework joins, or comes back under `id`. A refusal is told to it as an `ERROR` event.
    pub fn handle_subscribe(
        &mut self,
        now: Timestamp,
        id: Option<FrameworkId>,
        spec: FrameworkSpec,
        suppressed: Vec<String>,
    ) -> Result<Subscription, String> {
        self.enter(now);
        let id = match id {
            Some(id) => self.returning(id, &spec)?,
            None => self.new_framework_id(),
        };
        let stream = StreamId(self.wide_random());
        let known = self.frameworks.joined.remove(&id);
        let mut framework = match known {
            Some(mut known) => {
                known.record.reregistered_at = Some(self.now);
                known.record.spec = spec;
                known
            }
            None => Joined::new(FrameworkRecord {
                id: id.clone(),
                spec,
                registered_at: self.now,
                reregistered_at: None,
                removed_at: None,
            }),
        };
        let record = framework.record.clone();
        let before = framework.stream.replace(stream);
        framework.recovered = false;
        framework.suppressed = suppressed.into_iter().collect();
        self.frameworks.joined.insert(id.clone(), framework);
        self.cancel_timer(FrameworkTimer::Failover(id.clone()));
        self.persist(Record::PutFramework(Box::new(record)));
        if let Some(before) = before {
            let event = Box::new(FrameworkEvent::Error("Framework failed over".to_owned()));
            self.effects
                .push_back(crate::Effect::ToFramework { stream: before, event });
        }
        self.drop_offers_of(&id);
        self.forget_filters(&id, &[]);
        self.emit_framework(&id);
        self.tell_framework(&id, FrameworkEvent::Subscribed(id.clone()));
        self.send_all_updates(&id);
        self.offer_everywhere();
        self.settle();
        Ok(Subscription { framework: id, stream })
    }

    /// `UPDATE_FRAMEWORK`.
    pub(super) fn update_framework(
        &mut self,
        id: &FrameworkId,
        spec: FrameworkSpec,
        suppressed: Vec<String>,
    ) -> Result<(), String> {
        self.returning(id.clone(), &spec)?;
        let lost: Vec<_> = self
            .frameworks
            .offers
            .values()
            .filter(|offer| offer.framework == *id && !spec.roles.contains(&offer.role))
            .map(|offer| offer.id.clone())
            .collect();
        if let Some(framework) = self.frameworks.joined.get_mut(id) {
            framework.record.spec = spec;
            framework.suppressed = suppressed.into_iter().collect();
            let record = framework.record.clone();
            self.persist(Record::PutFramework(Box::new(record)));
        }
        for offer in lost {
            self.rescind(&offer);
        }
        self.emit_framework(id);
        self.offer_everywhere();
        Ok(())
    }

    /// The stream of a framework has ended. Its offers are taken back, its tasks run on for its failover timeout.
    pub fn handle_stream_end(&mut self, now: Timestamp, stream: StreamId) {
        self.enter(now);
        let of = self
            .frameworks
            .joined
            .values_mut()
            .find(|one| one.stream == Some(stream));
        if let Some(framework) = of {
            framework.stream = None;
            let (id, within) = (framework.record.id.clone(), framework.record.spec.failover_timeout);
            self.drop_offers_of(&id);
            self.set_timer(FrameworkTimer::Failover(id.clone()), within);
            self.emit_framework(&id);
        }
        self.settle();
    }

    /// Ends a framework and all its tasks. `false`: there is none.
    pub fn teardown(&mut self, now: Timestamp, id: &FrameworkId) -> bool {
        self.enter(now);
        let known = self.frameworks.joined.contains_key(id);
        if known {
            self.remove_framework(id, "torn down by an operator");
        }
        self.settle();
        known
    }

    /// Checks an id that a framework brings along. One that nobody knows is taken: it may have been another master's.
    fn returning(&self, id: FrameworkId, spec: &FrameworkSpec) -> Result<FrameworkId, String> {
        if self.frameworks.completed.contains_key(&id) {
            return Err("Framework has been removed".to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.as_str().is_empty()
            || id.as_str().len() > MAX_ID
            || !id.as_str().chars().all(plain)
            || id == self.framework.id
        {
            return Err(format!(
                "Framework ID '{id}' cannot be taken: it is to be 1 to {MAX_ID} letters, digits, '-', '_' or '.', and not that of the master's own framework"
            ));
        }
        if let Some(known) = self.frameworks.joined.get(&id) {
            let before = &known.record.spec;
            let fixed = [
                ("user", before.user != spec.user),
                ("checkpoint", before.checkpoint != spec.checkpoint),
                ("principal", before.principal != spec.principal),
            ];
            if let Some((field, _)) = fixed.iter().find(|(_, changed)| *changed) {
                return Err(format!("Updating 'FrameworkInfo.{field}' is unsupported"));
            }
        }
        Ok(id)
    }

    fn new_framework_id(&self) -> FrameworkId {
        let prefix = format!("{}-", self.config.cluster);
        let number = |id: &FrameworkId| id.as_str().strip_prefix(&prefix)?.parse::<u64>().ok();
        let known = self.frameworks.joined.keys().chain(self.frameworks.completed.keys());
        let highest = known.filter_map(number).max().unwrap_or(0);
        FrameworkId::new(format!("{prefix}{:04}", highest.saturating_add(1)))
    }

    pub(super) fn wide_random(&mut self) -> u128 {
        u128::from(self.random.next()) << 64 | u128::from(self.random.next())
    }

    fn emit_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.frameworks.joined.get(id) {
            let info = info(&framework.record);
            self.emit(TaskEvent::FrameworkAdded(info));
        }
    }

    pub(super) fn remove_framework(&mut self, id: &FrameworkId, why: &str) {
        self.drop_offers_of(id);
        self.forget_filters(id, &[]);
        self.cancel_timer(FrameworkTimer::Failover(id.clone()));
        self.tell_framework(id, FrameworkEvent::Closed);
        let Some(framework) = self.frameworks.joined.get_mut(id) else {
            return;
        };
        let tasks: Vec<_> = framework.tasks.keys().map(|task| (id.clone(), task.clone())).collect();
        for key in tasks {
            self.task_of_removed(&key, why);
        }
        let Some(framework) = self.frameworks.joined.remove(id) else {
            return;
        };
        let record = FrameworkRecord {
            removed_at: Some(self.now),
            ..framework.record
        };
        self.persist(Record::PutFramework(Box::new(record.clone())));
        self.frameworks.completed.insert(id.clone(), record);
        self.emit(TaskEvent::FrameworkRemoved(id.clone()));
        self.forget_completed();
        self.capacity_changed();
    }

    /// The framework ends: what runs is to end too, and counts as used until it has.
    fn task_of_removed(&mut self, key: &super::TaskKey, why: &str) {
        let Some(record) = self.frameworks.task(key).cloned() else {
            return;
        };
        if !record.is_over() {
            let mut status = self.own_status(TaskState::Killed, why);
            status.reason = Some(Reason::FrameworkRemoved);
            self.tell_task(key, status);
        }
        self.drop_task(key);
        let agent = record.agent.clone();
        let Some(node) = self.nodes.get_mut(&agent) else { return };
        if !record.status.state.is_terminal() && node.link == Link::Connected {
            node.add_stray_of(&record);
            self.kill_stray(&agent, &record.spec.task);
        }
    }

    /// Only so many are remembered; the highest number stays known, so that no later framework gets it again.
    fn forget_completed(&mut self) {
        while self.frameworks.completed.len() > COMPLETED_FRAMEWORKS {
            let next = self.new_framework_id();
            let mut by_age: Vec<_> = self.frameworks.completed.values().collect();
            by_age.sort_by_key(|record| record.removed_at);
            let ids: Vec<FrameworkId> = by_age.into_iter().map(|record| record.id.clone()).collect();
            for id in ids.into_iter().take(2) {
                let record = self.frameworks.completed.remove(&id);
                if self.new_framework_id() == next {
                    self.persist(Record::DeleteFramework(id));
                    break;
                }
                self.frameworks.completed.extend(record.map(|record| (id, record)));
            }
        }
    }

    /// Starts the clock of frameworks that an earlier master knew.
    pub(in crate::core) fn await_frameworks(&mut self) {
        let away = self.frameworks.joined.values().filter(|one| one.stream.is_none());
        let away: Vec<_> = away
            .map(|one| (one.record.id.clone(), one.record.spec.failover_timeout))
            .collect();
        for (id, within) in away {
            let at = self.now.after(within.max(self.config.reregister_timeout));
            self.timers.set(Timer::Framework(FrameworkTimer::Failover(id)), at);
        }
    }
}

/// A framework as the stream tells it.
pub(super) fn info(record: &FrameworkRecord) -> FrameworkInfo {
    FrameworkInfo {
        id: record.id.clone(),
        name: record.spec.name.clone(),
        ip: None,
        port: None,
    }
}
