//! Maintenance: the calls of the operator API, and the older `/maintenance` and `/machine`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use scheduler::MaintenanceCall;
use serde_json::{Value, json};

use super::App;
use super::mesos::{Answer, gone};
use super::operator::{ask, bad, expected};
use crate::master::core::Core;
use crate::master::handle::OperatorCall;
use crate::mesos::{decode, encode};

pub(super) fn routes() -> axum::Router<App> {
    let mut router = axum::Router::new();
    for prefix in ["", "/master"] {
        router = router
            .route(
                &format!("{prefix}/maintenance/schedule"),
                get(schedule).post(set_schedule),
            )
            .route(&format!("{prefix}/maintenance/status"), get(status))
            .route(&format!("{prefix}/machine/down"), post(down))
            .route(&format!("{prefix}/machine/up"), post(up));
    }
    router
}

/// `GET_MAINTENANCE_SCHEDULE`.
pub(super) fn get_schedule(core: &Core) -> Value {
    json!({"schedule": encode::schedule(core.scheduler.maintenance())})
}

/// `GET_MAINTENANCE_STATUS`.
pub(super) fn get_status(core: &Core) -> Value {
    json!({"status": encode::maintenance_status(core.scheduler.maintenance())})
}

/// `UPDATE_MAINTENANCE_SCHEDULE`, `START_MAINTENANCE`, `STOP_MAINTENANCE`.
pub(super) async fn change(app: &App, kind: &str, call: &Value) -> Answer {
    let name = kind.to_lowercase();
    let body = call.get(&name).ok_or_else(|| expected(&name))?;
    let machines = || decode::machines(body.get("machines").unwrap_or(&Value::Null)).map_err(bad);
    let call = match kind {
        "START_MAINTENANCE" => MaintenanceCall::Start(machines()?),
        "STOP_MAINTENANCE" => MaintenanceCall::Stop(machines()?),
        _ => {
            let schedule = body
                .get("schedule")
                .ok_or_else(|| expected(&format!("{name}.schedule")))?;
            MaintenanceCall::Schedule(decode::windows(schedule).map_err(bad)?)
        }
    };
    ask(app, OperatorCall::Maintenance(call)).await
}

fn read(body: &[u8]) -> Result<Value, (axum::http::StatusCode, String)> {
    serde_json::from_slice(body).map_err(|error| bad(format!("Failed to parse body into JSON: {error}")))
}

async fn schedule(State(app): State<App>) -> Answer {
    let told = app
        .handle
        .look(|core| encode::schedule(core.scheduler.maintenance()))
        .await;
    Ok(Json(told.map_err(gone)?).into_response())
}

async fn status(State(app): State<App>) -> Answer {
    let told = app
        .handle
        .look(|core| encode::maintenance_status(core.scheduler.maintenance()))
        .await;
    Ok(Json(told.map_err(gone)?).into_response())
}

async fn set_schedule(State(app): State<App>, body: Bytes) -> Answer {
    let windows = decode::windows(&read(&body)?).map_err(bad)?;
    ask(&app, OperatorCall::Maintenance(MaintenanceCall::Schedule(windows))).await
}

async fn down(State(app): State<App>, body: Bytes) -> Answer {
    let machines = decode::machines(&read(&body)?).map_err(bad)?;
    ask(&app, OperatorCall::Maintenance(MaintenanceCall::Start(machines))).await
}

async fn up(State(app): State<App>, body: Bytes) -> Answer {
    let machines = decode::machines(&read(&body)?).map_err(bad)?;
    ask(&app, OperatorCall::Maintenance(MaintenanceCall::Stop(machines))).await
}
