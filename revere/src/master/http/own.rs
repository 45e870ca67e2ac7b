//! Our own paths: nodes, VIPs, health, and the agents' upgrade.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use model::{Resources, Service};
use serde_json::{Value, json};

use super::App;
use super::answer::Refusal;
use crate::master::core::Core;
use crate::master::link;
use crate::wire;

/// `GET /health`: 200 while the driver answers.
pub(super) async fn health(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    app.handle.look(|_| ()).await?;
    Ok(Json(json!({"healthy": true})))
}

/// `GET /revere/v1/agent`: from here on the connection speaks frames.
pub(super) async fn agent(State(app): State<App>, request: Request<Body>) -> Response {
    match wire::accept(request) {
        Ok((response, stream)) => {
            tokio::spawn(async move {
                match stream.await {
                    Ok(stream) => link::serve(stream, app.handle, app.shutdown).await,
                    Err(error) => tracing::warn!(%error, "a node's connection failed"),
                }
            });
            response
        }
        Err(error) => Refusal::new(StatusCode::UPGRADE_REQUIRED, error.to_string()).into_response(),
    }
}

fn resources(resources: &Resources) -> Value {
    json!({"cpus_milli": resources.cpus_milli, "mem_mb": resources.mem_mb, "disk_mb": resources.disk_mb})
}

/// `GET /revere/v1/nodes`.
pub(super) async fn nodes(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let nodes = app.handle.look(node_list).await?;
    Ok(Json(json!({"nodes": nodes})))
}

fn node_list(core: &Core) -> Vec<Value> {
    let tasks = |agent: &model::AgentId| {
        let instances = core.scheduler.instances().filter(|one| one.agent == *agent).count();
        let of_frameworks = core
            .scheduler
            .framework_tasks()
            .filter(|one| !one.is_over() && one.agent == *agent);
        instances + of_frameworks.count()
    };
    let registered = core.scheduler.agents().map(|view| {
        let record = view.record;
        let heard = core
            .heard
            .get(&record.id)
            .map(|heard| core.now.since(*heard).as_millis());
        json!({
            "id": record.id.as_str(),
            "hostname": record.hostname,
            "ip": record.ip,
            "http_port": record.http_port,
            "connected": view.connected,
            "subnet": record.subnet.map(|subnet| subnet.to_string()),
            "tasks": tasks(&record.id),
            "used": resources(&view.used),
            "reserved": resources(&view.reserved),
            "total": resources(&record.resources),
            "heard_ms_ago": heard,
        })
    });
    let recovered = core.scheduler.recovered_agents().map(|record| {
        json!({
            "id": record.id.as_str(),
            "hostname": record.hostname,
            "ip": record.ip,
            "http_port": record.http_port,
            "connected": false,
            "subnet": record.subnet.map(|subnet| subnet.to_string()),
            "tasks": tasks(&record.id),
            "used": resources(&Resources::default()),
            "total": resources(&record.resources),
            "heard_ms_ago": null,
        })
    });
    registered.chain(recovered).collect()
}

/// `GET /revere/v1/backup`: all records, as they are at one moment.
pub(super) async fn backup(State(app): State<App>) -> Result<Response, Refusal> {
    let read = app.store.backup().await;
    let bytes = read.map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let headers = [("content-type", "application/octet-stream")];
    Ok((headers, bytes).into_response())
}

/// `GET /revere/v1/tasks/{task}/why`: how the task's place was decided.
pub(super) async fn why(
    State(app): State<App>,
    task: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(task) = task?;
    let wanted = model::TaskId::new(task.as_str());
    let found = app
        .handle
        .look(move |core| {
            let decision = core.scheduler.decision(&wanted)?;
            let instance = scheduler::InstanceId::of_task(&wanted).and_then(|id| core.scheduler.instance(&id));
            Some(why_of(core, decision, instance))
        })
        .await?;
    let missing = || {
        let text = format!(
            "nothing is remembered of the task '{task}': it never was, was placed before this master started, or too many were placed since"
        );
        Refusal::new(StatusCode::NOT_FOUND, text)
    };
    found.map(Json).ok_or_else(missing)
}

fn why_of(core: &Core, decision: &scheduler::Decision, instance: Option<&scheduler::InstanceRecord>) -> Value {
    let host = |agent: &model::AgentId| core.scheduler.agent(agent).map(|record| record.hostname.clone());
    let refused = decision.refusals.agents.iter();
    let refused: Vec<Value> = refused
        .map(|(agent, rule)| json!({"node": agent.as_str(), "hostname": host(agent), "reason": rule.as_str()}))
        .collect();
    let next = decision.next.iter();
    let next: Vec<Value> = next
        .map(|agent| json!({"node": agent.as_str(), "hostname": host(agent)}))
        .collect();
    let by_rule = decision.refusals.by_rule.iter();
    let by_rule: serde_json::Map<String, Value> = by_rule
        .map(|(rule, count)| (rule.as_str().to_owned(), json!(count)))
        .collect();
    json!({
        "app": instance.map(|one| one.app.as_str()),
        "node": instance.map(|one| one.agent.as_str()),
        "hostname": instance.and_then(|one| host(&one.agent)),
        "same_app_before": decision.same_app,
        "used_before": resources(&decision.used),
        "considered": decision.considered,
        "refused_by_rule": by_rule,
        "refused": refused,
        "next": next,
    })
}

/// `GET /revere/v1/vips`.
pub(super) async fn vips(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let body = app
        .handle
        .look(|core| {
            let snapshot = core.table.snapshot();
            let vips: Vec<Value> = snapshot.services.values().map(|service| vip(service)).collect();
            let rejected: Vec<String> = core
                .table
                .rejected()
                .into_iter()
                .map(|rejected| rejected.what.clone())
                .collect();
            json!({"generation": snapshot.generation.0, "vips": vips, "rejected": rejected})
        })
        .await?;
    Ok(Json(body))
}

fn vip(service: &Service) -> Value {
    let backend = |backend: &model::Backend| {
        json!({
            "address": backend.addr,
            "port": backend.port,
            "weight": backend.weight,
            "node": backend.agent.as_str(),
            "node_ip": backend.agent_ip,
            "task": backend.task.as_str(),
        })
    };
    json!({
        "name": service.name.as_ref().map(ToString::to_string),
        "address": service.vip.addr,
        "port": service.vip.port,
        "protocol": service.vip.protocol.as_str(),
        "backends": service.backends.iter().map(backend).collect::<Vec<_>>(),
    })
}
