//! What agents say: registrations, statuses, heartbeats, and their silence.

use std::collections::{BTreeMap, BTreeSet};

use model::{AgentId, Ipv4Net, TaskEvent, TaskId, TaskState, TaskStatus};

use crate::{AgentRecord, ClusterEvent, InstanceId, Record, Registered, Registration, ReportedTask, Timestamp};

use super::Scheduler;
use super::frameworks::Return;
use super::node::{Link, Node};
use super::timers::Timer;

/// The first subnet of the overlay stays unused: its first address is the network's own.
const FIRST_SUBNET: u32 = 1;

/// Overlay blocks of all known agents.
#[derive(Clone, Debug, Default)]
pub(super) struct Subnets {
    taken: BTreeSet<Ipv4Net>,
    /// All before this one are taken.
    first_free: u32,
}

impl Subnets {
    pub(super) fn take(&mut self, subnet: Option<Ipv4Net>) {
        self.taken.extend(subnet);
    }

    pub(super) fn free(&mut self, subnet: Option<Ipv4Net>) {
        if subnet.is_some_and(|subnet| self.taken.remove(&subnet)) {
            self.first_free = 0;
        }
    }
}

impl Scheduler {
    /// Takes an agent's first message on a connection. Both sides then agree on its tasks: a task told and known gives
    /// its status, told and not wanted is to end, known and not told is lost, or launched again if it never arrived.
    pub fn handle_registration(&mut self, now: Timestamp, registration: Registration) -> Registered {
        self.enter(now);
        let taken = registration.taken.clone();
        let (record, tasks) = self.admit(registration);
        let agent = record.id.clone();
        let subnet = record.subnet;
        if self.nodes.get(&agent).is_none_or(|node| node.record != record) {
            self.persist(Record::PutAgent(Box::new(record.clone())));
        }
        let node = self
            .nodes
            .get_or_insert(&agent, || Node::new(record.clone(), Link::Connected));
        node.record = record;
        node.link = Link::Connected;
        node.lost_at = None;
        node.taken = taken;
        self.refresh_networks(&agent);
        self.refresh_maintenance(&agent);
        self.timers.cancel(&Timer::ForgetAgent(agent.clone()));
        self.heard_from(&agent);
        if let Some(info) = self.nodes.get(&agent).map(Node::info) {
            self.emit(TaskEvent::AgentAdded(info));
        }
        let unknown = self.reconcile(&agent, tasks);
        self.remove_wiped_on(&agent);
        self.remove_role_volumes(&agent);
        self.empty(&agent);
        self.frameworks.freed(&agent);
        self.capacity_changed();
        self.settle();
        Registered { agent, subnet, unknown }
    }

    /// Takes a status. `false`: the agent is not registered (any more); its connection should be closed so that it
    /// registers again.
    pub fn handle_status(&mut self, now: Timestamp, agent: &AgentId, task: TaskId, status: TaskStatus) -> bool {
        self.enter(now);
        if !self.heard_from(agent) {
            return false;
        }
        match self.instance_on(agent, &task) {
            Some(id) => self.apply_status(&id, &task, status),
            None => match self.framework_task_on(agent, &task) {
                Some(key) => self.apply_task_status(&key, status),
                None => self.stray_status(agent, &task, &status),
            },
        }
        self.settle();
        true
    }

    /// Notes that an agent is alive. `false` as for [`handle_status`](Self::handle_status).
    pub fn handle_heartbeat(&mut self, now: Timestamp, agent: &AgentId) -> bool {
        self.enter(now);
        let known = self.heard_from(agent);
        self.settle();
        known
    }

    /// An agent's newest connection is broken. Its tasks stay until its time is over.
    pub fn handle_disconnect(&mut self, now: Timestamp, agent: &AgentId) {
        self.enter(now);
        if let Some(node) = self.nodes.get_mut(agent)
            && node.link == Link::Connected
        {
            node.link = Link::Broken;
            self.rescind_all_of(agent);
        }
        self.settle();
    }

    /// Finds or makes the record under which an agent registers.
    fn admit(&mut self, registration: Registration) -> (AgentRecord, Vec<ReportedTask>) {
        let known = registration
            .agent
            .clone()
            .filter(|id| self.nodes.get(id).is_some_and(|node| !node.order.gone));
        let id = known.unwrap_or_else(|| {
            self.replace_namesake(&registration);
            self.new_agent_id()
        });
        let subnet = match self.nodes.get(&id) {
            Some(node) if node.record.subnet.is_some() => node.record.subnet,
            _ => self.free_subnet(),
        };
        let record = AgentRecord {
            id,
            hostname: registration.hostname,
            ip: registration.ip,
            http_port: registration.http_port,
            resources: registration.resources,
            ports: registration.ports,
            attributes: registration.attributes,
            domain: registration.domain,
            subnet,
            networks: self.all_networks(),
        };
        (record, registration.tasks)
    }

    /// A machine that lost its id and comes as a new agent: what it was before will not come back.
    fn replace_namesake(&mut self, registration: &Registration) {
        const WHY: &str = "its machine registered as a new agent";
        let same = |node: &&Node| {
            node.record.ip == registration.ip
                && node.record.http_port == registration.http_port
                && node.link != Link::Connected
        };
        let old: Vec<AgentId> = self
            .nodes
            .values()
            .filter(same)
            .map(|node| node.record.id.clone())
            .collect();
        for agent in old {
            self.framework_tasks_lost(&agent, Return::Never, WHY);
            self.agent_lost(&agent, WHY);
            // Whatever their apps' strategy, there is nothing left to wait for.
            let left = self.nodes.get(&agent).map(|node| node.instances.clone());
            for id in left.unwrap_or_default() {
                self.instance_over(&id, self.own_status(TaskState::Lost, WHY));
            }
        }
    }

    /// The id after the highest that is known.
    pub(super) fn next_agent_id(&self) -> AgentId {
        AgentId::new(format!("{}-S{}", self.config.cluster, self.next_agent_number()))
    }

    fn next_agent_number(&self) -> u64 {
        let prefix = format!("{}-S", self.config.cluster);
        let number = |id: &AgentId| id.as_str().strip_prefix(&prefix)?.parse::<u64>().ok();
        let highest = self.nodes.keys().filter_map(number).max();
        highest.map_or(0, |highest| highest.saturating_add(1))
    }

    /// All ids are looked at once; from then on they are counted, or thousands of agents that come at the same time would
    /// wait for each other.
    fn new_agent_id(&mut self) -> AgentId {
        let number = self.agents_numbered.unwrap_or_else(|| self.next_agent_number());
        self.agents_numbered = Some(number.saturating_add(1));
        AgentId::new(format!("{}-S{number}", self.config.cluster))
    }

    /// The lowest that nobody has.
    fn free_subnet(&mut self) -> Option<Ipv4Net> {
        let (overlay, prefix) = (self.config.overlay?, self.config.overlay_prefix);
        let from = self.subnets.first_free.max(FIRST_SUBNET);
        let mut all = (from..).map_while(|index| Some((index, overlay.subnet(prefix, index)?)));
        let (index, subnet) = all.find(|(_, subnet)| !self.subnets.taken.contains(subnet))?;
        self.subnets.first_free = index.saturating_add(1);
        self.subnets.taken.insert(subnet);
        Some(subnet)
    }

    /// Agrees with an agent on its tasks. Returns those it should end.
    fn reconcile(&mut self, agent: &AgentId, tasks: Vec<ReportedTask>) -> Vec<TaskId> {
        let mut told: BTreeMap<TaskId, ReportedTask> = BTreeMap::new();
        for task in tasks {
            told.insert(task.spec.task.clone(), task);
        }
        self.forget_strays(agent, &told);
        let (mut unknown, mut strays) = (Vec::new(), Vec::new());
        let mut confirmed = BTreeSet::new();
        let tasks: BTreeSet<TaskId> = told.keys().cloned().collect();
        let mut of_frameworks = BTreeSet::new();
        for (task, report) in told {
            if let Some(key) = self.framework_task_on(agent, &task) {
                self.apply_task_status(&key, report.status);
                if self.is_to_end(&key) {
                    unknown.push(task);
                }
                of_frameworks.insert(key);
                continue;
            }
            let Some(id) = self.instance_on(agent, &task) else {
                if !report.status.state.is_terminal() {
                    if let Some(node) = self.nodes.get_mut(agent) {
                        node.expect_unknown(&report.spec);
                    }
                    strays.push(report);
                    unknown.push(task);
                }
                continue;
            };
            self.apply_status(&id, &task, report.status);
            if self.instances.get(&id).is_some_and(|instance| instance.unwanted) {
                unknown.push(task);
            }
            if self.instances.contains_key(&id) {
                // Asks again where something is then still to be asked.
                let again = self.now.after(self.config.retry);
                self.timers.set(Timer::Repeat(id.clone()), again);
            }
            confirmed.insert(id);
        }
        self.free_not_told(agent, &confirmed, &tasks);
        self.framework_tasks_told(agent, &of_frameworks);
        // Only now, or what they use would be cut to what the agent's lost tasks leave.
        for report in &strays {
            self.add_stray(agent, report);
        }
        unknown
    }

    /// Instances of an agent, and members of them, that it did not tell are not there.
    fn free_not_told(&mut self, agent: &AgentId, confirmed: &BTreeSet<InstanceId>, tasks: &BTreeSet<TaskId>) {
        for id in confirmed {
            self.members_not_told(agent, id, tasks);
        }
        let missing: Vec<InstanceId> = match self.nodes.get(agent) {
            Some(node) => node.instances.difference(confirmed).cloned().collect(),
            None => Vec::new(),
        };
        for id in missing {
            self.instance_not_told(&id);
        }
    }

    /// An agent came back without a task that it should have.
    fn instance_not_told(&mut self, id: &InstanceId) {
        let Some(instance) = self.instances.get(id) else { return };
        let never_arrived = instance.status.state == TaskState::Staging;
        if instance.unwanted {
            let message = "to be ended, and no longer on its agent when that registered";
            self.instance_over(id, self.own_status(TaskState::Killed, message));
        } else if never_arrived {
            self.repeat(id);
        } else {
            let message = "its agent registered without it";
            self.instance_over(id, self.own_status(TaskState::Lost, message));
        }
    }

    fn instance_on(&self, agent: &AgentId, task: &TaskId) -> Option<InstanceId> {
        let id = InstanceId::of_task(task)?;
        let instance = self.instances.get(&id)?;
        (instance.agent == *agent && instance.has_task(task)).then_some(id)
    }

    fn add_stray(&mut self, agent: &AgentId, report: &ReportedTask) {
        if let Some(node) = self.nodes.get_mut(agent) {
            node.add_unknown(&report.spec);
        }
        // `Registered.unknown` is the first request; this is the next.
        let timer = Timer::RepeatStray(agent.clone(), report.spec.task.clone());
        self.timers.set(timer, self.now.after(self.config.retry));
    }

    fn forget_strays(&mut self, agent: &AgentId, told: &BTreeMap<TaskId, ReportedTask>) {
        let Some(node) = self.nodes.get_mut(agent) else { return };
        let live = |task: &TaskId| told.get(task).is_some_and(|report| !report.status.state.is_terminal());
        let gone: Vec<TaskId> = node.strays.keys().filter(|task| !live(task)).cloned().collect();
        for task in gone {
            node.drop_stray(&task);
        }
    }

    /// A status of a task that no instance stands for: it should end, and when it has ended its resources are free.
    fn stray_status(&mut self, agent: &AgentId, task: &TaskId, status: &TaskStatus) {
        let Some(node) = self.nodes.get_mut(agent) else { return };
        if status.state.is_terminal() {
            if node.drop_stray(task) {
                let ended = ClusterEvent::StrayEnded(task.clone(), agent.clone(), status.clone());
                self.tell_event(ended);
                self.timers.cancel(&Timer::RepeatStray(agent.clone(), task.clone()));
                self.remove_wiped_on(agent);
                self.frameworks.freed(agent);
                self.capacity_changed();
            }
        } else if !node.strays.contains_key(task) && node.link == Link::Connected {
            let policy = model::KillPolicy {
                drain: self.config.drain,
                grace: self.config.grace,
            };
            let kill = crate::Effect::Kill {
                agent: agent.clone(),
                task: task.clone(),
                policy,
            };
            self.effects.push_back(kill);
        }
    }
}
