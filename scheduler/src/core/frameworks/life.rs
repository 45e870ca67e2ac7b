//! A framework's task from its launch to its end.

use std::time::Duration;

use model::{AgentId, FrameworkId, KillPolicy, Reason, TaskEvent, TaskId, TaskState, TaskStatus, launched_task};

use crate::framework::FrameworkTaskRecord;
use crate::{Effect, Record};

use super::super::Scheduler;
use super::super::life::is_news;
use super::super::node::Link;
use super::view::shown;
use super::{COMPLETED_TASKS, FrameworkTimer, TaskKey, subtract};

impl Scheduler {
    /// Persisted first, then told; sent by [`repeat_task`](Self::repeat_task).
    pub(super) fn begin_task(&mut self, record: FrameworkTaskRecord) -> TaskKey {
        let key = (record.framework().clone(), record.task.clone());
        if let Some(node) = self.nodes.get_mut(&record.agent) {
            node.add_task(key.clone(), &record);
        }
        let task = shown(&record);
        self.persist(Record::PutFrameworkTask(Box::new(record.clone())));
        self.emit(TaskEvent::TaskAdded(task));
        if let Some(framework) = self.frameworks.joined.get_mut(&key.0) {
            super::add(&mut framework.allocated, &record.role, &record.spec.resources);
            framework.tasks.insert(key.1.clone(), record);
        }
        key
    }

    /// The task that an agent calls so.
    pub(in crate::core) fn framework_task_on(&self, agent: &AgentId, name: &TaskId) -> Option<TaskKey> {
        let key = launched_task(name)?;
        let record = self.frameworks.task(&key)?;
        (record.agent == *agent && record.spec.task == *name && !record.is_over()).then_some(key)
    }

    /// Takes a status that an agent tells of a task. Repeats and latecomers change nothing.
    pub(in crate::core) fn apply_task_status(&mut self, key: &TaskKey, mut status: TaskStatus) {
        let known = self.frameworks.joined.get_mut(&key.0);
        let Some(record) = known.and_then(|one| one.tasks.get_mut(&key.1)) else {
            return;
        };
        if record.is_over() || !is_news(&record.status, &status) {
            return;
        }
        let draining = self
            .nodes
            .get(&record.agent)
            .is_some_and(|node| node.order.drain.is_some() || node.down);
        complete(record, draining, &mut status);
        let back = record.unreachable_since.take().is_some();
        if back && status.reason.is_none() {
            status.reason = Some(Reason::AgentReregistered);
        }
        if status.state.is_terminal() {
            self.task_over(key, status);
            return;
        }
        let fails = record.spec.exhausted(&status.checks).is_some() && record.kill.is_none();
        if fails {
            // A health check failed as often as it may; who replaces the task is its framework.
            record.kill = Some(record.spec.kill);
        }
        let tells = back || says_more(&record.status, &status);
        record.status = status.clone();
        let after = record.clone();
        if after.kill.is_none() {
            self.cancel_timer(FrameworkTimer::Repeat(key.clone()));
        }
        if back {
            self.emit(TaskEvent::TaskAdded(shown(&after)));
        } else {
            self.tell_task(key, status.clone());
        }
        if tells {
            self.queue_update(key, status);
        } else {
            self.persist(Record::PutFrameworkTask(Box::new(after)));
        }
        if fails {
            self.repeat_task(key);
        }
    }

    /// A task has ended: what it used is free, and its record stays until its framework has acknowledged that.
    pub(super) fn task_over(&mut self, key: &TaskKey, status: TaskStatus) {
        let Some(record) = self.frameworks.task_mut(key) else {
            return;
        };
        if record.is_over() {
            return;
        }
        record.status = status.clone();
        record.kill = None;
        let after = record.clone();
        self.cancel_timer(FrameworkTimer::Repeat(key.clone()));
        if let Some(node) = self.nodes.get_mut(&after.agent) {
            node.drop_task(key, &after);
        }
        if let Some(framework) = self.frameworks.joined.get_mut(&key.0) {
            subtract(&mut framework.allocated, &after.role, &after.spec.resources);
        }
        self.frameworks.freed(&after.agent);
        self.capacity_changed();
        self.tell_task(key, status.clone());
        let ends_others = status.state != TaskState::Finished;
        self.queue_update(key, status);
        if ends_others {
            self.end_group(&after);
        }
    }

    /// Forgets a task and all that is due for it, whatever its state.
    pub(super) fn drop_task(&mut self, key: &TaskKey) {
        for timer in [FrameworkTimer::Repeat(key.clone()), FrameworkTimer::Update(key.clone())] {
            self.cancel_timer(timer);
        }
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            return;
        };
        framework.attempts.remove(&key.1);
        let Some(record) = framework.tasks.remove(&key.1) else {
            return;
        };
        if !record.is_over() {
            subtract(&mut framework.allocated, &record.role, &record.spec.resources);
        }
        framework.completed.push_back(shown(&record));
        if framework.completed.len() > COMPLETED_TASKS {
            framework.completed.pop_front();
        }
        if let Some(node) = self.nodes.get_mut(&record.agent) {
            node.drop_task(key, &record);
        }
        self.frameworks.freed(&record.agent);
        self.persist(Record::DeleteFrameworkTask(key.0.clone(), key.1.clone()));
    }

    /// Ends all of an agent's tasks, with so much time at most.
    pub(in crate::core) fn empty_of_frameworks(&mut self, agent: &AgentId, most: Duration) {
        let keys = self.nodes.get(agent).map(|node| node.tasks.clone()).unwrap_or_default();
        for (framework, task) in keys {
            let grace = self
                .frameworks
                .task(&(framework.clone(), task.clone()))
                .map(|record| record.spec.kill.grace);
            self.kill_task_of(&framework, task, None, grace.map(|grace| grace.min(most)));
        }
    }

    /// Whether its agent is to end it.
    pub(in crate::core) fn is_to_end(&self, key: &TaskKey) -> bool {
        self.frameworks.task(key).is_some_and(|record| record.kill.is_some())
    }

    /// Tells readers of the task stream.
    pub(super) fn tell_task(&mut self, key: &TaskKey, status: TaskStatus) {
        self.emit(TaskEvent::TaskUpdated {
            framework: key.0.clone(),
            task: key.1.clone(),
            status,
            mappings: Vec::new(),
        });
    }

    /// `KILL`. A task that is not known is answered with what is known of it: nothing.
    pub(super) fn kill_task_of(
        &mut self,
        id: &FrameworkId,
        task: TaskId,
        agent: Option<AgentId>,
        grace: Option<Duration>,
    ) {
        let key = (id.clone(), task);
        let Some(record) = self.frameworks.task_mut(&key).filter(|record| !record.is_over()) else {
            return self.reconcile_one(id, &key.1, agent.as_ref());
        };
        let policy = KillPolicy {
            drain: record.spec.kill.drain,
            grace: grace.unwrap_or(record.spec.kill.grace),
        };
        if record.kill == Some(policy) {
            return;
        }
        record.kill = Some(policy);
        let after = record.clone();
        self.persist(Record::PutFrameworkTask(Box::new(after.clone())));
        self.repeat_task(&key);
        self.end_group(&after);
    }

    /// Sends the Launch or Kill that a task still waits for, and again after a while.
    pub(in crate::core) fn repeat_task(&mut self, key: &TaskKey) {
        let Some(record) = self.frameworks.task(key).filter(|record| !record.is_over()) else {
            return;
        };
        let connected = self
            .nodes
            .get(&record.agent)
            .is_some_and(|node| node.link == Link::Connected);
        if !connected {
            return;
        }
        let agent = record.agent.clone();
        let effect = match record.kill {
            Some(policy) => Effect::Kill {
                agent,
                task: record.spec.task.clone(),
                policy,
            },
            None if record.spec.pod.is_some() && record.status.state == TaskState::Staging => {
                let Some(effect) = self.group_order(record) else { return };
                effect
            }
            None if record.status.state == TaskState::Staging => Effect::Launch {
                agent,
                spec: Box::new(record.spec.clone()),
            },
            None => return,
        };
        self.effects.push_back(effect);
        self.set_timer(FrameworkTimer::Repeat(key.clone()), self.config.retry);
    }
}

/// Adds what an agent cannot know of the end that it tells.
fn complete(record: &FrameworkTaskRecord, draining: bool, status: &mut TaskStatus) {
    let never_ran = record.status.state == TaskState::Staging;
    if record.kill.is_some() && status.state == TaskState::Lost && never_ran {
        // It never arrived: its agent does not know what it should end.
        status.state = TaskState::Killed;
        status.reason = Some(Reason::TaskKilledDuringLaunch);
    }
    if draining && status.state == TaskState::Killed && status.reason.is_none() {
        status.reason = Some(Reason::AgentDraining);
    }
    if status.state.is_terminal() && record.spec.exhausted(&record.status.checks).is_some() {
        status.healthy = Some(false);
    }
    let runs = |status: &TaskStatus| status.state == TaskState::Running;
    if runs(status) && runs(&record.status) && status.healthy != record.status.healthy {
        status.reason = Some(Reason::TaskHealthCheckStatusUpdated);
    }
}

/// Whether a framework has anything of the newer of two statuses: not every result of a check is one to tell.
fn says_more(old: &TaskStatus, new: &TaskStatus) -> bool {
    old.state != new.state || old.healthy != new.healthy || old.addresses != new.addresses || old.message != new.message
}
