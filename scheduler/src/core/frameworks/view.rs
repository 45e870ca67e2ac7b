//! Frameworks and their tasks for readers.

use std::collections::BTreeMap;

use model::{FrameworkId, FrameworkInfo, Resources, Task};

use crate::framework::FrameworkTaskRecord;
use crate::{FrameworkRecord, FrameworkView, Offer, Quota};

use super::super::Scheduler;
use super::super::node::Link;
use super::share::ANY_ROLE;
use super::subscribe::info;

/// The task of a record, as the stream tells it.
pub(super) fn shown(record: &FrameworkTaskRecord) -> Task {
    let spec = &record.spec;
    Task {
        id: record.task.clone(),
        name: spec.name.clone(),
        framework: spec.framework.clone(),
        agent: record.agent.clone(),
        status: record.status.clone(),
        has_health_check: !spec.checks.health.is_empty(),
        has_discovery: record.has_discovery,
        ports: spec.ports.clone(),
        mappings: spec.mappings.clone(),
        host_ports: spec.host_ports.clone(),
        labels: spec.labels.clone(),
    }
}

/// A role as the APIs show it.
#[derive(Clone, Debug, Default)]
pub struct RoleView {
    /// Its name.
    pub name: String,
    /// Its weight in the allocator.
    pub weight: f64,
    /// Who takes offers for it, Marathon included.
    pub frameworks: Vec<FrameworkId>,
    /// What their tasks use.
    pub allocated: Resources,
    /// What is offered to them.
    pub offered: Resources,
    /// What agents keep for it, used or not.
    pub reserved: Resources,
    /// Its quota.
    pub quota: Option<Quota>,
    /// What counts against its quota.
    pub consumed: Resources,
}

impl Scheduler {
    /// Roles that somebody has or that something was said of, by name.
    pub fn roles(&self) -> Vec<RoleView> {
        let mut roles: BTreeMap<&str, RoleView> = BTreeMap::new();
        let marathon = roles.entry(ANY_ROLE).or_default();
        marathon.frameworks.push(self.framework.id.clone());
        marathon.allocated = self.frameworks.marathon;
        for (id, framework) in &self.frameworks.joined {
            for role in &framework.record.spec.roles {
                roles.entry(role).or_default().frameworks.push(id.clone());
            }
            for (role, part) in &framework.allocated {
                let view = roles.entry(role).or_default();
                view.allocated = view.allocated.plus(part);
            }
            for (role, part) in &framework.offered {
                let view = roles.entry(role).or_default();
                view.offered = view.offered.plus(part);
            }
        }
        for role in self.frameworks.weights.keys() {
            roles.entry(role).or_default();
        }
        for (role, quota) in &self.frameworks.quotas {
            roles.entry(role).or_default().quota = Some(quota.clone());
        }
        for node in self.nodes.values() {
            for held in node.holdings() {
                roles.entry(&held.by.role).or_default();
            }
        }
        let named = roles.into_iter().map(|(name, view)| RoleView {
            name: name.to_owned(),
            weight: self.frameworks.weights.get(name).copied().unwrap_or(1.0),
            consumed: self.consumed(name),
            reserved: self.reserved_for(name),
            ..view
        });
        named.collect()
    }

    /// Frameworks that joined and have not ended.
    pub fn joined_frameworks(&self) -> impl Iterator<Item = FrameworkView<'_>> {
        self.frameworks.joined.values().map(|one| FrameworkView {
            record: &one.record,
            connected: one.stream.is_some(),
            recovered: one.recovered,
            allocated: &one.allocated,
            offered: one
                .offered
                .values()
                .fold(Resources::default(), |sum, part| sum.plus(part)),
        })
    }

    /// One of them.
    pub fn joined_framework(&self, id: &FrameworkId) -> Option<FrameworkView<'_>> {
        self.joined_frameworks().find(|view| view.record.id == *id)
    }

    /// Frameworks that have ended.
    pub fn completed_frameworks(&self) -> impl Iterator<Item = &FrameworkRecord> {
        self.frameworks.completed.values()
    }

    /// Ended tasks of frameworks that have not.
    pub fn completed_framework_tasks(&self) -> impl Iterator<Item = &Task> {
        self.frameworks.joined.values().flat_map(|one| &one.completed)
    }

    /// Tasks of frameworks, those included that ended and whose end was not acknowledged.
    pub fn framework_tasks(&self) -> impl Iterator<Item = &FrameworkTaskRecord> {
        self.frameworks.joined.values().flat_map(|one| one.tasks.values())
    }

    /// Offers that are out.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.frameworks.offers.values()
    }

    /// The same, as the stream tells them.
    pub fn framework_infos(&self) -> impl Iterator<Item = FrameworkInfo> {
        self.frameworks.joined.values().map(|one| info(&one.record))
    }

    /// Tasks of frameworks that have not ended, on agents with such a link.
    pub(in crate::core) fn framework_tasks_where(&self, of: &impl Fn(Link) -> bool) -> Vec<Task> {
        let there = |record: &&FrameworkTaskRecord| {
            !record.is_over() && self.nodes.get(&record.agent).is_some_and(|node| of(node.link))
        };
        self.framework_tasks().filter(there).map(shown).collect()
    }
}
