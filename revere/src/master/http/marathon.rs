//! Marathon's `/v2` paths.

mod update;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use scheduler::{Command, Fault};
use serde_json::{Value, json};

use super::App;
use super::answer::{Refusal, changed, deployment};
use crate::master::core::Core;
use crate::master::marathon::{read, write};

type Answer = Result<Response, Refusal>;

fn no_app(id: &str) -> Refusal {
    let id = id.trim_matches('/');
    Refusal::new(StatusCode::NOT_FOUND, format!("App '/{id}' does not exist"))
}

fn object(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))
}

/// Whether the query has `key` with any spelling of true; clients send `True`.
fn flag(query: Option<&str>, key: &str) -> bool {
    query.unwrap_or_default().split('&').any(|pair| {
        pair.split_once('=')
            .is_some_and(|(name, value)| name == key && value.eq_ignore_ascii_case("true"))
    })
}

fn embeds_tasks(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| {
        pair.split_once('=')
            .is_some_and(|(name, value)| name == "embed" && matches!(value, "apps.tasks" | "app.tasks" | "tasks"))
    })
}

/// `GET /v2/apps`.
pub(super) async fn list(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let tasks = embeds_tasks(query.as_deref());
    let apps = app
        .handle
        .look(move |core| {
            core.scheduler
                .apps()
                .map(|app| write::app(&core.scheduler, app, tasks))
                .collect::<Vec<_>>()
        })
        .await?;
    Ok(Json(json!({"apps": apps})).into_response())
}

/// `POST /v2/apps`.
pub(super) async fn create(State(app): State<App>, body: Result<Bytes, BytesRejection>) -> Answer {
    create_from(&app, object(&body?)?).await
}

async fn create_from(app: &App, definition: Value) -> Answer {
    let spec = read::app(&definition).map_err(|faults| Refusal::invalid(&faults))?;
    let reply = app.handle.command(Command::CreateApp(Box::new(spec))).await??;
    let id = reply.app.clone();
    let deployment = reply.deployment.clone();
    let body = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(id.as_str())?;
            Some(write::created(known, &deployment))
        })
        .await?;
    let body = body.unwrap_or_else(|| json!({"id": reply.app.as_str()}));
    let mut response = changed(StatusCode::CREATED, &reply, body);
    if let Ok(location) = HeaderValue::from_str(&format!("/v2/apps{}", reply.app)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What a path behind `/v2/apps/` means: ids hold slashes, so its end decides.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    App(&'a str),
    Tasks(&'a str),
    Task(&'a str, &'a str),
    Versions(&'a str),
    Version(&'a str, &'a str),
    Restart(&'a str),
}

fn target(path: &str) -> Target<'_> {
    let path = path.trim_end_matches('/');
    if let Some((id, last)) = path.rsplit_once('/') {
        match last {
            "tasks" => return Target::Tasks(id),
            "versions" => return Target::Versions(id),
            "restart" => return Target::Restart(id),
            _ => {}
        }
        match id.rsplit_once('/') {
            Some((id, "tasks")) => return Target::Task(id, last),
            Some((id, "versions")) => return Target::Version(id, last),
            _ => {}
        }
    }
    Target::App(path)
}

/// Everything below `/v2/apps/`.
pub(super) async fn below_apps(
    State(app): State<App>,
    method: Method,
    path: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (Path(path), body) = (path?, body?);
    let query = query.as_deref();
    match (method, target(&path)) {
        (Method::GET, Target::App(id)) => show(&app, id).await,
        (method @ (Method::PUT | Method::PATCH), Target::App(id)) => {
            update::update(&app, &method, id, query, object(&body)?).await
        }
        (Method::DELETE, Target::App(id)) => {
            let reply = app
                .handle
                .command(Command::RemoveApp { id: id.to_owned() })
                .await?
                .map_err(|error| match error {
                    scheduler::CommandError::NoApp(_) => no_app(id),
                    other => other.into(),
                })?;
            Ok(changed(StatusCode::OK, &reply, deployment(&reply)))
        }
        (Method::GET, Target::Tasks(id)) => {
            with_app(
                &app,
                id,
                |core, known| json!({"tasks": write::tasks_of(&core.scheduler, known)}),
            )
            .await
        }
        (Method::DELETE, Target::Tasks(id)) => kill_all(&app, id, query).await,
        (Method::DELETE, Target::Task(id, task)) => kill(&app, id, task, query).await,
        (Method::POST, Target::Restart(id)) => update::restart(&app, id, query).await,
        (Method::GET, Target::Versions(id)) => update::versions(&app, id).await,
        (Method::GET, Target::Version(id, version)) => update::version(&app, id, version).await,
        (method, _) => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not carried out on /v2/apps/{path}"),
        )),
    }
}

async fn with_app(app: &App, id: &str, body: impl FnOnce(&Core, &scheduler::App) -> Value + Send + 'static) -> Answer {
    let wanted = id.to_owned();
    let found = app
        .handle
        .look(move |core| core.scheduler.app(&wanted).map(|known| body(core, known)))
        .await?;
    Ok(Json(found.ok_or_else(|| no_app(id))?).into_response())
}

async fn show(app: &App, id: &str) -> Answer {
    with_app(
        app,
        id,
        |core, known| json!({"app": write::app(&core.scheduler, known, true)}),
    )
    .await
}

fn refuse_scale(query: Option<&str>) -> Result<(), Refusal> {
    if flag(query, "scale") {
        let fault = Fault::new(
            "/scale",
            "ending a task and scaling down at once is not carried out; PUT instances instead",
        );
        return Err(Refusal::invalid(&[fault]));
    }
    Ok(())
}

async fn kill(app: &App, id: &str, task: &str, query: Option<&str>) -> Answer {
    refuse_scale(query)?;
    let (wanted, task_id) = (id.to_owned(), task.to_owned());
    let found = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            let tasks = write::tasks_of(&core.scheduler, known);
            Some(tasks.into_iter().find(|task| task["id"] == task_id.as_str()))
        })
        .await?;
    let no_task = || Refusal::new(StatusCode::NOT_FOUND, format!("Task '{task}' does not exist"));
    let shown = found.ok_or_else(|| no_app(id))?.ok_or_else(no_task)?;
    let reply = app
        .handle
        .command(Command::KillTask { task: task.to_owned() })
        .await??;
    Ok(changed(StatusCode::OK, &reply, json!({"task": shown})))
}

async fn kill_all(app: &App, id: &str, query: Option<&str>) -> Answer {
    refuse_scale(query)?;
    let wanted = id.to_owned();
    let tasks = app
        .handle
        .look(move |core| {
            core.scheduler
                .app(&wanted)
                .map(|known| write::tasks_of(&core.scheduler, known))
        })
        .await?
        .ok_or_else(|| no_app(id))?;
    for task in tasks.iter().filter_map(|task| task["id"].as_str()) {
        // One that has ended meanwhile is as gone as it should be.
        let _ = app.handle.command(Command::KillTask { task: task.to_owned() }).await?;
    }
    Ok(Json(json!({"tasks": tasks})).into_response())
}

/// `GET /v2/tasks`.
pub(super) async fn tasks(State(app): State<App>, RawQuery(query): RawQuery) -> Answer {
    let wanted = |state: &str| {
        query
            .as_deref()
            .unwrap_or_default()
            .contains(&format!("status={state}"))
    };
    let (running, staging) = (wanted("running"), wanted("staging"));
    let tasks = app
        .handle
        .look(move |core| {
            let all = core
                .scheduler
                .apps()
                .flat_map(|known| write::tasks_of(&core.scheduler, known));
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

/// `GET /v2/deployments`.
pub(super) async fn deployments(State(app): State<App>) -> Answer {
    Ok(Json(app.handle.look(|core| write::deployments(&core.scheduler)).await?).into_response())
}

/// `GET /v2/queue`.
pub(super) async fn queue(State(app): State<App>) -> Answer {
    Ok(Json(app.handle.look(|core| write::queue(&core.scheduler, core.now)).await?).into_response())
}

fn host<'a>(headers: &'a HeaderMap, app: &'a App) -> &'a str {
    headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or(&app.address)
}

/// `GET /v2/info`.
pub(super) async fn info(State(app): State<App>, headers: HeaderMap) -> Answer {
    let framework = app.handle.look(|core| core.scheduler.framework().clone()).await?;
    Ok(Json(json!({
        "name": framework.name,
        "version": write::MARATHON_VERSION,
        "buildref": format!("revere-{}", env!("CARGO_PKG_VERSION")),
        "elected": true,
        "leader": host(&headers, &app),
        "frameworkId": framework.id.as_str(),
        "marathon_config": {
            "master": format!("http://{}", host(&headers, &app)),
            "framework_name": framework.name,
            "checkpoint": true,
            "ha": false,
            "features": ["task_killing", "vips"],
            "local_port_min": 10_000,
            "local_port_max": 20_000,
        },
        "zookeeper_config": {},
        "http_config": {"http_port": app.port, "https_port": 0},
    }))
    .into_response())
}

/// `GET /v2/leader`.
pub(super) async fn leader(State(app): State<App>, headers: HeaderMap) -> Answer {
    Ok(Json(json!({"leader": host(&headers, &app)})).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_decides() {
        for (path, wanted) in [
            ("a", Target::App("a")),
            ("/a", Target::App("/a")),
            ("a/b/", Target::App("a/b")),
            ("a/b/tasks", Target::Tasks("a/b")),
            (
                "/a/tasks/x.instance-1._app.1",
                Target::Task("/a", "x.instance-1._app.1"),
            ),
            ("a/versions", Target::Versions("a")),
            ("a/versions/v", Target::Version("a", "v")),
            ("a/restart", Target::Restart("a")),
            ("tasks", Target::App("tasks")),
        ] {
            assert_eq!(target(path), wanted, "{path}");
        }
    }

    #[test]
    fn booleans_take_any_case() {
        assert!(flag(Some("a=b&force=True"), "force") && flag(Some("force=true"), "force"));
        assert!(!flag(Some("force=False"), "force") && !flag(None, "force"));
    }
}
