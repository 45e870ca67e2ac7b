//! What the core wants done. Values; the drivers in `revere` carry them out.

use model::{AgentId, FrameworkId, KillPolicy, LaunchSpec, Network, SecretValues, TaskEvent, TaskId};

use crate::{
    AgentOrder, AgentRecord, App, AppId, ClusterEvent, DeploymentRecord, FrameworkEvent, FrameworkRecord,
    FrameworkTaskRecord, GroupId, GroupRecord, GroupVersion, Holding, InstanceId, InstanceRecord, Maintenance, Quota,
    Residence, Secret, StreamId, Timestamp, ToldShare,
};

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
    /// Volumes of an instance are on an agent, or are to go.
    PutResidence(Box<Residence>),
    /// They are gone.
    DeleteResidence(InstanceId),
    /// A secret is new or changed.
    PutSecret(Box<Secret>),
    /// A secret is gone.
    DeleteSecret(String),
    /// A network was made.
    PutNetwork(Box<Network>),
    /// A network is gone.
    DeleteNetwork(String),
    /// A deployment has begun or gone on.
    PutDeployment(Box<DeploymentRecord>),
    /// A deployment is done or was given up.
    DeleteDeployment(String),
    /// A group with something of its own is new or changed.
    PutGroup(GroupRecord),
    /// A group has nothing of its own any more.
    DeleteGroup(GroupId),
    /// A group's content, to return to.
    PutGroupVersion(Box<GroupVersion>),
    /// That content is forgotten.
    DeleteGroupVersion(GroupId, Timestamp),
    /// What operators said of an agent.
    PutAgentOrder(AgentId, AgentOrder),
    /// The agent is forgotten.
    DeleteAgentOrder(AgentId),
    /// What a role weighs.
    PutWeight(String, f64),
    /// What an agent keeps for roles, all of it.
    PutHoldings(AgentId, Vec<Holding>),
    /// An agent keeps nothing for roles any more.
    DeleteHoldings(AgentId),
    /// What operators said of maintenance, all of it.
    PutMaintenance(Box<Maintenance>),
    /// What a role may have and what is kept for it.
    PutQuota(Box<Quota>),
    /// The role has no quota any more.
    DeleteQuota(String),
    /// What the task stream tells of an app's share of its VIPs.
    PutShare(AppId, ToldShare),
    /// It tells nothing of one any more.
    DeleteShare(AppId),
    /// A framework joined, came back or ended.
    PutFramework(Box<FrameworkRecord>),
    /// A framework that ended is forgotten.
    DeleteFramework(FrameworkId),
    /// A framework's task was launched or changed.
    PutFrameworkTask(Box<FrameworkTaskRecord>),
    /// A framework's task is over and its framework knows.
    DeleteFrameworkTask(FrameworkId, TaskId),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this durable.
    Persist(Record),
    /// Send to that agent: the secrets of the task that the next order starts. To nobody else, and never printed.
    Secrets {
        /// To whom.
        agent: AgentId,
        /// Whose.
        task: TaskId,
        /// By path in the store.
        values: SecretValues,
    },
    /// Send to that agent: start this task. Lost messages are repeated by the core.
    Launch {
        /// To whom.
        agent: AgentId,
        /// What.
        spec: Box<LaunchSpec>,
    },
    /// Send to that agent: start these tasks of a pod's instance, all or none. Lost messages are repeated by the core.
    LaunchPod {
        /// To whom.
        agent: AgentId,
        /// What.
        specs: Vec<LaunchSpec>,
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
    /// Send to that agent: remove the volumes of that instance, whose tasks have ended. What comes back is for
    /// [`crate::Scheduler::handle_volumes_gone`].
    RemoveVolumes {
        /// To whom.
        agent: AgentId,
        /// Whose.
        owner: InstanceId,
    },
    /// Tell a framework, after all records before this are durable.
    ToFramework {
        /// On which stream; one that has ended hears nothing.
        stream: StreamId,
        /// What.
        event: Box<FrameworkEvent>,
    },
    /// Tell every subscriber of the task stream.
    Emit(TaskEvent),
    /// Tell everyone who follows what happens in the cluster.
    Tell(ClusterEvent),
}
