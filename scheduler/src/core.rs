//! The scheduler's state machine: its state, its inputs' entrances and its outputs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{AgentId, FrameworkInfo, Network, SecretValues, TaskEvent};

use crate::{
    App, AppId, ClusterEvent, DeploymentRecord, Effect, GroupId, GroupRecord, GroupVersion, InstanceId, InstanceRecord,
    Maintenance, Record, Residence, Timestamp,
};

mod backoff;
mod change;
#[cfg(test)]
mod check;
mod command;
mod config;
mod crash_loop;
pub(crate) mod deadline;
mod deploy;
mod follow;
mod frameworks;
mod groups;
mod launch;
mod life;
mod loss;
mod maintenance;
mod member;
mod message;
mod networks;
mod node;
mod nodes;
mod operator;
mod order;
pub(crate) mod placement;
pub(crate) mod random;
mod residence;
mod restore;
mod rolling;
mod secrets;
mod service_port;
mod settle;
pub(crate) mod shares;
mod timers;
mod update;
mod view;

#[cfg(test)]
#[path = "core/tests.rs"]
mod tests;

pub use config::Config;
pub use crash_loop::CrashLoop;
pub use deadline::DeploymentEnd;
pub use frameworks::{RoleView, Subscription};
pub use placement::{Decision, Refusal};
pub use secrets::Put;
pub use service_port::ServicePorts;
pub use shares::ToldShare;
pub use update::Force;
pub use view::{AgentView, QueueView, Refusals, TaskFailure};

use backoff::Delay;
use deadline::Ends;
use frameworks::Frameworks;
use message::Subnets;
use node::{Link, Node};
use nodes::Nodes;
use placement::Decisions;
use random::Random;
use timers::{Timer, Timers};

/// An app that wants more instances than it has.
#[derive(Clone, Debug)]
struct Waiting {
    since: Timestamp,
    refusals: Refusals,
}

/// The scheduler core. A state machine without I/O, clock or randomness.
///
/// # Contract
/// - `handle_*` takes one input; then [`poll_effect`](Self::poll_effect) is called until it yields `None`, and the
///   effects are carried out in that order. A `Persist` must be durable before any later effect, and before the answer
///   to the command that caused it.
/// - [`handle_timeout`](Self::handle_timeout) is called when [`poll_timeout`](Self::poll_timeout) is reached, and at
///   once where it lies in the past (as it does right after [`new`](Self::new)).
/// - Messages to one agent arrive in order or not at all; those lost are repeated by the core. An agent has one
///   connection: a registration ends the one before, whose `handle_disconnect` is then left out.
/// - Statuses may come late, twice and in any order. Those that an agent makes for one task in one state carry growing
///   times, by its own clock. It tells each until the driver acknowledges it, which is once `handle_status` was true and
///   its effects were carried out; it keeps an ended task that long.
///
/// # Invariants
/// - The records persisted are enough: a core restored from them, at any point between two effects, arrives at the
///   same running tasks.
/// - A task is launched only after its instance was persisted; no two instances ever share a task id.
/// - The tasks of an instance with volumes run one after the other, all on the agent where the volumes are; volumes are
///   removed only on demand and only when nothing can use them any more.
/// - Resources and host ports of an agent count as used until the agent says that the task ended, or comes back
///   without it.
#[derive(Debug)]
pub struct Scheduler {
    config: Config,
    random: Random,
    framework: FrameworkInfo,
    now: Timestamp,
    started: bool,
    apps: BTreeMap<AppId, App>,
    /// Earlier versions of apps.
    versions: BTreeMap<AppId, BTreeMap<Timestamp, App>>,
    instances: BTreeMap<InstanceId, InstanceRecord>,
    by_app: BTreeMap<AppId, BTreeSet<InstanceId>>,
    nodes: Nodes,
    /// The number of the next new agent, once it is known.
    agents_numbered: Option<u64>,
    subnets: Subnets,
    /// Instances with volumes, those without a task too.
    residences: BTreeMap<InstanceId, Residence>,
    residences_by_app: BTreeMap<AppId, BTreeSet<InstanceId>>,
    secrets: SecretValues,
    maintenance: Maintenance,
    /// Networks beside the default one.
    networks: BTreeMap<String, Network>,
    service_ports: ServicePorts,
    delays: BTreeMap<AppId, Delay>,
    /// What instances of apps weigh in their VIPs, as it was told last.
    shares: BTreeMap<AppId, ToldShare>,
    waiting: BTreeMap<AppId, Waiting>,
    groups: BTreeMap<GroupId, GroupRecord>,
    group_versions: BTreeMap<GroupId, BTreeMap<Timestamp, GroupVersion>>,
    /// Those under way.
    deployments: BTreeMap<String, DeploymentRecord>,
    /// How earlier ones ended.
    ends: Ends,
    /// Which of them concerns an app.
    deploying: BTreeMap<AppId, String>,
    /// Apps with instances that are to be replaced: each status of one may let the next step be taken.
    rolling: BTreeSet<AppId>,
    /// The newest failure of each app, in memory only.
    failures: BTreeMap<AppId, TaskFailure>,
    /// How the newest placements were decided.
    decisions: Decisions,
    /// Apps to look at before the input's handling ends.
    dirty: BTreeSet<AppId>,
    /// Registered agents that have been silent for a little.
    suspects: BTreeSet<AgentId>,
    /// Ready instances of suspects that the stream tells as unhealthy.
    hidden: BTreeSet<InstanceId>,
    /// Agents that are gone for good once they are empty.
    leaving: BTreeSet<AgentId>,
    /// When an agent was given up last.
    last_loss: Option<Timestamp>,
    timers: Timers,
    effects: VecDeque<Effect>,
    last_version: Timestamp,
    frameworks: Frameworks,
}

impl Scheduler {
    /// The next thing to do, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next; a time in the past means now.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        if self.started {
            self.timers.next()
        } else {
            Some(Timestamp::default())
        }
    }

    /// Carries out what has become due.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let now = self.enter(now);
        self.forgive_standstill(now);
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::AgentSilent(agent) => self.give_up(&agent),
                Timer::AgentSuspect(agent) => self.suspect(&agent),
                Timer::ForgetAgent(agent) => self.forget_agent(&agent),
                Timer::Repeat(instance) => self.repeat(&instance),
                Timer::RepeatStray(agent, task) => self.kill_stray(&agent, &task),
                Timer::Inactive(id) => {
                    self.dirty
                        .extend(self.instances.get(&id).map(|instance| instance.app.clone()));
                }
                Timer::Expunge(id) => self.expunge(&id),
                Timer::RemoveVolumes(id) => {
                    self.remove_wiped(&id);
                    self.remove_role_volume(&id);
                }
                Timer::Delay(app) | Timer::Share(app) => {
                    self.dirty.insert(app);
                }
                Timer::Deadline(id) => self.deadline_over(&id),
                Timer::Maintenance => self.maintenance_turns(),
                Timer::Framework(timer) => self.framework_timer(timer),
            }
        }
        self.settle();
    }

    /// Notes the time; it never runs backwards. The first input starts the clock of agents still to come back.
    fn enter(&mut self, now: Timestamp) -> Timestamp {
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            let limit = self.now.after(self.config.reregister_timeout);
            for (id, node) in self.nodes.iter() {
                if node.link == Link::Recovered {
                    self.timers.set(Timer::AgentSilent(id.clone()), limit);
                }
            }
            let away = self.instances.values().filter(|one| one.unreachable_since.is_some());
            for id in away.map(|one| one.id.clone()).collect::<Vec<_>>() {
                self.time_unreachable(&id);
            }
            for id in self.deployments.keys().cloned().collect::<Vec<_>>() {
                self.time_deployment(&id);
            }
            self.await_frameworks();
            self.maintenance_turns();
            self.dirty.extend(self.apps.keys().cloned());
            self.dirty.extend(self.deploying.keys().cloned());
        }
        self.now
    }

    fn persist(&mut self, record: Record) {
        self.effects.push_back(Effect::Persist(record));
    }

    fn tell_event(&mut self, event: ClusterEvent) {
        self.effects.push_back(Effect::Tell(event));
    }

    fn emit(&mut self, event: TaskEvent) {
        self.effects.push_back(Effect::Emit(event));
    }
}
