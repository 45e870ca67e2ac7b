//! The scheduler core: commands, agent messages and time go in, effects come out. A state machine without I/O.
//!
//! The contract is quinn's: `handle_*` takes one input, `poll_*` yields what follows from it, the time is an argument.
//! See [`Scheduler`].

mod agent;
mod app;
mod command;
mod core;
mod deployment;
mod effect;
mod event;
mod framework;
mod group;
mod health;
mod instance;
mod maintenance;
mod network;
mod pod;
mod quota;
mod reservation;
mod residence;
mod secret;
#[cfg(test)]
mod sim;
mod spec;
mod time;

pub use self::core::{
    AgentView, Config, CrashLoop, Decision, DeploymentEnd, Force, Put, QueueView, Refusal, Refusals, RoleView,
    Scheduler, ServicePorts, Subscription, TaskFailure, ToldShare,
};
pub use agent::{AgentCall, AgentOrder, AgentRecord, Domain, Drain, Registered, Registration, ReportedTask};
pub use app::{
    App, AppId, AppPort, AppSpec, Backoff, Constraint, ContainerSpec, Fault, FetchSpec, NetworkMode, Operator,
    PersistentSpec, PortSpec, ResidencySpec, UpgradeStrategy, VolumeSpec,
};
pub use command::{AfterKill, Cancel, Command, CommandError, GroupChange, Reply, Run, Volumes};
pub use deployment::{Action, ActionKind, DeploymentRecord, RunKind};
pub use effect::{Effect, Record};
pub use event::{ClusterEvent, InstanceFacts};
pub use framework::{
    Capability, FrameworkCall, FrameworkEvent, FrameworkRecord, FrameworkRefusal, FrameworkSpec, FrameworkTaskRecord,
    FrameworkUpdate, FrameworkView, Offer, OfferId, Operation, PendingUpdate, StreamId, TaskOrder, UpdateId,
    UpdateSource,
};
pub use group::{GroupId, GroupRecord, GroupSpec, GroupVersion};
pub use health::{
    AppHealthCheck, AppReadinessCheck, CheckPort, CheckProtocol, CheckTarget, HealthCheckSpec, IpFamily,
    ReadinessCheckSpec, UnreachableSpec, UnreachableStrategy,
};
pub use instance::{InstanceId, InstanceRecord, Member};
pub use maintenance::{Machine, Maintenance, MaintenanceCall, Unavailability, Window};
pub use network::{BlockUse, NetworkError, NetworkSpec, NetworkView, TakenNet};
pub use pod::{
    Pod, PodCheck, PodCheckSpec, PodCheckTarget, PodContainer, PodContainerSpec, PodMountSpec, PodSpec, PodVolumeSpec,
};
pub use quota::{Amounts, Quota};
pub use reservation::{Claim, Holding, HoldingChange, NewVolume, Reservation, RoleVolume};
pub use residence::{Residence, Residency};
pub use secret::{Secret, SecretError};
pub use time::Timestamp;
