//! The names of the cluster as every node serves them: a snapshot becomes zones, zones become answers, the rest is forwarded.
//!
//! Of the four words every plane is told in, `observe` and `plan` fall away here: applying a new [`Zones`] is one atomic
//! swap ([`Server::publish`]).
//!
//! A UDP question is answered by a thread of its own socket: `worker` takes it, `fast` answers it when it is plain. All other
//! messages, and all that come by streams, go by `respond` to `handler`.

mod access;
mod alias;
mod answer;
mod bind;
mod config;
#[cfg(test)]
mod conformity;
mod counters;
mod desired;
mod fast;
#[cfg(test)]
mod fixture;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handler;
mod https;
mod limit;
mod listing;
mod mmsg;
mod names;
mod own;
mod prepared;
mod respond;
mod reverse;
mod server;
mod stream;
mod template;
mod tls;
mod trie;
mod wire;
mod worker;
mod zones;

pub use bind::{BindError, Inherited};
pub use config::{Config, ConfigError, IpSource};
pub use counters::Counters;
pub use desired::desired;
pub use forward::{CaseMixing, ForwardCounters, ForwardError, ForwardZone, Forwarding, UpstreamStatus, is_own};
pub use listing::{Listed, task_records};
pub use names::Names;
pub use own::{OwnData, OwnRecord, OwnRecordError};
pub use prepared::{Prepared, questions};
pub use server::Server;
pub use tls::{TlsError, TlsFiles};
pub use zones::{Found, Lookup, Srv, ZoneCounts, ZoneInfo, Zones};
