//! `/secrets/v1` in the shape that DC/OS's clients know: values go in, paths come out, values never do.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use model::SecretValue;
use scheduler::{Command, Put};
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;
use super::query::Query;

type Answer = Result<Response, Refusal>;

/// What can be done with one secret.
pub(super) fn one() -> MethodRouter<App> {
    get(below).put(create).patch(change).delete(remove)
}

/// `GET /secrets/v1/secret/default/?list=true`.
pub(super) async fn list(State(app): State<App>) -> Answer {
    paths_below(&app, "").await
}

async fn paths_below(app: &App, prefix: &str) -> Answer {
    let inside = match prefix.trim_end_matches('/') {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let look = move |core: &crate::master::core::Core| -> Vec<String> {
        let all = core.scheduler.secret_paths();
        all.filter_map(|path| path.strip_prefix(&inside).map(str::to_owned))
            .collect()
    };
    let paths = app.handle.look(look).await?;
    Ok(Json(json!({"array": paths})).into_response())
}

async fn below(State(app): State<App>, Path(path): Path<String>, query: Query) -> Answer {
    if query.flag("list") {
        return paths_below(&app, &path).await;
    }
    let text = "values of secrets are not read out: they go to the tasks that name them, and nowhere else; ?list=true lists paths";
    Err(Refusal::new(StatusCode::FORBIDDEN, text.to_owned()))
}

/// `{"value": TEXT}`, or the bytes themselves as `application/octet-stream`.
fn value(headers: &HeaderMap, body: &Bytes) -> Result<SecretValue, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/octet-stream")) {
        return Ok(SecretValue::new(body.to_vec()));
    }
    // What is wrong in it is not repeated: it may be the secret.
    let read = serde_json::from_slice::<Value>(body).ok();
    let text = read.as_ref().and_then(|body| body["value"].as_str());
    let text = text.ok_or_else(|| {
        let sentence = "the body must be {\"value\": TEXT}, or bytes with Content-Type: application/octet-stream";
        Refusal::new(StatusCode::BAD_REQUEST, sentence.to_owned())
    })?;
    Ok(SecretValue::new(text.as_bytes().to_vec()))
}

async fn put(app: &App, path: String, headers: &HeaderMap, body: Result<Bytes, BytesRejection>, put: Put) -> Answer {
    let value = value(headers, &body?)?;
    app.handle.command(Command::PutSecret { path, value, put }).await??;
    Ok(match put {
        Put::New => StatusCode::CREATED,
        Put::Change => StatusCode::NO_CONTENT,
    }
    .into_response())
}

async fn create(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    put(&app, path, &headers, body, Put::New).await
}

async fn change(
    State(app): State<App>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    put(&app, path, &headers, body, Put::Change).await
}

async fn remove(State(app): State<App>, Path(path): Path<String>) -> Answer {
    app.handle.command(Command::RemoveSecret { path }).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}
