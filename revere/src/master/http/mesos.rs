//! The Mesos operator API v1, in JSON and protobuf.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{App, holdings, maintenance, operator, quota, subscribe};
use crate::master::core::Core;
use crate::master::handle::Gone;
use crate::mesos::decode::Encoding;
use crate::mesos::{encode, protobuf};

const JSON: &str = "application/json";
const PROTOBUF: &str = protobuf::CONTENT_TYPE;

/// Error bodies are plain text, as Mesos has them.
pub(super) type Answer = Result<Response, (StatusCode, String)>;

pub(super) fn gone(gone: Gone) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, gone.to_string())
}

/// How a request is written and how its answer shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::master) struct Transport {
    pub(in crate::master) request: Encoding,
    pub(super) answer: Encoding,
}

/// Checks the transport's rules: method, content type, acceptable answers.
pub(in crate::master) fn check(method: &Method, headers: &HeaderMap) -> Result<Transport, (StatusCode, String)> {
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
    let request = Encoding::of(content.to_str().unwrap_or_default()).ok_or_else(|| {
        let text = format!("Expecting 'Content-Type' of {JSON} or {PROTOBUF}");
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })?;
    // Of what is acceptable JSON comes first, as in Mesos, whatever the weights say.
    let accept = headers
        .get(header::ACCEPT)
        .map(|accept| accept.to_str().unwrap_or_default());
    let answer = [Encoding::Json, Encoding::Protobuf]
        .into_iter()
        .find(|encoding| accept.is_none_or(|accept| accepts(accept, *encoding)))
        .ok_or_else(|| {
            let text = format!("Expecting 'Accept' to allow '{JSON}' or '{PROTOBUF}'");
            (StatusCode::NOT_ACCEPTABLE, text)
        })?;
    Ok(Transport { request, answer })
}

fn accepts(accept: &str, encoding: Encoding) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts
            .next()
            .is_some_and(|kind| matches!(kind, "*/*" | "application/*" | "") || Encoding::of(kind) == Some(encoding));
        kind && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
    })
}

/// The call in its JSON form.
pub(in crate::master) fn read(encoding: Encoding, body: &[u8]) -> Result<Value, (StatusCode, String)> {
    let bad = |text: String| (StatusCode::BAD_REQUEST, text);
    match encoding {
        Encoding::Json => {
            serde_json::from_slice(body).map_err(|error| bad(format!("Failed to parse body into JSON: {error}")))
        }
        Encoding::Protobuf => protobuf::to_json(&protobuf::CALL, body, &mut Vec::new())
            .map_err(|error| bad(format!("Failed to parse body into Call protobuf: {error}"))),
    }
}

fn answer(encoding: Encoding, value: &Value) -> Response {
    let body = match encoding {
        Encoding::Json => value.to_string().into_bytes(),
        Encoding::Protobuf => protobuf::from_json(&protobuf::RESPONSE, value),
    };
    let kind = HeaderValue::from_static(encoding.content_type());
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// One call.
pub(super) async fn call(State(app): State<App>, method: Method, headers: HeaderMap, body: Bytes) -> Answer {
    let transport = check(&method, &headers)?;
    let call = read(transport.request, &body)?;
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
        Ok(answer(transport.answer, &json!({"type": kind, (name): body})))
    };
    match kind {
        "SUBSCRIBE" => subscribe::subscribe(&app, transport.answer, &headers).await,
        "GET_HEALTH" => get(|_| json!({"healthy": true})).await,
        "GET_VERSION" => get(|_| json!({"version_info": version_info()})).await,
        "GET_MASTER" => Ok(answer(transport.answer, &master(&app).await?)),
        "GET_STATE" => written(&app, transport.answer, kind, Core::state).await,
        "GET_TASKS" => written(&app, transport.answer, kind, Core::tasks).await,
        "GET_AGENTS" => written(&app, transport.answer, kind, Core::agents).await,
        "GET_FRAMEWORKS" => get(Core::get_frameworks).await,
        "GET_EXECUTORS" | "GET_OPERATIONS" => get(|_| json!({})).await,
        "GET_ROLES" => get(Core::get_roles).await,
        "GET_METRICS" => get(|core| json!({"metrics": super::metrics::mesos(core)})).await,
        "TEARDOWN" => operator::teardown(&app, &call).await,
        "DRAIN_AGENT" | "DEACTIVATE_AGENT" | "REACTIVATE_AGENT" | "MARK_AGENT_GONE" => {
            operator::agent(&app, kind, &call).await
        }
        "UPDATE_WEIGHTS" => operator::weights(&app, &call).await,
        "GET_WEIGHTS" => get(operator::get_weights).await,
        "GET_MAINTENANCE_SCHEDULE" => get(maintenance::get_schedule).await,
        "GET_MAINTENANCE_STATUS" => get(maintenance::get_status).await,
        "UPDATE_MAINTENANCE_SCHEDULE" | "START_MAINTENANCE" | "STOP_MAINTENANCE" => {
            maintenance::change(&app, kind, &call).await
        }
        "RESERVE_RESOURCES" | "UNRESERVE_RESOURCES" | "CREATE_VOLUMES" | "DESTROY_VOLUMES" => {
            holdings::call(&app, kind, &call).await
        }
        "GET_QUOTA" => get(quota::get_quota).await,
        "UPDATE_QUOTA" => quota::update(&app, &call).await,
        "SET_QUOTA" => quota::set_quota(&app, &call).await,
        "REMOVE_QUOTA" => quota::remove_quota(&app, &call).await,
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

/// The answer to a call that tells much: taken between two inputs, written out beside them.
async fn written<T: serde::Serialize + Send + 'static>(
    app: &App,
    encoding: Encoding,
    kind: &str,
    take: fn(&Core) -> T,
) -> Answer {
    let taken = app.handle.look(take).await.map_err(gone)?;
    let (kind, name) = (kind.to_owned(), kind.to_lowercase());
    let written = move || answer(encoding, &json!({"type": kind, (name): taken}));
    let written = tokio::task::spawn_blocking(written).await;
    written.map_err(|_| gone(Gone::Ended))
}

async fn master(app: &App) -> Result<Value, (StatusCode, String)> {
    let started = app.handle.look(|core| core.started).await.map_err(gone)?;
    let seconds = Duration::from_millis(started.0).as_secs_f64();
    Ok(json!({"type": "GET_MASTER", "get_master": {
        "master_info": encode::master_info(&app.address, app.port),
        "start_time": seconds,
        "elected_time": seconds,
    }}))
}

/// Calls of the API that are known and not carried out.
const CALLS: [&str; 8] = [
    "GET_FLAGS",
    "GET_LOGGING_LEVEL",
    "SET_LOGGING_LEVEL",
    "LIST_FILES",
    "READ_FILE",
    "GROW_VOLUME",
    "SHRINK_VOLUME",
    "UNKNOWN",
];

fn version_info() -> Value {
    json!({"version": encode::VERSION, "build_user": "revere", "git_tag": env!("CARGO_PKG_VERSION")})
}

/// `GET /version`, which old clients ask first.
pub(super) async fn version() -> Json<Value> {
    Json(version_info())
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
            check(method, &headers(content, accept))
                .map(|transport| (transport.request, transport.answer))
                .map_err(|refusal| refusal.0.as_u16())
        };
        let post = Method::POST;
        let (json, protobuf) = (Encoding::Json, Encoding::Protobuf);
        assert_eq!(status(&Method::GET, Some(JSON), None), Err(405));
        assert_eq!(status(&post, None, None), Err(400));
        assert_eq!(status(&post, Some("text/plain"), None), Err(415));
        assert_eq!(status(&post, Some(JSON), Some("text/html")), Err(406));
        assert_eq!(status(&post, Some(JSON), Some("application/json;q=0")), Err(406));
        for (accept, answer) in [
            (None, json),
            (Some("*/*"), json),
            (Some("text/html, application/json"), json),
            (Some("application/*;q=0.5"), json),
            (Some("application/x-protobuf"), protobuf),
            (Some("application/x-protobuf, application/json;q=0"), protobuf),
            (Some("application/x-protobuf, application/json;q=0.1"), json),
        ] {
            assert_eq!(status(&post, Some(JSON), accept), Ok((json, answer)), "{accept:?}");
            let content = Some("application/x-protobuf; charset=utf-8");
            assert_eq!(status(&post, content, accept), Ok((protobuf, answer)), "{accept:?}");
        }
    }
}
