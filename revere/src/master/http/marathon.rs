//! Marathon's `/v2` paths.

mod changes;
mod events;
mod facts;
mod groups;
mod origin;
mod pods;
mod tasks;
mod update;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use scheduler::{Command, CommandError, Fault, Force};
use serde_json::{Value, json};

use super::App;
use super::answer::{Refusal, changed, deployment};
use super::query::Query;
use crate::master::core::Core;
use crate::master::marathon::selector::Selector;
use crate::master::marathon::write::Embeds;
use crate::master::marathon::{read, write};
use origin::Origin;

type Answer = Result<Response, Refusal>;

/// All of Marathon's paths.
pub(super) fn routes() -> Router<App> {
    let apps = get(list).post(create).put(update::put_all).patch(update::put_all);
    Router::new()
        .route("/v2/apps", apps.clone())
        .route("/v2/apps/", apps)
        .route("/v2/apps/{*path}", any(below_apps))
        .route("/v2/groups", any(groups::root))
        .route("/v2/groups/", any(groups::root))
        .route("/v2/groups/{*path}", any(groups::below))
        .route("/v2/pods", any(pods::root))
        .route("/v2/pods/", any(pods::root))
        .route("/v2/pods::status", get(pods::all_statuses))
        .route("/v2/pods/{*path}", any(pods::below))
        .route("/v2/tasks", get(tasks::tasks))
        .route("/v2/tasks/delete", post(tasks::delete))
        .route("/v2/deployments", get(changes::deployments))
        .route("/v2/deployments/{id}", delete(changes::cancel))
        .route("/v2/queue", get(changes::queue))
        .route("/v2/queue/{*path}", any(changes::below_queue))
        .route("/v2/events", get(events::events))
        .route("/v2/info", get(facts::info))
        .route("/v2/leader", get(facts::leader).delete(super::leader::step_down))
        .route("/v2/plugins", get(facts::plugins))
}

fn no_app(id: &str) -> Refusal {
    let id = id.trim_matches('/');
    Refusal::new(StatusCode::NOT_FOUND, format!("App '/{id}' does not exist"))
}

fn object(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_json(&error))
}

/// Which apps a list shall have: all that fit every part.
#[derive(Default)]
struct Filter {
    id: Option<String>,
    cmd: Option<String>,
    labels: Vec<Selector>,
}

impl Filter {
    fn of(query: &Query) -> Result<Self, Refusal> {
        let selector = |text| Selector::parse(text).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error));
        Ok(Self {
            id: query.get("id").map(str::to_owned),
            cmd: query.get("cmd").map(str::to_owned),
            labels: query.all("label").map(selector).collect::<Result<_, _>>()?,
        })
    }

    /// As in Marathon, `id` and `cmd` are looked for anywhere in the text.
    fn fits(&self, app: &scheduler::App) -> bool {
        let cmd = match &app.command {
            model::Command::Shell(text) => text.as_str(),
            model::Command::Argv(_) => "",
        };
        self.id.as_ref().is_none_or(|part| app.id.as_str().contains(part))
            && self.cmd.as_ref().is_none_or(|part| cmd.contains(part))
            && self.labels.iter().all(|selector| selector.fits(&app.labels))
    }
}

/// `GET /v2/apps`.
pub(super) async fn list(State(app): State<App>, query: Query) -> Answer {
    let filter = Filter::of(&query)?;
    let embeds = Embeds::of(query.all("embed"));
    let apps = app
        .handle
        .look(move |core| {
            let apps = core.scheduler.apps().filter(|app| filter.fits(app));
            apps.map(|app| write::app(&core.scheduler, app, embeds, core.now))
                .collect::<Vec<_>>()
        })
        .await?;
    Ok(Json(json!({"apps": apps})).into_response())
}

/// `POST /v2/apps`.
pub(super) async fn create(
    State(app): State<App>,
    origin: Origin,
    query: Query,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    create_from(&app, &origin, object(&body?)?, update::force(&query)).await
}

async fn create_from(app: &App, origin: &Origin, definition: Value, force: Force) -> Answer {
    let spec = read::app(&definition).map_err(|faults| Refusal::invalid(&faults))?;
    let command = if force == Force::Yes {
        // A deployment that removes an app of that name is overtaken.
        let id = spec.id.clone();
        let there = app
            .handle
            .look(move |core| core.scheduler.app(&id).map(|app| app.id.to_string()))
            .await?;
        if let Some(id) = there {
            return Err(CommandError::AppExists(id).into());
        }
        let specs = vec![spec];
        Command::PutApps { specs, force }
    } else {
        Command::CreateApp(Box::new(spec))
    };
    let reply = app.handle.command(command).await??;
    let Some(id) = reply.apps.first().cloned() else {
        let fault = Fault::new("/", "nothing was made");
        return Err(Refusal::invalid(&[fault]));
    };
    let (wanted, deployment) = (id.clone(), reply.deployment.clone());
    let body = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(wanted.as_str())?;
            Some(write::created(known, deployment.as_deref()))
        })
        .await?;
    let body = body.unwrap_or_else(|| json!({"id": id.as_str()}));
    origin.tell_post(app, &body);
    let mut response = changed(StatusCode::CREATED, &reply, body);
    if let Ok(location) = HeaderValue::from_str(&format!("/v2/apps{id}")) {
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
    (origin, query, headers): (Origin, Query, HeaderMap),
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (Path(path), body) = (path?, body?);
    if let (&Method::DELETE | &Method::POST, Target::App(id) | Target::Restart(id)) = (&method, target(&path)) {
        let wanted = id.to_owned();
        if app
            .handle
            .look(move |core| core.scheduler.pod(&wanted).is_some())
            .await?
        {
            return Err(no_app(id));
        }
    }
    match (method, target(&path)) {
        (Method::GET, Target::App(id)) => show(&app, id, &query).await,
        (method @ (Method::PUT | Method::PATCH), Target::App(id)) => {
            update::update(&app, &method, id, (&origin, &query), object(&body)?).await
        }
        (Method::DELETE, Target::App(id)) => remove(&app, id, &origin, &query).await,
        (Method::GET, Target::Tasks(id)) => tasks::of_app(&app, id, &headers).await,
        (Method::DELETE, Target::Tasks(id)) => tasks::kill_all(&app, id, &query).await,
        (Method::DELETE, Target::Task(id, task)) => tasks::kill(&app, id, task, &query).await,
        (Method::POST, Target::Restart(id)) => update::restart(&app, id, &query).await,
        (Method::GET, Target::Versions(id)) => update::versions(&app, id).await,
        (Method::GET, Target::Version(id, version)) => update::version(&app, id, version).await,
        (method, _) => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not carried out on /v2/apps/{path}"),
        )),
    }
}

async fn remove(app: &App, id: &str, origin: &Origin, query: &Query) -> Answer {
    // Marathon's default is yes here.
    let force = if query.flag_or("force", true) {
        Force::Yes
    } else {
        Force::No
    };
    let command = Command::RemoveApp {
        id: id.to_owned(),
        force,
    };
    let reply = app.handle.command(command).await?.map_err(|error| match error {
        CommandError::NoApp(_) => no_app(id),
        other => other.into(),
    })?;
    origin.tell_post(app, &json!({"id": format!("/{}", id.trim_matches('/'))}));
    Ok(changed(StatusCode::OK, &reply, deployment(&reply)))
}

/// The app of an id, or every app of `group/*`.
fn apps_of<'a>(core: &'a Core, id: &str) -> Option<Vec<&'a scheduler::App>> {
    match id
        .trim_end_matches('/')
        .strip_suffix("/*")
        .or_else(|| (id == "*").then_some(""))
    {
        Some(group) => {
            let group = scheduler::GroupId::parse("/", group).ok()?;
            let there = core.scheduler.group_exists(&group);
            let apps = core.scheduler.apps_below(&group).filter(|app| app.pod.is_none());
            there.then(|| apps.collect())
        }
        None => core.scheduler.app(id).map(|app| vec![app]),
    }
}

async fn show(app: &App, id: &str, query: &Query) -> Answer {
    let embeds = Embeds {
        tasks: true,
        last_failure: true,
        ..Embeds::of(query.all("embed"))
    };
    let many = id.ends_with('*');
    let wanted = id.to_owned();
    let found = app
        .handle
        .look(move |core| {
            let apps = apps_of(core, &wanted)?.into_iter();
            let shown = apps.map(|app| write::app(&core.scheduler, app, embeds, core.now));
            Some(shown.collect::<Vec<Value>>())
        })
        .await?;
    let mut found = found.ok_or_else(|| no_app(id))?;
    let body = match found.pop() {
        Some(one) if !many => json!({"app": one}),
        last => {
            found.extend(last);
            json!({"*": found})
        }
    };
    Ok(Json(body).into_response())
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
}
