//! What answers at a master's address, whether it leads or not.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::sync::watch;

use super::copy::{Copy, EVENTS};
use super::proxy;
use crate::etcd::clock::{LeaseClock, Moment};
use crate::master::http::{NOT_LEADING, OPEN_METRICS, is_redirect};
use crate::mesos::encode::POSITION_HEADER;
use crate::store::etcd::EtcdStore;
use crate::wire;

/// On answers of a copy: for how many milliseconds it has not been seen to be the newest. On those of a master that may not
/// lead any more: for how many that has been so.
pub(super) const STALE_MS: HeaderName = HeaderName::from_static("x-revere-stale-ms");

/// On answers of the leader to what may have changed something: the revision of its last write.
const REVISION: HeaderName = HeaderName::from_static("x-revere-revision");

/// How long an answer that is handed on waits for this master's copy, so that who asks here next sees what it did.
const CATCH_UP: Duration = Duration::from_secs(1);

/// What this master is.
#[derive(Debug)]
pub(in crate::master) enum Role {
    /// Nobody leads, as far as is known; why.
    Waiting(String),
    /// Another leads: `host:port`.
    Following(String),
    /// It leads itself, for as long as the clock says.
    Leading(Router, Arc<LeaseClock>, Arc<EtcdStore>),
}

/// See the module.
#[derive(Debug)]
pub(in crate::master) struct Front {
    role: ArcSwap<Role>,
    /// Told at each change of the role.
    changes: watch::Sender<()>,
    pub(super) copy: Arc<Copy>,
    me: String,
}

impl Front {
    pub(super) fn new(me: String) -> Self {
        Self {
            role: ArcSwap::from_pointee(Role::Waiting("this master has just started".to_owned())),
            changes: watch::Sender::new(()),
            copy: Arc::new(Copy::new()),
            me,
        }
    }

    pub(super) fn set(&self, role: Role) {
        self.role.store(Arc::new(role));
        self.changes.send_replace(());
    }

    /// Ends when that one leads no more, as far as this master knows.
    async fn until_moved(self: Arc<Self>, leader: String) {
        let mut changes = self.changes.subscribe();
        while matches!(&**self.role.load(), Role::Following(known) if *known == leader) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn role(&self) -> Arc<Role> {
        self.role.load_full()
    }

    /// Another leads; whether that is news.
    pub(super) fn follow(&self, leader: &str) -> bool {
        let news = !matches!(&**self.role.load(), Role::Following(known) if known == leader);
        if news {
            self.set(Role::Following(leader.to_owned()));
        }
        news
    }
}

/// The service at every address of this master.
pub(in crate::master) fn router(front: Arc<Front>) -> Router {
    Router::new().fallback(answer).with_state(front)
}

async fn answer(State(front): State<Arc<Front>>, request: Request<Body>) -> Response {
    match &*front.role() {
        // Who can come back has the same positions everywhere, and a stream that a change of leader does not end.
        Role::Leading(router, clock, store) if can_come_back(&request) => {
            let asked = front.copy.serve(request, false).await;
            asked.or(|request| lead(router, clock, store, request)).await
        }
        Role::Leading(router, clock, store) => lead(router, clock, store, request).await,
        Role::Following(leader) => {
            let asked = front.copy.serve(request, false).await;
            asked.or(|request| follow(&front, leader, request)).await
        }
        Role::Waiting(why) => match own(&front, request.uri().path(), None) {
            Some(response) => response,
            None => {
                let asked = front.copy.serve(request, true).await;
                asked.or(async |request| nobody(request.uri(), why)).await
            }
        },
    }
}

fn can_come_back(request: &Request<Body>) -> bool {
    request.headers().contains_key(POSITION_HEADER) || request.uri().path() == EVENTS
}

/// A lease that ran out while the answer was made says so: what was read may be old.
async fn lead(router: &Router, clock: &LeaseClock, store: &EtcdStore, request: Request<Body>) -> Response {
    use hyper::service::Service as _;
    let reads = request.method().is_safe();
    let mut response = match TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if !reads {
        let revision = HeaderValue::from(store.revision());
        response.headers_mut().insert(REVISION, revision);
    }
    let now = Moment::now();
    if clock.is_over(now) {
        let age = clock.over_for(now).as_millis().to_string();
        if let Ok(age) = HeaderValue::from_str(&age) {
            response.headers_mut().insert(STALE_MS, age);
        }
    }
    response
}

/// What a master answers by itself, whoever leads.
fn own(front: &Front, path: &str, leader: Option<&str>) -> Option<Response> {
    let age = front.copy.current().map(|current| current.age().as_millis());
    let age = age.and_then(|age| u64::try_from(age).ok());
    match path {
        "/ping" => Some("pong".into_response()),
        // It is well: it waits for its turn.
        "/health" => {
            let health = json!({"healthy": true, "leads": false, "leader": leader, "data_age_ms": age});
            Some(axum::Json(health).into_response())
        }
        "/metrics" => Some(([(header::CONTENT_TYPE, OPEN_METRICS)], NOT_LEADING).into_response()),
        _ => None,
    }
}

/// Marathon's clients expect to be served wherever they ask, Mesos's to be sent on.
async fn follow(front: &Arc<Front>, leader: &str, request: Request<Body>) -> Response {
    if let Some(response) = own(front, request.uri().path(), Some(leader)) {
        return response;
    }
    if is_sent_on(request.uri().path()) {
        return sent_on(leader, request.uri());
    }
    // A leader that was stopped or cut off says nothing for ever.
    let moved = || Arc::clone(front).until_moved(leader.to_owned());
    tokio::select! {
        response = proxy::hand_on(&front.me, leader, request) => {
            let revision = response.headers().get(REVISION);
            let revision = revision.and_then(|revision| revision.to_str().ok()?.parse().ok());
            if let Some(revision) = revision && front.copy.current().is_some() {
                front.copy.reaches(revision, CATCH_UP).await;
            }
            response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(moved()))))
        }
        () = moved() => proxy::silent(leader),
    }
}

fn is_sent_on(path: &str) -> bool {
    !path.starts_with("/v2/") && (!path.starts_with("/revere/v1/") || path == wire::AGENT_PATH)
}

fn sent_on(leader: &str, uri: &Uri) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    // Where `/redirect` leads is the leader itself.
    let path = if is_redirect(uri.path()) { "" } else { path };
    match HeaderValue::from_str(&format!("//{leader}{path}")) {
        Ok(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

fn nobody(uri: &Uri, why: &str) -> Response {
    let text = format!("No leader elected: {why}");
    if is_sent_on(uri.path()) {
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    if uri.path() == "/v2/leader" {
        let none = json!({"message": "There is no leader", "details": why});
        return (StatusCode::NOT_FOUND, axum::Json(none)).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({"message": text}))).into_response()
}
