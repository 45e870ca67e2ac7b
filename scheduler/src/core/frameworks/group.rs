//! Task groups: tasks that are launched together or not at all, share a network, and end together when one ends badly.

use model::{FrameworkId, LaunchSpec, PodPart, Reason, TaskId, TaskState, launched_task};

use crate::framework::FrameworkTaskRecord;
use crate::{Effect, TaskOrder};

use super::super::Scheduler;
use super::TaskKey;
use super::accept::Left;

impl Scheduler {
    /// `LAUNCH_GROUP`.
    pub(super) fn launch_group(&mut self, id: &FrameworkId, orders: &[TaskOrder], left: &mut Left) {
        let records = match self.records_of_group(id, orders, left) {
            Ok(records) => records,
            Err(why) => return self.refuse_group(id, orders, &why),
        };
        let mut keys = Vec::new();
        for record in records {
            keys.push(self.begin_task(record));
        }
        // One order for all of them.
        if let Some(first) = keys.first() {
            self.repeat_task(first);
        }
    }

    fn records_of_group(
        &mut self,
        id: &FrameworkId,
        orders: &[TaskOrder],
        left: &mut Left,
    ) -> Result<Vec<FrameworkTaskRecord>, String> {
        if orders.is_empty() {
            return Err("the task group has no tasks".to_owned());
        }
        let mut after = left.clone();
        let mut records: Vec<FrameworkTaskRecord> = Vec::new();
        for order in orders {
            self.check_order(id, order)?;
            if records.iter().any(|one| one.task == order.task) {
                return Err(format!("Task has duplicate ID: {}", order.task));
            }
            let from = after.take(order)?;
            records.push(self.task_of(id, order, from, &after)?);
        }
        let networks = |one: &FrameworkTaskRecord| one.spec.network.clone();
        if records.iter().any(|one| networks(one) != networks(&records[0])) {
            return Err("all tasks of a group are on one network: name it in each".to_owned());
        }
        let part = PodPart {
            instance: format!("group-{}", self.random.uuid()),
            members: records.iter().map(|one| one.spec.task.clone()).collect(),
            mounts: Vec::new(),
        };
        for record in &mut records {
            record.spec.pod = Some(Box::new(part.clone()));
        }
        *left = after;
        Ok(records)
    }

    fn refuse_group(&mut self, id: &FrameworkId, orders: &[TaskOrder], why: &str) {
        for order in orders {
            let mut status = self.own_status(TaskState::Error, why);
            status.reason = Some(Reason::TaskGroupInvalid);
            self.answer_task(id, &order.task, Some(order.agent.clone()), status);
        }
    }

    /// The others of a task's group that are known.
    fn members_of(&self, record: &FrameworkTaskRecord) -> Vec<&FrameworkTaskRecord> {
        let members = record.spec.pod.iter().flat_map(|part| &part.members);
        let known = |name: &TaskId| {
            self.frameworks
                .task(&launched_task(name)?)
                .filter(|one| one.spec.task == *name)
        };
        members.filter_map(known).collect()
    }

    /// The order for the whole group of a task. None once one of it is forgotten: then it arrived.
    pub(super) fn group_order(&self, record: &FrameworkTaskRecord) -> Option<Effect> {
        let specs: Vec<LaunchSpec> = self
            .members_of(record)
            .into_iter()
            .map(|one| one.spec.clone())
            .collect();
        let whole = record
            .spec
            .pod
            .as_ref()
            .is_some_and(|part| part.members.len() == specs.len());
        whole.then(|| Effect::LaunchPod {
            agent: record.agent.clone(),
            specs,
        })
    }

    /// A task ended badly or is to end: so are the others of its group.
    pub(super) fn end_group(&mut self, record: &FrameworkTaskRecord) {
        let others = self.members_of(record).into_iter();
        let others = others.filter(|one| one.task != record.task && !one.is_over() && one.kill.is_none());
        let keys: Vec<TaskKey> = others.map(|one| (one.framework().clone(), one.task.clone())).collect();
        for (id, task) in keys {
            self.kill_task_of(&id, task, None, None);
        }
    }
}
