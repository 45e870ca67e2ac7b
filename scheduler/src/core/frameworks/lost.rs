//! Agents that are lost, come back or restart, as frameworks' tasks see it; and tasks of an earlier master.

use std::collections::{BTreeMap, BTreeSet};

use model::{AgentId, FrameworkId, Reason, TaskState};

use crate::framework::FrameworkTaskRecord;
use crate::{FrameworkEvent, Quota, Record};

use super::super::Scheduler;
use super::{FrameworkTimer, Joined, TaskKey, add};

/// Whether a lost agent may bring its tasks back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Return {
    /// It may.
    Possible,
    /// Its machine is another agent now.
    Never,
    /// An operator says that it will not.
    NeverSaysOperator,
}

impl Scheduler {
    fn tasks_on(&self, agent: &AgentId) -> BTreeSet<TaskKey> {
        self.nodes.get(agent).map(|node| node.tasks.clone()).unwrap_or_default()
    }

    /// An agent is lost: its tasks of frameworks are unreachable, or gone where it will not come back.
    pub(in crate::core) fn framework_tasks_lost(&mut self, agent: &AgentId, back: Return, why: &str) {
        let keys = self.tasks_on(agent);
        for key in keys {
            let (state, reason) = match back {
                Return::Possible => (TaskState::Unreachable, Reason::AgentRemoved),
                Return::Never => (TaskState::Gone, Reason::AgentRemoved),
                Return::NeverSaysOperator => (TaskState::GoneByOperator, Reason::AgentRemovedByOperator),
            };
            let mut status = self.own_status(state, why);
            status.reason = Some(reason);
            if state.is_terminal() {
                self.task_over(&key, status);
                continue;
            }
            let now = self.now;
            let Some(record) = self.frameworks.task_mut(&key) else {
                continue;
            };
            if record.unreachable_since.is_some() {
                continue;
            }
            status.addresses.clone_from(&record.status.addresses);
            record.status = status.clone();
            record.unreachable_since = Some(now);
            self.cancel_timer(FrameworkTimer::Repeat(key.clone()));
            self.tell_task(&key, status.clone());
            self.queue_update(&key, status);
        }
    }

    /// Frameworks hear that an agent is lost, whether or not they have tasks there.
    pub(in crate::core) fn tell_agent_failed(&mut self, agent: &AgentId) {
        let everyone: Vec<FrameworkId> = self.frameworks.joined.keys().cloned().collect();
        for id in everyone {
            self.tell_framework(&id, FrameworkEvent::AgentFailed(agent.clone()));
        }
    }

    /// An agent registered without that task of a framework.
    fn framework_task_not_told(&mut self, key: &TaskKey) {
        let Some(record) = self.frameworks.task(key) else {
            return;
        };
        let staging = record.status.state == TaskState::Staging;
        if staging && record.kill.is_none() {
            return self.repeat_task(key);
        }
        let state = match (record.kill.is_some(), staging) {
            (true, _) => TaskState::Killed,
            (false, _) => TaskState::Gone,
        };
        let mut status = self.own_status(state, "its agent registered without it");
        status.reason = Some(Reason::AgentRestarted);
        self.task_over(key, status);
    }

    /// Tasks of frameworks that an agent told when it registered; those not told are lost, or sent once more.
    pub(in crate::core) fn framework_tasks_told(&mut self, agent: &AgentId, told: &BTreeSet<TaskKey>) {
        for key in self.tasks_on(agent) {
            if told.contains(&key) {
                // Asks again where something is then still to be asked.
                self.set_timer(FrameworkTimer::Repeat(key), self.config.retry);
            } else {
                self.framework_task_not_told(&key);
            }
        }
    }

    /// An agent that stayed away is forgotten.
    pub(in crate::core) fn framework_tasks_forgotten(&mut self, agent: &AgentId) {
        for key in self.tasks_on(agent) {
            let mut status = self.own_status(TaskState::Gone, "its agent stayed away, it is forgotten");
            status.reason = Some(Reason::AgentRemoved);
            self.task_over(&key, status);
        }
    }

    /// Puts what an earlier master kept in place.
    pub(in crate::core) fn restore_frameworks(
        &mut self,
        records: impl Iterator<Item = crate::FrameworkRecord>,
        tasks: impl Iterator<Item = FrameworkTaskRecord>,
        weights: impl Iterator<Item = (String, f64)>,
    ) {
        self.frameworks.epoch = self.random.uuid();
        self.frameworks.weights = weights.collect();
        for record in records {
            let id = record.id.clone();
            if record.removed_at.is_some() {
                self.frameworks.completed.insert(id, record);
            } else {
                let mut joined = Joined::new(record);
                joined.recovered = true;
                self.frameworks.joined.insert(id, joined);
            }
        }
        for task in tasks {
            self.restore_task(task);
        }
    }

    /// The quotas of an earlier master.
    pub(in crate::core) fn take_quotas(&mut self, quotas: BTreeMap<String, Quota>) {
        self.frameworks.quotas = quotas;
    }

    fn restore_task(&mut self, record: FrameworkTaskRecord) {
        let key = (record.framework().clone(), record.task.clone());
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            // Its framework ended; should its agent tell it, it is to end.
            return self.persist(Record::DeleteFrameworkTask(key.0, key.1));
        };
        if !record.is_over() {
            if let Some(node) = self.nodes.get_mut(&record.agent) {
                node.add_task(key.clone(), &record);
            }
            add(&mut framework.allocated, &record.role, &record.spec.resources);
        }
        let orphan = !record.is_over() && !self.nodes.contains_key(&record.agent);
        framework.tasks.insert(key.1.clone(), record);
        if orphan {
            let mut status = self.own_status(TaskState::Gone, "its agent is no longer known");
            status.reason = Some(Reason::AgentRemoved);
            self.task_over(&key, status);
        }
    }
}
