//! Changes of an app that is there: scale, update, restart, return to a version.

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use scheduler::{Command, CommandError, Force};
use serde_json::{Map, Value, json};

use super::super::App;
use super::super::answer::{Refusal, changed, deployment};
use super::{Answer, create_from, flag, no_app};
use crate::master::marathon::{merge, read, write};

/// What the body of a PUT asks for.
enum Change {
    Scale(i64),
    Return(String),
    Update(Map<String, Value>),
}

/// `force` of the query; Marathon's default is no.
pub(super) fn force(query: Option<&str>) -> Force {
    if flag(query, "force") { Force::Yes } else { Force::No }
}

/// `PUT` and `PATCH /v2/apps/{id}`. A PUT of an app that is not there makes it.
pub(super) async fn update(app: &App, method: &Method, id: &str, query: Option<&str>, definition: Value) -> Answer {
    let wanted = id.to_owned();
    let look = move |core: &crate::master::core::Core| core.scheduler.app(&wanted).map(write::definition);
    let present = app.handle.look(look).await?;
    let Value::Object(written) = definition else {
        let fault = scheduler::Fault::new("/", "an update must be a JSON object");
        return Err(Refusal::invalid(&[fault]));
    };
    let Some(present) = present else {
        return create(app, method, id, written).await;
    };
    let force = force(query);
    let id = id.to_owned();
    let command = match change(written)? {
        Change::Scale(instances) => Command::ScaleApp { id, instances, force },
        Change::Return(version) => roll_back(app, id, &version, force).await?,
        Change::Update(written) => {
            let whole = query
                .unwrap_or_default()
                .split('&')
                .any(|pair| pair.eq_ignore_ascii_case("partialUpdate=false"));
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
    carry_out(app, command).await
}

async fn create(app: &App, method: &Method, id: &str, mut written: Map<String, Value>) -> Answer {
    let is_definition = ["cmd", "args", "container"]
        .iter()
        .any(|key| written.contains_key(*key));
    if *method == Method::PATCH || !is_definition {
        return Err(no_app(id));
    }
    written.insert("id".to_owned(), json!(format!("/{}", id.trim_start_matches('/'))));
    create_from(app, Value::Object(written)).await
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
pub(super) async fn restart(app: &App, id: &str, query: Option<&str>) -> Answer {
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
