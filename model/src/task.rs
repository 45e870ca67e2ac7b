//! A task as the stream tells it: state, health, addresses, ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{AgentId, CheckResults, FrameworkId, Protocol, TaskId};

/// Mesos task states, by their wire names `TASK_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskState {
    /// Accepted by the master, not yet seen by an executor.
    Staging,
    /// The executor has it; the process may not serve yet.
    Starting,
    /// Runs, and (for Revere's own agent) its VIP ports listen.
    Running,
    /// Told to end: established connections stay, no new ones.
    Killing,
    /// Ended with exit status 0.
    Finished,
    /// Ended with another status or could not be started.
    Failed,
    /// Ended because it was told to.
    Killed,
    /// Gone for frameworks that don't know the finer states.
    Lost,
    /// The definition was wrong.
    Error,
    /// Never started.
    Dropped,
    /// Its agent is unreachable; it may come back.
    Unreachable,
    /// Its agent was removed.
    Gone,
    /// Its agent was removed by an operator.
    GoneByOperator,
    /// The master does not know it.
    Unknown,
}

impl TaskState {
    /// All states, in the order of the Mesos enumeration's meaning here.
    pub const ALL: [Self; 14] = [
        Self::Staging,
        Self::Starting,
        Self::Running,
        Self::Killing,
        Self::Finished,
        Self::Failed,
        Self::Killed,
        Self::Lost,
        Self::Error,
        Self::Dropped,
        Self::Unreachable,
        Self::Gone,
        Self::GoneByOperator,
        Self::Unknown,
    ];

    /// The Mesos wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
            Self::Killed => "TASK_KILLED",
            Self::Lost => "TASK_LOST",
            Self::Error => "TASK_ERROR",
            Self::Dropped => "TASK_DROPPED",
            Self::Unreachable => "TASK_UNREACHABLE",
            Self::Gone => "TASK_GONE",
            Self::GoneByOperator => "TASK_GONE_BY_OPERATOR",
            Self::Unknown => "TASK_UNKNOWN",
        }
    }

    /// The state of that wire name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether no later state follows (`LOST` included, as dcos-net treats it).
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Finished
                | Self::Failed
                | Self::Killed
                | Self::Lost
                | Self::Error
                | Self::Dropped
                | Self::Gone
                | Self::GoneByOperator
        )
    }
}

/// Whose port number a [`TaskPort`] carries (Marathon's `network-scope` label).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortScope {
    /// A port of the agent's address.
    Host,
    /// A port of the task's own address.
    Container,
}

/// One port of a task's DiscoveryInfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPort {
    /// The port number, never 0.
    pub number: u16,
    /// The declared name, if any.
    pub name: Option<String>,
    /// TCP or UDP; a `tcp,udp` port is two entries.
    pub protocol: Protocol,
    /// Whether `number` is on the agent's address or on the task's.
    pub scope: PortScope,
    /// Labels in the order declared; `VIP*` keys make it a backend.
    pub labels: Vec<(String, String)>,
}

/// A host port that leads to a container port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// Port on the agent's address.
    pub host_port: u16,
    /// Port on the task's address.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The newest thing said about a task's life.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskStatus {
    /// The state.
    pub state: TaskState,
    /// The verdict of its health check, or `None` while there is none.
    pub healthy: Option<bool>,
    /// The task's own addresses, in order; empty for the host network of an agent that does not tell.
    pub addresses: Vec<IpAddr>,
    /// Free text for people.
    pub message: Option<String>,
    /// What came of its checks; only Revere's own agents tell it.
    pub checks: Box<CheckResults>,
    /// Unix time in milliseconds at which the status was made.
    pub timestamp_ms: u64,
}

/// A task in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// DiscoveryInfo name, else the task name; Marathon's `/a/b` is `b.a`.
    pub name: String,
    /// The framework that owns it.
    pub framework: FrameworkId,
    /// The agent it runs on.
    pub agent: AgentId,
    /// Newest status.
    pub status: TaskStatus,
    /// Whether a Mesos health check is declared: without a verdict it is then not ready.
    pub has_health_check: bool,
    /// Whether the task carries a DiscoveryInfo (decides which SRV forms Mesos-DNS made).
    pub has_discovery: bool,
    /// Ports of the DiscoveryInfo.
    pub ports: Vec<TaskPort>,
    /// Port mappings of its container.
    pub mappings: Vec<PortMapping>,
    /// Host ports of its `ports` resource, expanded, in order.
    pub host_ports: Vec<u16>,
    /// Task labels.
    pub labels: BTreeMap<String, String>,
}

impl Task {
    /// Weight of this task as a backend: 1 takes new connections, 0 keeps old ones only, `None` is no backend.
    ///
    /// The rule of dcos-net: RUNNING counts 1 unless unhealthy or declared-but-not-yet-checked (0); KILLING counts 0.
    pub fn weight(&self) -> Option<u16> {
        match self.status.state {
            TaskState::Running => Some(u16::from(self.status.healthy.unwrap_or(!self.has_health_check))),
            TaskState::Killing => Some(0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_names_round_trip() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::parse(state.as_str()), Some(state));
        }
        assert_eq!(TaskState::parse("TASK_NONSENSE"), None);
    }
}
