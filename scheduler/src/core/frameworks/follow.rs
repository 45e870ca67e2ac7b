//! Frameworks and their tasks in a core that only follows.

use std::collections::BTreeSet;

use model::{AgentId, Task};

use crate::framework::FrameworkTaskRecord;
use crate::{Holding, Record};

use super::super::Scheduler;
use super::view::shown;
use super::{COMPLETED_TASKS, Joined, TaskKey, add, subtract};

impl Scheduler {
    /// What is left of [`Scheduler::follow`].
    pub(in crate::core) fn follow_framework(&mut self, record: Record, touched: &mut BTreeSet<AgentId>) {
        match record {
            Record::PutWeight(role, weight) => drop(self.frameworks.weights.insert(role, weight)),
            Record::PutMaintenance(maintenance) => self.take_maintenance(*maintenance),
            Record::PutHoldings(agent, holdings) => self.follow_holdings(agent, holdings, touched),
            Record::DeleteHoldings(agent) => self.follow_holdings(agent, Vec::new(), touched),
            Record::PutQuota(quota) => drop(self.frameworks.quotas.insert(quota.role.clone(), *quota)),
            Record::DeleteQuota(role) => drop(self.frameworks.quotas.remove(&role)),
            Record::PutFramework(record) if record.removed_at.is_some() => {
                self.frameworks.joined.remove(&record.id);
                self.frameworks.completed.insert(record.id.clone(), *record);
            }
            Record::PutFramework(record) => match self.frameworks.joined.get_mut(&record.id) {
                Some(known) => known.record = *record,
                None => drop(self.frameworks.joined.insert(record.id.clone(), Joined::new(*record))),
            },
            Record::DeleteFramework(id) => {
                self.frameworks.joined.remove(&id);
                self.frameworks.completed.remove(&id);
            }
            Record::PutFrameworkTask(task) => {
                let key = (task.framework().clone(), task.task.clone());
                self.follow_task(&key, Some(*task), touched);
            }
            Record::DeleteFrameworkTask(framework, task) => self.follow_task(&(framework, task), None, touched),
            _ => {}
        }
    }

    fn follow_holdings(&mut self, agent: AgentId, holdings: Vec<Holding>, touched: &mut BTreeSet<AgentId>) {
        if let Some(node) = self.nodes.get_mut(&agent) {
            node.set_holdings(holdings);
        }
        touched.insert(agent);
    }

    fn follow_task(&mut self, key: &TaskKey, new: Option<FrameworkTaskRecord>, touched: &mut BTreeSet<AgentId>) {
        let Some(framework) = self.frameworks.joined.get_mut(&key.0) else {
            return;
        };
        if let Some(old) = framework.tasks.remove(&key.1) {
            if !old.is_over() {
                subtract(&mut framework.allocated, &old.role, &old.spec.resources);
                if let Some(node) = self.nodes.get_mut(&old.agent) {
                    node.drop_task(key, &old);
                }
            } else if new.is_none() {
                if framework.completed.len() >= COMPLETED_TASKS {
                    framework.completed.pop_front();
                }
                framework.completed.push_back(shown(&old));
            }
            touched.insert(old.agent);
        }
        if let Some(new) = new {
            if !new.is_over() {
                add(&mut framework.allocated, &new.role, &new.spec.resources);
                if let Some(node) = self.nodes.get_mut(&new.agent) {
                    node.add_task(key.clone(), &new);
                }
            }
            touched.insert(new.agent.clone());
            framework.tasks.insert(key.1.clone(), new);
        }
    }

    /// The live tasks among these, as the stream tells them.
    pub(in crate::core) fn framework_tasks_of<'a>(
        &'a self,
        keys: &'a BTreeSet<TaskKey>,
    ) -> impl Iterator<Item = Task> + 'a {
        let records = keys.iter().filter_map(|key| self.frameworks.task(key));
        records.filter(|record| !record.is_over()).map(shown)
    }

    pub(in crate::core) fn has_unreachable(&self, keys: &BTreeSet<TaskKey>) -> bool {
        let mut records = keys.iter().filter_map(|key| self.frameworks.task(key));
        records.any(|record| record.unreachable_since.is_some())
    }
}
