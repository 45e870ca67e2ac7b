//! Frameworks and their tasks for readers.

use model::{FrameworkId, FrameworkInfo, Resources, Task};

use crate::framework::FrameworkTaskRecord;
use crate::{FrameworkRecord, FrameworkView, Offer};

use super::super::Scheduler;
use super::super::node::Link;
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

impl Scheduler {
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
