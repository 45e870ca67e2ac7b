//! What agents and the master say to each other.

use model::{KillPolicy, LaunchSpec, SecretValues, TaskId, TaskStatus};
use scheduler::{InstanceId, Registered, Registration};

/// From an agent to the master.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentMessage {
    /// First on every connection.
    Register(Box<Registration>),
    /// A task's new status. Sent again on the next connection until it is acknowledged.
    Status {
        /// The agent's number for this status; comes back in [`MasterMessage::Ack`].
        sequence: u64,
        /// Whose.
        task: TaskId,
        /// What.
        status: TaskStatus,
    },
    /// Sent when nothing else was for a while.
    Heartbeat,
    /// The answer to [`MasterMessage::RemoveVolumes`]: none of that instance is left here.
    VolumesGone(InstanceId),
}

/// From the master to an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum MasterMessage {
    /// Answer to a registration.
    Registered(Registered),
    /// Start this task; a task that is there already is left alone.
    Launch(Box<LaunchSpec>),
    /// Start these tasks of one pod's instance, all or none; those that are there already are left alone.
    LaunchPod(Vec<LaunchSpec>),
    /// End this task.
    Kill {
        /// Which.
        task: TaskId,
        /// How.
        policy: KillPolicy,
    },
    /// The status of that number is durable here.
    Ack {
        /// The agent's number.
        sequence: u64,
    },
    /// The registration is refused, and why; the connection ends.
    Refused(String),
    /// Sent when nothing else was for a while.
    Heartbeat,
    /// Remove the volumes of that instance.
    RemoveVolumes(InstanceId),
    /// The secrets of the task that the next launch is about, by their path in the store.
    Secrets {
        /// Whose.
        task: TaskId,
        /// Values, which are not printed.
        values: SecretValues,
    },
}
