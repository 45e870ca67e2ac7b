//! The overlay plane: makes the kernel's VXLAN devices, addresses, routes, neighbours and rules match the snapshot.
//!
//! The plane is told in four words: [`desired`] (pure), [`observe`], [`plan`] (pure) and [`apply`]; [`warm`] keeps the
//! underlay neighbours of peers resolved, and [`Changes`]
//! hears when somebody else took something away. Nothing here reads a clock or spawns a task: the caller decides when.

mod apply;
mod changes;
mod config;
mod desired;
mod handle;
mod message;
mod object;
mod observe;
mod plan;
mod sysctl;
mod warm;

pub use apply::{ApplyError, Report, apply};
pub use changes::Changes;
pub use config::Config;
pub use desired::{Desired, Problem, Tunnels, desired};
pub use handle::{OpenError, Overlay};
pub use object::{Device, Link, Mac, Object, Route, Target};
pub use observe::{Actual, ObserveError, SeenDevice, Uplink, observe};
pub use plan::{Op, Plan, change, plan};
pub use sysctl::Sysctl;
pub use warm::{WarmError, warm};
