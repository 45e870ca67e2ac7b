//! What agents tell the core, and what it remembers of them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::TakenNet;
use model::{AgentId, Ipv4Net, LaunchSpec, Network, Resources, TaskId, TaskStatus};

/// Where an agent is and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Fault domain, `@region` in constraints.
    pub region: Option<String>,
    /// Fault domain within it, `@zone`.
    pub zone: Option<String>,
    /// Role of all it offers: `*`, or `slave_public` on DC/OS's public agents.
    pub role: String,
}

impl Default for Domain {
    fn default() -> Self {
        Self {
            region: None,
            zone: None,
            role: "*".to_owned(),
        }
    }
}

/// A task that an agent has, told at registration.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedTask {
    /// As launched.
    pub spec: LaunchSpec,
    /// Newest status.
    pub status: TaskStatus,
}

/// An agent's first message on a connection, new or come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Its id from an earlier registration, if it has one.
    pub agent: Option<AgentId>,
    /// Host name or address under which it registers.
    pub hostname: String,
    /// Underlay address.
    pub ip: Ipv4Addr,
    /// Port of its own HTTP API.
    pub http_port: u16,
    /// All it offers.
    pub resources: Resources,
    /// Port ranges, both ends included (Mesos default 31000-32000).
    pub ports: Vec<(u16, u16)>,
    /// Text attributes.
    pub attributes: BTreeMap<String, String>,
    /// Place and role.
    pub domain: Domain,
    /// Addresses that it needs for itself: no network may have them.
    pub taken: Vec<TakenNet>,
    /// Every task it has, ended ones not yet acknowledged included.
    pub tasks: Vec<ReportedTask>,
}

/// The answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its id, to be kept.
    pub agent: AgentId,
    /// Its block of the overlay, kept for as long as the id is known.
    pub subnet: Option<Ipv4Net>,
    /// Tasks the agent has and should end: the core no longer wants them.
    pub unknown: Vec<TaskId>,
}

/// An agent is to be emptied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Longest time between SIGTERM and SIGKILL of its tasks.
    pub max_grace: Option<Duration>,
    /// Whether it is gone for good once it is empty.
    pub mark_gone: bool,
}

/// What operators said of an agent and that still holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentOrder {
    /// It is given no more tasks.
    pub deactivated: bool,
    /// It is to be emptied.
    pub drain: Option<Drain>,
    /// It will not come back, and its id is nobody's any more.
    pub gone: bool,
}

/// What an operator says of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentCall {
    /// `DEACTIVATE_AGENT`.
    Deactivate,
    /// `REACTIVATE_AGENT`.
    Reactivate,
    /// `DRAIN_AGENT`.
    Drain(Drain),
    /// `MARK_AGENT_GONE`.
    MarkGone,
}

/// What is kept of an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// As registered.
    pub hostname: String,
    /// Underlay address.
    pub ip: Ipv4Addr,
    /// Port of its own HTTP API.
    pub http_port: u16,
    /// All it offers.
    pub resources: Resources,
    /// Port ranges.
    pub ports: Vec<(u16, u16)>,
    /// Text attributes.
    pub attributes: BTreeMap<String, String>,
    /// Place and role.
    pub domain: Domain,
    /// Overlay block.
    pub subnet: Option<Ipv4Net>,
    /// Networks beside the default one. The same for all agents, and not kept with them.
    pub networks: Arc<[Network]>,
}
