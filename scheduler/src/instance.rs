//! Instances: one wanted copy of an app and the task that is it, or of a pod and the tasks of its containers.

use std::fmt;
use std::sync::Arc;

use model::{AgentId, LaunchSpec, TaskId, TaskStatus};

use crate::{AppId, Timestamp};

/// Marathon's instance id, `my-service.instance-<uuid>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub String);

impl InstanceId {
    /// A new instance's id: `/a/b` gives `a_b.instance-<uuid>`.
    pub(crate) fn new_for(app: &AppId, uuid: &str) -> Self {
        Self(format!(
            "{}.instance-{uuid}",
            app.as_str().trim_start_matches('/').replace('/', "_")
        ))
    }

    /// The id of the instance that a task belongs to, if it is named as Marathon names tasks: of an app
    /// `<instance>._app.1`, of a pod `<instance>.<container>.1`.
    pub fn of_task(task: &TaskId) -> Option<Self> {
        let (rest, attempt) = task.as_str().rsplit_once('.')?;
        attempt.parse::<u32>().ok()?;
        let (instance, _) = rest.rsplit_once('.')?;
        Some(Self(instance.to_owned()))
    }

    /// The id of its first task.
    pub fn task(&self) -> TaskId {
        self.attempt(1)
    }

    /// The id of the task of that number; only an instance with volumes has more than one, one after the other.
    pub fn attempt(&self, number: u32) -> TaskId {
        TaskId::new(format!("{}._app.{number}", self.0))
    }

    /// The id of a container's task, of a pod.
    pub fn member(&self, container: &str) -> TaskId {
        TaskId::new(format!("{}.{container}.1", self.0))
    }

    /// The id of the Mesos executor that a pod's instance would be: `instance-a_b.<uuid>`.
    pub fn executor(&self) -> String {
        match self.0.rsplit_once(".instance-") {
            Some((path, uuid)) => format!("instance-{path}.{uuid}"),
            None => self.0.clone(),
        }
    }
}

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
    /// The definition it counts as: equal to its app's `last_config_change` unless it is to be replaced.
    pub config: Timestamp,
    /// Where.
    pub agent: AgentId,
    /// What was sent to the agent. Of a pod: the instance as a whole, under its own id. It seldom changes, and every
    /// copy of the record shares it: it is made of some sixty strings.
    pub spec: Arc<LaunchSpec>,
    /// Service ports of its app's ports, in order, for the API.
    pub service_ports: Vec<u16>,
    /// Newest status. Of a pod: what those of its members come to.
    pub status: TaskStatus,
    /// When it was sent to the agent.
    pub staged_at: Timestamp,
    /// When it was first RUNNING.
    pub started_at: Option<Timestamp>,
    /// Whether it is to end and not be replaced by itself.
    pub unwanted: bool,
    /// Since when its agent counts as unreachable, if it does and the instance is still waited for.
    pub unreachable_since: Option<Timestamp>,
    /// The tasks of a pod's instance, in the order of its containers; none of an app's.
    pub members: Vec<Member>,
}

/// One task of a pod's instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What was sent to the agent.
    pub spec: LaunchSpec,
    /// Newest status.
    pub status: TaskStatus,
    /// When the state in it was first heard of.
    pub since: Timestamp,
}
