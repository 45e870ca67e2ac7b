//! The Mesos operator API v1, in JSON.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::master::core::{Core, record};
use crate::master::handle::Gone;
use crate::mesos::encode;

const JSON: &str = "application/json";

/// Error bodies are plain text, as Mesos has them.
type Answer = Result<Response, (StatusCode, String)>;

fn gone(gone: Gone) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
}

/// Checks the transport's rules: method, content type, acceptable answers.
fn check(method: &Method, headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
    if method != Method::POST {
        return Err((
            StatusCode::METHOD_NOT_ALLOWED,
            format!("Expecting one of {{ 'POST' }}, but received '{method}'"),
        ));
    }
    let content = headers.get(header::CONTENT_TYPE).ok_or_else(|| {
        (
            StatusCode::BAD_REQUEST,
            "Expecting 'Content-Type' to be present".to_owned(),
        )
    })?;
    let content = content.to_str().unwrap_or_default();
    if content.split(';').next().map(str::trim) != Some(JSON) {
        let text = format!("Expecting 'Content-Type' of {JSON}, not '{content}': protobuf is not carried out");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let accepted = headers
        .get(header::ACCEPT)
        .is_none_or(|accept| accepts_json(accept.to_str().unwrap_or_default()));
    if !accepted {
        return Err((
            StatusCode::NOT_ACCEPTABLE,
            format!("Expecting 'Accept' to allow '{JSON}'"),
        ));
    }
    Ok(())
}

fn accepts_json(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = matches!(parts.next(), Some("*/*" | "application/*" | JSON | ""));
        kind && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
    })
}

/// One call.
pub(super) async fn call(State(app): State<App>, method: Method, headers: HeaderMap, body: Bytes) -> Answer {
    check(&method, &headers)?;
    let call: Value = serde_json::from_slice(&body).map_err(|error| {
        (
            StatusCode::BAD_REQUEST,
            format!("Failed to parse body into JSON: {error}"),
        )
    })?;
    let Some(kind) = call.get("type").and_then(Value::as_str) else {
        return Err((
            StatusCode::BAD_REQUEST,
            "Failed to validate master::Call: Expecting 'type' to be present".to_owned(),
        ));
    };
    let name = kind.to_lowercase();
    let (handle, name) = (&app.handle, name.as_str());
    let get = |look: fn(&Core) -> Value| async move {
        let body = handle.look(look).await.map_err(gone)?;
        Ok(Json(json!({"type": kind, (name): body})).into_response())
    };
    match kind {
        "SUBSCRIBE" => subscribe(&app).await,
        "GET_HEALTH" => get(|_| json!({"healthy": true})).await,
        "GET_VERSION" => get(|_| json!({"version_info": version_info()})).await,
        "GET_MASTER" => {
            let address = app.address.clone();
            let started = app.handle.look(|core| core.started).await.map_err(gone)?;
            let seconds = Duration::from_millis(started.0).as_secs_f64();
            Ok(Json(json!({"type": kind, "get_master": {
                "master_info": {"id": address, "hostname": address, "port": app.port, "version": encode::VERSION},
                "start_time": seconds,
                "elected_time": seconds,
            }}))
            .into_response())
        }
        "GET_STATE" => get(Core::get_state).await,
        "GET_TASKS" => get(Core::get_tasks).await,
        "GET_AGENTS" => get(Core::get_agents).await,
        "GET_FRAMEWORKS" => get(Core::get_frameworks).await,
        "GET_EXECUTORS" | "GET_OPERATIONS" | "GET_ROLES" | "GET_WEIGHTS" => get(|_| json!({})).await,
        "GET_METRICS" => get(|core| json!({"metrics": super::metrics::mesos(core)})).await,
        other if CALLS.contains(&other) => Err((
            StatusCode::NOT_IMPLEMENTED,
            format!("{other} is not carried out by revere"),
        )),
        other => Err((
            StatusCode::BAD_REQUEST,
            format!("Failed to validate master::Call: `{other}` is no call"),
        )),
    }
}

/// Calls of the API that are known and not carried out.
const CALLS: [&str; 27] = [
    "GET_FLAGS",
    "GET_LOGGING_LEVEL",
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "UPDATE_WEIGHTS",
    "RESERVE_RESOURCES",
    "UNRESERVE_RESOURCES",
    "CREATE_VOLUMES",
    "DESTROY_VOLUMES",
    "GET_MAINTENANCE_STATUS",
    "GET_MAINTENANCE_SCHEDULE",
    "UPDATE_MAINTENANCE_SCHEDULE",
    "START_MAINTENANCE",
    "STOP_MAINTENANCE",
    "GET_QUOTA",
    "SET_QUOTA",
    "REMOVE_QUOTA",
    "TEARDOWN",
    "MARK_AGENT_GONE",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "UPDATE_QUOTA",
    "DRAIN_AGENT",
    "DEACTIVATE_AGENT",
    "REACTIVATE_AGENT",
    "UNKNOWN",
];

fn version_info() -> Value {
    json!({"version": encode::VERSION, "build_user": "revere", "git_tag": env!("CARGO_PKG_VERSION")})
}

/// `GET /version`, which old clients ask first.
pub(super) async fn version() -> Json<Value> {
    Json(version_info())
}

/// One subscriber's stream.
struct Subscriber {
    first: Vec<Bytes>,
    events: broadcast::Receiver<Bytes>,
    heartbeat: Interval,
    shutdown: CancellationToken,
}

impl Subscriber {
    /// The next record, or the end: of the master, or of a subscriber that lags too far behind.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if let Some(first) = self.first.pop() {
            return Some((Ok(first), self));
        }
        let bytes = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            event = self.events.recv() => match event {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a subscriber reads too slowly and is dropped");
                    return None;
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            },
            _ = self.heartbeat.tick() => record(&encode::heartbeat()),
        };
        Some((Ok(bytes), self))
    }
}

async fn subscribe(app: &App) -> Answer {
    let (snapshot, events) = app.handle.look(Core::subscribe).await.map_err(gone)?;
    let period = Duration::from_secs_f64(encode::HEARTBEAT_SECONDS);
    let subscriber = Subscriber {
        // Taken from the end: the snapshot, then a heartbeat at once.
        first: vec![record(&encode::heartbeat()), snapshot],
        events,
        heartbeat: tokio::time::interval_at(tokio::time::Instant::now() + period, period),
        shutdown: app.shutdown.clone(),
    };
    let body = Body::from_stream(stream::unfold(subscriber, Subscriber::next));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transport_rules_are_those_of_mesos() {
        let headers = |content: Option<&'static str>, accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            content.map(|value| headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value)));
            accept.map(|value| headers.insert(header::ACCEPT, HeaderValue::from_static(value)));
            headers
        };
        let status = |method: &Method, content, accept| {
            check(method, &headers(content, accept)).map_err(|refusal| refusal.0.as_u16())
        };
        let post = Method::POST;
        assert_eq!(status(&Method::GET, Some(JSON), None), Err(405));
        assert_eq!(status(&post, None, None), Err(400));
        assert_eq!(status(&post, Some("application/x-protobuf"), None), Err(415));
        assert_eq!(status(&post, Some("text/plain"), None), Err(415));
        assert_eq!(status(&post, Some(JSON), Some("text/html")), Err(406));
        assert_eq!(status(&post, Some(JSON), Some("application/json;q=0")), Err(406));
        for accept in [
            None,
            Some("*/*"),
            Some("text/html, application/json"),
            Some("application/*;q=0.5"),
        ] {
            assert_eq!(status(&post, Some(JSON), accept), Ok(()), "{accept:?}");
        }
    }
}
