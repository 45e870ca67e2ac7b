//! Frameworks that join over Mesos' scheduler API: what they say of themselves, what they ask, and what is kept of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, FrameworkId, KillPolicy, LaunchSpec, Resources, TaskId, TaskStatus};

use crate::{AgentRecord, Claim, Holding, HoldingChange, Timestamp, Unavailability};

/// What a framework can deal with, by Mesos' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Takes resources that may be taken back.
    RevocableResources,
    /// Understands TASK_KILLING.
    TaskKillingState,
    /// Takes offers with gpus.
    GpuResources,
    /// Understands shared volumes.
    SharedResources,
    /// Understands the finer states of lost tasks.
    PartitionAware,
    /// Has several roles.
    MultiRole,
    /// Understands reservations within reservations.
    ReservationRefinement,
    /// Takes offers of other regions.
    RegionAware,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 8] = [
        Self::RevocableResources,
        Self::TaskKillingState,
        Self::GpuResources,
        Self::SharedResources,
        Self::PartitionAware,
        Self::MultiRole,
        Self::ReservationRefinement,
        Self::RegionAware,
    ];

    /// The name in `FrameworkInfo.Capability.Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RevocableResources => "REVOCABLE_RESOURCES",
            Self::TaskKillingState => "TASK_KILLING_STATE",
            Self::GpuResources => "GPU_RESOURCES",
            Self::SharedResources => "SHARED_RESOURCES",
            Self::PartitionAware => "PARTITION_AWARE",
            Self::MultiRole => "MULTI_ROLE",
            Self::ReservationRefinement => "RESERVATION_REFINEMENT",
            Self::RegionAware => "REGION_AWARE",
        }
    }

    /// The capability of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }
}

/// What a framework says of itself (`FrameworkInfo`), but for its id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameworkSpec {
    /// User that its tasks run as where they name none.
    pub user: String,
    /// Its name.
    pub name: String,
    /// How long its tasks run on without it.
    pub failover_timeout: Duration,
    /// Whether its tasks outlive their agent's daemon; here all do.
    pub checkpoint: bool,
    /// Roles it takes offers for; at least one.
    pub roles: Vec<String>,
    /// Where its scheduler runs, as it says.
    pub hostname: String,
    /// As whom it authenticates, as it says.
    pub principal: Option<String>,
    /// Its own page.
    pub webui_url: Option<String>,
    /// What it can deal with.
    pub capabilities: BTreeSet<Capability>,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

impl FrameworkSpec {
    /// Whether it has said that it can deal with that.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// What is kept of a framework.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkRecord {
    /// Its id.
    pub id: FrameworkId,
    /// As it said last.
    pub spec: FrameworkSpec,
    /// When it joined first.
    pub registered_at: Timestamp,
    /// When it came back last.
    pub reregistered_at: Option<Timestamp>,
    /// When it was torn down or its time was over: its id never comes back.
    pub removed_at: Option<Timestamp>,
}

/// Tells updates of a task apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UpdateId(pub u128);

/// A status that its framework has not acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingUpdate {
    /// Its id.
    pub id: UpdateId,
    /// What it says.
    pub status: TaskStatus,
}

/// What is kept of a framework's task, until it has ended and its framework has acknowledged that.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkTaskRecord {
    /// Its id, unique within its framework.
    pub task: TaskId,
    /// `TaskInfo.name`; the name in `spec` is that of its DiscoveryInfo where it has one.
    pub name: String,
    /// Whether it has a DiscoveryInfo.
    pub has_discovery: bool,
    /// Where.
    pub agent: AgentId,
    /// Role whose resources it uses.
    pub role: String,
    /// What of its resources comes from reservations of that role.
    pub from: Vec<Holding>,
    /// What was sent to the agent; the task id in it is the launch's name.
    pub spec: LaunchSpec,
    /// Newest status.
    pub status: TaskStatus,
    /// When it was launched.
    pub launched_at: Timestamp,
    /// It is to end, and how.
    pub kill: Option<KillPolicy>,
    /// Since when its agent counts as unreachable.
    pub unreachable_since: Option<Timestamp>,
    /// Statuses to be acknowledged, oldest first.
    pub pending: VecDeque<PendingUpdate>,
}

impl FrameworkTaskRecord {
    /// Its framework.
    pub fn framework(&self) -> &FrameworkId {
        &self.spec.framework
    }

    /// What of its resources comes from no reservation.
    pub fn unreserved(&self) -> Resources {
        self.spec.resources.minus(&crate::reservation::total(&self.from))
    }

    /// Whether it has ended and only its acknowledgement is waited for.
    pub fn is_over(&self) -> bool {
        self.status.state.is_terminal()
    }
}

/// An offer's id; one that was taken, declined or taken back never comes again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId(Arc<str>);

impl OfferId {
    /// Wraps the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::from(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is free on one agent, held for one framework.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// For whom.
    pub framework: FrameworkId,
    /// For which of its roles.
    pub role: String,
    /// Scalars.
    pub resources: Resources,
    /// Port ranges, both ends included.
    pub ports: Vec<(u16, u16)>,
    /// What is kept for its role, beside that.
    pub reserved: Vec<Holding>,
    /// The agent.
    pub agent: Arc<AgentRecord>,
    /// When its machine is expected to be away.
    pub unavailability: Option<Unavailability>,
}

impl Offer {
    /// All that it holds.
    pub(crate) fn total(&self) -> Resources {
        self.resources.plus(&crate::reservation::total(&self.reserved))
    }
}

/// One task that a framework launches.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskOrder {
    /// Its id as written.
    pub task: TaskId,
    /// `TaskInfo.name`.
    pub name: String,
    /// Whether it has a DiscoveryInfo.
    pub has_discovery: bool,
    /// Where it says it goes.
    pub agent: AgentId,
    /// What of its resources comes from reservations.
    pub from: Vec<Claim>,
    /// What is sent to the agent, its ids still those of the order; or why it cannot be carried out.
    pub spec: Result<Box<LaunchSpec>, String>,
}

/// One operation of an `ACCEPT`.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// `LAUNCH`.
    Launch(Vec<TaskOrder>),
    /// `LAUNCH_GROUP`: all of them or none; they share a network and end together.
    LaunchGroup(Vec<TaskOrder>),
    /// `RESERVE`, `UNRESERVE`, `CREATE`, `DESTROY`.
    Change {
        /// Its id, if its framework wants to know what became of it.
        id: Option<String>,
        /// What.
        change: HoldingChange,
    },
    /// One that is not carried out.
    Refused {
        /// Its id, if its framework wants to know what became of it.
        id: Option<String>,
        /// Why.
        why: String,
        /// Tasks that would have come of it.
        tasks: Vec<(TaskId, AgentId)>,
    },
}

/// What a subscribed framework asks.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameworkCall {
    /// `TEARDOWN`.
    Teardown,
    /// `ACCEPT`.
    Accept {
        /// Offers of one agent.
        offers: Vec<OfferId>,
        /// In order.
        operations: Vec<Operation>,
        /// How long what is left of them is not wanted.
        refuse: Duration,
    },
    /// `DECLINE`.
    Decline {
        /// Which.
        offers: Vec<OfferId>,
        /// For how long.
        refuse: Duration,
    },
    /// `REVIVE`; no roles are all.
    Revive(Vec<String>),
    /// `SUPPRESS`; no roles are all.
    Suppress(Vec<String>),
    /// `KILL`.
    Kill {
        /// Which.
        task: TaskId,
        /// Where it is, as the framework believes.
        agent: Option<AgentId>,
        /// In place of the task's own time between SIGTERM and SIGKILL.
        grace: Option<Duration>,
    },
    /// `SHUTDOWN` of an executor. That of a command task has the task's id.
    Shutdown {
        /// Executor.
        executor: String,
        /// Where.
        agent: AgentId,
    },
    /// `ACKNOWLEDGE`.
    Acknowledge {
        /// Which task.
        task: TaskId,
        /// Which of its updates.
        update: UpdateId,
    },
    /// `RECONCILE`; no tasks are all that are known.
    Reconcile(Vec<(TaskId, Option<AgentId>)>),
    /// `UPDATE_FRAMEWORK`: what it says of itself from now on, and the roles it wants no offers for.
    Update(Box<FrameworkSpec>, Vec<String>),
    /// `MESSAGE` and `REQUEST`: taken and without effect, as there are no executors to tell and the allocator hears no wishes.
    Nothing,
}

/// Who made a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateSource {
    /// The master.
    Master,
    /// The agent or what runs the task.
    Executor,
}

/// A status for its framework.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameworkUpdate {
    /// Of which task.
    pub task: TaskId,
    /// Where it is.
    pub agent: Option<AgentId>,
    /// What is said; its state is one that the framework understands.
    pub status: TaskStatus,
    /// By whom.
    pub source: UpdateSource,
    /// To be acknowledged; `None`: not to be.
    pub id: Option<UpdateId>,
    /// Since when its agent is unreachable.
    pub unreachable_since: Option<Timestamp>,
}

/// What a framework is told.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameworkEvent {
    /// It has joined, or come back.
    Subscribed(FrameworkId),
    /// Offers.
    Offers(Vec<Offer>),
    /// An offer is taken back.
    Rescind(OfferId),
    /// A status.
    Update(Box<FrameworkUpdate>),
    /// An agent is lost.
    AgentFailed(AgentId),
    /// An operation was carried out.
    OperationDone(String),
    /// An operation was not carried out.
    OperationFailed {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// The stream ends here, and why.
    Error(String),
    /// The stream ends here.
    Closed,
}

/// One subscription: the connection that a framework's events go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u128);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        f.write_str(&parts.join("-"))
    }
}

/// Why a framework's call is not taken at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameworkRefusal {
    /// No such framework.
    #[error("Framework cannot be found")]
    Unknown,
    /// It has no stream.
    #[error("Framework is not subscribed")]
    NotSubscribed,
    /// The stream named is not its own.
    #[error(
        "The stream ID included in this request didn't match the stream ID currently associated with framework ID {0}"
    )]
    WrongStream(FrameworkId),
    /// What it asks cannot be.
    #[error("{0}")]
    Invalid(String),
}

/// A framework as the APIs show it.
#[derive(Clone, Copy, Debug)]
pub struct FrameworkView<'a> {
    /// What is kept of it.
    pub record: &'a FrameworkRecord,
    /// Whether its stream is open.
    pub connected: bool,
    /// Whether it was restored and has not come back yet.
    pub recovered: bool,
    /// What its tasks use, by role.
    pub allocated: &'a BTreeMap<String, Resources>,
    /// What is offered to it, summed up.
    pub offered: Resources,
}
