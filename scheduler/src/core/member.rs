//! Instances as the tasks that they are: one of an app, one per container of a pod.

use std::collections::BTreeSet;

use model::{AgentId, CheckResults, LaunchSpec, Task, TaskEvent, TaskId, TaskPort, TaskState, TaskStatus};

use crate::{ClusterEvent, Effect, InstanceId, InstanceRecord, Member, Timestamp};

use super::Scheduler;
use super::life::is_news;

/// What a status does to an instance.
pub(super) struct Taken {
    /// What the instance comes to.
    pub(super) whole: TaskStatus,
    /// Whether a member of it ended in a way that ends the others.
    pub(super) broke: bool,
}

impl InstanceRecord {
    /// Whether a task is one of this instance's.
    pub fn has_task(&self, task: &TaskId) -> bool {
        self.tasks().any(|known| known == task)
    }

    /// The ids of its tasks.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        let only = self.members.is_empty().then_some(&self.spec.task);
        only.into_iter()
            .chain(self.members.iter().map(|member| &member.spec.task))
    }

    /// Its tasks that have not ended.
    pub(crate) fn live_tasks(&self) -> impl Iterator<Item = &TaskId> {
        let only = self.members.is_empty().then_some(&self.spec.task);
        let live = self.members.iter().filter(|member| !member.status.state.is_terminal());
        only.into_iter().chain(live.map(|member| &member.spec.task))
    }

    /// Whether the statuses of its members come to that state.
    #[cfg(test)]
    pub(super) fn comes_to(&self, state: TaskState) -> bool {
        self.members.is_empty() || whole(&self.members).state == state
    }

    /// Notes a status of one of its tasks; none if it says nothing new. The status of an app's instance is the caller's to
    /// set.
    pub(super) fn take(&mut self, now: Timestamp, task: &TaskId, status: &TaskStatus) -> Option<Taken> {
        if self.members.is_empty() {
            return is_news(&self.status, status).then(|| Taken {
                whole: status.clone(),
                broke: false,
            });
        }
        let member = self.members.iter_mut().find(|member| member.spec.task == *task)?;
        if !is_news(&member.status, status) {
            return None;
        }
        if member.status.state != status.state {
            member.since = now;
        }
        member.status = status.clone();
        Some(Taken {
            whole: whole(&self.members),
            broke: ended_badly(status.state),
        })
    }
}

/// A container that ends with status 0 leaves the others alone, any other end ends them, as Mesos' default executor does.
fn ended_badly(state: TaskState) -> bool {
    state.is_terminal() && state != TaskState::Finished
}

/// What the statuses of an instance's members come to.
fn whole(members: &[Member]) -> TaskStatus {
    let live = || members.iter().filter(|member| !member.status.state.is_terminal());
    let broken = members.iter().find(|member| ended_badly(member.status.state));
    let all = |state: TaskState| live().all(|member| member.status.state == state);
    let any = |state: TaskState| live().any(|member| member.status.state == state);
    let state = match broken {
        _ if any(TaskState::Unreachable) => TaskState::Unreachable,
        // What failed is told, whatever the others then were ended with.
        Some(_) if live().next().is_none() => {
            let failed = members
                .iter()
                .find(|member| ended_badly(member.status.state) && member.status.state != TaskState::Killed);
            failed.map_or(TaskState::Killed, |member| member.status.state)
        }
        Some(_) => TaskState::Killing,
        None if live().next().is_none() => TaskState::Finished,
        None if any(TaskState::Killing) => TaskState::Killing,
        None if all(TaskState::Running) => TaskState::Running,
        None if all(TaskState::Staging) => TaskState::Staging,
        None => TaskState::Starting,
    };
    let speaks = |member: &&Member| member.status.state == state && member.status.message.is_some();
    let speaker = members.iter().find(speaks).or(broken);
    TaskStatus {
        state,
        reason: speaker.and_then(|member| member.status.reason),
        healthy: healthy(members),
        addresses: members
            .iter()
            .map(|member| &member.status.addresses)
            .find(|addresses| !addresses.is_empty())
            .cloned()
            .unwrap_or_default(),
        message: speaker.and_then(|member| Some(format!("{}: {}", container(member), member.status.message.as_ref()?))),
        checks: Box::new(CheckResults {
            health: members.iter().flat_map(results).collect(),
            readiness: Vec::new(),
        }),
        timestamp_ms: members
            .iter()
            .map(|member| member.status.timestamp_ms)
            .max()
            .unwrap_or_default(),
    }
}

/// The name of a member's container.
fn container(member: &Member) -> &str {
    member.spec.env.get("MARATHON_CONTAINER_ID").map_or("", String::as_str)
}

/// Results in the place of each check, so that those of different members are told apart.
fn results(member: &Member) -> Vec<model::CheckResult> {
    let mut results = member.status.checks.health.clone();
    results.resize_with(member.spec.checks.health.len(), Default::default);
    results
}

/// Unhealthy if one is, healthy if all that are checked are and there is one; one that has done its work is no longer asked.
fn healthy(members: &[Member]) -> Option<bool> {
    if members.iter().any(|member| member.status.healthy == Some(false)) {
        return Some(false);
    }
    let mut checked = members
        .iter()
        .filter(|member| !member.spec.checks.health.is_empty() && !member.status.state.is_terminal())
        .peekable();
    checked.peek()?;
    checked
        .all(|member| member.status.healthy == Some(true))
        .then_some(true)
}

/// The tasks of an instance, as the stream tells them. What `told` and `ports` say instead counts for all of them.
pub(super) fn tasks_of(
    instance: &InstanceRecord,
    told: &dyn Fn(&TaskStatus) -> TaskStatus,
    ports: &dyn Fn(&[TaskPort]) -> Vec<TaskPort>,
) -> Vec<Task> {
    let task = |spec: &LaunchSpec, status: &TaskStatus| Task {
        id: spec.task.clone(),
        name: spec.name.clone(),
        framework: spec.framework.clone(),
        agent: instance.agent.clone(),
        status: told(status),
        has_health_check: !spec.checks.health.is_empty(),
        has_discovery: true,
        ports: ports(&spec.ports),
        mappings: spec.mappings.clone(),
        host_ports: spec.host_ports.clone(),
        labels: spec.labels.clone(),
    };
    if instance.members.is_empty() {
        return vec![task(&instance.spec, &instance.status)];
    }
    let live = instance
        .members
        .iter()
        .filter(|member| !member.status.state.is_terminal());
    live.map(|member| task(&member.spec, &member.status)).collect()
}

impl Scheduler {
    /// Tells the stream a status of each task of an instance that has not ended.
    pub(super) fn tell_live(&mut self, instance: &InstanceRecord, status: &TaskStatus) {
        for task in instance.live_tasks() {
            self.tell(task.clone(), status.clone());
        }
    }

    /// Tells followers of a new status of one task of a pod's instance.
    pub(super) fn tell_member(&mut self, instance: &InstanceRecord, task: &TaskId, status: &TaskStatus) {
        let mut facts = self.facts(instance);
        facts.task = task.clone();
        let member = instance.members.iter().find(|member| member.spec.task == *task);
        facts.ports = member.map_or_else(Vec::new, |member| member.spec.host_ports.clone());
        self.tell_event(ClusterEvent::Member(Box::new(facts), status.clone()));
    }

    /// Tells the stream the present status of each task of an instance, hidden where it is.
    pub(super) fn tell_again(&mut self, instance: &InstanceRecord) {
        for task in self.told_tasks(instance) {
            self.tell(task.id, task.status);
        }
    }

    /// The tasks of an instance with the present status of each, hidden where it is, and their share of VIPs.
    pub(super) fn told_tasks(&self, instance: &InstanceRecord) -> Vec<Task> {
        let told = |status: &TaskStatus| self.told(instance, status);
        tasks_of(instance, &told, &|ports| self.told_ports(instance, ports))
    }

    /// Tells the stream that the tasks of an instance are there.
    pub(super) fn tell_added(&mut self, instance: &InstanceRecord) {
        for task in tasks_of(instance, &TaskStatus::clone, &|ports| self.told_ports(instance, ports)) {
            self.emit(TaskEvent::TaskAdded(task));
        }
    }

    /// The order that starts an instance.
    pub(super) fn launch_order(instance: &InstanceRecord) -> Effect {
        let agent = instance.agent.clone();
        if instance.members.is_empty() {
            return Effect::Launch {
                agent,
                spec: Box::new(LaunchSpec::clone(&instance.spec)),
            };
        }
        Effect::LaunchPod {
            agent,
            specs: instance.members.iter().map(|member| member.spec.clone()).collect(),
        }
    }

    /// The orders that end an instance.
    pub(super) fn kill_orders(instance: &InstanceRecord) -> Vec<Effect> {
        let policy_of = |task: &TaskId| {
            let member = instance.members.iter().find(|member| member.spec.task == *task);
            member.map_or(instance.spec.kill, |member| member.spec.kill)
        };
        let kill = |task: &TaskId| Effect::Kill {
            agent: instance.agent.clone(),
            task: task.clone(),
            policy: policy_of(task),
        };
        instance.live_tasks().map(kill).collect()
    }

    /// An agent registered with some tasks of an instance and without others that it should have: those are lost.
    pub(super) fn members_not_told(&mut self, agent: &AgentId, id: &InstanceId, told: &BTreeSet<TaskId>) {
        let Some(instance) = self.instances.get(id).filter(|one| one.agent == *agent) else {
            return;
        };
        let missing: Vec<TaskId> = instance
            .live_tasks()
            .filter(|task| !told.contains(*task))
            .cloned()
            .collect();
        for task in missing {
            let status = self.own_status(TaskState::Lost, "its agent registered without it");
            self.apply_status(id, &task, status);
        }
    }
}

#[cfg(test)]
#[path = "member/tests.rs"]
mod tests;
