//! What agents keep for roles, changed by operators: the calls of the operator API, and the older paths with a form.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::post;
use model::AgentId;
use serde_json::Value;
use tokio::sync::oneshot;

use super::App;
use super::mesos::{Answer, gone};
use super::operator::{bad, expected};
use super::query::Query;
use crate::master::core::Core;
use crate::master::handle::{Gone, Input, OperatorCall};
use crate::mesos::decode;

/// Path, operation and the field of the form that lists what it is about.
const FORMS: [(&str, &str, &str); 4] = [
    ("reserve", "RESERVE", "resources"),
    ("unreserve", "UNRESERVE", "resources"),
    ("create-volumes", "CREATE", "volumes"),
    ("destroy-volumes", "DESTROY", "volumes"),
];

pub(super) fn routes() -> axum::Router<App> {
    let mut router = axum::Router::new();
    for (name, kind, field) in FORMS {
        for prefix in ["", "/master"] {
            let path = format!("{prefix}/{name}");
            router = router.route(&path, post(async move |app, body| form(app, body, kind, field).await));
        }
    }
    router
}

/// `RESERVE_RESOURCES`, `UNRESERVE_RESOURCES`, `CREATE_VOLUMES`, `DESTROY_VOLUMES`.
pub(super) async fn call(app: &App, kind: &str, call: &Value) -> Answer {
    let name = kind.to_lowercase();
    let body = call.get(&name).ok_or_else(|| expected(&name))?;
    let (operation, what) = kind.split_once('_').unwrap_or((kind, ""));
    let list = body.get(what.to_lowercase()).and_then(Value::as_array);
    let agent = body.pointer("/agent_id/value").and_then(Value::as_str);
    let agent = agent.ok_or_else(|| expected(&format!("{name}.agent_id")))?;
    change(app, agent, operation, list.map(Vec::as_slice).unwrap_or_default()).await
}

/// A form with `slaveId` and a list in JSON.
async fn form(State(app): State<App>, body: Bytes, kind: &str, field: &str) -> Answer {
    let form = Query::of_form(&body);
    let agent = form.get("slaveId").ok_or_else(|| expected("slaveId"))?;
    let list = form.get(field).ok_or_else(|| expected(field))?;
    let list: Vec<Value> =
        serde_json::from_str(list).map_err(|error| bad(format!("'{field}' is no list in JSON: {error}")))?;
    change(&app, agent, kind, &list).await
}

/// Answered when it is durable; what an agent then has to do is done soon.
async fn change(app: &App, agent: &str, kind: &str, list: &[Value]) -> Answer {
    let change = decode::holding_change(kind, list).map_err(bad)?;
    let id = AgentId::new(agent);
    let looked_for = id.clone();
    let look = move |core: &Core| core.scheduler.agent(&looked_for).is_some();
    if !app.handle.look(look).await.map_err(gone)? {
        return Err(bad(format!("No agent found with the ID '{agent}'")));
    }
    let call = OperatorCall::Holdings(id, change);
    let (answer, taken) = oneshot::channel();
    app.handle.send(Input::Operator { call, answer }).await.map_err(gone)?;
    match taken.await.unwrap_or(Err(Gone::Ended)).map_err(gone)? {
        Ok(()) => Ok(StatusCode::ACCEPTED.into_response()),
        // Mesos: what was asked for is not there.
        Err(why) => Err((StatusCode::CONFLICT, why)),
    }
}
