//! Tasks: lists, and their ends.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scheduler::{AfterKill, Command, Fault, Volumes};
use serde_json::{Value, json};

use super::super::App;
use super::super::answer::{Refusal, changed, deployment};
use super::super::query::Query;
use super::update::force;
use super::{Answer, no_app, object};
use crate::master::core::Core;
use crate::master::marathon::write::task;

/// Most tasks that one request may end.
const MOST_IDS: usize = 100_000;

/// Whether a client wants the old table and not JSON.
fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/plain") && !accept.contains("application/json"))
}

fn text(table: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], table).into_response()
}

/// `GET /v2/tasks`.
pub(in super::super) async fn tasks(State(app): State<App>, headers: HeaderMap, query: Query) -> Answer {
    if wants_text(&headers) {
        let table = |core: &Core| task::table(&core.scheduler, core.scheduler.apps());
        return Ok(text(app.handle.look(table).await?));
    }
    let wanted = |state: &str| query.all("status").any(|value| value.eq_ignore_ascii_case(state));
    let (running, staging) = (wanted("running"), wanted("staging"));
    let tasks = app
        .handle
        .look(move |core| {
            let all = core
                .scheduler
                .apps()
                .flat_map(|known| task::tasks_of(&core.scheduler, known));
            let keep = |task: &Value| match task["state"].as_str() {
                _ if !running && !staging => true,
                Some("TASK_RUNNING") => running,
                Some("TASK_STAGING" | "TASK_STARTING") => staging,
                _ => false,
            };
            all.filter(keep).collect::<Vec<_>>()
        })
        .await?;
    Ok(Json(json!({"tasks": tasks})).into_response())
}

/// `GET /v2/apps/{id}/tasks`; `{group}/*` is every app in the group.
pub(super) async fn of_app(app: &App, id: &str, headers: &HeaderMap) -> Answer {
    let as_text = wants_text(headers);
    let wanted = id.to_owned();
    let found = app
        .handle
        .look(move |core| {
            let known = super::apps_of(core, &wanted)?;
            if as_text {
                return Some(Err(task::table(&core.scheduler, known.into_iter())));
            }
            let tasks = known.into_iter().flat_map(|app| task::tasks_of(&core.scheduler, app));
            Some(Ok(tasks.collect::<Vec<_>>()))
        })
        .await?;
    Ok(match found.ok_or_else(|| no_app(id))? {
        Ok(tasks) => Json(json!({"tasks": tasks})).into_response(),
        Err(table) => text(table),
    })
}

fn then(query: &Query) -> AfterKill {
    if query.flag("scale") {
        AfterKill::Scale
    } else {
        AfterKill::Replace
    }
}

/// `DELETE /v2/apps/{id}/tasks/{task}`.
pub(super) async fn kill(app: &App, id: &str, task: &str, query: &Query) -> Answer {
    let (wanted, task_id) = (id.to_owned(), task.to_owned());
    let found = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            let tasks = task::tasks_of(&core.scheduler, known);
            Some(tasks.into_iter().find(|task| task["id"] == task_id.as_str()))
        })
        .await?;
    let no_task = || Refusal::new(StatusCode::NOT_FOUND, format!("Task '{task}' does not exist"));
    let shown = found.ok_or_else(|| no_app(id))?.ok_or_else(no_task)?;
    end(app, vec![task.to_owned()], query, json!({"task": shown})).await
}

/// `DELETE /v2/apps/{id}/tasks`, perhaps only those on one host.
pub(super) async fn kill_all(app: &App, id: &str, query: &Query) -> Answer {
    let wanted = id.to_owned();
    let tasks = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            Some(task::tasks_of(&core.scheduler, known))
        })
        .await?;
    let mut tasks = tasks.ok_or_else(|| no_app(id))?;
    if let Some(host) = query.get("host").filter(|host| *host != "*") {
        tasks.retain(|task| task["host"] == host);
    }
    let ids = tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned));
    let ids = ids.collect();
    end(app, ids, query, json!({"tasks": tasks})).await
}

/// `POST /v2/tasks/delete`.
pub(in super::super) async fn delete(
    State(app): State<App>,
    query: Query,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let wrong = || {
        let error = "must be a list of task ids: write {\"ids\": [\"...\"]}";
        Refusal::invalid(&[Fault::new("/ids", error)])
    };
    let body = object(&body?)?;
    let listed = body["ids"].as_array().ok_or_else(wrong)?;
    let ids: Option<Vec<String>> = listed.iter().map(|id| id.as_str().map(str::to_owned)).collect();
    let ids = ids.filter(|ids| ids.len() <= MOST_IDS).ok_or_else(wrong)?;
    let named: std::collections::BTreeSet<String> = ids.iter().cloned().collect();
    let shown = app
        .handle
        .look(move |core| {
            let known = named.iter().filter_map(|id| {
                let id = model::TaskId::new(id.as_str());
                let instance = scheduler::InstanceId::of_task(&id)?;
                let mut shown = match core.scheduler.instance(&instance) {
                    Some(instance) => task::task(&core.scheduler, instance),
                    None => task::idle(
                        &core.scheduler,
                        core.scheduler.residence(&instance).filter(|one| !one.wiped)?,
                    ),
                };
                // Of a pod's instance this is one container.
                shown["id"] = json!(id.as_str());
                Some((id, shown))
            });
            known.map(|(_, task)| task).collect::<Vec<_>>()
        })
        .await?;
    // Tasks that are over are as gone as they should be.
    let there = |id: &String| shown.iter().any(|task| task["id"] == id.as_str());
    let ids = ids.into_iter().filter(there).collect();
    end(&app, ids, &query, json!({"tasks": shown})).await
}

/// Ends tasks; with `wipe` their volumes too, those of tasks that are over already included.
async fn end(app: &App, tasks: Vec<String>, query: &Query, shown: Value) -> Answer {
    let (then, force) = (then(query), force(query));
    let volumes = if query.flag("wipe") {
        Volumes::Wipe
    } else {
        Volumes::Keep
    };
    let kill = Command::KillTasks {
        tasks,
        then,
        volumes,
        force,
    };
    let reply = app.handle.command(kill).await??;
    let body = match then {
        AfterKill::Replace => shown,
        AfterKill::Scale => deployment(&reply),
    };
    Ok(changed(StatusCode::OK, &reply, body))
}
