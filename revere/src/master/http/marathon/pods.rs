//! `/v2/pods`: several containers that live together.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse;
use scheduler::{AfterKill, AppSpec, Command, CommandError, Fault, Force, InstanceId, Scheduler};
use serde_json::{Value, json};

use super::super::App;
use super::super::answer::{Refusal, changed};
use super::super::query::Query;
use super::update::force;
use super::{Answer, Origin, object};
use crate::master::core::Core;
use crate::master::marathon::read::pod::pod as read;
use crate::master::marathon::write::pod::definition;
use crate::master::marathon::write::pod_status;

/// What a path behind `/v2/pods` means: two colons end the id.
#[derive(Debug, PartialEq, Eq)]
enum Target<'a> {
    Pod(&'a str),
    /// Of all pods where the id is empty.
    Status(&'a str),
    Versions(&'a str),
    Version(&'a str, &'a str),
    Instances(&'a str),
    Instance(&'a str, &'a str),
    Unknown,
}

fn target(path: &str) -> Target<'_> {
    let Some((id, rest)) = path.split_once("::") else {
        return Target::Pod(path.trim_end_matches('/'));
    };
    match rest.split_once('/').unwrap_or((rest, "")) {
        ("status", "") => Target::Status(id),
        ("versions", "") => Target::Versions(id),
        ("versions", version) => Target::Version(id, version),
        ("instances", "") => Target::Instances(id),
        ("instances", instance) => Target::Instance(id, instance),
        _ => Target::Unknown,
    }
}

fn no_pod(id: &str) -> Refusal {
    let text = format!("Pod '/{}' does not exist", id.trim_matches('/'));
    Refusal::new(StatusCode::NOT_FOUND, text)
}

/// The core speaks of apps.
fn of_pod(error: CommandError) -> Refusal {
    match error {
        CommandError::NoApp(id) => no_pod(&id),
        CommandError::AppExists(id) => {
            let text = format!("A pod or an app with id [{id}] already exists.");
            Refusal::new(StatusCode::CONFLICT, text)
        }
        other => other.into(),
    }
}

/// `/v2/pods`: all of them, and new ones. `HEAD` asks whether there are pods at all.
pub(in super::super) async fn root(
    State(app): State<App>,
    method: Method,
    (origin, query): (Origin, Query),
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    match method {
        Method::HEAD => Ok(StatusCode::OK.into_response()),
        Method::GET => {
            let look = |core: &Core| {
                let pods = core.scheduler.pods();
                let shown = pods.filter_map(|pod| Some(definition(pod, pod.pod.as_deref()?)));
                shown.collect::<Vec<_>>()
            };
            Ok(Json(app.handle.look(look).await?).into_response())
        }
        Method::POST => {
            let spec = read(&object(&body?)?).map_err(|faults| Refusal::invalid(&faults))?;
            create(&app, &origin, spec, force(&query)).await
        }
        method => Err(not_carried_out(&method, "")),
    }
}

/// `/v2/pods::status`.
pub(in super::super) async fn all_statuses(State(app): State<App>) -> Answer {
    statuses(&app).await
}

/// Everything below `/v2/pods/`.
pub(in super::super) async fn below(
    State(app): State<App>,
    method: Method,
    path: Result<Path<String>, PathRejection>,
    (origin, query): (Origin, Query),
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (Path(path), body) = (path?, body?);
    match (method, target(&path)) {
        (Method::GET | Method::HEAD, Target::Pod(id)) => show(&app, id).await,
        (Method::PUT, Target::Pod(id)) => update(&app, id, &origin, &query, &body).await,
        (Method::DELETE, Target::Pod(id)) => remove(&app, id, &origin, force(&query)).await,
        (Method::GET, Target::Status(id)) if id.trim_matches('/').is_empty() => statuses(&app).await,
        (Method::GET, Target::Status(id)) => status(&app, id).await,
        (Method::GET, Target::Versions(id)) => versions(&app, id).await,
        (Method::GET, Target::Version(id, version)) => at(&app, id, version).await,
        (Method::DELETE, Target::Instance(id, instance)) => {
            let mut ended = end(&app, id, vec![instance.to_owned()], &query).await?;
            Ok(Json(ended.pop()).into_response())
        }
        (Method::DELETE, Target::Instances(id)) => {
            let listed = object(&body)?;
            let ids = listed.as_array().into_iter().flatten();
            let ids: Option<Vec<String>> = ids.map(|id| id.as_str().map(str::to_owned)).collect();
            let Some(ids) = ids.filter(|ids| !ids.is_empty()) else {
                let fault = Fault::new("/", "must be a list of instance ids, as ::status shows them");
                return Err(Refusal::invalid(&[fault]));
            };
            Ok(Json(end(&app, id, ids, &query).await?).into_response())
        }
        (method, _) => Err(not_carried_out(&method, &path)),
    }
}

fn not_carried_out(method: &Method, path: &str) -> Refusal {
    let text = format!("{method} is not carried out on /v2/pods/{path}");
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text)
}

/// The present definition.
async fn present(app: &App, id: &str) -> Result<Value, Refusal> {
    let wanted = id.to_owned();
    let look = move |core: &Core| {
        let known = core.scheduler.pod(&wanted)?;
        Some(definition(known, known.pod.as_deref()?))
    };
    app.handle.look(look).await?.ok_or_else(|| no_pod(id))
}

async fn show(app: &App, id: &str) -> Answer {
    Ok(Json(present(app, id).await?).into_response())
}

async fn create(app: &App, origin: &Origin, spec: AppSpec, force: Force) -> Answer {
    let there = exists(app, &spec.id).await?;
    if let (Some(id), Force::Yes) = (there, force) {
        return Err(of_pod(CommandError::AppExists(id)));
    }
    let command = match force {
        // A deployment that removes a pod of that name is overtaken.
        Force::Yes => Command::PutApps {
            specs: vec![spec],
            force,
        },
        Force::No => Command::CreateApp(Box::new(spec)),
    };
    let reply = app.handle.command(command).await?.map_err(of_pod)?;
    let id = reply.apps.first().map(ToString::to_string).unwrap_or_default();
    origin.tell_pod(app, "pod_created_event");
    let body = present(app, &id).await.unwrap_or_else(|_| json!({"id": id}));
    let mut response = changed(StatusCode::CREATED, &reply, body);
    if let Ok(location) = HeaderValue::from_str(&format!("/v2/pods{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The id as it is kept, if anything has it.
async fn exists(app: &App, id: &str) -> Result<Option<String>, Refusal> {
    let wanted = id.to_owned();
    let look = move |core: &Core| core.scheduler.run_spec(&wanted).map(|known| known.id.to_string());
    Ok(app.handle.look(look).await?)
}

/// A whole definition in the place of the present one; where there is none it is made.
async fn update(app: &App, id: &str, origin: &Origin, query: &Query, body: &[u8]) -> Answer {
    let mut spec = read(&object(body)?).map_err(|faults| Refusal::invalid(&faults))?;
    let same = |one: &str, other: &str| {
        let parts = |id: &str| {
            id.split('/')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        parts(one) == parts(other)
    };
    if !spec.id.is_empty() && !same(&spec.id, id) {
        let error = format!(
            "is {}, but the path says /{}: write the same id in both",
            spec.id,
            id.trim_matches('/')
        );
        return Err(Refusal::invalid(&[Fault::new("/id", error)]));
    }
    spec.id = format!("/{}", id.trim_matches('/'));
    let force = force(query);
    let command = Command::PutApps {
        specs: vec![spec],
        force,
    };
    let known = exists(app, id).await?.is_some();
    let reply = app.handle.command(command).await?.map_err(of_pod)?;
    origin.tell_pod(
        app,
        if known {
            "pod_updated_event"
        } else {
            "pod_created_event"
        },
    );
    Ok(changed(StatusCode::OK, &reply, present(app, id).await?))
}

async fn remove(app: &App, id: &str, origin: &Origin, force: Force) -> Answer {
    present(app, id).await?;
    let command = Command::RemoveApp {
        id: id.to_owned(),
        force,
    };
    let reply = app.handle.command(command).await?.map_err(of_pod)?;
    origin.tell_pod(app, "pod_deleted_event");
    Ok(changed(StatusCode::ACCEPTED, &reply, Value::Null))
}

/// The definition of a pod, also of one that is removed and whose instances are still ending.
fn with_going<T>(scheduler: &Scheduler, id: &str, show: impl Fn(&scheduler::App, bool) -> Option<T>) -> Option<T> {
    if let Some(known) = scheduler.pod(id) {
        return show(known, false);
    }
    let id = scheduler::AppId::parse(id).ok()?;
    let before = scheduler.deployment_of(&id)?.before.get(&id)?.as_ref()?;
    show(before, true)
}

async fn status(app: &App, id: &str) -> Answer {
    let wanted = id.to_owned();
    let look = move |core: &Core| {
        with_going(&core.scheduler, &wanted, |known, going| {
            let pod = known.pod.as_deref()?;
            Some(pod_status::status(&core.scheduler, known, pod, going, core.now))
        })
    };
    let found = app.handle.look(look).await?;
    Ok(Json(found.ok_or_else(|| no_pod(id))?).into_response())
}

async fn statuses(app: &App) -> Answer {
    let look = |core: &Core| {
        let shown = core.scheduler.pods().filter_map(|known| {
            let pod = known.pod.as_deref()?;
            Some(pod_status::status(&core.scheduler, known, pod, false, core.now))
        });
        shown.collect::<Vec<_>>()
    };
    Ok(Json(app.handle.look(look).await?).into_response())
}

async fn versions(app: &App, id: &str) -> Answer {
    let wanted = id.to_owned();
    let look = move |core: &Core| {
        let known = core.scheduler.pod(&wanted)?;
        let all = core.scheduler.versions(&known.id).into_iter();
        Some(all.map(|version| version.to_string()).collect::<Vec<_>>())
    };
    let found = app.handle.look(look).await?;
    Ok(Json(found.ok_or_else(|| no_pod(id))?).into_response())
}

async fn at(app: &App, id: &str, version: &str) -> Answer {
    let (wanted, text) = (id.to_owned(), version.to_owned());
    let look = move |core: &Core| {
        let known = core.scheduler.pod(&wanted)?;
        let mut all = core.scheduler.versions(&known.id).into_iter();
        let found = all.find(|version| version.to_string() == text);
        let found = found.and_then(|version| core.scheduler.version(&known.id, version));
        Some(found.and_then(|found| Some(definition(found, found.pod.as_deref()?))))
    };
    let missing = || {
        let text = format!(
            "Pod '/{id}' has no version {version}; GET /v2/pods/{id}::versions lists those that are kept",
            id = id.trim_matches('/')
        );
        Refusal::new(StatusCode::NOT_FOUND, text)
    };
    let found = app.handle.look(look).await?;
    Ok(Json(found.ok_or_else(|| no_pod(id))?.ok_or_else(missing)?).into_response())
}

/// Ends instances; others take their places. Answers what they were.
async fn end(app: &App, id: &str, instances: Vec<String>, query: &Query) -> Result<Vec<Value>, Refusal> {
    let wanted = id.to_owned();
    let look = move |core: &Core| {
        let known = core.scheduler.pod(&wanted)?;
        let found = instances.iter().map(|instance| {
            let record = core.scheduler.instance(&InstanceId(instance.clone()));
            let record = record
                .filter(|record| record.app == known.id)
                .ok_or_else(|| instance.clone())?;
            let shown = pod_status::instance(&core.scheduler, known, record, core.now);
            Ok((record.tasks().next().map(ToString::to_string), shown))
        });
        Some(found.collect::<Result<Vec<_>, String>>())
    };
    let found = app.handle.look(look).await?.ok_or_else(|| no_pod(id))?;
    let none = |instance: String| Refusal::new(StatusCode::NOT_FOUND, format!("Instance '{instance}' does not exist"));
    let (tasks, shown): (Vec<Option<String>>, Vec<Value>) = found.map_err(none)?.into_iter().unzip();
    let command = Command::KillTasks {
        tasks: tasks.into_iter().flatten().collect(),
        then: AfterKill::Replace,
        volumes: scheduler::Volumes::Keep,
        force: force(query),
    };
    app.handle.command(command).await?.map_err(of_pod)?;
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_colons_end_the_id() {
        for (path, wanted) in [
            ("a/b", Target::Pod("a/b")),
            ("a/", Target::Pod("a")),
            ("::status", Target::Status("")),
            ("a/b::status", Target::Status("a/b")),
            ("a::versions", Target::Versions("a")),
            ("a::versions/2026", Target::Version("a", "2026")),
            ("a::instances", Target::Instances("a")),
            ("a::instances/a.instance-1", Target::Instance("a", "a.instance-1")),
            ("a::tasks", Target::Unknown),
        ] {
            assert_eq!(target(path), wanted, "{path}");
        }
    }
}
