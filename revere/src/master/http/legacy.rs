//! Mesos' read endpoints from before the operator API, under every spelling that clients use.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use tokio::task::JoinError;

use super::App;
use super::mesos::{Answer, gone};
use super::query::Query;
use crate::master::core::Core;
use crate::master::picture::Picture;
use crate::mesos::legacy::{self, Page};

/// Most tasks that `/tasks` shows where nothing is said (Mesos' `TASK_LIMIT`).
const TASK_LIMIT: usize = 100;

type Write = fn(&Picture, &Query) -> Value;

/// Every path, each also under `/master` and with `.json`.
pub(super) fn routes() -> Router<App> {
    let pages: [(&str, Write); 5] = [
        ("state", |picture, _| legacy::state(picture)),
        ("slaves", |picture, query| {
            legacy::slaves(picture, query.get("slave_id"))
        }),
        ("frameworks", |picture, _| legacy::frameworks(picture)),
        ("roles", |picture, _| legacy::roles(picture)),
        ("tasks", tasks),
    ];
    let mut router = Router::new();
    for (name, write) in pages {
        for path in spellings(name) {
            router = router.route(&path, get(async move |app, query| answer(app, query, write).await));
        }
    }
    for path in spellings("state-summary") {
        router = router.route(&path, get(summary));
    }
    router
}

fn spellings(name: &'static str) -> impl Iterator<Item = String> {
    let paths = move |prefix| [format!("{prefix}/{name}"), format!("{prefix}/{name}.json")];
    ["", "/master"].into_iter().flat_map(paths)
}

fn tasks(picture: &Picture, query: &Query) -> Value {
    let number = |name: &str, absent| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(absent);
    let page = Page {
        limit: number("limit", TASK_LIMIT),
        offset: number("offset", 0),
        ascending: query.get("order") == Some("asc"),
        framework: query.get("framework_id"),
        task: query.get("task_id"),
    };
    legacy::tasks(picture, &page)
}

/// The picture is taken between two inputs of the scheduler; writing it out holds nobody up.
async fn answer(State(app): State<App>, query: Query, write: Write) -> Answer {
    let (address, known) = (app.address.clone(), app.summary.agents());
    let take = move |core: &Core| core.picture(address, &known);
    let picture = app.handle.look(take).await.map_err(gone)?;
    let callback = query.get("jsonp").map(str::to_owned);
    let write = move || write(&picture, &query).to_string();
    let text = tokio::task::spawn_blocking(write).await.map_err(broken)?;
    Ok(wrapped(text, callback.as_deref()))
}

/// `/state-summary`: only what changed since the last one is counted and written anew.
async fn summary(State(app): State<App>, query: Query) -> Answer {
    let (address, known) = (app.address.clone(), app.summary.agents());
    let take = move |core: &Core| core.picture(address, &known);
    let picture = app.handle.look(take).await.map_err(gone)?;
    let write = move || app.summary.write(&picture);
    let text = tokio::task::spawn_blocking(write).await.map_err(broken)?;
    Ok(wrapped(text, query.get("jsonp")))
}

fn broken(error: JoinError) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn wrapped(json: String, callback: Option<&str>) -> Response {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    match callback.filter(|name| !name.is_empty() && name.chars().all(plain)) {
        Some(name) => ([(header::CONTENT_TYPE, "text/javascript")], format!("{name}({json});")).into_response(),
        None => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
    }
}
