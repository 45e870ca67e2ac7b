//! The master's HTTP API: Marathon's paths, Mesos's operator API, and our own under `/revere/v1`.

mod answer;
mod holdings;
mod leader;
mod legacy;
mod maintenance;
mod marathon;
pub(super) mod mesos;
mod metrics;
mod networks;
pub(super) mod openapi;
mod operator;
mod own;
mod progress;
mod query;
mod quota;
mod scheduler;
mod secrets;
mod subscribe;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;

use super::begin::Beginners;
use super::handle::Handle;
use super::lead::Leadership;
use super::summary::Summary;
use crate::store::StateStore;
use crate::wire;

pub(super) use leader::is_redirect;
pub(super) use metrics::{NOT_LEADING, OPEN_METRICS};

/// What every handler has.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) handle: Handle,
    pub(super) store: StateStore,
    pub(super) shutdown: CancellationToken,
    /// `host:port` told where a request names no host.
    pub(super) address: String,
    pub(super) port: u16,
    /// Where there are other masters.
    pub(super) leadership: Option<Arc<Leadership>>,
    /// What `/state-summary` said last.
    pub(super) summary: Arc<Summary>,
    /// Who begins to follow the task stream.
    pub(super) beginners: Arc<Beginners>,
}

impl App {
    pub(super) fn new(
        handle: Handle,
        store: StateStore,
        addresses: &[SocketAddr],
        shutdown: CancellationToken,
    ) -> Self {
        let first = addresses.first();
        Self {
            beginners: Arc::new(Beginners::new(handle.clone())),
            handle,
            store,
            shutdown,
            address: first.map(ToString::to_string).unwrap_or_default(),
            port: first.map_or(0, SocketAddr::port),
            leadership: None,
            summary: Arc::default(),
        }
    }

    /// Of a master that leads until `term` ends.
    pub(super) fn of_term(
        handle: Handle,
        store: StateStore,
        leadership: Arc<Leadership>,
        term: CancellationToken,
    ) -> Self {
        Self {
            beginners: Arc::new(Beginners::new(handle.clone())),
            handle,
            store,
            shutdown: term,
            address: leadership.me.address.clone(),
            port: leadership.me.port,
            leadership: Some(leadership),
            summary: Arc::default(),
        }
    }
}

pub(super) fn router(app: App) -> Router {
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/health", get(own::health))
        .route("/metrics", get(metrics::metrics))
        .merge(marathon::routes())
        .merge(legacy::routes())
        .merge(maintenance::routes())
        .merge(holdings::routes())
        .merge(quota::routes())
        .route("/api/v1", any(mesos::call))
        .route("/api/v1/{*rest}", any(mesos::call))
        .route("/api/v1/scheduler", any(scheduler::call))
        .route("/master/api/v1/scheduler", any(scheduler::call))
        .route("/master/api/v1", any(mesos::call))
        .route("/master/api/v1/{*rest}", any(mesos::call))
        .route("/version", get(mesos::version))
        .route("/revere/v1/vips", get(own::vips))
        .route("/revere/v1/nodes", get(own::nodes))
        .route("/revere/v1/networks", get(networks::list).post(networks::create))
        .route(
            "/revere/v1/networks/{name}",
            get(networks::show).delete(networks::remove),
        )
        .route(openapi::PATH, get(openapi::serve))
        .route("/revere/v1/backup", get(own::backup))
        .route("/revere/v1/masters", get(leader::masters))
        .route(leader::REDIRECTS[0], get(leader::redirect))
        .route(leader::REDIRECTS[1], get(leader::redirect))
        .route("/secrets/v1/secret/default/{*path}", secrets::one())
        .route("/secrets/v1/secret/default/", get(secrets::list))
        .route("/secrets/v1/secret/default", get(secrets::list))
        .route("/revere/v1/tasks/{task}/why", get(own::why))
        .route("/revere/v1/deployments/{id}", get(progress::deployment))
        .route("/revere/v1/apps/{*id}", get(progress::app))
        .route(wire::AGENT_PATH, get(own::agent))
        .method_not_allowed_fallback(answer::wrong_method)
        .fallback(answer::nothing_here)
        .with_state(app)
}
