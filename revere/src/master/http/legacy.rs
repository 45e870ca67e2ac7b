//! Mesos' read endpoints from before the operator API, under every spelling that clients use.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Value;

use super::App;
use super::mesos::{Answer, gone};
use super::query::Query;
use crate::master::picture::Picture;
use crate::mesos::legacy::{self, Page};

/// Most tasks that `/tasks` shows where nothing is said (Mesos' `TASK_LIMIT`).
const TASK_LIMIT: usize = 100;

type Write = fn(&Picture, &Query) -> Value;

/// Every path, each also under `/master` and with `.json`.
pub(super) fn routes() -> Router<App> {
    let pages: [(&str, Write); 6] = [
        ("state", |picture, _| legacy::state(picture)),
        ("state-summary", |picture, _| legacy::summary(picture)),
        ("slaves", |picture, query| {
            legacy::slaves(picture, query.get("slave_id"))
        }),
        ("frameworks", |picture, _| legacy::frameworks(picture)),
        ("roles", |picture, _| legacy::roles(picture)),
        ("tasks", tasks),
    ];
    let mut router = Router::new();
    for (name, write) in pages {
        for path in ["", "/master"]
            .into_iter()
            .flat_map(|prefix| [format!("{prefix}/{name}"), format!("{prefix}/{name}.json")])
        {
            router = router.route(&path, get(async move |app, query| answer(app, query, write).await));
        }
    }
    router
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
    let address = app.address.clone();
    let picture = app.handle.look(move |core| core.picture(address)).await.map_err(gone)?;
    let callback = query.get("jsonp").map(str::to_owned);
    let written = tokio::task::spawn_blocking(move || write(&picture, &query)).await;
    let value = written.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(wrapped(value, callback.as_deref()))
}

fn wrapped(value: Value, callback: Option<&str>) -> Response {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    match callback.filter(|name| !name.is_empty() && name.chars().all(plain)) {
        Some(name) => ([(header::CONTENT_TYPE, "text/javascript")], format!("{name}({value});")).into_response(),
        None => Json(value).into_response(),
    }
}
