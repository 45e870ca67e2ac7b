//! Frameworks that joined: their state, and the entrance of what they ask.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{AgentId, FrameworkId, Resources, Task, TaskId};

use crate::framework::FrameworkTaskRecord;
use crate::{
    Effect, FrameworkCall, FrameworkEvent, FrameworkRecord, FrameworkRefusal, Offer, OfferId, Quota, StreamId,
    Timestamp,
};

use super::Scheduler;
use super::timers::Timer;

mod accept;
mod follow;
mod group;
mod holdings;
mod life;
mod lost;
mod offers;
mod quota;
mod reconcile;
mod share;
mod subscribe;
mod updates;
mod view;

pub(super) use lost::Return;
pub use subscribe::Subscription;
pub use view::RoleView;

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;

/// Ended tasks of one framework that are remembered for readers (DC/OS: 100).
const COMPLETED_TASKS: usize = 100;
/// Frameworks remembered after their end (Mesos: 50).
const COMPLETED_FRAMEWORKS: usize = 50;

/// A task of a framework.
pub(super) type TaskKey = (FrameworkId, TaskId);

/// What is due for a framework.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FrameworkTimer {
    /// It stayed away for too long.
    Failover(FrameworkId),
    /// It neither took nor declined the offer.
    Offer(OfferId),
    /// Its refusal is over.
    Filter(FrameworkId, AgentId, String),
    /// A Launch or Kill has had no answer.
    Repeat(TaskKey),
    /// An update was not acknowledged.
    Update(TaskKey),
}

/// A refusal: nothing that is not larger is offered again before its end.
#[derive(Clone, Debug)]
struct Filter {
    resources: Resources,
    until: Timestamp,
}

/// A framework as the core sees it now.
#[derive(Debug)]
struct Joined {
    record: FrameworkRecord,
    stream: Option<StreamId>,
    /// Whether it was restored and has not come back yet.
    recovered: bool,
    suppressed: BTreeSet<String>,
    filters: BTreeMap<(AgentId, String), Filter>,
    offers: BTreeSet<OfferId>,
    tasks: BTreeMap<TaskId, FrameworkTaskRecord>,
    /// How often each unacknowledged update was sent.
    attempts: BTreeMap<TaskId, u32>,
    /// What its tasks use, by role.
    allocated: BTreeMap<String, Resources>,
    /// What is offered to it, by role.
    offered: BTreeMap<String, Resources>,
    completed: VecDeque<Task>,
}

impl Joined {
    fn new(record: FrameworkRecord) -> Self {
        Self {
            record,
            stream: None,
            recovered: false,
            suppressed: BTreeSet::new(),
            filters: BTreeMap::new(),
            offers: BTreeSet::new(),
            tasks: BTreeMap::new(),
            attempts: BTreeMap::new(),
            allocated: BTreeMap::new(),
            offered: BTreeMap::new(),
            completed: VecDeque::new(),
        }
    }

    /// All of a role that is its own now.
    fn held(&self, role: &str) -> Resources {
        let of = |sums: &BTreeMap<String, Resources>| sums.get(role).copied().unwrap_or_default();
        of(&self.allocated).plus(&of(&self.offered))
    }
}

fn add(sums: &mut BTreeMap<String, Resources>, role: &str, resources: &Resources) {
    let sum = sums.entry(role.to_owned()).or_default();
    *sum = sum.plus(resources);
}

fn subtract(sums: &mut BTreeMap<String, Resources>, role: &str, resources: &Resources) {
    if let Some(sum) = sums.get_mut(role) {
        *sum = sum.minus(resources);
        if *sum == Resources::default() {
            sums.remove(role);
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Frameworks {
    joined: BTreeMap<FrameworkId, Joined>,
    completed: BTreeMap<FrameworkId, FrameworkRecord>,
    offers: BTreeMap<OfferId, Offer>,
    /// Agents with something to offer that was not offered yet.
    to_offer: BTreeSet<AgentId>,
    /// Offers of one start mean nothing to another.
    epoch: String,
    next_offer: u64,
    /// What Marathon's instances use.
    marathon: Resources,
    /// Weights of roles that are not 1.
    weights: BTreeMap<String, f64>,
    /// By role.
    quotas: BTreeMap<String, Quota>,
}

impl Frameworks {
    /// Something became free on an agent.
    pub(super) fn freed(&mut self, agent: &AgentId) {
        if !self.joined.is_empty() {
            self.to_offer.insert(agent.clone());
        }
    }

    pub(super) fn marathon_uses(&mut self, resources: &Resources) {
        self.marathon = self.marathon.plus(resources);
    }

    pub(super) fn marathon_frees(&mut self, resources: &Resources) {
        self.marathon = self.marathon.minus(resources);
    }

    fn task_mut(&mut self, key: &TaskKey) -> Option<&mut FrameworkTaskRecord> {
        self.joined.get_mut(&key.0)?.tasks.get_mut(&key.1)
    }

    fn task(&self, key: &TaskKey) -> Option<&FrameworkTaskRecord> {
        self.joined.get(&key.0)?.tasks.get(&key.1)
    }
}

impl Scheduler {
    /// Takes a call of a framework that says to be subscribed on `stream`. What comes of it are events.
    pub fn handle_framework(
        &mut self,
        now: Timestamp,
        id: &FrameworkId,
        stream: StreamId,
        call: FrameworkCall,
    ) -> Result<(), FrameworkRefusal> {
        self.enter(now);
        let framework = self.frameworks.joined.get(id).ok_or(FrameworkRefusal::Unknown)?;
        match framework.stream {
            None => return Err(FrameworkRefusal::NotSubscribed),
            Some(own) if own != stream => return Err(FrameworkRefusal::WrongStream(id.clone())),
            Some(_) => {}
        }
        match call {
            FrameworkCall::Teardown => self.remove_framework(id, "torn down by its scheduler"),
            FrameworkCall::Accept {
                offers,
                operations,
                refuse,
            } => self.accept(id, &offers, operations, refuse),
            FrameworkCall::Decline { offers, refuse } => self.decline(id, &offers, refuse),
            FrameworkCall::Revive(roles) => self.revive(id, &roles),
            FrameworkCall::Suppress(roles) => self.suppress(id, &roles),
            FrameworkCall::Kill { task, agent, grace } => self.kill_task_of(id, task, agent, grace),
            FrameworkCall::Shutdown { executor, agent } => {
                let task = TaskId::new(executor);
                let there = self.frameworks.task(&(id.clone(), task.clone()));
                // There are no executors but those of command tasks.
                if there.is_some_and(|record| record.agent == agent) {
                    self.kill_task_of(id, task, Some(agent), None);
                }
            }
            FrameworkCall::Acknowledge { task, update } => self.acknowledge(&(id.clone(), task), update),
            FrameworkCall::Reconcile(tasks) => self.reconcile_tasks(id, tasks),
            FrameworkCall::Update(spec, suppressed) => {
                self.update_framework(id, *spec, suppressed)
                    .map_err(FrameworkRefusal::Invalid)?;
            }
            FrameworkCall::Nothing => {}
        }
        self.settle();
        Ok(())
    }

    pub(super) fn framework_timer(&mut self, timer: FrameworkTimer) {
        match timer {
            FrameworkTimer::Failover(id) => {
                let away = self.frameworks.joined.get(&id).is_some_and(|one| one.stream.is_none());
                if away {
                    self.remove_framework(&id, "it stayed away for longer than its failover timeout");
                }
            }
            FrameworkTimer::Offer(offer) => self.rescind(&offer),
            FrameworkTimer::Filter(id, agent, role) => {
                if let Some(framework) = self.frameworks.joined.get_mut(&id) {
                    framework.filters.remove(&(agent.clone(), role));
                }
                self.frameworks.freed(&agent);
            }
            FrameworkTimer::Repeat(key) => self.repeat_task(&key),
            FrameworkTimer::Update(key) => self.send_update(&key),
        }
    }

    fn set_timer(&mut self, timer: FrameworkTimer, after: Duration) {
        let at = self.now.after(after);
        self.timers.set(Timer::Framework(timer), at);
    }

    fn cancel_timer(&mut self, timer: FrameworkTimer) {
        self.timers.cancel(&Timer::Framework(timer));
    }

    /// Tells a framework, if it is there to hear it.
    fn tell_framework(&mut self, id: &FrameworkId, event: FrameworkEvent) {
        let stream = self.frameworks.joined.get(id).and_then(|one| one.stream);
        if let Some(stream) = stream {
            let event = Box::new(event);
            self.effects.push_back(Effect::ToFramework { stream, event });
        }
    }
}
