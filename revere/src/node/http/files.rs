//! `/files/*` in Mesos' formats: what tasks wrote, for people and for clients that know Mesos.

use std::fs::File;
use std::io::Read as _;

use agent::{Agent, FileInfo, FilesError};
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;

/// Bytes of a download that are read at once.
const CHUNK: u64 = 64 * 1024;

type Answer = Result<Response, (StatusCode, String)>;

#[derive(Clone, Debug, Default, Deserialize)]
struct Asked {
    path: Option<String>,
    offset: Option<i64>,
    length: Option<i64>,
}

pub(super) fn routes() -> Router<Api> {
    let mut router = Router::new();
    for suffix in ["", ".json"] {
        router = router
            .route(&format!("/files/browse{suffix}"), get(browse))
            .route(&format!("/files/read{suffix}"), get(read))
            .route(&format!("/files/download{suffix}"), get(download))
            .route(&format!("/files/debug{suffix}"), get(debug));
    }
    router
}

fn path(asked: &Asked) -> Result<String, (StatusCode, String)> {
    let path = asked.path.clone().filter(|path| !path.is_empty());
    path.ok_or_else(|| (StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n".to_owned()))
}

fn told(error: FilesError) -> (StatusCode, String) {
    let code = match &error {
        FilesError::NotThere(_) => StatusCode::NOT_FOUND,
        FilesError::Kind { .. } => StatusCode::BAD_REQUEST,
        FilesError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, format!("{error}\n"))
}

/// Disks are asked apart from the node's other work.
async fn off<T: Send + 'static>(
    agent: Agent,
    work: impl FnOnce(&Agent) -> Result<T, FilesError> + Send + 'static,
) -> Result<T, (StatusCode, String)> {
    match tokio::task::spawn_blocking(move || work(&agent)).await {
        Ok(done) => done.map_err(told),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn browse(State(api): State<Api>, Query(asked): Query<Asked>) -> Answer {
    let path = path(&asked)?;
    let entries = off(api.agent, move |agent| agent.browse(&path)).await?;
    let one = |entry: &FileInfo| {
        json!({"path": entry.path, "size": entry.size, "nlink": entry.nlink, "mode": entry.mode,
            "mtime": entry.mtime, "uid": entry.uid, "gid": entry.gid})
    };
    Ok(Json(entries.iter().map(one).collect::<Vec<Value>>()).into_response())
}

/// An offset of -1 asks where the file ends.
async fn read(State(api): State<Api>, Query(asked): Query<Asked>) -> Answer {
    let path = path(&asked)?;
    let wrong = |what: &str, value: i64| {
        let text = format!("Negative {what} provided: {value}.\n");
        (StatusCode::BAD_REQUEST, text)
    };
    let offset = match asked.offset {
        None | Some(-1) => None,
        Some(offset) => Some(u64::try_from(offset).map_err(|_| wrong("offset", offset))?),
    };
    let length = match asked.length {
        None | Some(-1) => None,
        Some(length) => Some(u64::try_from(length).map_err(|_| wrong("length", length))?),
    };
    let part = off(api.agent, move |agent| agent.read_file(&path, offset, length)).await?;
    let data = String::from_utf8_lossy(&part.data);
    let read = u64::try_from(part.data.len()).unwrap_or_default();
    // Mesos has no `next` and no `file`: its clients count the text, which is wrong where that is not UTF-8.
    let next = part.offset.saturating_add(read);
    Ok(Json(json!({"data": data, "offset": part.offset, "next": next, "file": part.identity})).into_response())
}

async fn download(State(api): State<Api>, Query(asked): Query<Asked>) -> Answer {
    let path = path(&asked)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_graphic() && *c != '"').collect();
    let (file, size) = off(api.agent, move |agent| agent.open_file(&path)).await?;
    // As long as it was when it was asked for, however much is written meanwhile.
    let parts = stream::try_unfold((file, size), |(file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || next(file, left)).await;
        let (bytes, file) = read.map_err(std::io::Error::other)??;
        let left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(left));
        // A file that was cut meanwhile ends here, and the client sees that it did.
        Ok::<_, std::io::Error>((!bytes.is_empty()).then_some((bytes, (file, left))))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename={name}")),
    ];
    Ok((headers, Body::from_stream(parts)).into_response())
}

fn next(mut file: File, left: u64) -> std::io::Result<(Bytes, File)> {
    let mut bytes = Vec::new();
    (&mut file).take(left.min(CHUNK)).read_to_end(&mut bytes)?;
    Ok((bytes.into(), file))
}

/// Every sandbox, as it can be asked for and as it lies.
async fn debug(State(api): State<Api>) -> Answer {
    let all = off(api.agent, |agent| Ok(agent.sandboxes())).await?;
    let pairs = all.iter().map(|path| (path.display().to_string(), json!(path)));
    Ok(Json(Value::Object(pairs.collect())).into_response())
}
