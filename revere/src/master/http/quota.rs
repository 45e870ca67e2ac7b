//! Quotas: the calls of the operator API, and the older `/quota`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use scheduler::{Force, Quota};
use serde_json::{Value, json};

use super::App;
use super::mesos::{Answer, gone};
use super::operator::{ask, bad, expected};
use crate::master::core::Core;
use crate::master::handle::OperatorCall;
use crate::mesos::{decode, encode};

pub(super) fn routes() -> axum::Router<App> {
    let mut router = axum::Router::new();
    for path in ["/quota", "/master/quota"] {
        router = router
            .route(path, get(list).post(set))
            .route(&format!("{path}/{{*role}}"), axum::routing::delete(remove));
    }
    router
}

fn force(forced: bool) -> Force {
    if forced { Force::Yes } else { Force::No }
}

/// `GET_QUOTA`.
pub(super) fn get_quota(core: &Core) -> Value {
    encode::get_quota(core.scheduler.quotas())
}

/// `UPDATE_QUOTA`.
pub(super) async fn update(app: &App, call: &Value) -> Answer {
    let update = call.get("update_quota").ok_or_else(|| expected("update_quota"))?;
    let quotas = decode::quota_configs(update).map_err(bad)?;
    let forced = update.get("force").and_then(Value::as_bool).unwrap_or(false);
    ask(app, OperatorCall::Quotas(force(forced), quotas)).await
}

/// `SET_QUOTA`: refused where the role has one, as in Mesos.
pub(super) async fn set_quota(app: &App, call: &Value) -> Answer {
    let request = call.pointer("/set_quota/quota_request");
    put(app, request.ok_or_else(|| expected("set_quota.quota_request"))?).await
}

/// `REMOVE_QUOTA`.
pub(super) async fn remove_quota(app: &App, call: &Value) -> Answer {
    let role = call.pointer("/remove_quota/role").and_then(Value::as_str);
    end(app, role.ok_or_else(|| expected("remove_quota.role"))?).await
}

async fn has(app: &App, role: &str) -> Result<bool, (StatusCode, String)> {
    let role = role.to_owned();
    let look = move |core: &Core| core.scheduler.quotas().any(|quota| quota.role == role);
    app.handle.look(look).await.map_err(gone)
}

async fn put(app: &App, request: &Value) -> Answer {
    let (forced, quota) = decode::quota_request(request).map_err(bad)?;
    if has(app, &quota.role).await? {
        let role = &quota.role;
        return Err(bad(format!(
            "the role '{role}' has a quota: UPDATE_QUOTA changes it, or remove it first"
        )));
    }
    ask(app, OperatorCall::Quotas(force(forced), vec![quota])).await
}

async fn end(app: &App, role: &str) -> Answer {
    if !has(app, role).await? {
        return Err(bad(format!("the role '{role}' has no quota")));
    }
    let none = Quota {
        role: role.to_owned(),
        ..Quota::default()
    };
    ask(app, OperatorCall::Quotas(Force::Yes, vec![none])).await
}

/// `GET /quota`.
async fn list(State(app): State<App>) -> Answer {
    let take = |core: &Core| -> Vec<Value> { core.scheduler.quotas().map(encode::quota_info).collect() };
    let infos = app.handle.look(take).await.map_err(gone)?;
    Ok(Json(json!({"infos": infos})).into_response())
}

/// `POST /quota`.
async fn set(State(app): State<App>, body: Bytes) -> Answer {
    let request: Value =
        serde_json::from_slice(&body).map_err(|error| bad(format!("Failed to parse body into JSON: {error}")))?;
    put(&app, &request).await
}

/// `DELETE /quota/{role}`.
async fn remove(State(app): State<App>, Path(role): Path<String>) -> Result<Response, (StatusCode, String)> {
    end(&app, &role).await
}
