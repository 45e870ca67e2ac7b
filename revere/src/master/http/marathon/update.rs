//! Changes of an app that is there: scale, update, restart, return to a version.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use scheduler::{Command, CommandError, Force};
use serde_json::{Map, Value, json};

use super::super::App;
use super::super::answer::{Refusal, changed, deployment};
use super::super::query::Query;
use super::{Answer, Origin, create_from, no_app, object};
use crate::master::marathon::{merge, read, write};

/// What the body of a PUT asks for.
enum Change {
    Scale(i64),
    Return(String),
    Update(Map<String, Value>),
}

/// `force` of the query; Marathon's default is no.
pub(super) fn force(query: &Query) -> Force {
    if query.flag("force") { Force::Yes } else { Force::No }
}

/// `PUT` and `PATCH /v2/apps/{id}`. A PUT of an app that is not there makes it.
pub(super) async fn update(
    app: &App,
    method: &Method,
    id: &str,
    (origin, query): (&Origin, &Query),
    definition: Value,
) -> Answer {
    let wanted = id.to_owned();
    let look = move |core: &crate::master::core::Core| core.scheduler.app(&wanted).map(write::definition);
    let present = app.handle.look(look).await?;
    let Value::Object(written) = definition else {
        let fault = scheduler::Fault::new("/", "an update must be a JSON object");
        return Err(Refusal::invalid(&[fault]));
    };
    let Some(present) = present else {
        return create(app, method, id, (origin, query), written).await;
    };
    let force = force(query);
    let id = id.to_owned();
    let command = match change(written)? {
        Change::Scale(instances) => Command::ScaleApp { id, instances, force },
        Change::Return(version) => roll_back(app, id, &version, force).await?,
        Change::Update(written) => {
            let whole = !query.flag_or("partialUpdate", true);
            let merged = if whole {
                Value::Object(written)
            } else {
                merge::merge(present, &written)
            };
            let spec = read::app(&merged).map_err(|faults| Refusal::invalid(&faults))?;
            Command::UpdateApp {
                id,
                spec: Box::new(spec),
                force,
            }
        }
    };
    let reply = app.handle.command(command).await??;
    let told = reply.apps.first().cloned();
    let look = move |core: &crate::master::core::Core| Some(write::definition(core.scheduler.app(told?.as_str())?));
    if let Some(definition) = app.handle.look(look).await? {
        origin.tell_post(app, &definition);
    }
    Ok(changed(StatusCode::OK, &reply, deployment(&reply)))
}

/// `PUT` and `PATCH /v2/apps`: a list of apps, each made or changed, all in one deployment.
pub(in super::super) async fn put_all(
    State(app): State<App>,
    method: Method,
    (origin, query): (Origin, Query),
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let whole = !query.flag_or("partialUpdate", true);
    let wrong = |path: String, error: &str| Refusal::invalid(&[scheduler::Fault::new(path, error)]);
    let body = object(&body?)?;
    let written = body
        .as_array()
        .ok_or_else(|| wrong("/".to_owned(), "must be a list of app definitions"))?;
    let mut specs = Vec::new();
    for (index, definition) in written.iter().enumerate() {
        let update = definition.as_object();
        let update = update.ok_or_else(|| wrong(format!("({index})"), "must be an app definition"))?;
        let id = update.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| wrong(format!("({index})/id"), "is missing: say which app this is"))?;
        let wanted = id.to_owned();
        let look = move |core: &crate::master::core::Core| core.scheduler.app(&wanted).map(write::definition);
        let merged = match app.handle.look(look).await? {
            Some(present) if !whole => merge::merge(present, update),
            None if method == Method::PATCH => return Err(no_app(id)),
            _ => definition.clone(),
        };
        let spec = read::app(&merged).map_err(|faults| {
            let placed = faults.into_iter().map(|fault| scheduler::Fault {
                path: format!("({index}){}", fault.path),
                ..fault
            });
            Refusal::invalid(&placed.collect::<Vec<_>>())
        })?;
        origin.tell_post(&app, &merged);
        specs.push(spec);
    }
    let force = force(&query);
    carry_out(&app, Command::PutApps { specs, force }).await
}

async fn create(
    app: &App,
    method: &Method,
    id: &str,
    (origin, query): (&Origin, &Query),
    mut written: Map<String, Value>,
) -> Answer {
    let is_definition = ["cmd", "args", "container"]
        .iter()
        .any(|key| written.contains_key(*key));
    if *method == Method::PATCH || !is_definition {
        return Err(no_app(id));
    }
    written.insert("id".to_owned(), json!(format!("/{}", id.trim_start_matches('/'))));
    create_from(app, origin, Value::Object(written), force(query)).await
}

/// A body with nothing but `instances` scales, one with nothing but `version` returns to it; an id beside them says nothing.
fn change(written: Map<String, Value>) -> Result<Change, Refusal> {
    let told: Vec<&String> = written
        .iter()
        .filter(|(key, value)| *key != "id" && !value.is_null())
        .map(|(key, _)| key)
        .collect();
    match told[..] {
        [] => {
            let fault = scheduler::Fault::new("/", "the update changes nothing: write the fields that are to change");
            Err(Refusal::invalid(&[fault]))
        }
        [key] if key == "instances" => {
            let instances = read::scale(&Value::Object(written)).map_err(|faults| Refusal::invalid(&faults))?;
            Ok(Change::Scale(instances))
        }
        [key] if key == "version" => match &written["version"] {
            Value::String(version) => Ok(Change::Return(version.clone())),
            _ => {
                let fault = scheduler::Fault::new("/version", "must be a version as /v2/apps/<id>/versions lists it");
                Err(Refusal::invalid(&[fault]))
            }
        },
        _ => Ok(Change::Update(written)),
    }
}

async fn roll_back(app: &App, id: String, version: &str, force: Force) -> Result<Command, Refusal> {
    let (wanted, text) = (id.clone(), version.to_owned());
    let found = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            core.scheduler
                .versions(&known.id)
                .into_iter()
                .find(|version| version.to_string() == text)
        })
        .await?;
    let version =
        found.ok_or_else(|| CommandError::NoVersion(format!("/{}", id.trim_matches('/')), version.to_owned()))?;
    Ok(Command::RollBackApp { id, version, force })
}

/// `POST /v2/apps/{id}/restart`.
pub(super) async fn restart(app: &App, id: &str, query: &Query) -> Answer {
    let (id, force) = (id.to_owned(), force(query));
    carry_out(app, Command::RestartApp { id, force }).await
}

async fn carry_out(app: &App, command: Command) -> Answer {
    let reply = app.handle.command(command).await??;
    Ok(changed(StatusCode::OK, &reply, deployment(&reply)))
}

/// `GET /v2/apps/{id}/versions`.
pub(super) async fn versions(app: &App, id: &str) -> Answer {
    let wanted = id.to_owned();
    let found = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            let texts = core
                .scheduler
                .versions(&known.id)
                .into_iter()
                .map(|version| version.to_string());
            Some(texts.collect::<Vec<_>>())
        })
        .await?;
    Ok(Json(json!({"versions": found.ok_or_else(|| no_app(id))?})).into_response())
}

/// `GET /v2/apps/{id}/versions/{version}`.
pub(super) async fn version(app: &App, id: &str, version: &str) -> Result<Response, Refusal> {
    let (wanted, text) = (id.to_owned(), version.to_owned());
    let found = app
        .handle
        .look(move |core| {
            let known = core.scheduler.app(&wanted)?;
            let mut versions = core.scheduler.versions(&known.id).into_iter();
            let version = versions.find(|version| version.to_string() == text);
            Some(
                version
                    .and_then(|version| core.scheduler.version(&known.id, version))
                    .map(write::definition),
            )
        })
        .await?;
    let missing = || CommandError::NoVersion(format!("/{}", id.trim_matches('/')), version.to_owned());
    Ok(Json(found.ok_or_else(|| no_app(id))?.ok_or_else(missing)?).into_response())
}
