//! Operator calls that change something: frameworks, agents, weights.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use model::{AgentId, FrameworkId};
use scheduler::{AgentCall, Drain};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::App;
use super::mesos::{Answer, gone};
use crate::master::core::Core;
use crate::master::handle::{Gone, Input, OperatorCall};
use crate::mesos::decode::is_role;

pub(super) fn bad(text: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, text.into())
}

pub(super) fn expected(what: &str) -> (StatusCode, String) {
    bad(format!(
        "Failed to validate master::Call: Expecting '{what}' to be present"
    ))
}

/// Ends a framework and all its tasks.
pub(super) async fn teardown(app: &App, call: &Value) -> Answer {
    let id = call.pointer("/teardown/framework_id/value").and_then(Value::as_str);
    let framework = FrameworkId::new(id.ok_or_else(|| expected("teardown"))?);
    let (answer, known) = oneshot::channel();
    app.handle
        .send(Input::Teardown { framework, answer })
        .await
        .map_err(gone)?;
    match known.await.unwrap_or(Err(Gone::Ended)).map_err(gone)? {
        true => Ok(StatusCode::OK.into_response()),
        false => Err(bad("No framework found with specified ID")),
    }
}

pub(super) async fn ask(app: &App, call: OperatorCall) -> Answer {
    let (answer, taken) = oneshot::channel();
    app.handle.send(Input::Operator { call, answer }).await.map_err(gone)?;
    taken.await.unwrap_or(Err(Gone::Ended)).map_err(gone)?.map_err(bad)?;
    // With a body the real command line reports an error.
    Ok(StatusCode::OK.into_response())
}

/// `DRAIN_AGENT`, `DEACTIVATE_AGENT`, `REACTIVATE_AGENT`, `MARK_AGENT_GONE`.
pub(super) async fn agent(app: &App, kind: &str, call: &Value) -> Answer {
    let name = kind.to_lowercase();
    let body = call.get(&name).ok_or_else(|| expected(&name))?;
    let id = body.pointer("/agent_id/value").and_then(Value::as_str);
    let agent = AgentId::new(id.ok_or_else(|| expected(&format!("{name}.agent_id")))?);
    let call = match kind {
        "DEACTIVATE_AGENT" => AgentCall::Deactivate,
        "REACTIVATE_AGENT" => AgentCall::Reactivate,
        "MARK_AGENT_GONE" => AgentCall::MarkGone,
        _ => AgentCall::Drain(Drain {
            max_grace: body
                .get("max_grace_period")
                .filter(|one| !one.is_null())
                .map(grace)
                .transpose()?,
            mark_gone: body.get("mark_gone").and_then(Value::as_bool).unwrap_or(false),
        }),
    };
    ask(app, OperatorCall::Agent(agent, call)).await
}

/// `"60s"`, or `{"seconds": 60}` as protobuf has it.
fn grace(value: &Value) -> Result<Duration, (StatusCode, String)> {
    let text = value
        .as_str()
        .and_then(|text| text.strip_suffix('s'))
        .and_then(|text| text.parse::<f64>().ok());
    let seconds = text.or_else(|| value.get("seconds").and_then(Value::as_f64));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| {
        bad(format!(
            "max_grace_period {value} is no duration: write for example \"60s\""
        ))
    })
}

/// `UPDATE_WEIGHTS`.
pub(super) async fn weights(app: &App, call: &Value) -> Answer {
    let list = call.pointer("/update_weights/weight_infos").and_then(Value::as_array);
    let mut weights = Vec::new();
    for info in list.ok_or_else(|| expected("update_weights"))? {
        let (role, weight) = (
            info.get("role").and_then(Value::as_str),
            info.get("weight").and_then(Value::as_f64),
        );
        let (Some(role), Some(weight)) = (role, weight) else {
            return Err(bad(format!("{info} has no role or no weight")));
        };
        if !is_role(role) || !weight.is_finite() || weight <= 0.0 {
            return Err(bad(format!(
                "Invalid weight {weight} of role '{role}': weights are positive, roles are named as Mesos has it"
            )));
        }
        weights.push((role.to_owned(), weight));
    }
    ask(app, OperatorCall::Weights(weights)).await
}

/// `GET_WEIGHTS`.
pub(super) fn get_weights(core: &Core) -> Value {
    let weights = core
        .scheduler
        .weights()
        .map(|(role, weight)| json!({"role": role, "weight": weight}));
    crate::mesos::encode::lists(vec![("weight_infos", weights.collect())])
}
