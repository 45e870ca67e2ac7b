//! The node's own HTTP API: health, metrics, facts, VIPs.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::Agent;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::config::Settings;
use super::planes::{LbPlane, SharedEarly};
use super::status::{Facts, PlaneName, Status};
use table::{Answer, Route};

use crate::metrics::{CONTENT_TYPE, Kind, Packet, copy, whole};

mod changes;
pub(super) mod dcos_net;
mod files;
mod flows;
mod lb;
pub(super) mod mesos_dns;
mod session;
#[cfg(test)]
pub(crate) mod shapes;
mod table;
mod view;

pub(super) use changes::Hub;
pub(super) use session::Sessions;
pub(super) use view::{Names, View};

/// Paths of the node's own API beside those that it shares with dcos-net's.
const OWN: &[Route<View>] = &[Route {
    path: "/v1/openapi.json",
    about: "This document",
    answer: Answer::Json("{}"),
    handler: || get(async || Json(document())),
}];

/// The paths of [`Api`], told for the document: they read more than a [`View`].
const TOLD: &[Route<View>] = &[
    Route {
        path: "/health",
        about: "200 while a master confirms the picture and every plane holds it, else 503; the age of the picture",
        answer: Answer::Json(
            r#"{"healthy": true, "master_connected": true, "master": "10.0.0.1:5050", "agent_connected": true,
                "generation": 7, "snapshot_age_ms": 120, "snapshot_from_disk": false, "planes": {}, "last_error": null}"#,
        ),
        handler: MethodRouter::new,
    },
    Route {
        path: "/metrics",
        about: "OpenMetrics",
        answer: Answer::Text(CONTENT_TYPE),
        handler: MethodRouter::new,
    },
    Route {
        path: "/revere/v1/node",
        about: "What this node is and runs",
        answer: Answer::Json(
            r#"{"version": "0.1.0", "agent": "a-S0", "hostname": "a", "ip": "10.0.0.1", "tasks": []}"#,
        ),
        handler: MethodRouter::new,
    },
    Route {
        path: "/revere/v1/explain/{vip}",
        about: "What would become of a connection to NAME:PORT (from=ADDRESS[:PORT], proto=tcp|udp), decision by decision",
        answer: Answer::Json(
            r#"{"vip": "11.0.0.1:80/tcp", "lines": ["end: local_backend"], "reason": "local_backend"}"#,
        ),
        handler: MethodRouter::new,
    },
    Route {
        path: "/revere/v1/vips/{name}",
        about: "What a VIP has seen on this node, backend by backend",
        answer: Answer::Json(r#"[{"vip": "11.0.0.1:80/tcp", "packets": 0, "backends": []}]"#),
        handler: MethodRouter::new,
    },
    Route {
        path: "/revere/v1/flows",
        about: "Flows in this node's tables (from=ADDRESS[:PORT], vip=NAME:PORT, proto=tcp|udp), and whether these are all",
        answer: Answer::Json(r#"{"all": 0, "complete": true, "flows": []}"#),
        handler: MethodRouter::new,
    },
    Route {
        path: "/revere/v1/top",
        about: "What every VIP has seen on this node",
        answer: Answer::Json("[]"),
        handler: MethodRouter::new,
    },
    Route {
        path: "/files/browse",
        about: "What lies in a directory of a sandbox (path=)",
        answer: Answer::Json(
            r#"[{"path": "/x/stdout", "size": 5, "nlink": 1, "mode": "-rw-r--r--", "mtime": 1700000000, "uid": "root", "gid": "root"}]"#,
        ),
        handler: MethodRouter::new,
    },
    Route {
        path: "/files/read",
        about: "A part of a file in a sandbox (path=, offset=, length= up to 65536); offset=-1 tells where it ends",
        answer: Answer::Json(r#"{"data": "hello", "offset": 0, "next": 5, "file": "131-0"}"#),
        handler: MethodRouter::new,
    },
    Route {
        path: "/files/download",
        about: "A file of a sandbox, whole (path=)",
        answer: Answer::Text("application/octet-stream"),
        handler: MethodRouter::new,
    },
    Route {
        path: "/files/debug",
        about: "Every sandbox, as it can be asked for and where it is",
        answer: Answer::Json(r#"{"/var/lib/revere/node/sandboxes/t": "/var/lib/revere/node/sandboxes/t"}"#),
        handler: MethodRouter::new,
    },
];

/// The OpenAPI document of this listener.
fn document() -> Value {
    const TITLE: &str = "A Revere node";
    let mut whole = table::document(TITLE, OWN);
    for more in [table::document(TITLE, TOLD), table::document(TITLE, dcos_net::SHARED)] {
        if let (Some(paths), Some(more)) = (whole["paths"].as_object_mut(), more["paths"].as_object()) {
            paths.extend(more.clone());
        }
    }
    whole["paths"]["/api/v1"] = session::document();
    whole
}

/// What the handlers read.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) settings: Arc<Settings>,
    pub(super) status: Arc<Status>,
    pub(super) agent: Agent,
    pub(super) lb: Option<Arc<Mutex<LbPlane>>>,
    pub(super) dns: Option<Arc<dns::Server>>,
    pub(super) early: Option<SharedEarly>,
    pub(super) sessions: Arc<Sessions>,
}

/// All routes.
pub(super) fn routes(api: Api, view: View) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/revere/v1/node", get(node))
        .route("/revere/v1/explain/{vip}", get(lb::explain))
        .route("/revere/v1/vips/{name}", get(lb::show))
        .route("/revere/v1/flows", get(flows::flows))
        .route("/revere/v1/top", get(lb::top))
        .merge(files::routes())
        .merge(session::routes())
        .with_state(api)
        .merge(
            table::router(OWN)
                .merge(table::router(dcos_net::SHARED))
                .with_state(view),
        )
}

/// 200 while the picture is confirmed by a master and every plane holds it.
async fn health(State(api): State<Api>) -> Response {
    let facts = api.status.facts();
    let (healthy, body) = health_of(&facts);
    let code = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(body)).into_response()
}

fn health_of(facts: &Facts) -> (bool, Value) {
    let failing = facts.planes.iter().any(|plane| plane.on && !plane.failures.is_empty());
    let healthy = facts.master_connected && (facts.agent_connected || !facts.agent_on) && !failing;
    let planes: BTreeMap<&str, Value> = PlaneName::ALL
        .iter()
        .zip(&facts.planes)
        .map(|(name, plane)| (name.label().plane, json!(plane)))
        .collect();
    let body = json!({
        "healthy": healthy,
        "master_connected": facts.master_connected,
        "master": facts.master,
        "agent_connected": facts.agent_connected,
        "generation": facts.generation,
        "snapshot_age_ms": Status::age_ms(facts),
        "snapshot_from_disk": facts.from_disk,
        "planes": planes,
        "dns_xdp": facts.dns_xdp,
        "syn_cookies_hindered": facts.cookies_hindered,
        "nat6_hindered": facts.nat6_hindered,
        "left_out": facts.left_out,
        "last_error": facts.last_error,
    });
    (healthy, body)
}

async fn metrics(State(api): State<Api>) -> Response {
    let metrics = &api.status.metrics;
    if let Some(lb) = &api.lb {
        for (reason, count) in lb.lock().counters() {
            let packet = Packet {
                hook: reason.hook().as_str(),
                reason: reason.as_str(),
            };
            copy(&metrics.packets.get_or_create(&packet), count);
        }
        for (what, count) in lb.lock().cookie_counts() {
            let kind = Kind { kind: what.as_str() };
            copy(&metrics.syn_cookies.get_or_create(&kind), count);
        }
    }
    if let Some(dns) = &api.dns {
        let counts = dns.counters();
        for (kind, count) in [
            ("answered", counts.answered),
            ("no_data", counts.no_data),
            ("no_name", counts.no_name),
            ("forwarded", counts.forwarded),
            ("failed", counts.failed),
            ("refused", counts.refused),
            ("unsupported", counts.unsupported),
            ("truncated", counts.truncated),
            ("limited", counts.limited),
            ("dropped", counts.dropped),
        ] {
            copy(&metrics.dns_answers.get_or_create(&Kind { kind }), count);
        }
        for (kind, count) in dns.forward_counters().named() {
            copy(&metrics.dns_forward.get_or_create(&Kind { kind }), count);
        }
    }
    if let Some(early) = &api.early {
        early.lock().count();
    }
    let mut tasks: BTreeMap<&'static str, i64> = BTreeMap::new();
    for (_, status) in api.agent.tasks() {
        *tasks.entry(status.state.as_str()).or_default() += 1;
    }
    metrics.tasks.clear();
    for (kind, count) in tasks {
        metrics.tasks.get_or_create(&Kind { kind }).set(count);
    }
    let age_ms = Status::age_ms(&api.status.facts()).unwrap_or(0);
    metrics.snapshot_age_seconds.set(whole(age_ms / 1000));
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}

async fn node(State(api): State<Api>) -> Json<Value> {
    let facts = api.status.facts();
    let settings = &api.settings;
    let tasks: Vec<Value> = api
        .agent
        .tasks()
        .iter()
        .map(|(spec, status)| {
            json!({"id": spec.task.as_str(), "name": spec.name, "state": status.state.as_str(),
               "healthy": status.healthy, "addresses": status.addresses, "host_ports": spec.host_ports})
        })
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "agent": facts.agent,
        "hostname": settings.hostname,
        "ip": settings.ip,
        "subnet": facts.subnet,
        "masters": settings.source.told(),
        "resources": {
            "cpus_milli": settings.resources.cpus_milli,
            "mem_mb": settings.resources.mem_mb,
            "disk_mb": settings.resources.disk_mb,
            "ports": settings.ports,
        },
        "attributes": settings.config.attributes,
        "dns_listen": api.dns.as_ref().map(|server| server.local_addrs().to_vec()),
        "dns_upstreams": api.dns.as_ref().map(|server| {
            let upstreams = server.upstreams();
            let shown = upstreams.iter().map(|upstream| json!({"zone": upstream.zone, "address": upstream.addr,
                "rtt_ms": upstream.rtt.map(|rtt| rtt.as_secs_f64() * 1e3), "down": upstream.down}));
            shown.collect::<Vec<Value>>()
        }),
        "dataplane": settings.config.dataplane,
        "health": health_of(&facts).1,
        "tasks": tasks,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_needs_master_agent_and_every_plane_that_is_on() {
        let mut facts = Facts {
            master_connected: true,
            agent_on: true,
            agent_connected: true,
            ..Facts::default()
        };
        facts.planes[1].failures.push("not on, so it does not count".to_owned());
        assert!(health_of(&facts).0);
        facts.planes[1].on = true;
        let (healthy, body) = health_of(&facts);
        assert!(!healthy);
        assert_eq!(body["planes"]["lb"]["failures"].as_array().map(Vec::len), Some(1));
        facts.planes[1].failures.clear();
        facts.agent_connected = false;
        assert!(!health_of(&facts).0);
        facts.agent_on = false;
        assert!(health_of(&facts).0, "no tasks are to be run here");
        facts.master_connected = false;
        assert!(!health_of(&facts).0);
    }
}
