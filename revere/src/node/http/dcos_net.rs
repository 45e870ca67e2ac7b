//! dcos-net's REST API: VIPs, nodes, records, metrics. What gave secrets away or ran code in the original is not here.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use model::Snapshot;
use scheduler::Timestamp;
use serde_json::{Value, json};

use super::changes;
use super::table::{Answer, Route, document, router};
use super::view::{Refusal, View, clean};
use crate::metrics::CONTENT_TYPE;
use crate::node::status::unix_ms;

/// Records in one piece of a streamed list.
const PIECE: usize = 256;

/// Registries of the original's metrics.
const REGISTRIES: [&str; 6] = ["default", "dns", "l4lb", "overlay", "mesos_listener", "lashup"];

/// Paths that the node's own API has too.
pub(super) const SHARED: &[Route<View>] = &[
    Route {
        path: "/v1/vips",
        about: "Every VIP with its backends",
        answer: Answer::Json(
            r#"[{"vip": "web.marathon.l4lb.thisdcos.directory:80", "protocol": "tcp",
                "backend": [{"ip": "10.0.0.1", "port": 31000}]}]"#,
        ),
        handler: || get(vips),
    },
    Route {
        path: "/v1/nodes",
        about: "Every node",
        answer: Answer::Json(
            r#"[{"private_ip": "10.0.0.1", "public_ips": ["192.0.2.1"], "hostname": "a", "updated": "2026-01-01T00:00:00.000Z"}]"#,
        ),
        handler: || get(nodes),
    },
    Route {
        path: "/v1/records",
        about: "Every A, AAAA and SRV record of all zones, streamed",
        answer: Answer::Json(r#"[{"name": "web.marathon.mesos", "host": "10.0.0.1", "rtype": "A"}]"#),
        handler: || get(records),
    },
    Route {
        path: "/v1/records/watch",
        about: "Server-sent events: `snapshot` in pieces, then each `change`; `?under=NAME` for a part, Last-Event-ID resumes",
        answer: Answer::Events(
            r#"{"generation": 7, "added": [{"name": "web.marathon.mesos", "host": "10.0.0.1", "rtype": "A"}], "removed": []}"#,
        ),
        handler: || get(changes::watch),
    },
];

const OWN: &[Route<View>] = &[
    Route {
        path: "/v1/version",
        about: "Which program this is",
        answer: Answer::Json(r#"{"Service": "dcos-dns", "Version": "0.1.0"}"#),
        handler: || get(async || Json(json!({"Service": "dcos-dns", "Version": env!("CARGO_PKG_VERSION")}))),
    },
    Route {
        path: "/v1/config",
        about: "Not carried out, as in the original",
        answer: Answer::NotImplemented,
        handler: || get(async || StatusCode::NOT_IMPLEMENTED),
    },
    Route {
        path: "/v1/enumerate",
        about: "Not carried out, as in the original",
        answer: Answer::NotImplemented,
        handler: || get(async || StatusCode::NOT_IMPLEMENTED),
    },
    Route {
        path: "/v1/hosts/{host}",
        about: "Addresses (A) of a name",
        answer: Answer::Json(r#"[{"host": "web.marathon.mesos", "ip": "10.0.0.1"}]"#),
        handler: || get(host),
    },
    Route {
        path: "/v1/services/{service}",
        about: "Targets of a service (SRV), the port as a number",
        answer: Answer::Json(
            r#"[{"service": "_web._tcp.marathon.mesos", "host": "web-iffe9-s0.marathon.mesos", "port": 31000, "ip": "10.0.0.1"}]"#,
        ),
        handler: || get(service),
    },
    Route {
        path: "/v1/metrics",
        about: "All metrics of the node",
        answer: Answer::Text(CONTENT_TYPE),
        handler: || get(metrics),
    },
    Route {
        path: "/v1/metrics/{registry}",
        about: "The original's gauges of one registry: default, dns, l4lb, overlay, mesos_listener, lashup",
        answer: Answer::Text("text/plain; version=0.0.4"),
        handler: || get(registry),
    },
    Route {
        path: "/v1/openapi.json",
        about: "This document",
        answer: Answer::Json("{}"),
        handler: || {
            get(async || {
                let mut whole = document(TITLE, OWN);
                let shared = document(TITLE, SHARED);
                if let (Some(paths), Some(more)) = (whole["paths"].as_object_mut(), shared["paths"].as_object()) {
                    paths.extend(more.clone());
                }
                Json(whole)
            })
        },
    },
];

const TITLE: &str = "dcos-net's REST API, served by a Revere node";

/// The listener's routes.
pub(in crate::node) fn routes(view: View) -> Router {
    router(OWN).merge(router(SHARED)).with_state(view)
}

async fn vips(State(view): State<View>) -> Response {
    let Some(snapshot) = view.snapshot() else {
        return Json(json!([])).into_response();
    };
    let one = |service: &model::Service| {
        let target = match &service.name {
            Some(name) => name.to_string(),
            None => service.vip.addr.to_string(),
        };
        let backends = service.backends.iter();
        let backends: Vec<Value> = backends.map(|one| json!({"ip": one.addr, "port": one.port})).collect();
        json!({
            "vip": format!("{target}:{}", service.vip.port),
            "protocol": service.vip.protocol.as_str(),
            "backend": backends,
        })
    };
    let body: Value = snapshot.services.values().map(|service| one(service)).collect();
    let tag = HeaderValue::from_str(&format!("\"{}\"", snapshot.generation)).ok();
    let mut response = Json(body).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

async fn nodes(State(view): State<View>) -> Json<Value> {
    let facts = view.status.facts();
    let updated = Timestamp(facts.as_of_ms.unwrap_or_else(unix_ms)).to_string();
    let Some(snapshot) = view.snapshot() else {
        return Json(json!([]));
    };
    let one = |node: &model::Node| json!({"private_ip": node.ip, "public_ips": [], "hostname": node.hostname, "updated": updated});
    Json(snapshot.nodes.values().map(one).collect())
}

async fn host(State(view): State<View>, Path(host): Path<String>) -> Result<Json<Value>, Refusal> {
    let name = clean(&host);
    let found = view.names()?.addresses(&name, "A").into_iter();
    Ok(Json(found.map(|ip| json!({"host": name, "ip": ip})).collect()))
}

async fn service(State(view): State<View>, Path(service): Path<String>) -> Result<Json<Value>, Refusal> {
    let names = view.names()?;
    let name = clean(&service);
    let one = |(target, port): (String, u16)| {
        let mut out = json!({"service": name, "host": target, "port": port});
        if let Some(ip) = names.addresses(&target, "A").into_iter().next() {
            out["ip"] = ip.into();
        }
        out
    };
    Ok(Json(names.services(&name).into_iter().map(one).collect()))
}

/// A list in pieces: a large cluster's does not stand in memory twice.
async fn records(State(view): State<View>) -> Result<Response, Refusal> {
    let zones = view.names()?.zones();
    let names: Vec<String> = zones.iter().map(|(name, _)| name.to_owned()).collect();
    let state = (zones, names, 0usize, true);
    let pieces = stream::unfold(Some(state), |state| async {
        let (zones, names, at, first) = state?;
        let mut text = String::from(if first { "[" } else { "" });
        let mut empty = first;
        let end = (at + PIECE).min(names.len());
        for name in &names[at..end] {
            let dns::Lookup::Name(found) = zones.lookup(name) else {
                continue;
            };
            for one in found
                .listed(name)
                .iter()
                .filter(|one| matches!(one.kind, "A" | "AAAA" | "SRV"))
            {
                if !empty {
                    text.push_str(",\n");
                }
                empty = false;
                text.push_str(&changes::told(one).to_string());
            }
        }
        let next = if end == names.len() {
            text.push(']');
            None
        } else {
            Some((zones, names, end, empty))
        };
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), next))
    });
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(pieces)).into_response())
}

async fn metrics(State(view): State<View>) -> Response {
    match view.status.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}

async fn registry(State(view): State<View>, Path(registry): Path<String>) -> Result<Response, StatusCode> {
    if !REGISTRIES.contains(&registry.as_str()) {
        return Err(StatusCode::NOT_FOUND);
    }
    let mut text = String::new();
    for (name, value) in gauges(&view, &registry) {
        let plain = name.split('{').next().unwrap_or_default();
        let kind = format!("# TYPE {plain} gauge\n");
        if !text.contains(&kind) {
            text.push_str(&kind);
        }
        text.push_str(&format!("{name} {value}\n"));
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Those of the original's gauges that mean something here, under its names.
fn gauges(view: &View, registry: &str) -> Vec<(String, usize)> {
    let snapshot = view.snapshot().unwrap_or_default();
    let snapshot: &Snapshot = &snapshot;
    let plain = |name: &str, value: usize| (name.to_owned(), value);
    match registry {
        "l4lb" => {
            let backends = snapshot.services.values().map(|service| service.backends.len()).sum();
            vec![plain("vips", snapshot.services.len()), plain("backends", backends)]
        }
        "dns" => {
            let Ok(names) = view.names() else { return Vec::new() };
            let zones = names.zones();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (name, found) in zones.iter() {
                *counts.entry(&found.zone.apex).or_default() += found.listed(name).len();
            }
            let one = |(zone, count): (&&str, &usize)| (format!("zone_records{{zone=\"{zone}\"}}"), *count);
            counts.iter().map(one).collect()
        }
        "overlay" => vec![plain(
            "networks_configured",
            snapshot.nodes.values().filter(|node| node.subnet.is_some()).count(),
        )],
        "mesos_listener" => vec![
            plain("is_leader", 0),
            plain("agents_total", snapshot.nodes.len()),
            plain("frameworks_total", snapshot.frameworks.len()),
            plain("tasks_total", snapshot.tasks.len()),
        ],
        _ => Vec::new(),
    }
}
