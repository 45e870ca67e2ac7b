//! The inputs of the fold: what the Mesos operator stream says, and what this node alone knows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::{AgentId, FrameworkId, Ipv4Net, Network, PortMapping, Task, TaskId, TaskStatus};

/// An agent as the stream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInfo {
    /// Its id.
    pub id: AgentId,
    /// `hostname` as registered (an address or a name).
    pub hostname: String,
    /// The IPv4 address `hostname` stands for, or `None` when it could not be resolved.
    pub ip: Option<Ipv4Addr>,
    /// The port of its API, when known.
    pub port: Option<u16>,
    /// The node's block of the overlay network, when the master gave it one (attribute `overlay_subnet`).
    pub subnet: Option<Ipv4Net>,
    /// Overlay networks beside the default one (attribute `overlay_networks`).
    pub networks: Arc<[Network]>,
    /// Text attributes.
    pub attributes: BTreeMap<String, String>,
}

/// A framework as the stream tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameworkInfo {
    /// Its id.
    pub id: FrameworkId,
    /// Its name, the `marathon` in `my-service.marathon.mesos`.
    pub name: String,
    /// The address of its scheduler, when known.
    pub ip: Option<IpAddr>,
    /// The port its scheduler listens on, when known.
    pub port: Option<u16>,
}

/// The whole state at the start of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateSnapshot {
    /// Registered agents.
    pub agents: Vec<AgentInfo>,
    /// Agents the master knows from before its restart and has not heard from yet.
    pub recovered_agents: Vec<AgentId>,
    /// Frameworks.
    pub frameworks: Vec<FrameworkInfo>,
    /// All tasks the master tells, ended ones included.
    pub tasks: Vec<Task>,
}

/// One input of the service table.
#[derive(Clone, Debug, PartialEq)]
pub enum TaskEvent {
    /// A stream begins: this is all the master knows now.
    Snapshot(StateSnapshot),
    /// A task is new.
    TaskAdded(Task),
    /// A task's status changed. Names and declared ports stay.
    TaskUpdated {
        /// Owning framework.
        framework: FrameworkId,
        /// The task.
        task: TaskId,
        /// The newest status.
        status: TaskStatus,
        /// Port mappings that this status tells; they add to those known.
        mappings: Vec<PortMapping>,
    },
    /// An agent registered, or came back.
    AgentAdded(AgentInfo),
    /// An agent is gone.
    AgentRemoved(AgentId),
    /// A framework is new or changed.
    FrameworkAdded(FrameworkInfo),
    /// A framework and all its tasks are gone.
    FrameworkRemoved(FrameworkId),
    /// The agent on this node saw its own task end: known dead here before the master says so.
    LocalExit(TaskId),
    /// An agent that came back after a new snapshot has had time to tell its tasks: those it did not are gone.
    AgentSettled(AgentId),
    /// The hold on tasks that a new snapshot did not confirm is over; drop those still unconfirmed.
    HoldExpired,
}
