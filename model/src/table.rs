//! The fold itself: the one writer of the service picture.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::{
    AgentId, AgentInfo, Backend, FrameworkId, FrameworkInfo, Generation, Node, PortScope, Protocol, Service, Snapshot,
    StateSnapshot, Task, TaskEvent, TaskId, TaskPort, VipAddress, VipKey, VipName, VipRange, VipTarget, is_vip_label,
    named_vip_address, parse_vip,
};

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
    range: VipRange,
    generation: Generation,
    agents: BTreeMap<AgentId, AgentInfo>,
    frameworks: BTreeMap<FrameworkId, FrameworkInfo>,
    tasks: BTreeMap<TaskKey, Arc<Task>>,
    /// Agents of an earlier snapshot that the newest one did not hold; their tasks stay for now.
    held: BTreeSet<AgentId>,
    /// Tasks this node saw end, until the stream agrees.
    dead_here: BTreeSet<TaskId>,
    rejected: Vec<Rejected>,
    snapshot: Snapshot,
}

impl ServiceTable {
    /// An empty table whose named VIPs live in `range`.
    pub fn new(range: VipRange) -> Self {
        Self {
            range,
            ..Self::default()
        }
    }

    /// The picture as of the last event.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// What the current picture leaves out, and why.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Agents whose tasks are kept although the newest snapshot does not know them; while there are any, the driver
    /// sends [`TaskEvent::HoldExpired`] after its hold time.
    pub fn held_agents(&self) -> impl Iterator<Item = &AgentId> {
        self.held.iter()
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
                self.agents.insert(agent.id.clone(), agent);
            }
            TaskEvent::AgentRemoved(id) => self.drop_agent(&id),
            TaskEvent::FrameworkAdded(framework) => {
                self.frameworks.insert(framework.id.clone(), framework);
            }
            TaskEvent::FrameworkRemoved(id) => {
                self.frameworks.remove(&id);
                self.tasks.retain(|key, _| key.0 != id);
            }
            TaskEvent::LocalExit(task) => {
                if self.tasks.keys().any(|key| key.1 == task) {
                    self.dead_here.insert(task);
                }
            }
            TaskEvent::HoldExpired => {
                for id in std::mem::take(&mut self.held) {
                    self.drop_agent(&id);
                }
            }
        }
        self.publish()
    }

    fn begin(&mut self, state: StateSnapshot) {
        let told: BTreeSet<AgentId> = state.agents.iter().map(|agent| agent.id.clone()).collect();
        // Agents that were serving and are not told now are held: the master may have restarted, or lost its memory.
        self.held = self.agents.keys().filter(|id| !told.contains(*id)).cloned().collect();
        let keep = |task: &Task| self.held.contains(&task.agent);
        self.tasks.retain(|_, task| keep(task));
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
        if task.status.state.is_terminal() {
            self.dead_here.remove(&task.id);
            self.tasks.remove(&key);
        } else {
            self.tasks.insert(key, Arc::new(task));
        }
    }

    fn drop_agent(&mut self, id: &AgentId) {
        self.agents.remove(id);
        self.held.remove(id);
        self.tasks.retain(|_, task| task.agent != *id);
    }

    /// Rebuilds the picture from the state, and counts it as a generation if it differs.
    fn publish(&mut self) -> bool {
        let tasks_now = &self.tasks;
        self.dead_here.retain(|id| tasks_now.keys().any(|key| key.1 == *id));
        self.rejected.clear();
        let nodes = self.nodes();
        let tasks = self.visible_tasks(&nodes);
        let services = self.services(&nodes, &tasks);
        let old = &self.snapshot;
        if *old.services == services && *old.tasks == tasks && *old.nodes == nodes && *old.frameworks == self.frameworks
        {
            return false;
        }
        self.generation = self.generation.next();
        self.snapshot = Snapshot {
            generation: self.generation,
            services: Arc::new(services),
            tasks: Arc::new(tasks),
            frameworks: Arc::new(self.frameworks.clone()),
            nodes: Arc::new(nodes),
        };
        true
    }

    fn nodes(&mut self) -> BTreeMap<AgentId, Node> {
        let mut nodes = BTreeMap::new();
        for agent in self.agents.values() {
            let Some(ip) = agent.ip else {
                self.rejected.push(Rejected {
                    reason: RejectReason::UnresolvedAgent,
                    what: format!("agent {}: host name `{}` has no IPv4 address", agent.id, agent.hostname),
                });
                continue;
            };
            let node = Node {
                agent: agent.id.clone(),
                hostname: agent.hostname.clone(),
                ip,
                subnet: agent.subnet,
            };
            nodes.insert(agent.id.clone(), node);
        }
        nodes
    }

    fn visible_tasks(&self, nodes: &BTreeMap<AgentId, Node>) -> BTreeMap<TaskKey, Arc<Task>> {
        self.tasks
            .iter()
            .filter(|(key, task)| {
                nodes.contains_key(&task.agent)
                    && self.frameworks.contains_key(&key.0)
                    && !self.dead_here.contains(&key.1)
            })
            .map(|(key, task)| (key.clone(), Arc::clone(task)))
            .collect()
    }

    fn services(
        &mut self,
        nodes: &BTreeMap<AgentId, Node>,
        tasks: &BTreeMap<TaskKey, Arc<Task>>,
    ) -> BTreeMap<VipAddress, Arc<Service>> {
        let mut declared: BTreeMap<VipKey, BTreeSet<Backend>> = BTreeMap::new();
        for (key, task) in tasks {
            // Both were checked when the task was made visible.
            let (Some(node), Some(framework)) = (nodes.get(&task.agent), self.frameworks.get(&key.0)) else {
                continue;
            };
            let Some(weight) = task.weight() else { continue };
            for (port, value) in vip_labels(task) {
                match parse_vip(value, &framework.name, port.protocol) {
                    Ok(vip) => {
                        let backends = backends(task, port, node, weight);
                        if backends.is_empty() {
                            self.rejected.push(Rejected {
                                reason: RejectReason::NoAddress,
                                what: format!(
                                    "task {}: VIP `{value}` on a container port without a task address",
                                    task.id
                                ),
                            });
                        }
                        declared.entry(vip).or_default().extend(backends);
                    }
                    Err(error) => self.rejected.push(Rejected {
                        reason: RejectReason::VipLabel,
                        what: format!("task {}: {error}", task.id),
                    }),
                }
            }
        }
        self.place(declared)
    }

    /// Gives every declared VIP its address; names in sorted order, so that all nodes agree on collisions.
    fn place(&mut self, declared: BTreeMap<VipKey, BTreeSet<Backend>>) -> BTreeMap<VipAddress, Arc<Service>> {
        let mut taken: BTreeMap<Ipv4Addr, VipName> = BTreeMap::new();
        let mut services: BTreeMap<VipAddress, Service> = BTreeMap::new();
        for (key, backends) in declared {
            let VipKey { target, port, protocol } = key;
            let (addr, name) = match target {
                VipTarget::Addr(addr) => (addr, None),
                VipTarget::Name(name) => match named_vip_address(self.range, &name, &taken) {
                    Some(addr) => {
                        taken.insert(addr, name.clone());
                        (IpAddr::V4(addr), Some(name))
                    }
                    None => {
                        self.rejected.push(Rejected {
                            reason: RejectReason::OutOfAddresses,
                            what: format!(
                                "VIP {name}: no address left from {} to {}",
                                self.range.min, self.range.max
                            ),
                        });
                        continue;
                    }
                },
            };
            let family: Vec<Backend> = backends
                .into_iter()
                .filter(|b| b.addr.is_ipv4() == addr.is_ipv4())
                .collect();
            if family.is_empty() {
                continue;
            }
            let vip = VipAddress { addr, port, protocol };
            // A VIP declared by the very address that a name hashes to shares its backends with it.
            let service = services.entry(vip).or_insert_with(|| Service {
                vip,
                name: None,
                backends: Vec::new(),
            });
            service.name = name.or(service.name.take());
            service.backends.extend(family);
            service.backends.sort();
            service.backends.dedup();
        }
        services
            .into_iter()
            .map(|(vip, service)| (vip, Arc::new(service)))
            .collect()
    }
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
