//! `/revere/v1/networks`: networks of tasks, made, listed with their use, and removed.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use scheduler::{BlockUse, Command, NetworkError, NetworkSpec, NetworkView};
use serde_json::{Map, Value, json};

use super::App;
use super::answer::Refusal;
use crate::master::core::Core;

/// What a network may say of itself.
const FIELDS: [&str; 5] = ["name", "subnet", "prefix", "vni", "peers"];

/// `GET /revere/v1/networks`.
pub(super) async fn list(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let networks = app.handle.look(all).await?;
    Ok(Json(json!({"networks": networks})))
}

/// `GET /revere/v1/networks/{name}`.
pub(super) async fn show(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(name) = name?;
    let wanted = name.clone();
    let found = app.handle.look(move |core| one(core, &wanted)).await?;
    let missing = || Refusal::new(StatusCode::NOT_FOUND, NetworkError::Missing(name).to_string());
    found.map(Json).ok_or_else(missing)
}

/// One of them, with what is used of it on each node.
fn one(core: &Core, name: &str) -> Option<Value> {
    let mut network = all(core).into_iter().find(|network| network["name"] == name)?;
    let node = |one: &BlockUse| {
        let block = one.block.map(|block| block.to_string());
        json!({"node": one.hostname, "block": block, "tasks": one.tasks})
    };
    if network["usage"].is_object() {
        let nodes: Vec<Value> = core.scheduler.network_blocks(name).iter().map(node).collect();
        network["usage"]["by_node"] = Value::from(nodes);
    }
    Some(network)
}

/// Those that are on every node whatever anybody makes, then the overlays.
fn all(core: &Core) -> Vec<Value> {
    let fixed = [
        ("host", "host", "the node's own network; ports are the node's"),
        (
            "bridge",
            "container/bridge",
            "an address in the default overlay, reached by host ports",
        ),
    ];
    let fixed = fixed.map(|(name, mode, about)| json!({"name": name, "mode": mode, "about": about}));
    let overlays = core.scheduler.networks();
    fixed.into_iter().chain(overlays.iter().map(shown)).collect()
}

fn shown(view: &NetworkView) -> Value {
    let network = &view.network;
    json!({
        "name": network.name,
        "mode": "container",
        "vni": network.vni,
        "subnet": network.subnet.to_string(),
        "prefix": network.prefix,
        "peers": network.peers,
        "apps": view.apps,
        "usage": {
            "tasks": view.tasks,
            "nodes": view.nodes,
            "nodes_without_block": view.nodes_without,
            "blocks": network.blocks(),
            "addresses_per_node": view.block_addresses,
        },
    })
}

/// `POST /revere/v1/networks`.
pub(super) async fn create(State(app): State<App>, body: Result<Bytes, BytesRejection>) -> Result<Response, Refusal> {
    let body: Value = serde_json::from_slice(&body?).map_err(|error| Refusal::bad_json(&error))?;
    let wrong = |error: String| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    let spec = read(&body).map_err(wrong)?;
    let name = spec.name.clone();
    app.handle.command(Command::CreateNetwork(spec)).await??;
    let made = app.handle.look(all).await?;
    let made = made.into_iter().find(|network| network["name"] == name.as_str());
    Ok((StatusCode::CREATED, Json(made.unwrap_or_default())).into_response())
}

fn read(body: &Value) -> Result<NetworkSpec, String> {
    let fields = body
        .as_object()
        .ok_or("a network is a JSON object with name and subnet")?;
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        return Err(format!("a network has no `{unknown}`: it has {}", FIELDS.join(", ")));
    }
    let strings = "`peers` must be a list of names of networks";
    let peers = match fields.get("peers") {
        None | Some(Value::Null) => Vec::new(),
        Some(list) => {
            let names = list.as_array().ok_or(strings)?.iter();
            let names: Option<Vec<String>> = names.map(|name| name.as_str().map(str::to_owned)).collect();
            names.ok_or(strings)?
        }
    };
    Ok(NetworkSpec {
        name: text(fields, "name")?,
        subnet: text(fields, "subnet")?,
        prefix: number(fields, "prefix")?,
        vni: number(fields, "vni")?,
        peers,
    })
}

fn text(fields: &Map<String, Value>, field: &str) -> Result<String, String> {
    let value = fields.get(field).and_then(Value::as_str).map(str::to_owned);
    value.ok_or_else(|| format!("`{field}` is missing or no text"))
}

fn number(fields: &Map<String, Value>, field: &str) -> Result<Option<i64>, String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_i64().map(Some);
            number.ok_or_else(|| format!("`{field}` is no whole number: {value}"))
        }
    }
}

/// `DELETE /revere/v1/networks/{name}`.
pub(super) async fn remove(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(name) = name?;
    app.handle.command(Command::RemoveNetwork { name }).await??;
    Ok(StatusCode::NO_CONTENT)
}
