//! The scheduler core: commands, agent messages and time go in, effects come out. A state machine without I/O.
//!
//! The contract is quinn's: `handle_*` takes one input, `poll_*` yields what follows from it, the time is an argument.
//! See [`Scheduler`].

mod agent;
mod app;
mod command;
mod core;
mod effect;
mod health;
mod instance;
#[cfg(test)]
mod sim;
mod spec;
mod time;

pub use self::core::{AgentView, Config, DeploymentView, Force, QueueView, Refusal, Refusals, Scheduler, ServicePorts};
pub use agent::{AgentRecord, Registered, Registration, ReportedTask};
pub use app::{
    App, AppId, AppPort, AppSpec, Backoff, Constraint, ContainerSpec, Fault, FetchSpec, NetworkMode, Operator,
    PortSpec, UpgradeStrategy, VolumeSpec,
};
pub use command::{Command, CommandError, Reply};
pub use effect::{Effect, Record};
pub use health::{
    AppHealthCheck, AppReadinessCheck, CheckPort, CheckProtocol, CheckTarget, HealthCheckSpec, IpFamily,
    ReadinessCheckSpec, UnreachableSpec, UnreachableStrategy,
};
pub use instance::{InstanceId, InstanceRecord};
pub use time::Timestamp;
