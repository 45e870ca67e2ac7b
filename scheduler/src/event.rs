//! What happens in the cluster, for those who follow it: the matter of Marathon's event stream.

use std::sync::Arc;

use model::{AgentId, TaskId, TaskStatus};

use crate::{AppId, CrashLoop, DeploymentRecord, InstanceId, Timestamp};

/// Which instance an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceFacts {
    /// Its id.
    pub instance: InstanceId,
    /// Its task.
    pub task: TaskId,
    /// Its app.
    pub app: AppId,
    /// Version of the app that it was launched from.
    pub version: Timestamp,
    /// Where it is.
    pub agent: AgentId,
    /// Host name of that agent.
    pub host: String,
    /// Its host ports.
    pub ports: Vec<u16>,
}

/// One thing that happened. Not stored: who must not miss anything reads the state again.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterEvent {
    /// An instance was given a place.
    Placed(Box<InstanceFacts>),
    /// An instance has a new status.
    Status(Box<InstanceFacts>, TaskStatus),
    /// A container of a pod's instance has a new status; `task` of the facts is its own.
    Member(Box<InstanceFacts>, TaskStatus),
    /// An instance's health became known or changed.
    Health(Box<InstanceFacts>, bool),
    /// An instance is ended because a health check failed as often as it may.
    UnhealthyEnds(Box<InstanceFacts>),
    /// An app's instances fail again and again, and what is known of it.
    CrashLoop(AppId, Box<CrashLoop>),
    /// A task that no instance stands for has ended.
    StrayEnded(TaskId, AgentId, TaskStatus),
    /// The last instance of a removed app is over.
    AppGone(AppId),
    /// A deployment has begun its present step.
    StepBegan(Arc<DeploymentRecord>),
    /// A deployment's present step is done.
    StepDone(Arc<DeploymentRecord>),
    /// A deployment's present step was given up.
    StepGivenUp(Arc<DeploymentRecord>),
    /// A deployment is done.
    Deployed(Arc<DeploymentRecord>),
    /// A deployment was given up, and why.
    GivenUp(Arc<DeploymentRecord>, String),
    /// A change of a group was taken.
    GroupChanged(String, Timestamp),
    /// A change of a group was refused, and why.
    GroupRefused(String, Timestamp, String),
}
