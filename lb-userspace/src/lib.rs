//! The load balancer's user half: loads, adopts, pins and fills the BPF side. All aya calls of the workspace are here.

mod actual;
mod apply;
mod clock;
mod desired;
mod explain;
mod fill;
mod flows;
mod guard;
mod lb;
mod observe;
mod open;
mod pins;
mod plan;
mod raw;
mod run;
mod slots;
mod sock_destroy;
mod sockets;
mod stats;

pub use actual::Actual;
pub use apply::{ApplyError, Report, apply};
pub use clock::seconds as monotonic_seconds;
pub use desired::{BackendKey, BackendState, Desired, DesiredVip, Member, Refusal, Touched, VIPS_PER_BACKEND, desired};
pub use explain::{Explanation, state as flow_state};
pub use fill::{MAX_MEMBERS, fill_table, table_size};
pub use flows::{Flow, FlowTables, FlowsError, Sweep};
pub use guard::ListenersError;
pub use lb::{CountersError, DetachError, Lb, ProgramStats};
pub use lb_common::{Decision, FlowState, FlowValue, Hook, Origin, Reason, Verdict};
pub use observe::{ObserveError, observe};
pub use open::{Config, EgressHook, OpenError, Opened, XdpMode, check_nat_ports};
pub use plan::{Op, Plan, plan, plan_touched};
pub use run::{PacketRun, RunError};
pub use sock_destroy::{DestroyError, DestroyReport, destroy, namespaces};
pub use sockets::SocketsError;
pub use stats::{BackendCounts, StatsError, VipCounts};
