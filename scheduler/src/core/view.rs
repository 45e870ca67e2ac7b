//! Read access for the HTTP APIs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{AgentId, FrameworkInfo, Resources, StateSnapshot, Task, TaskState};

use crate::{AgentOrder, AgentRecord, App, AppId, Holding, InstanceFacts, InstanceId, InstanceRecord, Timestamp};

use super::Scheduler;
use super::node::Link;
use super::placement::{Decision, Refusal};
use super::rolling::is_ready;

/// How often each rule refused an agent at the last attempt to place an instance, in funnel order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Agents looked at.
    pub processed: u32,
    /// By the first rule that refused the agent.
    pub by_rule: BTreeMap<Refusal, u32>,
    /// The first of those agents, by name.
    pub agents: Vec<(AgentId, Refusal)>,
}

/// A registered agent.
#[derive(Clone, Copy, Debug)]
pub struct AgentView<'a> {
    /// What is kept of it.
    pub record: &'a AgentRecord,
    /// Whether its connection is open.
    pub connected: bool,
    /// What its tasks use and what is reserved beside them.
    pub used: Resources,
    /// What is reserved for instances with volumes, whether they have a task or not.
    pub reserved: Resources,
    /// What it keeps for roles.
    pub holdings: &'a [Holding],
    /// What is held in offers.
    pub offered: Resources,
    /// What operators said of it.
    pub order: &'a AgentOrder,
    /// Whether nothing runs on it.
    pub empty: bool,
}

/// The newest failure of an app's task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFailure {
    /// Which task, where.
    pub facts: InstanceFacts,
    /// How it ended.
    pub state: TaskState,
    /// What was said about it.
    pub message: String,
    /// When the core heard of it.
    pub at: Timestamp,
}

/// An app that waits for launches.
#[derive(Clone, Debug)]
pub struct QueueView<'a> {
    /// The app.
    pub app: &'a App,
    /// Instances still to be launched.
    pub count: u32,
    /// Launch delay left.
    pub delay: Duration,
    /// Since when it waits.
    pub since: Timestamp,
    /// Why no agent took it at the last attempt.
    pub refusals: &'a Refusals,
}

impl super::Node {
    fn view(&self) -> AgentView<'_> {
        AgentView {
            record: &self.record,
            connected: self.link == Link::Connected,
            used: self.used,
            reserved: self.reserved(),
            holdings: self.holdings(),
            offered: self.offered,
            order: &self.order,
            empty: self.is_empty(),
        }
    }
}

impl Scheduler {
    /// The framework under which all tasks run.
    pub fn framework(&self) -> &FrameworkInfo {
        &self.framework
    }

    /// All apps by id; pods are not among them.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values().filter(|app| app.pod.is_none())
    }

    /// All pods by id.
    pub fn pods(&self) -> impl Iterator<Item = &App> {
        self.apps.values().filter(|app| app.pod.is_some())
    }

    /// The app of an id as a user wrote it (`a`, `/a` and `//a` are one).
    pub fn app(&self, id: &str) -> Option<&App> {
        self.run_spec(id).filter(|app| app.pod.is_none())
    }

    /// The pod of an id.
    pub fn pod(&self, id: &str) -> Option<&App> {
        self.run_spec(id).filter(|app| app.pod.is_some())
    }

    /// What runs under an id, app or pod.
    pub fn run_spec(&self, id: &str) -> Option<&App> {
        self.apps.get(&AppId::parse(id).ok()?)
    }

    /// Instances of an app, those on their way out included.
    pub fn instances_of(&self, app: &AppId) -> impl Iterator<Item = &InstanceRecord> {
        // The ids of one app's instances begin alike, so that they lie side by side: looking each of them up costs more than
        // all that is done with it. Another app's may begin so too, if it is named for that.
        let (prefix, app) = (InstanceId::new_for(app, ""), app.clone());
        let from = self.instances.range(prefix.clone()..).map(|(_, one)| one);
        from.take_while(move |one| one.id.0.starts_with(&prefix.0))
            .filter(move |one| one.app == app)
    }

    /// All instances.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceRecord> {
        self.instances.values()
    }

    /// One instance.
    pub fn instance(&self, id: &InstanceId) -> Option<&InstanceRecord> {
        self.instances.get(id)
    }

    /// An agent with what is used of it, whatever its state.
    pub fn agent_view(&self, id: &AgentId) -> Option<AgentView<'_>> {
        let node = self.nodes.get(id)?;
        Some(node.view())
    }

    /// Agents that are registered and not given up.
    pub fn agents(&self) -> impl Iterator<Item = AgentView<'_>> {
        self.nodes
            .values()
            .filter(|node| node.link.is_registered())
            .map(super::Node::view)
    }

    /// The record of an agent, whatever its state.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentRecord> {
        self.nodes.get(id).map(|node| &node.record)
    }

    /// Agents known from before a restart that are not yet back.
    pub fn recovered_agents(&self) -> impl Iterator<Item = &AgentRecord> {
        self.nodes
            .values()
            .filter(|node| node.link == Link::Recovered)
            .map(|node| &node.record)
    }

    /// The newest failure of an app's task since the master started.
    pub fn last_failure(&self, app: &AppId) -> Option<&TaskFailure> {
        self.failures.get(app)
    }

    /// Apps that want more instances than they have.
    pub fn queue(&self) -> impl Iterator<Item = QueueView<'_>> {
        self.waiting.iter().filter_map(|(id, waiting)| {
            let app = self.apps.get(id)?;
            let held = self
                .wanted_instances(id)
                .filter(|instance| !super::rolling::is_old(app, instance));
            let held = u32::try_from(held.count()).unwrap_or(u32::MAX);
            Some(QueueView {
                app,
                count: app.instances.saturating_sub(held),
                delay: self
                    .delays
                    .get(id)
                    .map_or(Duration::ZERO, |delay| delay.until.since(self.now)),
                since: waiting.since,
                refusals: &waiting.refusals,
            })
        })
    }

    /// How the place of a task was decided, if that is not too long ago.
    pub fn decision(&self, task: &model::TaskId) -> Option<&Decision> {
        // Of a pod's instance it is the same for all its tasks.
        let of_instance = || self.decisions.of(&model::TaskId::new(InstanceId::of_task(task)?.0));
        self.decisions.of(task).or_else(of_instance)
    }

    /// All that a new subscriber of the task stream is told first.
    pub fn state(&self) -> StateSnapshot {
        StateSnapshot {
            agents: self
                .nodes
                .values()
                .filter(|node| node.link.is_registered())
                .map(super::Node::info)
                .collect(),
            recovered_agents: self.recovered_agents().map(|record| record.id.clone()).collect(),
            frameworks: std::iter::once(self.framework.clone())
                .chain(self.framework_infos())
                .collect(),
            tasks: self.tasks(Link::is_told),
        }
    }

    /// Tasks whose agent is unreachable and that are waited for.
    pub fn unreachable_tasks(&self) -> Vec<Task> {
        self.tasks(|link| !link.is_told())
    }

    fn tasks(&self, of: impl Fn(Link) -> bool) -> Vec<Task> {
        let there = |one: &&InstanceRecord| self.nodes.get(&one.agent).is_some_and(|node| of(node.link));
        let instances = self.instances.values().filter(there);
        let mut tasks: Vec<Task> = instances.flat_map(|one| self.told_tasks(one)).collect();
        tasks.extend(self.framework_tasks_where(&of));
        tasks
    }

    pub(super) fn is_deployed(&self, id: &AppId) -> bool {
        let app = self.apps.get(id);
        let wanted = app.map_or(0, |app| app.instances);
        if self.by_app.get(id).map_or(0, BTreeSet::len) < usize::try_from(wanted).unwrap_or(usize::MAX) {
            return false;
        }
        // Looked at for every status of an app that is being deployed: once, and no further than to the first that is not.
        let mut ready = 0_u32;
        for instance in self.instances_of(id) {
            let old = app.is_some_and(|app| super::rolling::is_old(app, instance));
            match self.is_inactive(instance) {
                _ if instance.unwanted => return false,
                true => {}
                false if old || !is_ready(instance) => return false,
                false => ready = ready.saturating_add(1),
            }
        }
        ready == wanted
    }

    /// Instances that are to stay and in whose place there is no other.
    pub(super) fn wanted_instances(&self, app: &AppId) -> impl Iterator<Item = &InstanceRecord> {
        self.instances_of(app)
            .filter(|instance| !instance.unwanted && !self.is_inactive(instance))
    }
}
