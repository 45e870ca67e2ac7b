//! The master's HTTP API: Marathon's paths, Mesos's operator API, and our own under `/revere/v1`.

mod answer;
mod marathon;
mod mesos;
mod metrics;
mod own;
mod query;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use crate::store::Store;
use crate::wire;

/// What every handler has.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) store: Arc<Store>,
    pub(super) shutdown: CancellationToken,
    /// `host:port` told where a request names no host.
    pub(super) address: String,
    pub(super) port: u16,
}

impl App {
    pub(super) fn new(
        handle: Handle,
        store: Arc<Store>,
        addresses: &[SocketAddr],
        shutdown: CancellationToken,
    ) -> Self {
        let first = addresses.first();
        Self {
            handle,
            store,
            shutdown,
            address: first.map(ToString::to_string).unwrap_or_default(),
            port: first.map_or(0, SocketAddr::port),
        }
    }
}

pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/health", get(own::health))
        .route("/metrics", get(metrics::metrics))
        .merge(marathon::routes())
        .route("/api/v1", any(mesos::call))
        .route("/api/v1/{*rest}", any(mesos::call))
        .route("/master/api/v1", any(mesos::call))
        .route("/master/api/v1/{*rest}", any(mesos::call))
        .route("/version", get(mesos::version))
        .route("/revere/v1/vips", get(own::vips))
        .route("/revere/v1/nodes", get(own::nodes))
        .route("/revere/v1/backup", get(own::backup))
        .route("/revere/v1/tasks/{task}/why", get(own::why))
        .route(wire::AGENT_PATH, get(own::agent))
        .method_not_allowed_fallback(answer::wrong_method)
        .fallback(answer::nothing_here)
        .with_state(app)
}
