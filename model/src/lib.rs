//! Revere's vocabulary and its one fold: task events go in, an immutable [`Snapshot`] of services and names comes out.
//!
//! Pure: no I/O, no clock, no randomness. Whoever needs the time or a seed passes it in.

mod address;
mod container;
mod event;
mod health;
mod id;
mod launch;
mod launch_name;
mod name;
mod network;
mod options;
mod overlay;
mod pod;
mod reason;
mod secret;
mod shared;
mod snapshot;
mod table;
mod task;
mod vip;
mod volume;

pub use address::{Vip6Range, VipRange, phash2};
pub use container::{
    Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, Image, Ipc, Parameter, ParameterError,
    Privilege, Pull, Root, Seccomp, Volume, VolumeMode,
};
pub use event::{AgentInfo, FrameworkInfo, StateSnapshot, TaskEvent};
pub use health::{
    CheckAddress, CheckResponse, CheckResult, CheckResults, HealthCheck, Probe, ReadinessCheck, ReadinessResult,
    Scheme, TaskChecks,
};
pub use id::{AgentId, FrameworkId, Generation, TaskId};
pub use launch::{Command, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskNetwork};
pub use launch_name::{launch_name, launched_task};
pub use name::{MAX_LABEL, domain_frag, framework_frag, label, label_within, task_hash, vip_frag};
pub use network::{Ipv4Net, NetError, Protocol};
pub use options::{Cidr, MAX_ALLOWED, OptionError, PortOptions, ServiceOptions, port_options};
pub use overlay::{Network, NetworkTextError};
pub use pod::{PodMount, PodPart};
pub use reason::Reason;
pub use secret::{SecretValue, SecretValues, Secrets};
pub use shared::SharedMap;
pub use snapshot::{Backend, Node, NodeView, Service, Snapshot, VipAddress, VipName};
pub use table::{RejectReason, Rejected, ServiceTable, reach};
pub use task::{PortMapping, PortScope, Task, TaskPort, TaskState, TaskStatus};
pub use vip::{VipKey, VipLabelError, VipTarget, is_vip_label, is_vip_port_label, parse_vip, split_vip_port};
pub use volume::{KeptVolume, PersistentVolume, volume_attempt, volume_owner};
