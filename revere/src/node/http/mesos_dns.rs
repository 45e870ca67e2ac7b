//! Mesos-DNS's HTTP API, path for path, with its field names and its blank objects for "nothing".

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::table::{Answer, Route, document, router};
use super::view::{Refusal, View, clean};

/// Mesos-DNS's own refresh, which has no meaning here: names follow events.
const NO_REFRESH: u32 = 0;

const ROUTES: &[Route<View>] = &[
    Route {
        path: "/v1/version",
        about: "Which program this is",
        answer: Answer::Json(r#"{"Service": "Mesos-DNS", "Version": "0.1.0", "URL": ""}"#),
        handler: || get(version),
    },
    Route {
        path: "/v1/config",
        about: "The settings in effect; never a secret",
        answer: Answer::Json(r#"{"Domain": "mesos", "TTL": 60, "Masters": ["http://10.0.0.1:5050"]}"#),
        handler: || get(config),
    },
    Route {
        path: "/v1/hosts/{host}",
        about: "Addresses (A) of a name; one blank object if there are none",
        answer: Answer::Json(r#"[{"host": "web.marathon.mesos.", "ip": "10.0.0.1"}]"#),
        handler: || get(host),
    },
    Route {
        path: "/v1/hosts/{host}/ports",
        about: "Not carried out, as in the original",
        answer: Answer::NotImplemented,
        handler: || get(async || (StatusCode::NOT_IMPLEMENTED, "To be implemented...")),
    },
    Route {
        path: "/v1/services/{service}",
        about: "Targets of a service (SRV), the port as text; one blank object if there are none",
        answer: Answer::Json(
            r#"[{"service": "_web._tcp.marathon.mesos", "host": "web-iffe9-s0.marathon.mesos.", "ip": "10.0.0.1", "port": "31000"}]"#,
        ),
        handler: || get(service),
    },
    Route {
        path: "/v1/enumerate",
        about: "Every framework with its tasks and their records",
        answer: Answer::Json(
            r#"{"frameworks": [{"name": "marathon", "tasks": [{"name": "web", "id": "web.1",
                "records": [{"name": "web.marathon.mesos.", "host": "10.0.0.1", "rtype": "A"}]}]}]}"#,
        ),
        handler: || get(enumerate),
    },
    Route {
        path: "/v1/axfr",
        about: "The whole zone of task names",
        answer: Answer::Json(
            r#"{"TTL": 60, "Serial": 7, "RefreshSeconds": 0, "Mname": "ns1.mesos.", "Rname": "root.ns1.mesos.", "Domain": "mesos",
                "Records": {"As": {"web.marathon.mesos.": ["10.0.0.1"]}, "AAAAs": {}, "SRVs": {}}}"#,
        ),
        handler: || get(axfr),
    },
    Route {
        path: "/v1/openapi.json",
        about: "This document",
        answer: Answer::Json("{}"),
        handler: || get(async || Json(document(TITLE, ROUTES))),
    },
];

const TITLE: &str = "Mesos-DNS's HTTP API, served by a Revere node";

/// The listener's routes.
pub(in crate::node) fn routes(view: View) -> Router {
    router(ROUTES).with_state(view)
}

async fn version() -> Json<Value> {
    Json(json!({
        "Service": "Mesos-DNS",
        "Version": env!("CARGO_PKG_VERSION"),
        "URL": "https://github.com/mesosphere/mesos-dns",
    }))
}

/// The keys of Mesos-DNS's configuration that mean something here. Its credentials are told as not set, always.
async fn config(State(view): State<View>) -> Result<Json<Value>, Refusal> {
    let config = &view.names()?.config;
    let texts = |addrs: &[std::net::SocketAddr]| addrs.iter().map(ToString::to_string).collect::<Vec<_>>();
    let domain = &config.domain;
    Ok(Json(json!({
        "Domain": domain,
        "TTL": config.mesos_ttl,
        "RefreshSeconds": NO_REFRESH,
        "Masters": view.masters,
        "Resolvers": texts(&config.upstreams),
        "Listener": texts(&config.listen),
        "SOAMname": format!("ns1.{domain}."),
        "SOARname": format!("root.ns1.{domain}."),
        "SOAMinttl": config.negative_ttl,
        "DNSOn": true,
        "HTTPOn": true,
        "ExternalOn": !config.upstreams.is_empty(),
        "RecurseOn": !config.upstreams.is_empty(),
        "EnumerationOn": true,
        "SetTruncateBit": true,
        "EnforceRFC952": false,
        "MesosCredentials": {"Principal": "", "Secret": ""},
    })))
}

/// `.*` inside of a name means nothing, as in the original.
fn cleaned(name: &str) -> String {
    clean(&name.replace(".*", ""))
}

async fn host(State(view): State<View>, Path(host): Path<String>) -> Result<Json<Value>, Refusal> {
    let name = cleaned(&host);
    let found = view.names()?.addresses(&name, "A").into_iter();
    let mut out: Vec<Value> = found.map(|ip| json!({"host": format!("{name}."), "ip": ip})).collect();
    if out.is_empty() {
        out.push(json!({"host": "", "ip": ""}));
    }
    Ok(Json(out.into()))
}

async fn service(State(view): State<View>, Path(service): Path<String>) -> Result<Json<Value>, Refusal> {
    let names = view.names()?;
    let found = names.services(&cleaned(&service)).into_iter();
    let mut out: Vec<Value> = found
        .map(|(target, port)| {
            let ip = names.addresses(&target, "A").into_iter().next().unwrap_or_default();
            json!({"service": service, "host": format!("{target}."), "ip": ip, "port": port.to_string()})
        })
        .collect();
    if out.is_empty() {
        out.push(json!({"service": "", "host": "", "ip": "", "port": ""}));
    }
    Ok(Json(out.into()))
}

/// `name` and a SRV's target with their last dot.
fn dotted(data: &str) -> String {
    match data.rsplit_once(':') {
        Some((target, port)) if !target.contains(':') => format!("{target}.:{port}"),
        _ => data.to_owned(),
    }
}

async fn enumerate(State(view): State<View>) -> Result<Json<Value>, Refusal> {
    let config = &view.names()?.config;
    let Some(snapshot) = view.snapshot() else {
        return Ok(Json(json!({"frameworks": []})));
    };
    let mut frameworks: Vec<Value> = Vec::new();
    for (id, framework) in snapshot.frameworks.iter() {
        let mut tasks: Vec<Value> = Vec::new();
        for task in snapshot.tasks.values().filter(|task| task.framework == *id) {
            let Some(node) = snapshot.nodes.get(&task.agent) else {
                continue;
            };
            let records = dns::task_records(task, node, framework, config).into_iter();
            let records: Vec<Value> = records
                .map(|one| json!({"name": format!("{}.", one.name), "host": dotted(&one.data), "rtype": one.kind}))
                .collect();
            if !records.is_empty() {
                tasks.push(json!({"name": task.name, "id": task.id.as_str(), "records": records}));
            }
        }
        let tasks = if tasks.is_empty() { Value::Null } else { tasks.into() };
        frameworks.push(json!({"name": framework.name, "tasks": tasks}));
    }
    Ok(Json(json!({"frameworks": frameworks})))
}

async fn axfr(State(view): State<View>) -> Result<Json<Value>, Refusal> {
    let names = view.names()?;
    let zones = names.zones();
    let domain = &names.config.domain;
    let mut sets: [BTreeMap<String, Vec<String>>; 3] = Default::default();
    for (name, found) in zones.iter().filter(|(_, found)| found.zone.apex == *domain) {
        for one in found.listed(name) {
            let set = match one.kind {
                "A" => &mut sets[0],
                "AAAA" => &mut sets[1],
                "SRV" => &mut sets[2],
                _ => continue,
            };
            set.entry(format!("{name}."))
                .or_default()
                .push(dotted_if_srv(one.kind, &one.data));
        }
    }
    let [a, aaaa, srv] = sets;
    Ok(Json(json!({
        "TTL": names.config.mesos_ttl,
        "Serial": zones.generation().0,
        "RefreshSeconds": NO_REFRESH,
        "Mname": format!("ns1.{domain}."),
        "Rname": format!("root.ns1.{domain}."),
        "Domain": domain,
        "Records": {"As": a, "AAAAs": aaaa, "SRVs": srv},
    })))
}

fn dotted_if_srv(kind: &str, data: &str) -> String {
    if kind == "SRV" { dotted(data) } else { data.to_owned() }
}
