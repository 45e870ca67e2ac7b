//! `ACCEPT`: tasks made of offers.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    FrameworkId, KillPolicy, Protocol, ReadyRule, Reason, Resources, TaskId, TaskState, is_vip_label, launch_name,
};

use crate::framework::FrameworkTaskRecord;
use crate::reservation::{put, take, total};
use crate::{FrameworkEvent, Holding, HoldingChange, Offer, OfferId, Operation, RoleVolume, TaskOrder};

use super::super::Scheduler;
use super::super::node::{Link, in_ranges};
use super::holdings::Usable;

/// Longest task id. It is part of a directory's name, whose limit is 255 bytes.
const MAX_TASK_ID: usize = 120;

/// What is left of the offers that an `ACCEPT` named.
#[derive(Clone)]
pub(super) struct Left {
    pub(super) offer: Offer,
    usable: Usable,
    ports: Vec<(u16, u16)>,
    taken: BTreeSet<u16>,
}

impl Left {
    fn new(offers: Vec<Offer>) -> Option<Self> {
        let mut offers = offers.into_iter();
        let offer = offers.next()?;
        let mut left = Self {
            usable: Usable {
                free: offer.resources,
                reserved: offer.reserved.clone(),
            },
            ports: offer.ports.clone(),
            taken: BTreeSet::new(),
            offer,
        };
        for more in offers {
            left.usable.free = left.usable.free.plus(&more.resources);
            for part in more.reserved {
                put(&mut left.usable.reserved, part);
            }
            left.ports.extend(more.ports);
        }
        Some(left)
    }

    /// Takes what a task needs; what of it comes from reservations is the answer.
    pub(super) fn take(&mut self, order: &TaskOrder) -> Result<Vec<Holding>, String> {
        let spec = order.spec.as_ref().map_err(Clone::clone)?;
        if order.agent != self.offer.agent.id {
            return Err(format!(
                "Task uses invalid agent {} while agent {} is expected",
                order.agent, self.offer.agent.id
            ));
        }
        let mut usable = self.usable.clone();
        let mut from = Vec::new();
        for claim in &order.from {
            let part = usable.claim(claim).ok_or_else(|| {
                format!(
                    "Task uses resources or volumes reserved for '{}' that were not offered",
                    claim.by.role
                )
            })?;
            take(&mut usable.reserved, &part);
            put(&mut from, part);
        }
        let rest = spec.resources.minus(&total(&from));
        if !usable.free.holds(&rest) {
            return Err(format!(
                "Task uses more resources {} than available {}",
                text(&rest),
                text(&usable.free)
            ));
        }
        let free = |port: &u16| in_ranges(&self.ports, *port) && !self.taken.contains(port);
        let mut own = BTreeSet::new();
        if let Some(port) = spec.host_ports.iter().find(|port| !free(port) || !own.insert(**port)) {
            return Err(format!("Task uses port {port}, which is not in what was offered"));
        }
        usable.free = usable.free.minus(&rest);
        self.usable = usable;
        self.taken.extend(own);
        Ok(from)
    }

    /// All that nobody took.
    fn all(&self) -> Resources {
        self.usable.free.plus(&total(&self.usable.reserved))
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
                self.filter(id, &agent, &role, left.all(), refuse);
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
            Operation::Change { id: asked, .. } => self.refuse_operation(id, asked, why, Vec::new()),
            Operation::Launch(orders) | Operation::LaunchGroup(orders) => {
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
            Operation::LaunchGroup(orders) => self.launch_group(id, &orders, left),
            Operation::Change { id: asked, change } => match self.change_for_framework(id, &change, left) {
                Err(why) => self.refuse_operation(id, asked, &why, Vec::new()),
                Ok(()) => {
                    if let Some(asked) = asked {
                        self.tell_framework(id, FrameworkEvent::OperationDone(asked));
                    }
                }
            },
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

    /// A framework reserves for the role of its offer, and in its own name.
    fn change_for_framework(
        &mut self,
        id: &FrameworkId,
        change: &HoldingChange,
        left: &mut Left,
    ) -> Result<(), String> {
        let role = left.offer.role.clone();
        let known = self.frameworks.joined.get(id);
        let own = known.and_then(|framework| framework.record.spec.principal.clone());
        let named = match change {
            HoldingChange::Reserve(claims) | HoldingChange::Unreserve(claims) => {
                claims.iter().map(|claim| &claim.by).collect::<Vec<_>>()
            }
            HoldingChange::Create(volumes) => volumes.iter().map(|volume| &volume.by).collect(),
            HoldingChange::Destroy(volumes) => volumes.iter().map(|(by, _)| by).collect(),
        };
        if named.is_empty() {
            return Err("the operation names no resources".to_owned());
        }
        if let Some(other) = named.iter().find(|by| by.role != role) {
            return Err(format!(
                "the resources are reserved for '{}', and the offer is for '{role}'",
                other.role
            ));
        }
        let mut change = change.clone();
        if let HoldingChange::Reserve(claims) = &mut change {
            for claim in claims {
                if claim.by.principal.is_some() && claim.by.principal != own {
                    return Err("a reservation's principal is to be the framework's own".to_owned());
                }
                claim.by.principal.clone_from(&own);
            }
        }
        let agent = left.offer.agent.id.clone();
        self.change_holdings(&agent, &change, &mut left.usable)
    }

    /// What stands against a task, whatever is offered.
    pub(super) fn check_order(&self, id: &FrameworkId, order: &TaskOrder) -> Result<(), String> {
        check_id(&order.task)?;
        if self.frameworks.task(&(id.clone(), order.task.clone())).is_some() {
            return Err(format!("Task has duplicate ID: {}", order.task));
        }
        let node = self.nodes.get(&order.agent);
        if node.is_some_and(|node| node.link != Link::Connected) {
            return Err("its agent is disconnected".to_owned());
        }
        Ok(())
    }

    fn launch_for_framework(&mut self, id: &FrameworkId, order: &TaskOrder, left: &mut Left) -> Result<(), String> {
        self.check_order(id, order)?;
        let from = left.take(order)?;
        let record = self.task_of(id, order, from, left)?;
        let key = self.begin_task(record);
        self.repeat_task(&key);
        Ok(())
    }

    /// The record of a task that nothing stands against.
    pub(super) fn task_of(
        &mut self,
        id: &FrameworkId,
        order: &TaskOrder,
        from: Vec<Holding>,
        left: &Left,
    ) -> Result<FrameworkTaskRecord, String> {
        let mut spec = *order.spec.clone()?;
        spec.container.kept = from.iter().flat_map(|one| &one.volumes).map(RoleVolume::kept).collect();
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
        Ok(FrameworkTaskRecord {
            task: order.task.clone(),
            name: order.name.clone(),
            has_discovery: order.has_discovery,
            agent: order.agent.clone(),
            role: left.offer.role.clone(),
            from,
            spec,
            status,
            launched_at: self.now,
            kill: None,
            unreachable_since: None,
            pending: Default::default(),
        })
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
