//! What the core wants done. Values; the drivers in `revere` carry them out.

use model::{AgentId, FrameworkId, KillPolicy, LaunchSpec, TaskEvent, TaskId};

use crate::{AgentRecord, App, AppId, InstanceId, InstanceRecord, Timestamp};

/// A change of the stored state, to be durable before any later order to an agent or answer to a user goes out. The task
/// stream may run ahead of it: its readers begin anew with a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// The framework id, written once.
    Framework(FrameworkId),
    /// An app is new or changed.
    PutApp(Box<App>),
    /// An app is gone.
    DeleteApp(AppId),
    /// A version of an app that is no longer the present one.
    PutVersion(Box<App>),
    /// That version is forgotten.
    DeleteVersion(AppId, Timestamp),
    /// An agent is new or changed.
    PutAgent(Box<AgentRecord>),
    /// An agent is forgotten.
    DeleteAgent(AgentId),
    /// An instance was placed or changed.
    PutInstance(Box<InstanceRecord>),
    /// An instance is over.
    DeleteInstance(InstanceId),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable.
    Persist(Record),
    /// Send to that agent: start this task. Lost messages are repeated by the core.
    Launch {
        /// To whom.
        agent: AgentId,
        /// What.
        spec: Box<LaunchSpec>,
    },
    /// Send to that agent: end this task.
    Kill {
        /// To whom.
        agent: AgentId,
        /// Which.
        task: TaskId,
        /// How.
        policy: KillPolicy,
    },
    /// Tell every subscriber of the task stream.
    Emit(TaskEvent),
}
