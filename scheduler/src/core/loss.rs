//! Agents that fall silent: first their tasks take no new connections, later they are given up, bounded in rate and share.

use model::{AgentId, TaskEvent, TaskId, TaskState, TaskStatus};

use crate::{AgentRecord, AppId, InstanceId, InstanceRecord, Record, Timestamp, UnreachableStrategy};

use super::Scheduler;
use super::frameworks::Return;
use super::node::Link;
use super::rolling::is_ready;
use super::timers::Timer;

#[cfg(test)]
#[path = "loss/tests.rs"]
mod tests;

/// A timer that fires later than this after its time tells of a master that stood still, not of its agents: what they
/// said meanwhile is still to be read.
const LATE: std::time::Duration = std::time::Duration::from_secs(1);

impl Scheduler {
    /// Starts an agent's time anew. `false` if it is not registered.
    pub(super) fn heard_from(&mut self, agent: &AgentId) -> bool {
        let registered = self.nodes.get(agent).is_some_and(|node| node.link.is_registered());
        if registered {
            self.start_silence(agent);
            if self.suspects.remove(agent) {
                self.look_at_apps_of(agent);
            }
        }
        registered
    }

    fn start_silence(&mut self, agent: &AgentId) {
        let lost = self.now.after(self.config.agent_timeout);
        self.timers.set(Timer::AgentSilent(agent.clone()), lost);
        if !self.config.suspect_after.is_zero() && !self.suspects.contains(agent) {
            let suspect = self.now.after(self.config.suspect_after);
            self.timers.set(Timer::AgentSuspect(agent.clone()), suspect);
        }
    }

    /// Before timers of the past are looked at: after a standstill every registered agent gets its whole time again.
    pub(super) fn forgive_standstill(&mut self, now: Timestamp) {
        if self.timers.next().is_none_or(|due| now.since(due) < LATE) {
            return;
        }
        let registered = self.nodes.values().filter(|node| node.link.is_registered());
        for agent in registered.map(|node| node.record.id.clone()).collect::<Vec<_>>() {
            self.start_silence(&agent);
        }
    }

    /// An agent has been silent for a little: wherever there is another instance, its own take no new connections.
    pub(super) fn suspect(&mut self, agent: &AgentId) {
        if self.nodes.get(agent).is_some_and(|node| node.link.is_registered()) {
            self.suspects.insert(agent.clone());
            self.look_at_apps_of(agent);
        }
    }

    fn look_at_apps_of(&mut self, agent: &AgentId) {
        let Some(node) = self.nodes.get(agent) else { return };
        let apps = node.instances.iter().filter_map(|id| self.instances.get(id));
        self.dirty.extend(apps.map(|instance| instance.app.clone()));
    }

    /// Tells the instances of an app that are hidden now and were not, or the other way round. Those of suspect agents
    /// are, but never the last that are ready: then it is rather the master that is cut off.
    pub(super) fn tell_hidden(&mut self, app: &AppId) {
        if self.suspects.is_empty() && self.hidden.is_empty() {
            return;
        }
        let serves = |instance: &&InstanceRecord| !instance.unwanted && is_ready(instance);
        let suspect = |instance: &&InstanceRecord| self.suspects.contains(&instance.agent);
        let others = self.instances_of(app).filter(serves).any(|one| !suspect(&one));
        let hide = |instance: &InstanceRecord| others && serves(&instance) && suspect(&instance);
        let changed: Vec<InstanceId> = self
            .instances_of(app)
            .filter(|one| hide(one) != self.hidden.contains(&one.id))
            .map(|one| one.id.clone())
            .collect();
        for id in changed {
            if !self.hidden.remove(&id) {
                self.hidden.insert(id.clone());
            }
            if let Some(instance) = self.instances.get(&id).cloned() {
                self.tell_again(&instance);
            }
        }
    }

    /// The status of a task of an instance as the stream tells it.
    pub(super) fn told(&self, instance: &InstanceRecord, status: &TaskStatus) -> TaskStatus {
        let mut status = status.clone();
        if self.hidden.contains(&instance.id) {
            status.healthy = Some(false);
            status.message = Some("its agent has been silent for a little; other instances take its place".to_owned());
        }
        status
    }

    /// An agent's time is over. It is given up now or when bounds allow: so many agents are not lost at once, more likely
    /// the master is cut off from them, and replacing all their tasks would be worse than waiting.
    pub(super) fn give_up(&mut self, agent: &AgentId) {
        let at = self.next_loss();
        if at > self.now {
            self.timers.set(Timer::AgentSilent(agent.clone()), at);
        } else {
            self.agent_lost(agent, "the agent has been silent for too long");
        }
    }

    /// When the next agent may be given up.
    fn next_loss(&self) -> Timestamp {
        let Some(last) = self.last_loss else {
            return self.now;
        };
        let recent = |at: Timestamp| at.after(self.config.reregister_timeout) > self.now;
        let lost = self
            .nodes
            .values()
            .filter(|node| node.lost_at.is_some_and(recent))
            .count();
        let here = self
            .nodes
            .values()
            .filter(|node| node.link != Link::Unreachable)
            .count();
        let most = (lost + here) * usize::from(self.config.loss_share_percent) / 100;
        let pause = if lost < most.max(1) {
            self.config.loss_pause
        } else {
            self.config.loss_pause_beyond
        };
        last.after(pause)
    }

    /// Gives an agent up: its tasks are unreachable, and what becomes of them is their apps' strategy.
    pub(super) fn agent_lost(&mut self, agent: &AgentId, why: &str) {
        let Some(node) = self.nodes.get_mut(agent) else { return };
        if node.link == Link::Unreachable {
            return;
        }
        node.link = Link::Unreachable;
        node.lost_at = Some(self.now);
        self.last_loss = Some(self.now);
        let strays: Vec<TaskId> = node.strays.keys().cloned().collect();
        for task in &strays {
            node.drop_stray(task);
            self.timers.cancel(&Timer::RepeatStray(agent.clone(), task.clone()));
        }
        let instances: Vec<InstanceId> = node.instances.iter().cloned().collect();
        self.suspects.remove(agent);
        self.rescind_all_of(agent);
        // A machine that lost its id and registered anew will not bring back what it ran before.
        let replaced = self.has_namesake(agent);
        let back = if replaced { Return::Never } else { Return::Possible };
        self.framework_tasks_lost(agent, back, why);
        self.tell_agent_failed(agent);
        for id in instances {
            if !replaced && self.waits_for(&id) {
                self.instance_unreachable(&id, why);
            } else {
                self.instance_over(&id, self.own_status(TaskState::Unreachable, why));
            }
        }
        self.timers.cancel(&Timer::AgentSilent(agent.clone()));
        self.timers.cancel(&Timer::AgentSuspect(agent.clone()));
        let forget = self.now.after(self.config.forget_agent);
        self.timers.set(Timer::ForgetAgent(agent.clone()), forget);
        self.emit(TaskEvent::AgentRemoved(agent.clone()));
    }

    /// Whether the agent's machine is registered as another agent.
    fn has_namesake(&self, agent: &AgentId) -> bool {
        let Some(lost) = self.nodes.get(agent).map(|node| &node.record) else {
            return false;
        };
        let same = |other: &AgentRecord| other.ip == lost.ip && other.http_port == lost.http_port;
        let others = self.nodes.values().filter(|node| node.link.is_registered());
        others
            .map(|node| &node.record)
            .any(|other| other.id != *agent && same(other))
    }

    /// Whether an instance is kept while its agent is away.
    fn waits_for(&self, id: &InstanceId) -> bool {
        let Some(instance) = self.instances.get(id).filter(|instance| !instance.unwanted) else {
            return false;
        };
        match self.apps.get(&instance.app).map(|app| app.unreachable) {
            None => false,
            Some(UnreachableStrategy::Disabled) => true,
            Some(UnreachableStrategy::Replace { expunge_after, .. }) => {
                let since = instance.unreachable_since.unwrap_or(self.now);
                since.after(expunge_after) > self.now
            }
        }
    }

    fn instance_unreachable(&mut self, id: &InstanceId, why: &str) {
        let mut status = self.own_status(TaskState::Unreachable, why);
        let now = self.now;
        let Some(instance) = self.instances.get_mut(id) else {
            return;
        };
        status.addresses.clone_from(&instance.status.addresses);
        instance.status = status.clone();
        for member in instance
            .members
            .iter_mut()
            .filter(|member| !member.status.state.is_terminal())
        {
            let addresses = std::mem::take(&mut member.status.addresses);
            member.status = TaskStatus {
                addresses,
                ..status.clone()
            };
            member.since = now;
        }
        instance.unreachable_since.get_or_insert(now);
        let after = instance.clone();
        self.dirty.insert(instance.app.clone());
        let record = Record::PutInstance(Box::new(after.clone()));
        self.hidden.remove(id);
        self.timers.cancel(&Timer::Repeat(id.clone()));
        self.persist(record);
        self.tell_status(&after, &status, status.healthy);
        self.tell_live(&after, &status);
        self.time_unreachable(id);
    }

    /// Sets the times at which an unreachable instance is replaced and forgotten.
    pub(super) fn time_unreachable(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        let strategy = self.apps.get(&instance.app).map(|app| app.unreachable);
        let (Some(since), Some(strategy)) = (instance.unreachable_since, strategy) else {
            return;
        };
        if let UnreachableStrategy::Replace {
            inactive_after,
            expunge_after,
        } = strategy
        {
            self.timers
                .set(Timer::Inactive(id.clone()), since.after(inactive_after));
            self.timers.set(Timer::Expunge(id.clone()), since.after(expunge_after));
        }
    }

    /// The app's definition is another: its times hold for instances that are away already.
    pub(super) fn time_unreachable_of(&mut self, app: &AppId) {
        let away = |one: &&InstanceRecord| one.unreachable_since.is_some();
        let ids: Vec<InstanceId> = self.instances_of(app).filter(away).map(|one| one.id.clone()).collect();
        for id in ids {
            self.timers.cancel(&Timer::Inactive(id.clone()));
            self.timers.cancel(&Timer::Expunge(id.clone()));
            self.time_unreachable(&id);
        }
    }

    /// An unreachable instance has been away for so long that it is forgotten; should it come back, it is to end.
    pub(super) fn expunge(&mut self, id: &InstanceId) {
        let away = self
            .instances
            .get(id)
            .is_some_and(|one| one.unreachable_since.is_some());
        if away {
            let status = self.own_status(TaskState::Lost, "its agent stayed away, it is forgotten");
            self.instance_over(id, status);
        }
    }

    /// An unreachable instance is back: readers of the stream lost it with its agent.
    pub(super) fn instance_back(&mut self, id: &InstanceId) {
        self.timers.cancel(&Timer::Inactive(id.clone()));
        self.timers.cancel(&Timer::Expunge(id.clone()));
        if let Some(instance) = self.instances.get(id).cloned() {
            self.dirty.insert(instance.app.clone());
            self.tell_added(&instance);
        }
    }

    /// Whether an unreachable instance has been away for so long that another one takes its place.
    pub(super) fn is_inactive(&self, instance: &InstanceRecord) -> bool {
        let Some(since) = instance.unreachable_since else {
            return false;
        };
        let strategy = self.apps.get(&instance.app).map(|app| app.unreachable);
        match strategy {
            Some(UnreachableStrategy::Replace { inactive_after, .. }) => since.after(inactive_after) <= self.now,
            _ => false,
        }
    }

    /// The highest id stays known, so that no later agent gets it again; so does an agent that instances wait for, or that
    /// keeps something for a role: that goes when somebody says so, or with the agent that is marked gone.
    pub(super) fn forget_agent(&mut self, agent: &AgentId) {
        let Some(node) = self.nodes.get(agent).filter(|node| node.link == Link::Unreachable) else {
            return;
        };
        let needed = !node.instances.is_empty() || !node.holdings().is_empty() || self.keeps_volumes(agent);
        self.framework_tasks_forgotten(agent);
        let next = self.next_agent_id();
        let node = self.nodes.remove(agent);
        if self.next_agent_id() == next && !needed {
            self.subnets.free(node.and_then(|node| node.record.subnet));
            self.forget_wiped_on(agent);
            self.persist(Record::DeleteAgent(agent.clone()));
            self.persist(Record::DeleteAgentOrder(agent.clone()));
        } else {
            if let Some(node) = node {
                self.nodes.insert(agent.clone(), node);
            }
            let again = self.now.after(self.config.forget_agent);
            self.timers.set(Timer::ForgetAgent(agent.clone()), again);
        }
    }
}
