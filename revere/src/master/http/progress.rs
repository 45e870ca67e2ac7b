//! How far a change is, why it goes no further, and how it ended: what Marathon's paths do not tell.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use scheduler::{App as RunSpec, AppId, DeploymentEnd, DeploymentRecord};
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;
use crate::master::core::Core;
use crate::master::marathon::event;

type Answer = Result<Json<Value>, Refusal>;

/// `GET /revere/v1/deployments/{id}`.
pub(super) async fn deployment(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Answer {
    let Path(id) = id?;
    let wanted = id.clone();
    let found = app
        .handle
        .look(move |core| {
            let under_way = core
                .scheduler
                .deployments()
                .into_iter()
                .find(|record| record.id == wanted);
            let ended = || core.scheduler.ended_deployment(&wanted).map(|end| ended(&wanted, end));
            under_way.map(|record| running(core, record)).or_else(ended)
        })
        .await?;
    let missing = || {
        let text = format!(
            "nothing is known of the deployment '{id}': it never was, or ended long ago or under an earlier master"
        );
        Refusal::new(StatusCode::NOT_FOUND, text)
    };
    found.map(Json).ok_or_else(missing)
}

/// `GET /revere/v1/apps/{id}`.
pub(super) async fn app(State(app): State<App>, id: Result<Path<String>, PathRejection>) -> Answer {
    let Path(id) = id?;
    let wanted = id.clone();
    let found = app
        .handle
        .look(move |core| {
            let run_spec = core.scheduler.run_spec(&wanted)?;
            let mut out = standing(core, run_spec);
            let open = core.scheduler.deployment_of(&run_spec.id);
            out["deployment"] = json!(open.map(|record| record.id.as_str()));
            Some(out)
        })
        .await?;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("there is no app or pod '/{id}'"));
    found.map(Json).ok_or_else(missing)
}

fn ended(id: &str, end: &DeploymentEnd) -> Value {
    match end {
        DeploymentEnd::Done => json!({"id": id, "state": "done"}),
        DeploymentEnd::GivenUp(why) => json!({"id": id, "state": "given up", "why": why}),
    }
}

fn running(core: &Core, record: &DeploymentRecord) -> Value {
    let deadline = core.scheduler.deadline_of(record);
    let apps = record.current().iter().map(|action| {
        let mut out = match core.scheduler.run_spec(action.app.as_str()) {
            Some(app) => standing(core, app),
            None => json!({"id": action.app.as_str(), "ending": ending(core, &action.app)}),
        };
        out["action"] = json!(action.kind.as_str(action.of));
        out
    });
    json!({
        "id": record.id,
        "state": "under way",
        "version": record.version.to_string(),
        "step": record.step.saturating_add(1),
        "steps": record.steps.len(),
        "deadline": deadline.map(|at| at.to_string()),
        "deadline_in_seconds": deadline.map(|at| at.since(core.now).as_secs()),
        "apps": apps.collect::<Vec<_>>(),
    })
}

fn ending(core: &Core, app: &AppId) -> usize {
    core.scheduler.instances_of(app).filter(|one| one.unwanted).count()
}

/// Instances by what they are on the way to, and what holds others back.
fn standing(core: &Core, app: &RunSpec) -> Value {
    let (mut ready, mut starting, mut unhealthy, mut old) = (0_u32, 0_u32, 0_u32, 0_u32);
    for one in core.scheduler.instances_of(&app.id).filter(|one| !one.unwanted) {
        let counter = if one.config != app.last_config_change {
            &mut old
        } else if one.spec.serves(&one.status) && one.spec.was_ready(&one.status) {
            &mut ready
        } else if one.status.healthy == Some(false) {
            &mut unhealthy
        } else {
            &mut starting
        };
        *counter = counter.saturating_add(1);
    }
    let waiting = core.scheduler.queue().find(|item| item.app.id == app.id).map(|item| {
        let refused = item.refusals.by_rule.iter();
        let refused: serde_json::Map<String, Value> = refused
            .map(|(rule, count)| (rule.as_str().to_owned(), json!(count)))
            .collect();
        json!({
            "count": item.count,
            "delay_seconds": item.delay.as_secs_f64().ceil(),
            "nodes_looked_at": item.refusals.processed,
            "refused_by_rule": refused,
        })
    });
    json!({
        "id": app.id.as_str(),
        "wanted": app.instances,
        "ready": ready,
        "starting": starting,
        "unhealthy": unhealthy,
        "earlier": old,
        "ending": ending(core, &app.id),
        "waiting": waiting,
        "crash_loop": core.scheduler.crash_loop(&app.id).map(|known| event::crash_loop(&known)),
    })
}
