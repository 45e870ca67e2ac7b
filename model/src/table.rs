//! The fold itself: the one writer of the service picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::{
    AgentId, AgentInfo, Backend, FrameworkId, FrameworkInfo, Generation, Node, PortScope, Protocol, Snapshot,
    StateSnapshot, Task, TaskEvent, TaskId, TaskPort, VipRange, is_vip_label, parse_vip,
};
use index::{ServiceIndex, Share};

mod index;

type TaskKey = (FrameworkId, TaskId);

/// Why one thing of the stream was left out. One malformed thing never costs its neighbours anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// A `VIP*` label whose value is no VIP.
    VipLabel,
    /// A backend without an address of a family the VIP can use.
    NoAddress,
    /// An agent whose host name is no address and could not be resolved.
    UnresolvedAgent,
    /// The range of named VIP addresses is full.
    OutOfAddresses,
}

/// What was left out and why, for logs and counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The class.
    pub reason: RejectReason,
    /// A sentence for people, naming the thing.
    pub what: String,
}

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
    /// Tasks whose place in the picture must be looked at again.
    dirty: BTreeSet<TaskKey>,
    index: ServiceIndex,
    snapshot: Snapshot,
}

impl ServiceTable {
    /// An empty table whose named VIPs live in `range`.
    pub fn new(range: VipRange) -> Self {
        Self {
            index: ServiceIndex::new(range),
            ..Self::default()
        }
    }

    /// The picture as of the last event.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What the current picture leaves out, and why.
    pub fn rejected(&self) -> Vec<Rejected> {
        let unresolved = self
            .agents
            .values()
            .filter(|agent| agent.ip.is_none())
            .map(|agent| Rejected {
                reason: RejectReason::UnresolvedAgent,
                what: format!("agent {}: host name `{}` has no IPv4 address", agent.id, agent.hostname),
            });
        unresolved.chain(self.index.rejected()).collect()
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
            } => {
                let key = (framework, task);
                if let Some(known) = self.tasks.get(&key) {
                    let mut next = Task::clone(known);
                    // Mesos drops fields in later updates that still hold (addresses of a killing task).
                    let addresses = if status.addresses.is_empty() {
                        std::mem::take(&mut next.status.addresses)
                    } else {
                        status.addresses.clone()
                    };
                    next.status = status;
                    next.status.addresses = addresses;
                    self.put_task(next);
                }
            }
            TaskEvent::AgentAdded(agent) => {
                self.held.remove(&agent.id);
                self.mark_agent(&agent.id);
                self.agents.insert(agent.id.clone(), agent);
            }
            TaskEvent::AgentRemoved(id) => self.drop_agent(&id),
            TaskEvent::FrameworkAdded(framework) => {
                self.mark_framework(&framework.id);
                self.frameworks.insert(framework.id.clone(), framework);
            }
            TaskEvent::FrameworkRemoved(id) => {
                self.mark_framework(&id);
                self.frameworks.remove(&id);
                self.tasks.retain(|key, _| key.0 != id);
                self.unconfirmed.retain(|key| key.0 != id);
            }
            TaskEvent::LocalExit(task) => {
                let known: Vec<TaskKey> = self.tasks.keys().filter(|key| key.1 == task).cloned().collect();
                if !known.is_empty() {
                    self.dirty.extend(known);
                    self.dead_here.insert(task);
                }
            }
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
        self.dirty.extend(
            self.tasks
                .iter()
                .filter(|(_, task)| task.agent == *id)
                .map(|(key, _)| key.clone()),
        );
    }

    fn mark_framework(&mut self, id: &FrameworkId) {
        self.dirty.extend(self.tasks.keys().filter(|key| key.0 == *id).cloned());
    }

    /// Brings the picture up to the state, looking only at dirty tasks, and counts it as a generation if it differs.
    fn publish(&mut self) -> bool {
        let nodes: BTreeMap<AgentId, Node> = self
            .agents
            .values()
            .filter_map(node)
            .map(|node| (node.agent.clone(), node))
            .collect();
        let mut next = self.snapshot.clone();
        let mut changed = false;
        if *next.nodes != nodes {
            next.nodes = Arc::new(nodes);
            changed = true;
        }
        if *next.frameworks != self.frameworks {
            next.frameworks = Arc::new(self.frameworks.clone());
            changed = true;
        }
        let mut shares = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let Some((task, share)) = self.visible(&key, &next.nodes) else {
                if next.tasks.contains_key(&key) {
                    Arc::make_mut(&mut next.tasks).remove(&key);
                    changed = true;
                }
                shares.push((key, None));
                continue;
            };
            if next.tasks.get(&key) != Some(&task) {
                Arc::make_mut(&mut next.tasks).insert(key.clone(), task);
                changed = true;
            }
            shares.push((key, Some(share)));
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

    /// The task and what it adds, if the picture shows it: alive, its agent and framework known.
    fn visible(&self, key: &TaskKey, nodes: &BTreeMap<AgentId, Node>) -> Option<(Arc<Task>, Share)> {
        let task = self.tasks.get(key).filter(|_| !self.dead_here.contains(&key.1))?;
        let node = nodes.get(&task.agent)?;
        let framework = self.frameworks.get(&key.0)?;
        Some((Arc::clone(task), share(task, node, framework)))
    }

    /// A task that the stream no longer tells needs no remembering as dead.
    fn forget_dead(&mut self) {
        if !self.dead_here.is_empty() {
            let told: BTreeSet<&TaskId> = self.tasks.keys().map(|key| &key.1).collect();
            self.dead_here.retain(|id| told.contains(id));
        }
    }
}

fn node(agent: &AgentInfo) -> Option<Node> {
    Some(Node {
        agent: agent.id.clone(),
        hostname: agent.hostname.clone(),
        ip: agent.ip?,
        subnet: agent.subnet,
    })
}

fn share(task: &Task, node: &Node, framework: &FrameworkInfo) -> Share {
    let mut share = Share::default();
    let Some(weight) = task.weight() else { return share };
    let mut reject = |reason, what| share.rejected.push(Rejected { reason, what });
    for (port, value) in vip_labels(task) {
        match parse_vip(value, &framework.name, port.protocol) {
            Ok(vip) => {
                let backends = backends(task, port, node, weight);
                if backends.is_empty() {
                    let what = format!(
                        "task {}: VIP `{value}` on a container port without a task address",
                        task.id
                    );
                    reject(RejectReason::NoAddress, what);
                }
                share
                    .backends
                    .extend(backends.into_iter().map(|backend| (vip.clone(), backend)));
            }
            Err(error) => reject(RejectReason::VipLabel, format!("task {}: {error}", task.id)),
        }
    }
    share
}

fn vip_labels(task: &Task) -> impl Iterator<Item = (&TaskPort, &str)> {
    task.ports.iter().flat_map(|port| {
        port.labels
            .iter()
            .filter(|(key, _)| is_vip_label(key))
            .map(move |(_, value)| (port, value.as_str()))
    })
}

/// Backends of one port: the agent's address for host ports, else every address of the task.
fn backends(task: &Task, port: &TaskPort, node: &Node, weight: u16) -> Vec<Backend> {
    let make = |addr: IpAddr, number: u16| Backend {
        addr,
        port: number,
        weight,
        agent: task.agent.clone(),
        agent_ip: node.ip,
        task: task.id.clone(),
    };
    // A mapped port is reached on the task's own address wherever there is one: no second translation on the host.
    let mapped = container_port(task, port.number, port.protocol).filter(|_| !task.status.addresses.is_empty());
    match (port.scope, mapped) {
        (PortScope::Host, None) => vec![make(IpAddr::V4(node.ip), port.number)],
        (PortScope::Host, Some(number)) => task.status.addresses.iter().map(|addr| make(*addr, number)).collect(),
        (PortScope::Container, _) => task
            .status
            .addresses
            .iter()
            .map(|addr| make(*addr, port.number))
            .collect(),
    }
}

fn container_port(task: &Task, host_port: u16, protocol: Protocol) -> Option<u16> {
    let mapping = task
        .mappings
        .iter()
        .find(|m| m.host_port == host_port && m.protocol == protocol)?;
    Some(mapping.container_port)
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "table/properties.rs"]
mod properties;
