//! Revere's vocabulary and its one fold: task events go in, an immutable [`Snapshot`] of services and names comes out.
//!
//! Pure: no I/O, no clock, no randomness. Whoever needs the time or a seed passes it in.

mod address;
mod event;
mod id;
mod launch;
mod name;
mod network;
mod snapshot;
mod table;
mod task;
mod vip;

pub use address::{VipRange, named_vip_address, phash2};
pub use event::{AgentInfo, FrameworkInfo, StateSnapshot, TaskEvent};
pub use id::{AgentId, FrameworkId, Generation, TaskId};
pub use launch::{Command, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskNetwork};
pub use name::{domain_frag, label, task_hash};
pub use network::{Ipv4Net, NetError, Protocol};
pub use snapshot::{Backend, Node, NodeView, Service, Snapshot, VipAddress, VipName};
pub use table::{RejectReason, Rejected, ServiceTable};
pub use task::{PortMapping, PortScope, Task, TaskPort, TaskState, TaskStatus};
pub use vip::{VipKey, VipLabelError, VipTarget, is_vip_label, parse_vip};
