//! `/v2/groups`: trees of apps, changed as a whole.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse;
use scheduler::{Command, CommandError, Fault, Force, GroupChange, GroupId, Run};
use serde_json::{Value, json};

use super::super::App;
use super::super::answer::{Refusal, changed, deployment};
use super::super::query::Query;
use super::update::force;
use super::{Answer, object};
use crate::master::marathon::read::group;
use crate::master::marathon::write::group::Embeds;
use crate::master::marathon::{event, write};

/// What a path behind `/v2/groups` means.
enum Target<'a> {
    Group(&'a str),
    Versions(&'a str),
    Version(&'a str, &'a str),
}

fn target(path: &str) -> Target<'_> {
    let path = path.trim_matches('/');
    let (id, last) = path.rsplit_once('/').unwrap_or(("", path));
    if last == "versions" {
        return Target::Versions(id);
    }
    match id.rsplit_once('/').unwrap_or(("", id)) {
        (id, "versions") => Target::Version(id, last),
        _ => Target::Group(path),
    }
}

/// `/v2/groups`: the root.
pub(in super::super) async fn root(
    app: State<App>,
    method: Method,
    query: Query,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    below(app, method, Ok(Path(String::new())), query, body).await
}

/// Everything below `/v2/groups/`.
pub(in super::super) async fn below(
    State(app): State<App>,
    method: Method,
    path: Result<Path<String>, PathRejection>,
    query: Query,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (Path(path), body) = (path?, body?);
    match (method, target(&path)) {
        (Method::GET, Target::Group(id)) => show(&app, id, &query).await,
        (Method::GET, Target::Versions(id)) => versions(&app, id).await,
        (Method::GET, Target::Version(id, version)) => at(&app, id, version).await,
        (Method::POST, Target::Group(id)) => {
            let spec = group::spec(&object(&body)?).map_err(|faults| Refusal::invalid(&faults))?;
            if spec.id.is_empty() && id.is_empty() {
                let fault = Fault::new("/id", "is missing: give the group a name");
                return Err(Refusal::invalid(&[fault]));
            }
            let (id, spec) = if id.is_empty() {
                (spec.id.clone(), spec)
            } else {
                (inner(id, &spec.id), spec)
            };
            carry_out(&app, &id, GroupChange::Create(Box::new(spec)), &query).await
        }
        (Method::PUT | Method::PATCH, Target::Group(id)) => put(&app, id, object(&body)?, &query).await,
        (Method::DELETE, Target::Group(id)) => carry_out(&app, id, GroupChange::Remove, &query).await,
        (method, _) => Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not carried out on /v2/groups/{path}"),
        )),
    }
}

/// The id of a group that is made at the path of another.
fn inner(outer: &str, id: &str) -> String {
    if id.is_empty() || id.starts_with('/') {
        if id.is_empty() { outer.to_owned() } else { id.to_owned() }
    } else {
        format!("{outer}/{id}")
    }
}

fn no_group(id: &str) -> Refusal {
    CommandError::NoGroup(format!("/{}", id.trim_matches('/'))).into()
}

async fn show(app: &App, id: &str, query: &Query) -> Answer {
    let embeds = Embeds::of(query.all("embed"));
    let wanted = GroupId::parse("/", id).map_err(|_| no_group(id))?;
    let look = move |core: &crate::master::core::Core| {
        let there = core.scheduler.group_exists(&wanted);
        there.then(|| write::group::group(&core.scheduler, &wanted, &embeds, core.now))
    };
    let found = app.handle.look(look).await?;
    Ok(Json(found.ok_or_else(|| no_group(id))?).into_response())
}

async fn versions(app: &App, id: &str) -> Answer {
    let wanted = GroupId::parse("/", id).map_err(|_| no_group(id))?;
    let look = move |core: &crate::master::core::Core| {
        let there = core.scheduler.group_exists(&wanted);
        let all = core.scheduler.group_versions(&wanted).into_iter();
        there.then(|| all.map(|version| version.to_string()).collect::<Vec<_>>())
    };
    let found = app.handle.look(look).await?;
    Ok(Json(found.ok_or_else(|| no_group(id))?).into_response())
}

async fn at(app: &App, id: &str, version: &str) -> Answer {
    let wanted = GroupId::parse("/", id).map_err(|_| no_group(id))?;
    let text = version.to_owned();
    let look = move |core: &crate::master::core::Core| {
        let all = core.scheduler.group_versions(&wanted);
        let version = all.into_iter().find(|version| version.to_string() == text)?;
        core.scheduler.group_at(&wanted, version).map(write::group::kept)
    };
    let found = app.handle.look(look).await?;
    let missing = || CommandError::NoGroupVersion(format!("/{}", id.trim_matches('/')), version.to_owned());
    Ok(Json(found.ok_or_else(missing)?).into_response())
}

/// A body with nothing but `version` returns to it, one with `scaleBy` scales, any other says what shall be there.
async fn put(app: &App, id: &str, body: Value, query: &Query) -> Answer {
    let told: Vec<&str> = body
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "id" && !value.is_null())
        .map(|(key, _)| key.as_str())
        .collect();
    let change = match told[..] {
        ["version"] => {
            let text = body["version"].as_str().unwrap_or_default().to_owned();
            let wanted = GroupId::parse("/", id).map_err(|_| no_group(id))?;
            let name = text.clone();
            let find = move |core: &crate::master::core::Core| {
                let mut all = core.scheduler.group_versions(&wanted).into_iter();
                all.find(|version| version.to_string() == name)
            };
            let found = app.handle.look(find).await?;
            let missing = || CommandError::NoGroupVersion(format!("/{}", id.trim_matches('/')), text.clone());
            GroupChange::RollBack(found.ok_or_else(missing)?)
        }
        ["scaleBy"] => match body["scaleBy"].as_f64() {
            Some(factor) => GroupChange::ScaleBy(factor),
            None => {
                let fault = Fault::new("/scaleBy", "must be a number");
                return Err(Refusal::invalid(&[fault]));
            }
        },
        _ => {
            let spec = group::spec(&body).map_err(|faults| Refusal::invalid(&faults))?;
            GroupChange::Update(Box::new(spec))
        }
    };
    carry_out(app, id, change, query).await
}

async fn carry_out(app: &App, id: &str, change: GroupChange, query: &Query) -> Answer {
    let run = if query.flag("dryRun") { Run::Dry } else { Run::Real };
    let force: Force = force(query);
    let created = matches!(change, GroupChange::Create(_));
    let command = Command::Group {
        id: id.to_owned(),
        change,
        force,
        run,
    };
    let reply = app.handle.command(command).await??;
    if run == Run::Dry {
        return Ok(Json(json!({"steps": event::steps(&reply.steps)})).into_response());
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = changed(status, &reply, deployment(&reply));
    let location = format!("/v2/groups/{}", id.trim_matches('/'));
    if let (true, Ok(location)) = (created, HeaderValue::from_str(&location)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
