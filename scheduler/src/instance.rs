//! Instances: one wanted copy of an app and the task that is it.

use std::fmt;

use model::{AgentId, LaunchSpec, TaskStatus};

use crate::{AppId, Timestamp};

/// Marathon's instance id, `my-service.instance-<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub String);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is kept of an instance that was placed.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceRecord {
    /// Its id.
    pub id: InstanceId,
    /// Its app.
    pub app: AppId,
    /// Version of the app it was launched from.
    pub version: Timestamp,
    /// Where.
    pub agent: AgentId,
    /// What was sent to the agent.
    pub spec: LaunchSpec,
    /// Service ports of its app's ports, in order, for the API.
    pub service_ports: Vec<u16>,
    /// Newest status.
    pub status: TaskStatus,
    /// When it was sent to the agent.
    pub staged_at: Timestamp,
    /// When it was first RUNNING.
    pub started_at: Option<Timestamp>,
    /// Whether it is to end and not be replaced by itself.
    pub unwanted: bool,
}
