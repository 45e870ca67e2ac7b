//! An agent as the core sees it now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{AgentInfo, KillPolicy, LaunchSpec, Resources, TaskId, volume_owner};

use crate::framework::FrameworkTaskRecord;
use crate::quota::least;
use crate::reservation::total;
use crate::{AgentOrder, AgentRecord, Holding, InstanceId, Residence, TakenNet, Timestamp, Unavailability};

use super::frameworks::TaskKey;

/// How an agent is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Registered, connection open.
    Connected,
    /// Registered, connection broken, its time not yet over.
    Broken,
    /// Known from before a restart of the master, not yet back.
    Recovered,
    /// Given up; its tasks were replaced. Its id and subnet are kept for its return.
    Unreachable,
}

impl Link {
    /// Whether the stream tells its tasks.
    pub(crate) fn is_told(self) -> bool {
        self != Self::Unreachable
    }

    /// Whether the agent counts as there.
    pub(crate) fn is_registered(self) -> bool {
        matches!(self, Self::Connected | Self::Broken)
    }
}

/// A task on an agent that no instance stands for: told at registration and on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    pub(crate) resources: Resources,
    pub(crate) host_ports: Vec<u16>,
    pub(crate) policy: KillPolicy,
    /// What it uses of reservations, beside `resources`.
    pub(crate) from: Vec<Holding>,
}

/// What is kept free on an agent for an instance that lives there.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    /// Always: its volumes.
    volumes: Resources,
    /// While it has no task: what the next one needs.
    task: Resources,
}

/// An agent and what is used of it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) record: AgentRecord,
    pub(crate) link: Link,
    /// What operators said of it.
    pub(crate) order: AgentOrder,
    /// When its machine is expected to be away, and whether that is now.
    pub(crate) unavailability: Option<Unavailability>,
    pub(crate) away: bool,
    /// Its machine is out of service.
    pub(crate) down: bool,
    /// When it was given up last.
    pub(crate) lost_at: Option<Timestamp>,
    /// What it needs addresses for itself, as it said when it registered.
    pub(crate) taken: Vec<TakenNet>,
    /// Networks that have no block for it.
    pub(crate) lacks: BTreeSet<String>,
    pub(crate) instances: BTreeSet<InstanceId>,
    pub(crate) strays: BTreeMap<TaskId, Stray>,
    reserved: BTreeMap<InstanceId, Reserved>,
    /// What it keeps for roles; all of it counts as used.
    holdings: Vec<Holding>,
    /// Tasks of frameworks.
    pub(crate) tasks: BTreeSet<TaskKey>,
    pub(crate) used: Resources,
    pub(crate) used_ports: BTreeSet<u16>,
    /// What is held in offers.
    pub(crate) offered: Resources,
    /// Port ranges held in offers; they never overlap.
    pub(crate) offered_ports: Vec<(u16, u16)>,
}

/// Whether a port lies in one of the ranges.
pub(crate) fn in_ranges(ranges: &[(u16, u16)], port: u16) -> bool {
    ranges.iter().any(|(low, high)| (*low..=*high).contains(&port))
}

impl Node {
    pub(crate) fn new(record: AgentRecord, link: Link) -> Self {
        Self {
            record,
            link,
            order: AgentOrder::default(),
            unavailability: None,
            away: false,
            down: false,
            lost_at: None,
            taken: Vec::new(),
            lacks: BTreeSet::new(),
            instances: BTreeSet::new(),
            strays: BTreeMap::new(),
            reserved: BTreeMap::new(),
            holdings: Vec::new(),
            tasks: BTreeSet::new(),
            used: Resources::default(),
            used_ports: BTreeSet::new(),
            offered: Resources::default(),
            offered_ports: Vec::new(),
        }
    }

    pub(crate) fn info(&self) -> AgentInfo {
        AgentInfo {
            id: self.record.id.clone(),
            hostname: self.record.hostname.clone(),
            ip: Some(self.record.ip),
            port: Some(self.record.http_port),
            subnet: self.record.subnet,
            networks: Arc::clone(&self.record.networks),
            attributes: self.record.attributes.clone(),
        }
    }

    pub(crate) fn add_instance(&mut self, id: InstanceId, spec: &LaunchSpec) {
        if !self.instances.contains(&id) {
            self.charge(&spec.resources, &spec.host_ports);
            self.recharging(&id, |node| {
                node.instances.insert(id.clone());
            });
        }
    }

    pub(crate) fn drop_instance(&mut self, id: &InstanceId, spec: &LaunchSpec) {
        if self.instances.contains(id) {
            self.release(&spec.resources, &spec.host_ports);
            self.recharging(id, |node| {
                node.instances.remove(id);
            });
        }
    }

    pub(crate) fn add_task(&mut self, key: TaskKey, record: &FrameworkTaskRecord) {
        if self.tasks.insert(key) {
            self.charge(&record.unreserved(), &record.spec.host_ports);
        }
    }

    pub(crate) fn drop_task(&mut self, key: &TaskKey, record: &FrameworkTaskRecord) {
        if self.tasks.remove(key) {
            self.release(&record.unreserved(), &record.spec.host_ports);
        }
    }

    pub(crate) fn holdings(&self) -> &[Holding] {
        &self.holdings
    }

    pub(crate) fn set_holdings(&mut self, holdings: Vec<Holding>) {
        let before = total(&self.holdings);
        self.used = self.used.minus(&before).plus(&total(&holdings));
        self.holdings = holdings;
    }

    /// Whether it may be given another task now.
    pub(crate) fn takes_more(&self) -> bool {
        self.link == Link::Connected && !self.order.deactivated && !self.down
    }

    /// Whether nothing runs on it.
    pub(crate) fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.tasks.is_empty() && self.strays.is_empty()
    }

    /// What is neither used nor held in an offer.
    pub(crate) fn free(&self) -> Resources {
        self.record.resources.minus(&self.used).minus(&self.offered)
    }

    /// Host ports that are neither used nor held, as ranges.
    pub(crate) fn free_ranges(&self) -> Vec<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for port in self.free_ports() {
            match ranges.last_mut() {
                Some((_, high)) if high.checked_add(1) == Some(port) => *high = port,
                _ => ranges.push((port, port)),
            }
        }
        ranges
    }

    /// Holds what is offered.
    pub(crate) fn hold(&mut self, resources: &Resources, ports: &[(u16, u16)]) {
        self.offered = self.offered.plus(resources);
        self.offered_ports.extend(ports);
    }

    /// Ends that.
    pub(crate) fn let_go(&mut self, resources: &Resources, ports: &[(u16, u16)]) {
        self.offered = self.offered.minus(resources);
        self.offered_ports.retain(|range| !ports.contains(range));
    }

    /// A task of a framework that has ended.
    pub(crate) fn add_stray_of(&mut self, record: &FrameworkTaskRecord) {
        self.add_stray(&record.spec, record.unreserved(), record.from.clone());
    }

    /// A task that nobody here knows is there, whatever it will be charged: volumes that it uses are not removed meanwhile.
    pub(crate) fn expect_unknown(&mut self, spec: &LaunchSpec) {
        let stray = Stray {
            from: Vec::new(),
            resources: Resources::default(),
            host_ports: Vec::new(),
            policy: spec.kill,
        };
        let owner = InstanceId(volume_owner(&spec.task).to_owned());
        self.recharging(&owner, |node| {
            node.strays.entry(spec.task.clone()).or_insert(stray);
        });
    }

    /// A task that nobody here knows. What it used of a reservation is charged there already.
    pub(crate) fn add_unknown(&mut self, spec: &LaunchSpec) {
        let nothing = |one: &Stray| one.resources == Resources::default() && one.from.is_empty();
        if self.strays.get(&spec.task).is_some_and(nothing) {
            self.drop_stray(&spec.task);
        }
        // A residence's room is its task's while that is here, and must be there again when it ends: at least that is charged.
        let owner = InstanceId(volume_owner(&spec.task).to_owned());
        let kept = self.reserved.get(&owner).map(|kept| kept.volumes);
        let room = kept.map_or_else(Resources::default, |volumes| self.charge_of(&owner).minus(&volumes));
        let left = self.record.resources.minus(&self.used);
        let more = least(&spec.resources.minus(&room), &left);
        self.add_stray(spec, room.plus(&more), Vec::new());
    }

    fn add_stray(&mut self, spec: &LaunchSpec, resources: Resources, from: Vec<Holding>) {
        let stray = Stray {
            from,
            resources,
            host_ports: spec.host_ports.clone(),
            policy: spec.kill,
        };
        if !self.strays.contains_key(&spec.task) {
            self.charge(&resources, &spec.host_ports);
        }
        let owner = InstanceId(volume_owner(&spec.task).to_owned());
        self.recharging(&owner, |node| {
            node.strays.entry(spec.task.clone()).or_insert(stray);
        });
    }

    pub(crate) fn drop_stray(&mut self, task: &TaskId) -> bool {
        let Some(stray) = self.strays.get(task).cloned() else {
            return false;
        };
        self.release(&stray.resources, &stray.host_ports);
        let owner = InstanceId(volume_owner(task).to_owned());
        self.recharging(&owner, |node| {
            node.strays.remove(task);
        });
        true
    }

    /// Whether a task of that instance is here which the core does not want.
    pub(crate) fn has_stray_of(&self, id: &InstanceId) -> bool {
        self.strays.keys().any(|task| volume_owner(task) == id.0)
    }

    /// Keeps free what an instance without a task needs.
    pub(crate) fn reserve(&mut self, residence: &Residence) {
        let reserved = Reserved {
            volumes: residence.disk(),
            task: residence.resources,
        };
        self.recharging(&residence.id, |node| {
            node.reserved.insert(residence.id.clone(), reserved);
        });
    }

    pub(crate) fn unreserve(&mut self, id: &InstanceId) {
        self.recharging(id, |node| {
            node.reserved.remove(id);
        });
    }

    /// What is charged for a residence now, beside its task.
    pub(crate) fn charge_of(&self, id: &InstanceId) -> Resources {
        match self.reserved.get(id) {
            None => Resources::default(),
            Some(reserved) if self.instances.contains(id) || self.has_stray_of(id) => reserved.volumes,
            Some(reserved) => reserved.volumes.plus(&reserved.task),
        }
    }

    /// All that is kept for residences: volumes, and what their next tasks need.
    pub(crate) fn reserved(&self) -> Resources {
        let each = self.reserved.values();
        each.fold(Resources::default(), |sum, one| sum.plus(&one.volumes).plus(&one.task))
    }

    /// Changes what a residence's charge depends on, and the charge with it.
    fn recharging(&mut self, id: &InstanceId, change: impl FnOnce(&mut Self)) {
        let before = self.charge_of(id);
        change(self);
        self.used = self.used.minus(&before).plus(&self.charge_of(id));
    }

    fn charge(&mut self, resources: &Resources, ports: &[u16]) {
        self.used = self.used.plus(resources);
        self.used_ports.extend(ports);
    }

    fn release(&mut self, resources: &Resources, ports: &[u16]) {
        self.used = self.used.minus(resources);
        for port in ports {
            self.used_ports.remove(port);
        }
    }

    /// Value of a constraint's field: the host name, a fault domain or an attribute.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match name {
            "hostname" | "@hostname" => Some(&self.record.hostname),
            "@region" => self.record.domain.region.as_deref(),
            "@zone" => self.record.domain.zone.as_deref(),
            _ => self.record.attributes.get(name).map(String::as_str),
        }
    }

    pub(crate) fn port_is_free(&self, port: u16) -> bool {
        in_ranges(&self.record.ports, port) && !self.used_ports.contains(&port) && !in_ranges(&self.offered_ports, port)
    }

    /// Free host ports in order.
    pub(crate) fn free_ports(&self) -> impl Iterator<Item = u16> {
        self.record
            .ports
            .iter()
            .flat_map(|(low, high)| *low..=*high)
            .filter(|port| !self.used_ports.contains(port) && !in_ranges(&self.offered_ports, *port))
    }
}
