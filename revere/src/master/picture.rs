//! What the legacy read endpoints are made of: taken between two inputs in little time, written out by the reader's own task.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{FrameworkId, FrameworkInfo, Resources, SharedMap, Snapshot, Task, TaskId};
use scheduler::{AgentRecord, FrameworkRecord, Holding, RoleView, Timestamp};

use super::core::Core;
use crate::mesos::encode::Sizes;

/// An agent.
#[derive(Debug, PartialEq)]
pub(crate) struct AgentFacts {
    pub(crate) record: AgentRecord,
    pub(crate) offered: Resources,
    pub(crate) deactivated: bool,
    /// What it keeps for roles.
    pub(crate) holdings: Vec<Holding>,
}

/// A framework, the master's own included.
#[derive(Debug)]
pub(crate) struct FrameworkFacts {
    pub(crate) info: FrameworkInfo,
    /// `None`: the master's own.
    pub(crate) record: Option<FrameworkRecord>,
    pub(crate) connected: bool,
    pub(crate) recovered: bool,
    pub(crate) offered: Resources,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) snapshot: Snapshot,
    pub(crate) sizes: SharedMap<(FrameworkId, TaskId), Arc<Sizes>>,
    /// By id.
    pub(crate) agents: Vec<Arc<AgentFacts>>,
    pub(crate) recovered: Vec<AgentRecord>,
    pub(crate) frameworks: Vec<FrameworkFacts>,
    pub(crate) completed: Vec<FrameworkRecord>,
    /// Ended tasks of frameworks that have not.
    pub(crate) completed_tasks: Vec<Task>,
    pub(crate) roles: Vec<RoleView>,
    pub(crate) started: Timestamp,
    /// `host:port` of the master, and its port.
    pub(crate) address: String,
    pub(crate) cluster: String,
}

impl Picture {
    /// What a task uses.
    pub(crate) fn resources(&self, task: &Task) -> Resources {
        let sizes = self.sizes.get(&(task.framework.clone(), task.id.clone()));
        sizes.map(|sizes| sizes.resources).unwrap_or_default()
    }

    /// Sums over tasks, by agent or by framework.
    pub(crate) fn by<K: Ord>(&self, key: impl Fn(&Task) -> K) -> BTreeMap<K, Vec<&Task>> {
        let mut groups: BTreeMap<K, Vec<&Task>> = BTreeMap::new();
        for task in self.snapshot.tasks.values() {
            groups.entry(key(task)).or_default().push(task);
        }
        groups
    }
}

impl Core {
    /// Takes one. `known` are the agents of an earlier one: those that are as they were then are shared with it.
    pub(super) fn picture(&self, address: String, known: &[Arc<AgentFacts>]) -> Picture {
        let own = FrameworkFacts {
            info: self.scheduler.framework().clone(),
            record: None,
            connected: true,
            recovered: false,
            offered: Resources::default(),
        };
        let joined = self.scheduler.joined_frameworks().map(|view| FrameworkFacts {
            info: FrameworkInfo {
                id: view.record.id.clone(),
                name: view.record.spec.name.clone(),
                ip: None,
                port: None,
            },
            record: Some(view.record.clone()),
            connected: view.connected,
            recovered: view.recovered,
            offered: view.offered,
        });
        let mut known = known.iter().peekable();
        let agents = self.scheduler.agents().map(|view| {
            while known.next_if(|one| one.record.id < view.record.id).is_some() {}
            let deactivated = view.order.deactivated;
            let holdings = view.holdings;
            let same = |one: &&Arc<AgentFacts>| {
                one.record == *view.record
                    && one.offered == view.offered
                    && one.deactivated == deactivated
                    && one.holdings == holdings
            };
            known.next_if(same).cloned().unwrap_or_else(|| {
                Arc::new(AgentFacts {
                    record: view.record.clone(),
                    offered: view.offered,
                    deactivated,
                    holdings: holdings.to_vec(),
                })
            })
        });
        let own_id = self.scheduler.framework().id.as_str();
        Picture {
            snapshot: self.table.snapshot(),
            sizes: self.sizes.clone(),
            agents: agents.collect(),
            recovered: self.scheduler.recovered_agents().cloned().collect(),
            frameworks: std::iter::once(own).chain(joined).collect(),
            completed: self.scheduler.completed_frameworks().cloned().collect(),
            completed_tasks: self.scheduler.completed_framework_tasks().cloned().collect(),
            roles: self.scheduler.roles(),
            started: self.started,
            address,
            cluster: own_id
                .rsplit_once('-')
                .map_or(own_id, |(cluster, _)| cluster)
                .to_owned(),
        }
    }
}
