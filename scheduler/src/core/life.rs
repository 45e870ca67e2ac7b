//! An instance's life after its launch: statuses, its end, repeats of what had no answer.

use model::{AgentId, TaskEvent, TaskId, TaskState, TaskStatus};

use crate::{AppId, ClusterEvent, Effect, InstanceFacts, InstanceId, InstanceRecord, Record, Timestamp};

use super::backoff::{Delay, delays_launch};
use super::member::Taken;
use super::node::Link;
use super::timers::Timer;
use super::{Scheduler, TaskFailure};

/// Where a state stands in a task's life; a status of an earlier stage never wins. `None` for states that an agent has
/// no business telling.
fn stage(state: TaskState) -> Option<u8> {
    match state {
        TaskState::Staging => Some(0),
        TaskState::Starting => Some(1),
        TaskState::Running => Some(2),
        TaskState::Killing => Some(3),
        TaskState::Unreachable | TaskState::Unknown => None,
        _ => Some(4),
    }
}

/// Whether `new` says more than `old`. Times are compared only within a stage: those of the core and of an agent come
/// from two clocks.
pub(super) fn is_news(old: &TaskStatus, new: &TaskStatus) -> bool {
    match (stage(old.state), stage(new.state)) {
        (_, None) => false,
        (old_stage, new_stage) if new_stage == old_stage => {
            !old.state.is_terminal() && new.timestamp_ms > old.timestamp_ms
        }
        (old_stage, new_stage) => new_stage > old_stage,
    }
}

impl Scheduler {
    /// Takes a status of an instance that stands on that agent. Repeats and latecomers change nothing.
    pub(super) fn apply_status(&mut self, id: &InstanceId, task: &TaskId, status: TaskStatus) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        let Some(Taken { whole, broke }) = instance.take(now, task, &status) else {
            return;
        };
        let unchanged = whole.state == instance.status.state && whole.healthy == instance.status.healthy;
        if !instance.members.is_empty() {
            let instance = instance.clone();
            self.tell_member(&instance, task, &status);
            if whole.state.is_terminal() {
                self.tell(task.clone(), status.clone());
            }
        }
        let Some(instance) = self.instances.get_mut(id).filter(|_| !whole.state.is_terminal()) else {
            return self.instance_over(id, whole);
        };
        if whole.state == TaskState::Running && instance.started_at.is_none() {
            instance.started_at = Some(now);
        }
        let health_before = instance.status.healthy;
        instance.status = whole.clone();
        // A pod's is back when all of it is.
        let away = whole.state == TaskState::Unreachable;
        let back = !away && instance.unreachable_since.take().is_some();
        let unhealthy = !instance.unwanted && instance.spec.exhausted(&whole.checks).is_some();
        let failed = unhealthy || broke && !instance.unwanted;
        // Kept with the status that decides it: a core restored from here ends it too.
        instance.unwanted |= failed;
        let (unwanted, app) = (instance.unwanted, instance.app.clone());
        let moves = self.deploying.contains_key(&instance.app) || self.rolling.contains(&instance.app);
        if moves || failed || !self.suspects.is_empty() {
            self.dirty.insert(app.clone());
        }
        let after = instance.clone();
        let record = Record::PutInstance(Box::new(after.clone()));
        if !unwanted {
            self.timers.cancel(&Timer::Repeat(id.clone()));
        }
        self.persist(record);
        if after.members.is_empty() || !unchanged {
            self.tell_status(&after, &whole, health_before);
        }
        // Readers lost the tasks of one that was away; they are told of those that live when it is back.
        if status.state.is_terminal() || !(back || away) {
            self.tell(task.clone(), status);
        }
        if back {
            self.instance_back(id);
        }
        if failed {
            self.instance_failed(&after, unhealthy);
        }
    }

    /// A health check failed as often as it may, or a container of a pod ended and the others go with it: another instance
    /// takes its place after the app's delay.
    fn instance_failed(&mut self, instance: &InstanceRecord, unhealthy: bool) {
        self.delay_launch(&instance.app);
        if unhealthy {
            self.tell_event(ClusterEvent::UnhealthyEnds(Box::new(self.facts(instance))));
        }
        self.repeat(&instance.id);
    }

    /// Ends an instance's record; its app is looked at again.
    pub(super) fn instance_over(&mut self, id: &InstanceId, status: TaskStatus) {
        let Some(instance) = self.instances.remove(id) else {
            return;
        };
        if let Some(ids) = self.by_app.get_mut(&instance.app) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_app.remove(&instance.app);
            }
        }
        if let Some(node) = self.nodes.get_mut(&instance.agent) {
            node.drop_instance(id, &instance.spec);
        }
        self.frameworks.marathon_frees(&instance.spec.resources);
        self.frameworks.freed(&instance.agent);
        for timer in [
            Timer::Repeat(id.clone()),
            Timer::Inactive(id.clone()),
            Timer::Expunge(id.clone()),
        ] {
            self.timers.cancel(&timer);
        }
        self.hidden.remove(id);
        self.note_failure(&instance, &status);
        if !instance.unwanted && delays_launch(status.state) {
            self.delay_launch(&instance.app);
        }
        self.dirty.insert(instance.app.clone());
        self.capacity_changed();
        self.persist(Record::DeleteInstance(id.clone()));
        self.residence_left(id, status.state);
        self.tell_status(&instance, &status, status.healthy);
        if !self.apps.contains_key(&instance.app) && !self.by_app.contains_key(&instance.app) {
            self.tell_event(ClusterEvent::AppGone(instance.app.clone()));
        }
        self.tell_live(&instance, &status);
    }

    /// The newest failure of an app that is there, for its users.
    fn note_failure(&mut self, instance: &InstanceRecord, status: &TaskStatus) {
        let failed = !matches!(status.state, TaskState::Killed | TaskState::Finished);
        if failed && self.apps.contains_key(&instance.app) {
            let failure = TaskFailure {
                facts: self.facts(instance),
                state: status.state,
                message: status.message.clone().unwrap_or_default(),
                at: self.now,
            };
            self.failures.insert(instance.app.clone(), failure);
        }
    }

    /// Tells followers of an instance's new status, and of its health where that is news.
    pub(super) fn tell_status(&mut self, instance: &InstanceRecord, status: &TaskStatus, health_before: Option<bool>) {
        let facts = Box::new(self.facts(instance));
        if let Some(healthy) = status.healthy.filter(|_| status.healthy != health_before) {
            self.tell_event(ClusterEvent::Health(facts.clone(), healthy));
        }
        self.tell_event(ClusterEvent::Status(facts, status.clone()));
    }

    pub(super) fn facts(&self, instance: &InstanceRecord) -> InstanceFacts {
        let host = self.nodes.get(&instance.agent).map(|node| node.record.hostname.clone());
        InstanceFacts {
            instance: instance.id.clone(),
            task: instance.spec.task.clone(),
            app: instance.app.clone(),
            version: instance.version,
            agent: instance.agent.clone(),
            host: host.unwrap_or_default(),
            ports: instance.spec.host_ports.clone(),
        }
    }

    /// Marks an instance as one to end, and asks its agent if it can be reached now; if not, its registration will. One
    /// whose agent was given up is over: should the agent come back, it ends the task as one that nobody wants.
    pub(super) fn end(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        if instance.unwanted {
            return;
        }
        if self.nodes.get(&instance.agent).is_some_and(|node| !node.link.is_told()) {
            let status = self.own_status(TaskState::Lost, "to be ended, its agent is unreachable");
            return self.instance_over(id, status);
        }
        instance.unwanted = true;
        let record = Record::PutInstance(Box::new(instance.clone()));
        self.dirty.insert(instance.app.clone());
        self.persist(record);
        self.repeat(id);
    }

    /// Sends the Launch or Kill that an instance still waits for, and again after a while.
    pub(super) fn repeat(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        if self
            .nodes
            .get(&instance.agent)
            .is_none_or(|node| node.link != Link::Connected)
        {
            return;
        }
        let agent = instance.agent.clone();
        let starts = !instance.unwanted && instance.status.state == TaskState::Staging;
        if starts && !instance.spec.container.secrets.is_empty() {
            let spec = instance.spec.clone();
            self.tell_secrets(&agent, &spec);
        }
        let Some(instance) = self.instances.get(id) else { return };
        let orders = if instance.unwanted {
            Self::kill_orders(instance)
        } else if instance.status.state == TaskState::Staging {
            vec![Self::launch_order(instance)]
        } else {
            return;
        };
        self.effects.extend(orders);
        self.timers
            .set(Timer::Repeat(id.clone()), self.now.after(self.config.retry));
    }

    /// Asks an agent to end a task that no instance stands for, and again after a while.
    pub(super) fn kill_stray(&mut self, agent: &AgentId, task: &TaskId) {
        let Some(node) = self.nodes.get(agent) else { return };
        let Some(stray) = node.strays.get(task) else { return };
        if node.link == Link::Connected {
            let kill = Effect::Kill {
                agent: agent.clone(),
                task: task.clone(),
                policy: stray.policy,
            };
            self.effects.push_back(kill);
            let timer = Timer::RepeatStray(agent.clone(), task.clone());
            self.timers.set(timer, self.now.after(self.config.retry));
        }
    }

    pub(super) fn tell(&mut self, task: TaskId, status: TaskStatus) {
        let framework = self.framework.id.clone();
        self.emit(TaskEvent::TaskUpdated {
            framework,
            task,
            status,
            mappings: Vec::new(),
        });
    }

    /// A status that the core makes itself.
    pub(super) fn own_status(&self, state: TaskState, message: &str) -> TaskStatus {
        TaskStatus {
            state,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: Some(message.to_owned()),
            checks: Default::default(),
            timestamp_ms: self.now.0,
        }
    }

    fn delay_launch(&mut self, id: &AppId) {
        let Some(app) = self.apps.get(id) else { return };
        let delay = Delay::after_failure(self.delays.get(id).copied(), &app.backoff, self.now);
        self.timers.set(Timer::Delay(id.clone()), delay.until);
        self.delays.insert(id.clone(), delay);
        self.tell_crash_loop(id, &delay);
    }

    pub(super) fn forget_delay(&mut self, id: &AppId) {
        self.delays.remove(id);
        self.timers.cancel(&Timer::Delay(id.clone()));
    }

    /// Something became free or came back: apps that wait are tried again.
    pub(super) fn capacity_changed(&mut self) {
        self.dirty.extend(self.waiting.keys().cloned());
    }

    /// Whether a launch of the app must still wait, and until when.
    pub(super) fn delayed_until(&self, id: &AppId) -> Option<Timestamp> {
        self.delays
            .get(id)
            .map(|delay| delay.until)
            .filter(|until| *until > self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TaskState, timestamp_ms: u64) -> TaskStatus {
        TaskStatus {
            state,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms,
        }
    }

    #[test]
    fn late_and_repeated_statuses_are_no_news() {
        use TaskState::{Failed, Killed, Killing, Running, Staging, Starting, Unknown};
        for (old, new, news) in [
            ((Staging, 9_000), (Starting, 5), true),
            ((Starting, 5), (Running, 6), true),
            ((Running, 6), (Running, 6), false),
            ((Running, 6), (Running, 5), false),
            ((Running, 6), (Running, 7), true),
            ((Running, 6), (Starting, 9), false),
            ((Killing, 6), (Running, 9), false),
            ((Killing, 6), (Killed, 1), true),
            ((Killed, 6), (Failed, 9), false),
            ((Running, 6), (Unknown, 9), false),
        ] {
            assert_eq!(
                is_news(&status(old.0, old.1), &status(new.0, new.1)),
                news,
                "{old:?} then {new:?}"
            );
        }
    }
}

#[cfg(test)]
#[path = "life/unhealthy.rs"]
mod unhealthy;
