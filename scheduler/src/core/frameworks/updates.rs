//! Updates on their way to frameworks: in order for each task, again and again until they are acknowledged.

use std::time::Duration;

use model::{FrameworkId, TaskState, TaskStatus};

use crate::framework::{PendingUpdate, UpdateId, UpdateSource};
use crate::{Capability, FrameworkEvent, FrameworkUpdate, Record};

use super::super::Scheduler;
use super::{FrameworkTimer, Joined, TaskKey};

/// First pause before an update is sent again, doubled each time (Mesos `STATUS_UPDATE_RETRY_INTERVAL_MIN`).
const RETRY_MIN: Duration = Duration::from_secs(10);
/// Longest pause (Mesos `STATUS_UPDATE_RETRY_INTERVAL_MAX`).
const RETRY_MAX: Duration = Duration::from_secs(600);
/// Updates kept for one task while its framework is away; a task whose health comes and goes makes more, of which the
/// newest say enough.
const MOST_PENDING: usize = 32;

/// The state as a framework understands it.
pub(super) fn understood(framework: &Joined, state: TaskState) -> TaskState {
    let finer = matches!(
        state,
        TaskState::Dropped | TaskState::Unreachable | TaskState::Gone | TaskState::GoneByOperator | TaskState::Unknown
    );
    if finer && !framework.record.spec.has(Capability::PartitionAware) {
        TaskState::Lost
    } else {
        state
    }
}

impl Scheduler {
    /// Puts a status behind those that wait, and sends it if it is the first. Persists the task.
    pub(super) fn queue_update(&mut self, key: &TaskKey, status: TaskStatus) {
        let id = UpdateId(self.wide_random());
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            return;
        };
        let kills = framework.record.spec.has(Capability::TaskKillingState);
        let Some(record) = framework.tasks.get_mut(&key.1) else {
            return;
        };
        let first = record.pending.is_empty();
        if status.state != TaskState::Killing || kills {
            if record.pending.len() >= MOST_PENDING {
                record.pending.pop_back();
            }
            record.pending.push_back(PendingUpdate { id, status });
        }
        let after = record.clone();
        self.persist(Record::PutFrameworkTask(Box::new(after)));
        if first {
            self.send_update(key);
        }
    }

    /// Sends the oldest update of a task that was not acknowledged.
    pub(super) fn send_update(&mut self, key: &TaskKey) {
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            return;
        };
        if framework.stream.is_none() {
            return;
        }
        let Some(record) = framework.tasks.get(&key.1) else {
            return;
        };
        let Some(oldest) = record.pending.front() else { return };
        let attempts = framework.attempts.entry(key.1.clone()).or_default();
        let pause = RETRY_MIN.saturating_mul(1 << (*attempts).min(6)).min(RETRY_MAX);
        *attempts = attempts.saturating_add(1);
        let mut status = oldest.status.clone();
        status.state = understood(framework, status.state);
        let update = FrameworkUpdate {
            task: key.1.clone(),
            agent: Some(record.agent.clone()),
            status,
            source: UpdateSource::Executor,
            id: Some(oldest.id),
            unreachable_since: record.unreachable_since,
        };
        self.tell_framework(&key.0, FrameworkEvent::Update(Box::new(update)));
        self.set_timer(FrameworkTimer::Update(key.clone()), pause);
    }

    /// A framework came back: it hears what it has not acknowledged.
    pub(super) fn send_all_updates(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.joined.get_mut(id) else {
            return;
        };
        framework.attempts.clear();
        let waiting = framework.tasks.values().filter(|record| !record.pending.is_empty());
        let keys: Vec<TaskKey> = waiting.map(|record| (id.clone(), record.task.clone())).collect();
        for key in keys {
            self.send_update(&key);
        }
    }

    /// `ACKNOWLEDGE`. One that is not for the oldest update is a repeat and changes nothing.
    pub(super) fn acknowledge(&mut self, key: &TaskKey, update: UpdateId) {
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            return;
        };
        let Some(record) = framework.tasks.get_mut(&key.1) else {
            return;
        };
        if record.pending.front().map(|oldest| oldest.id) != Some(update) {
            return;
        }
        record.pending.pop_front();
        framework.attempts.remove(&key.1);
        let after = record.clone();
        self.cancel_timer(FrameworkTimer::Update(key.clone()));
        if after.is_over() && after.pending.is_empty() {
            self.drop_task(key);
        } else {
            self.persist(Record::PutFrameworkTask(Box::new(after)));
            self.send_update(key);
        }
    }
}
