//! Why an instance is where it is: the newest decisions, for those who ask.

use std::collections::{BTreeMap, VecDeque};

use model::{AgentId, Resources, TaskId};

use crate::core::Refusals;

/// Decisions remembered. Older ones are forgotten; a restart of the master forgets all.
const REMEMBERED: usize = 10_000;

/// How one placement was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Instances of the app that the chosen agent had.
    pub same_app: u32,
    /// What was used of it.
    pub used: Resources,
    /// Agents looked at.
    pub considered: u32,
    /// Those that could not take it.
    pub refusals: Refusals,
    /// Those that would have been next, the first of each group, best first.
    pub next: Vec<AgentId>,
}

/// A bounded memory of decisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    by_task: BTreeMap<TaskId, Decision>,
    order: VecDeque<TaskId>,
}

impl Decisions {
    pub(crate) fn remember(&mut self, task: TaskId, decision: Decision) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_task.remove(&oldest);
        }
        self.order.push_back(task.clone());
        self.by_task.insert(task, decision);
    }

    pub(crate) fn of(&self, task: &TaskId) -> Option<&Decision> {
        self.by_task.get(task)
    }
}
