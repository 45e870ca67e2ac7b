//! `ACCEPT`: tasks made of offers.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    FrameworkId, KillPolicy, Protocol, ReadyRule, Reason, Resources, TaskId, TaskState, is_vip_label, launch_name,
};

use crate::framework::FrameworkTaskRecord;
use crate::{FrameworkEvent, Offer, OfferId, Operation, TaskOrder};

use super::super::Scheduler;
use super::super::node::{Link, in_ranges};

/// Longest task id. It is part of a directory's name, whose limit is 255 bytes.
const MAX_TASK_ID: usize = 120;

/// What is left of the offers that an `ACCEPT` named.
struct Left {
    offer: Offer,
    resources: Resources,
    ports: Vec<(u16, u16)>,
    taken: BTreeSet<u16>,
}

impl Left {
    fn new(offers: Vec<Offer>) -> Option<Self> {
        let mut offers = offers.into_iter();
        let offer = offers.next()?;
        let mut left = Self {
            resources: offer.resources,
            ports: offer.ports.clone(),
            taken: BTreeSet::new(),
            offer,
        };
        for more in offers {
            left.resources = left.resources.plus(&more.resources);
            left.ports.extend(more.ports);
        }
        Some(left)
    }

    fn take(&mut self, order: &TaskOrder) -> Result<(), String> {
        let spec = order.spec.as_ref().map_err(Clone::clone)?;
        if order.agent != self.offer.agent.id {
            return Err(format!(
                "Task uses invalid agent {} while agent {} is expected",
                order.agent, self.offer.agent.id
            ));
        }
        if !self.resources.holds(&spec.resources) {
            return Err(format!(
                "Task uses more resources {} than available {}",
                text(&spec.resources),
                text(&self.resources)
            ));
        }
        let free = |port: &u16| in_ranges(&self.ports, *port) && !self.taken.contains(port);
        let mut own = BTreeSet::new();
        if let Some(port) = spec.host_ports.iter().find(|port| !free(port) || !own.insert(**port)) {
            return Err(format!("Task uses port {port}, which is not in what was offered"));
        }
        self.resources = self.resources.minus(&spec.resources);
        self.taken.extend(own);
        Ok(())
    }
}

fn text(resources: &Resources) -> String {
    format!(
        "cpus:{}.{:03}; mem:{}; disk:{}",
        resources.cpus_milli / 1_000,
        resources.cpus_milli % 1_000,
        resources.mem_mb,
        resources.disk_mb
    )
}

fn check_id(task: &TaskId) -> Result<(), String> {
    let id = task.as_str();
    let odd = |c: char| c == '/' || c == '\\' || c.is_control();
    if id.is_empty() || id == "." || id == ".." || id.chars().any(odd) {
        return Err(format!(
            "Task ID '{id}' is invalid: no slashes, no control characters, not empty, not '.' or '..'"
        ));
    }
    if id.len() > MAX_TASK_ID {
        return Err(format!(
            "Task ID '{id}' has {} bytes, {MAX_TASK_ID} are the most",
            id.len()
        ));
    }
    Ok(())
}

impl Scheduler {
    pub(super) fn accept(
        &mut self,
        id: &FrameworkId,
        offers: &[OfferId],
        operations: Vec<Operation>,
        refuse: Duration,
    ) {
        match self.usable(id, offers) {
            Err(why) => {
                // Those that are valid go back all the same.
                self.decline(id, offers, refuse);
                for operation in operations {
                    self.drop_operation(id, operation, &why);
                }
            }
            Ok(()) => {
                let unique: BTreeSet<&OfferId> = offers.iter().collect();
                let taken = unique.into_iter().filter_map(|offer| self.end_offer(offer)).collect();
                let Some(mut left) = Left::new(taken) else { return };
                for operation in operations {
                    self.carry_out_operation(id, operation, &mut left);
                }
                let (agent, role) = (left.offer.agent.id.clone(), left.offer.role.clone());
                self.filter(id, &agent, &role, left.resources, refuse);
            }
        }
    }

    /// Whether all offers are there, its own, and of one agent and role.
    fn usable(&self, id: &FrameworkId, offers: &[OfferId]) -> Result<(), String> {
        let mut first: Option<&Offer> = None;
        for offer in offers {
            let known = self.frameworks.offers.get(offer).filter(|offer| offer.framework == *id);
            let known = known.ok_or_else(|| format!("Offer {offer} is no longer valid"))?;
            let first = first.get_or_insert(known);
            if first.agent.id != known.agent.id || first.role != known.role {
                return Err("Aggregated offers must belong to one single agent and role".to_owned());
            }
        }
        first.map(drop).ok_or_else(|| "No offers specified".to_owned())
    }

    /// Its offers were not there.
    fn drop_operation(&mut self, id: &FrameworkId, operation: Operation, why: &str) {
        match operation {
            Operation::Launch(orders) => {
                for order in orders {
                    let mut status =
                        self.own_status(TaskState::Dropped, &format!("Task launched with invalid offers: {why}"));
                    status.reason = Some(Reason::InvalidOffers);
                    self.answer_task(id, &order.task, Some(order.agent), status);
                }
            }
            Operation::Refused { id: asked, tasks, .. } => self.refuse_operation(id, asked, why, tasks),
        }
    }

    fn refuse_operation(
        &mut self,
        id: &FrameworkId,
        asked: Option<String>,
        why: &str,
        tasks: Vec<(TaskId, model::AgentId)>,
    ) {
        for (task, agent) in tasks {
            let mut status = self.own_status(TaskState::Error, why);
            status.reason = Some(Reason::TaskGroupInvalid);
            self.answer_task(id, &task, Some(agent), status);
        }
        if let Some(asked) = asked {
            let why = why.to_owned();
            self.tell_framework(id, FrameworkEvent::OperationFailed { id: asked, why });
        }
    }

    fn carry_out_operation(&mut self, id: &FrameworkId, operation: Operation, left: &mut Left) {
        match operation {
            Operation::Refused { id: asked, why, tasks } => self.refuse_operation(id, asked, &why, tasks),
            Operation::Launch(orders) => {
                for order in orders {
                    if let Err(why) = self.launch_for_framework(id, &order, left) {
                        let mut status = self.own_status(TaskState::Error, &why);
                        status.reason = Some(Reason::TaskInvalid);
                        self.answer_task(id, &order.task, Some(order.agent), status);
                    }
                }
            }
        }
    }

    fn launch_for_framework(&mut self, id: &FrameworkId, order: &TaskOrder, left: &mut Left) -> Result<(), String> {
        check_id(&order.task)?;
        if self.frameworks.task(&(id.clone(), order.task.clone())).is_some() {
            return Err(format!("Task has duplicate ID: {}", order.task));
        }
        left.take(order)?;
        let mut spec = *order.spec.clone()?;
        if self
            .nodes
            .get(&order.agent)
            .is_none_or(|node| node.link != Link::Connected)
        {
            return Err("its agent is disconnected".to_owned());
        }
        let nonce = u32::try_from(self.random.next() >> 32).unwrap_or(0);
        spec.task = launch_name(id, nonce, &order.task);
        spec.framework = id.clone();
        if let Some(framework) = self.frameworks.joined.get(id) {
            let user = Some(framework.record.spec.user.clone()).filter(|user| !user.is_empty());
            spec.user = spec.user.or(user);
        }
        let served = vip_ports(&spec);
        if spec
            .ports
            .iter()
            .any(|port| port.labels.iter().any(|(key, _)| is_vip_label(key)))
        {
            spec.kill = KillPolicy {
                drain: self.config.drain,
                grace: spec.kill.grace,
            };
        }
        if !served.is_empty() {
            spec.ready = ReadyRule::WhenListening {
                ports: served,
                within: self.config.ready_within,
            };
        }
        let mut status = self.own_status(TaskState::Staging, "");
        status.message = None;
        self.begin_task(FrameworkTaskRecord {
            task: order.task.clone(),
            name: order.name.clone(),
            has_discovery: order.has_discovery,
            agent: order.agent.clone(),
            role: left.offer.role.clone(),
            spec,
            status,
            launched_at: self.now,
            kill: None,
            unreachable_since: None,
            pending: Default::default(),
        });
        Ok(())
    }
}

/// TCP ports with a VIP, as bound inside the task's network namespace: it takes connections once they listen.
fn vip_ports(spec: &model::LaunchSpec) -> Vec<u16> {
    let served = spec
        .ports
        .iter()
        .filter(|port| port.protocol == Protocol::Tcp && port.labels.iter().any(|(key, _)| is_vip_label(key)));
    let inside = |port: &model::TaskPort| {
        let mapped = spec.mappings.iter().find(|one| one.host_port == port.number);
        match (port.scope, mapped) {
            (model::PortScope::Host, Some(mapped)) => mapped.container_port,
            _ => port.number,
        }
    };
    served.map(inside).collect()
}
