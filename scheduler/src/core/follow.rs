//! A core that only follows: it takes the records of the one that leads, for readers, and decides nothing.

use std::collections::BTreeSet;

use model::{AgentId, AgentInfo, Task, TaskStatus};

use crate::{AppId, InstanceId, InstanceRecord, Record, Residence, Timestamp};

use super::node::{Link, Node};
use super::{Config, Scheduler};

impl Scheduler {
    /// A core for readers, with these records. It has no timers and no effects; only `follow*` feeds it.
    pub fn following(config: Config, records: Vec<Record>) -> Self {
        let mut core = Self::new(config, 0, records);
        core.effects.clear();
        for agent in core.nodes.keys().cloned().collect::<Vec<_>>() {
            core.link_as_told(&agent);
        }
        core
    }

    /// Takes a record that the leading core persisted, in the order in which it did. Returns the agents of which
    /// something may look otherwise now, for [`Self::told_on`].
    pub fn follow(&mut self, now: Timestamp, record: Record) -> BTreeSet<AgentId> {
        self.now = self.now.max(now);
        let mut touched = BTreeSet::new();
        let before = self.hidden.clone();
        match record {
            Record::PutAgent(record) => {
                touched.insert(record.id.clone());
                match self.nodes.get_mut(&record.id) {
                    Some(node) => node.record = *record,
                    None => self
                        .nodes
                        .insert(record.id.clone(), Node::new(*record, Link::Connected)),
                }
            }
            Record::DeleteAgent(id) => {
                self.nodes.remove(&id);
                touched.insert(id);
            }
            Record::PutAgentOrder(agent, order) => {
                if let Some(node) = self.nodes.get_mut(&agent) {
                    node.order = order;
                }
                touched.insert(agent);
            }
            Record::DeleteAgentOrder(agent) => {
                if let Some(node) = self.nodes.get_mut(&agent) {
                    node.order = Default::default();
                }
                touched.insert(agent);
            }
            Record::PutInstance(instance) => self.follow_instance(&instance.id.clone(), Some(*instance), &mut touched),
            Record::DeleteInstance(id) => self.follow_instance(&id, None, &mut touched),
            Record::PutResidence(residence) => {
                let id = residence.id.clone();
                let ids: &[InstanceId] = if residence.wiped {
                    std::slice::from_ref(&id)
                } else {
                    &[]
                };
                self.follow_unwanted(ids, &mut touched);
                self.follow_residence(&id, Some(*residence));
            }
            Record::DeleteResidence(id) => self.follow_residence(&id, None),
            other => self.follow_definition(other, &mut touched),
        }
        self.shown_otherwise(&before, &mut touched);
        touched
    }

    /// Takes the agents that the leading core has not heard of for a little. Returns what [`Self::follow`] does.
    pub fn follow_suspects(&mut self, suspects: &BTreeSet<AgentId>) -> BTreeSet<AgentId> {
        let before = self.hidden.clone();
        let changed: BTreeSet<AgentId> = self.suspects.symmetric_difference(suspects).cloned().collect();
        self.suspects.clone_from(suspects);
        let nodes = changed.iter().filter_map(|agent| self.nodes.get(agent));
        let instances = nodes
            .flat_map(|node| &node.instances)
            .filter_map(|id| self.instances.get(id));
        let apps: BTreeSet<AppId> = instances.map(|instance| instance.app.clone()).collect();
        for app in &apps {
            self.hide_before(app);
        }
        let mut touched = BTreeSet::new();
        self.shown_otherwise(&before, &mut touched);
        touched
    }

    /// What the task stream tells of an agent and its tasks; nothing of one that is not there or was given up.
    pub fn told_on(&self, agent: &AgentId) -> Option<(AgentInfo, Vec<Task>)> {
        let node = self.nodes.get(agent).filter(|node| node.link.is_told())?;
        let instances = node.instances.iter().filter_map(|id| self.instances.get(id));
        let told = |one: &InstanceRecord| {
            let status = |status: &TaskStatus| self.told(one, status);
            super::member::tasks_of(one, &status, &|ports| self.told_ports(one, ports))
        };
        let tasks = instances.flat_map(told).chain(self.framework_tasks_of(&node.tasks));
        Some((node.info(), tasks.collect()))
    }

    /// Agents that are registered and have not been heard of for a little.
    pub fn suspects(&self) -> &BTreeSet<AgentId> {
        &self.suspects
    }

    /// All agents that it knows of.
    pub fn known_agents(&self) -> impl Iterator<Item = &AgentId> {
        self.nodes.keys()
    }

    fn follow_instance(&mut self, id: &InstanceId, new: Option<InstanceRecord>, touched: &mut BTreeSet<AgentId>) {
        let mut apps = BTreeSet::new();
        if let Some(old) = self.instances.remove(id) {
            if let Some(node) = self.nodes.get_mut(&old.agent) {
                node.drop_instance(id, &old.spec);
            }
            self.frameworks.marathon_frees(&old.spec.resources);
            if let Some(ids) = self.by_app.get_mut(&old.app) {
                ids.remove(id);
                if ids.is_empty() {
                    self.by_app.remove(&old.app);
                }
            }
            touched.insert(old.agent);
            apps.insert(old.app);
        }
        match new {
            Some(new) => {
                if let Some(node) = self.nodes.get_mut(&new.agent) {
                    node.add_instance(id.clone(), &new.spec);
                }
                self.frameworks.marathon_uses(&new.spec.resources);
                self.by_app.entry(new.app.clone()).or_default().insert(id.clone());
                touched.insert(new.agent.clone());
                apps.insert(new.app.clone());
                self.instances.insert(id.clone(), new);
            }
            None => drop(self.hidden.remove(id)),
        }
        for app in &apps {
            self.hide_before(app);
        }
    }

    fn follow_residence(&mut self, id: &InstanceId, new: Option<Residence>) {
        if let Some(old) = self.residences.remove(id) {
            if let Some(node) = self.nodes.get_mut(&old.agent) {
                node.unreserve(id);
            }
            if let Some(ids) = self.residences_by_app.get_mut(&old.app) {
                ids.remove(id);
                if ids.is_empty() {
                    self.residences_by_app.remove(&old.app);
                }
            }
        }
        if let Some(new) = new {
            if let Some(node) = self.nodes.get_mut(&new.agent) {
                node.reserve(&new);
            }
            self.index_residence(new);
        }
    }

    /// Apps, groups, deployments and the like.
    fn follow_definition(&mut self, record: Record, touched: &mut BTreeSet<AgentId>) {
        match record {
            Record::Framework(id) => self.framework.id = id,
            Record::PutApp(app) => {
                let id = app.id.clone();
                self.apps.insert(id.clone(), *app);
                self.follow_share(&id, self.shares.get(&id).copied(), touched);
            }
            Record::DeleteApp(id) => {
                self.apps.remove(&id);
                self.follow_share(&id, None, touched);
                let ids: Vec<InstanceId> = self.instances_of(&id).map(|one| one.id.clone()).collect();
                self.follow_unwanted(&ids, touched);
            }
            Record::PutVersion(app) => {
                let kept = self.versions.entry(app.id.clone()).or_default();
                kept.insert(app.version, *app);
            }
            Record::DeleteVersion(id, version) => {
                if let Some(kept) = self.versions.get_mut(&id) {
                    kept.remove(&version);
                    if kept.is_empty() {
                        self.versions.remove(&id);
                    }
                }
            }
            Record::PutSecret(secret) => drop(self.secrets.insert(secret.path, secret.value)),
            Record::DeleteSecret(path) => drop(self.secrets.remove(&path)),
            Record::PutDeployment(record) => {
                self.deploying.retain(|_, id| *id != record.id);
                for app in record.apps() {
                    self.deploying.insert(app.clone(), record.id.clone());
                }
                self.deployments.insert(record.id.clone(), *record);
            }
            Record::DeleteDeployment(id) => {
                self.deploying.retain(|_, known| *known != id);
                self.deployments.remove(&id);
            }
            Record::PutGroup(group) => drop(self.groups.insert(group.id.clone(), group)),
            Record::DeleteGroup(id) => drop(self.groups.remove(&id)),
            Record::PutGroupVersion(kept) => {
                let versions = self.group_versions.entry(kept.id.clone()).or_default();
                versions.insert(kept.version, *kept);
            }
            Record::DeleteGroupVersion(id, version) => {
                if let Some(kept) = self.group_versions.get_mut(&id) {
                    kept.remove(&version);
                }
            }
            Record::PutShare(id, told) => self.follow_share(&id, Some(told), touched),
            Record::DeleteShare(id) => self.follow_share(&id, None, touched),
            other => self.follow_framework(other, touched),
        }
    }

    /// Instances whose app or volumes are to go end, whether or not the record that says so has come: whoever restores from
    /// the records so far says the same.
    fn follow_unwanted(&mut self, ids: &[InstanceId], touched: &mut BTreeSet<AgentId>) {
        let mut apps = BTreeSet::new();
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.unwanted = true;
                touched.insert(instance.agent.clone());
                apps.insert(instance.app.clone());
            }
        }
        for app in &apps {
            self.hide_before(app);
        }
    }

    /// Only where agents are silent, which is where anything can be hidden at all.
    fn hide_before(&mut self, app: &AppId) {
        self.tell_hidden(app);
        self.effects.clear();
    }

    /// Adds the agents of instances that are hidden now and were not, or the other way round, and links all of them anew.
    fn shown_otherwise(&mut self, before: &BTreeSet<InstanceId>, touched: &mut BTreeSet<AgentId>) {
        let changed = before.symmetric_difference(&self.hidden);
        let agents = changed.filter_map(|id| self.instances.get(id));
        touched.extend(agents.map(|instance| instance.agent.clone()));
        for agent in touched.iter() {
            self.link_as_told(agent);
        }
    }

    /// An agent that was given up has left its mark on its tasks; what else is known of links is the leader's.
    fn link_as_told(&mut self, agent: &AgentId) {
        let Some(node) = self.nodes.get(agent) else { return };
        let mut instances = node.instances.iter().filter_map(|id| self.instances.get(id));
        let lost = instances.any(|one| one.unreachable_since.is_some()) || self.has_unreachable(&node.tasks);
        let link = if lost || node.order.gone {
            Link::Unreachable
        } else {
            Link::Connected
        };
        if let Some(node) = self.nodes.get_mut(agent) {
            node.link = link;
        }
    }
}
