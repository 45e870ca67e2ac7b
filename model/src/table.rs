//! The fold itself: the one writer of the service picture.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Generation, Node, PortMapping, SharedMap, Snapshot, StateSnapshot,
    Task, TaskEvent, TaskId, TaskStatus, Vip6Range, VipRange,
};
use index::{ServiceIndex, Share};
use reject::Rejects;
use share::share;

mod index;
mod reject;
mod share;

pub use reject::{RejectReason, Rejected};
pub use share::reach;

type TaskKey = (FrameworkId, TaskId);

/// Folds task events into snapshots. One owner; readers get [`Snapshot`]s.
///
/// # Invariants
/// - The same set of live tasks, agents and frameworks gives the same services and addresses, whatever the order.
/// - A snapshot that does not confirm a task on an agent still unheard of never removes it before
///   [`TaskEvent::HoldExpired`] or [`TaskEvent::AgentRemoved`]: a master that restarts empties nothing.
/// - A task that this node saw end ([`TaskEvent::LocalExit`]) is no backend here, whatever the stream still says.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    generation: Generation,
    agents: BTreeMap<AgentId, AgentInfo>,
    frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
    tasks: BTreeMap<TaskKey, Arc<Task>>,
    /// Agents of an earlier snapshot that the newest one did not hold; their tasks stay for now.
    held: BTreeSet<AgentId>,
    /// Tasks kept from before the newest snapshot that nothing has confirmed since, on held agents or ones come back.
    unconfirmed: BTreeSet<TaskKey>,
    /// Tasks this node saw end, until the stream agrees.
    dead_here: BTreeSet<TaskId>,
    /// Tasks, agents and frameworks whose place in the picture must be looked at again.
    dirty: BTreeSet<TaskKey>,
    dirty_agents: BTreeSet<AgentId>,
    dirty_frameworks: BTreeSet<FrameworkId>,
    rejects: Rejects,
    index: ServiceIndex,
    snapshot: Snapshot,
}

impl ServiceTable {
    /// An empty table whose named VIPs live in `range`, and have no IPv6 addresses.
    pub fn new(range: VipRange) -> Self {
        Self {
            index: ServiceIndex::new(range, None),
            ..Self::default()
        }
    }

    /// An empty table whose named VIPs also have addresses in `range6` for their IPv6 backends.
    pub fn with_ipv6(range: VipRange, range6: Vip6Range) -> Self {
        Self {
            index: ServiceIndex::new(range, Some(range6)),
            ..Self::default()
        }
    }

    /// The picture as of the last event.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What the current picture leaves out, and why.
    pub fn rejected(&self) -> Vec<Rejected> {
        self.rejects.iter().cloned().chain(self.index.rejected()).collect()
    }

    /// Agents whose tasks are kept although the newest snapshot does not know them; while there are any, the driver
    /// sends [`TaskEvent::HoldExpired`] after its hold time.
    pub fn held_agents(&self) -> impl Iterator<Item = &AgentId> {
        self.held.iter()
    }

    /// Whether anything is kept that the newest snapshot did not confirm: then [`TaskEvent::HoldExpired`] is due after the
    /// hold time, even when all agents have come back meanwhile (one of their tasks may have ended unheard).
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty() || !self.unconfirmed.is_empty()
    }

    /// Takes one event in. Returns whether the picture changed (a new generation).
    pub fn apply(&mut self, event: TaskEvent) -> bool {
        match event {
            TaskEvent::Snapshot(state) => self.begin(state),
            TaskEvent::TaskAdded(task) => self.put_task(task),
            TaskEvent::TaskUpdated {
                framework,
                task,
                status,
                mappings,
            } => self.update_task(&(framework, task), status, mappings),
            TaskEvent::AgentAdded(agent) => {
                self.held.remove(&agent.id);
                if self.agents.get(&agent.id) != Some(&agent) {
                    self.mark_agent(&agent.id);
                }
                self.agents.insert(agent.id.clone(), agent);
            }
            TaskEvent::AgentRemoved(id) => self.drop_agent(&id),
            TaskEvent::FrameworkAdded(framework) => {
                if self.frameworks.get(&framework.id) != Some(&framework) {
                    self.mark_framework(&framework.id);
                }
                self.frameworks.insert(framework.id.clone(), framework);
            }
            TaskEvent::FrameworkRemoved(id) => {
                self.mark_framework(&id);
                self.frameworks.remove(&id);
                self.tasks.retain(|key, _| key.0 != id);
                self.unconfirmed.retain(|key| key.0 != id);
            }
            TaskEvent::LocalExit(task) => {
                let known = self.keys_of(&task);
                // Of two frameworks' tasks of one id nobody here can tell which it was; the stream will.
                if known.len() == 1 {
                    self.dirty.extend(known);
                    self.dead_here.insert(task);
                }
            }
            TaskEvent::AgentSettled(id) => self.settle(&id),
            TaskEvent::HoldExpired => {
                for id in std::mem::take(&mut self.held) {
                    self.drop_agent(&id);
                }
                for key in std::mem::take(&mut self.unconfirmed) {
                    self.tasks.remove(&key);
                    self.dirty.insert(key);
                }
            }
        }
        self.publish()
    }

    fn begin(&mut self, state: StateSnapshot) {
        self.dirty.extend(self.tasks.keys().cloned());
        self.dirty_agents.extend(self.agents.keys().cloned());
        self.dirty_frameworks.extend(self.frameworks.keys().cloned());
        self.dirty_agents
            .extend(state.agents.iter().map(|agent| agent.id.clone()));
        self.dirty_frameworks
            .extend(state.frameworks.iter().map(|framework| framework.id.clone()));
        let told: BTreeSet<AgentId> = state.agents.iter().map(|agent| agent.id.clone()).collect();
        // Agents that were serving and are not told now are held: the master may have restarted, or lost its memory.
        self.held = self.agents.keys().filter(|id| !told.contains(*id)).cloned().collect();
        let keep = |task: &Task| self.held.contains(&task.agent);
        self.tasks.retain(|_, task| keep(task));
        self.unconfirmed = self.tasks.keys().cloned().collect();
        self.agents.retain(|id, _| self.held.contains(id));
        let serving: BTreeSet<&FrameworkId> = self.tasks.keys().map(|key| &key.0).collect();
        self.frameworks.retain(|id, _| serving.contains(id));
        self.agents
            .extend(state.agents.into_iter().map(|agent| (agent.id.clone(), agent)));
        self.frameworks.extend(
            state
                .frameworks
                .into_iter()
                .map(|framework| (framework.id.clone(), framework)),
        );
        for task in state.tasks {
            self.put_task(task);
        }
    }

    /// An agent that is still held has not come back, so nothing of it is settled.
    fn settle(&mut self, id: &AgentId) {
        if self.held.contains(id) {
            return;
        }
        let of_agent = |key: &&TaskKey| self.tasks.get(*key).is_some_and(|task| task.agent == *id);
        let gone: Vec<TaskKey> = self.unconfirmed.iter().filter(of_agent).cloned().collect();
        for key in gone {
            self.unconfirmed.remove(&key);
            self.tasks.remove(&key);
            self.dirty.insert(key);
        }
    }

    /// Addresses and mappings that an update leaves out still hold: Mesos drops them from the updates of a task that ends.
    fn update_task(&mut self, key: &TaskKey, status: TaskStatus, mappings: Vec<PortMapping>) {
        let Some(known) = self.tasks.get(key) else { return };
        let mut next = Task::clone(known);
        let addresses = if status.addresses.is_empty() {
            std::mem::take(&mut next.status.addresses)
        } else {
            status.addresses.clone()
        };
        next.status = status;
        next.status.addresses = addresses;
        for mapping in mappings {
            let same = |other: &PortMapping| other.host_port == mapping.host_port && other.protocol == mapping.protocol;
            if !next.mappings.iter().any(same) {
                next.mappings.push(mapping);
            }
        }
        self.put_task(next);
    }

    /// Tasks of that id; each framework can have one.
    fn keys_of(&self, task: &TaskId) -> Vec<TaskKey> {
        let keys = self
            .frameworks
            .keys()
            .map(|framework| (framework.clone(), task.clone()));
        keys.filter(|key| self.tasks.contains_key(key)).collect()
    }

    fn put_task(&mut self, task: Task) {
        let key = (task.framework.clone(), task.id.clone());
        self.dirty.insert(key.clone());
        self.unconfirmed.remove(&key);
        if task.status.state.is_terminal() {
            self.dead_here.remove(&task.id);
            self.tasks.remove(&key);
        } else {
            self.tasks.insert(key, Arc::new(task));
        }
    }

    fn drop_agent(&mut self, id: &AgentId) {
        self.mark_agent(id);
        self.agents.remove(id);
        self.held.remove(id);
        self.tasks.retain(|_, task| task.agent != *id);
        let tasks = &self.tasks;
        self.unconfirmed.retain(|key| tasks.contains_key(key));
    }

    fn mark_agent(&mut self, id: &AgentId) {
        self.dirty_agents.insert(id.clone());
        self.dirty.extend(
            self.tasks
                .iter()
                .filter(|(_, task)| task.agent == *id)
                .map(|(key, _)| key.clone()),
        );
    }

    fn mark_framework(&mut self, id: &FrameworkId) {
        self.dirty_frameworks.insert(id.clone());
        self.dirty.extend(self.tasks.keys().filter(|key| key.0 == *id).cloned());
    }

    /// Brings the picture up to the state, looking only at what is dirty, and counts it as a generation if it differs.
    fn publish(&mut self) -> bool {
        let mut next = self.snapshot.clone();
        let mut changed = self.publish_agents(&mut next);
        for id in std::mem::take(&mut self.dirty_frameworks) {
            changed |= set(&mut next.frameworks, &id, self.frameworks.get(&id).cloned());
        }
        let mut shares = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let visible = self.visible(&key, &next);
            let share = visible.as_ref().map(|(_, share)| share.clone());
            let rejected = share.as_ref().map_or(&[][..], |share| &share.rejected);
            self.rejects.of_task(&key, rejected);
            changed |= set(&mut next.tasks, &key, visible.map(|(task, _)| task));
            shares.push((key, share));
        }
        self.forget_dead();
        changed |= self.index.update(shares);
        if !changed {
            return false;
        }
        next.services = self.index.services();
        self.generation = self.generation.next();
        next.generation = self.generation;
        self.snapshot = next;
        true
    }

    fn publish_agents(&mut self, next: &mut Snapshot) -> bool {
        let mut changed = false;
        for id in std::mem::take(&mut self.dirty_agents) {
            let agent = self.agents.get(&id);
            let unresolved = agent.filter(|agent| agent.ip.is_none()).map(|agent| Rejected {
                reason: RejectReason::UnresolvedAgent,
                what: format!("agent {id}: host name `{}` has no IPv4 address", agent.hostname),
            });
            changed |= set(&mut next.nodes, &id, agent.and_then(node));
            self.rejects.of_agent(&id, unresolved);
        }
        changed
    }

    /// The task and what it adds, if the picture shows it: alive, its agent and framework known.
    fn visible(&self, key: &TaskKey, next: &Snapshot) -> Option<(Arc<Task>, Share)> {
        let task = self.tasks.get(key).filter(|_| !self.dead_here.contains(&key.1))?;
        let node = next.nodes.get(&task.agent)?;
        let framework = next.frameworks.get(&key.0)?;
        Some((Arc::clone(task), share(task, node, framework)))
    }

    /// A task that the stream no longer tells needs no remembering as dead.
    fn forget_dead(&mut self) {
        let dead = std::mem::take(&mut self.dead_here);
        self.dead_here = dead.into_iter().filter(|id| !self.keys_of(id).is_empty()).collect();
    }
}

/// Makes `map` hold exactly that for `key`; whether it did not before.
fn set<K: Ord + std::hash::Hash + Clone, V: Clone + PartialEq>(
    map: &mut SharedMap<K, V>,
    key: &K,
    value: Option<V>,
) -> bool {
    if map.get(key) == value.as_ref() {
        return false;
    }
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
    true
}

fn node(agent: &AgentInfo) -> Option<Node> {
    Some(Node {
        agent: agent.id.clone(),
        hostname: agent.hostname.clone(),
        ip: agent.ip?,
        port: agent.port,
        subnet: agent.subnet,
        networks: Arc::clone(&agent.networks),
    })
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "table/properties.rs"]
mod properties;
