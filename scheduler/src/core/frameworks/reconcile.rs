//! `RECONCILE`, and other answers that the master makes by itself: they have no id and are not acknowledged.

use model::{AgentId, FrameworkId, Reason, TaskId, TaskState, TaskStatus};

use crate::framework::UpdateSource;
use crate::{FrameworkEvent, FrameworkUpdate};

use super::super::Scheduler;
use super::super::node::Link;
use super::updates::understood;

impl Scheduler {
    /// No tasks: every task that is known.
    pub(super) fn reconcile_tasks(&mut self, id: &FrameworkId, mut asked: Vec<(TaskId, Option<AgentId>)>) {
        if asked.is_empty() {
            let Some(framework) = self.frameworks.joined.get(id) else {
                return;
            };
            let known = framework.tasks.values();
            asked = known
                .map(|record| (record.task.clone(), Some(record.agent.clone())))
                .collect();
        }
        for (task, agent) in asked {
            self.reconcile_one(id, &task, agent.as_ref());
        }
    }

    /// Says what is known of one task.
    pub(super) fn reconcile_one(&mut self, id: &FrameworkId, task: &TaskId, agent: Option<&AgentId>) {
        let known = self.frameworks.task(&(id.clone(), task.clone()));
        let (mut status, agent) = match known {
            Some(record) => (record.status.clone(), Some(record.agent.clone())),
            None => {
                let link = agent.and_then(|agent| self.nodes.get(agent)).map(|node| node.link);
                let state = match link {
                    Some(Link::Connected | Link::Broken | Link::Recovered) => TaskState::Gone,
                    Some(Link::Unreachable) => TaskState::Unreachable,
                    None => TaskState::Unknown,
                };
                let what = "Reconciliation: Task is unknown";
                (self.own_status(state, what), agent.cloned())
            }
        };
        status.reason = Some(Reason::Reconciliation);
        self.answer_task(id, task, agent, status);
    }

    /// A status of the master's own.
    pub(super) fn answer_task(
        &mut self,
        id: &FrameworkId,
        task: &TaskId,
        agent: Option<AgentId>,
        mut status: TaskStatus,
    ) {
        let Some(framework) = self.frameworks.joined.get(id) else {
            return;
        };
        status.state = understood(framework, status.state);
        let known = framework.tasks.get(task);
        let update = FrameworkUpdate {
            task: task.clone(),
            agent,
            status,
            source: UpdateSource::Master,
            id: None,
            unreachable_since: known.and_then(|record| record.unreachable_since),
        };
        self.tell_framework(id, FrameworkEvent::Update(Box::new(update)));
    }
}
