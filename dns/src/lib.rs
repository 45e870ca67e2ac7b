//! The names of the cluster as every node serves them: a snapshot becomes zones, zones become answers, the rest is forwarded.
//!
//! Of the four words every plane is told in, `observe` and `plan` fall away here: applying a new [`Zones`] is one atomic
//! swap ([`Server::publish`]).

mod answer;
mod bind;
mod config;
mod counters;
mod desired;
#[cfg(test)]
mod fixture;
mod forward;
mod handler;
mod server;
mod zones;

pub use bind::BindError;
pub use config::{Config, ConfigError};
pub use counters::Counters;
pub use desired::desired;
pub use server::Server;
pub use zones::{Found, Lookup, Srv, ZoneInfo, Zones};
