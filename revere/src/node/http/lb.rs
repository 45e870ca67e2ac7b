//! Questions about the load balancer: what would become of a packet, what a VIP has seen, which flows there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lb_userspace::{BackendKey, Lb};
use model::{Protocol, Service, Snapshot, VipAddress};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;

#[derive(Debug, Deserialize)]
pub(super) struct Ask {
    from: Option<String>,
    proto: Option<String>,
}

pub(super) fn refuse(status: StatusCode, message: String) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

/// `revere explain`: `GET /revere/v1/explain/NAME:PORT?from=ADDRESS[:PORT]&proto=tcp`.
pub(super) async fn explain(State(api): State<Api>, Path(name): Path<String>, Query(ask): Query<Ask>) -> Response {
    match try_explain(&api, &name, &ask) {
        Ok(answer) => Json(answer).into_response(),
        Err((status, message)) => refuse(status, message),
    }
}

pub(super) type Refused = (StatusCode, String);

fn try_explain(api: &Api, name: &str, ask: &Ask) -> Result<Value, Refused> {
    let vip = resolve(api, name, ask.proto.as_deref())?;
    let from = source(ask.from.as_deref(), vip.addr)?;
    let mut plane = locked(api)?;
    let lb = plane.inner();
    let interface = lb.uplink_index().unwrap_or_default();
    let failed = |error: &dyn std::fmt::Display| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let told = lb
        .explain_first_packet(&vip, from, interface)
        .map_err(|error| failed(&error))?;
    let decision = told.decision;
    Ok(json!({
        "vip": vip.to_string(),
        "from": from.to_string(),
        "lines": told.lines(),
        "reason": told.reason.map(|reason| reason.as_str()),
        "backend": told.backend.map(|backend| backend.to_string()),
        "hash": decision.hash,
        "slot": (decision.slot != u32::MAX).then_some(decision.slot),
        "interface": decision.ifindex,
    }))
}

pub(super) fn locked(api: &Api) -> Result<parking_lot::MutexGuard<'_, super::LbPlane>, Refused> {
    let off = || {
        (
            StatusCode::CONFLICT,
            "this node runs no load balancer (node.dataplane = false)".to_owned(),
        )
    };
    api.lb.as_ref().map(|lb| lb.lock()).ok_or_else(off)
}

/// What the load balancer is being brought to.
fn picture(api: &Api) -> Result<Arc<Snapshot>, Refused> {
    Ok(locked(api)?.snapshot())
}

/// An outside client unless somebody is named.
fn source(text: Option<&str>, vip: IpAddr) -> Result<SocketAddr, Refused> {
    const PORT: u16 = 40_000;
    let Some(text) = text else {
        let addr = match vip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        };
        return Ok(SocketAddr::new(addr, PORT));
    };
    let parsed = text.parse::<SocketAddr>().ok();
    let parsed = parsed.or_else(|| Some(SocketAddr::new(text.parse().ok()?, PORT)));
    let parsed = parsed.filter(|from| from.is_ipv4() == vip.is_ipv4());
    parsed.ok_or_else(|| {
        let message = format!("`{text}` is no ADDRESS or ADDRESS:PORT of the family of {vip}");
        (StatusCode::BAD_REQUEST, message)
    })
}

/// A VIP by `NAME:PORT`: an address, the whole name, `label.framework`, or a label that only one VIP bears.
pub(super) fn resolve(api: &Api, text: &str, protocol: Option<&str>) -> Result<VipAddress, Refused> {
    let bad = |message: String| (StatusCode::BAD_REQUEST, message);
    let protocol = match protocol {
        Some(word) => Some(Protocol::parse(word).ok_or_else(|| bad(format!("`{word}` is neither tcp nor udp")))?),
        None => None,
    };
    if let Ok(at) = text.parse::<SocketAddr>() {
        return Ok(VipAddress {
            addr: at.ip(),
            port: at.port(),
            protocol: protocol.unwrap_or(Protocol::Tcp),
        });
    }
    let parts = text
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    let (name, port) = parts.ok_or_else(|| bad(format!("`{text}` is no NAME:PORT")))?;
    let found = named(picture(api)?.as_ref(), name);
    let fits = |vip: &&VipAddress| vip.port == port && protocol.is_none_or(|wanted| vip.protocol == wanted);
    let missing = || {
        (
            StatusCode::NOT_FOUND,
            format!("no VIP is named `{name}` and has port {port}"),
        )
    };
    found.iter().find(fits).copied().ok_or_else(missing)
}

fn named(snapshot: &Snapshot, name: &str) -> Vec<VipAddress> {
    let bears = |service: &Service| {
        let known = service.name.as_ref();
        known.is_some_and(|known| known.to_string() == name || known.fragment() == name || known.label == name)
    };
    let all = snapshot.services.iter();
    let mut found: Vec<VipAddress> = all.filter(|(_, service)| bears(service)).map(|(vip, _)| *vip).collect();
    // IPv4 first where a name has both.
    found.sort_by_key(|vip| vip.addr.is_ipv6());
    found
}

/// `revere vip show`: `GET /revere/v1/vips/NAME`. All ports of the name.
pub(super) async fn show(State(api): State<Api>, Path(name): Path<String>) -> Response {
    match try_show(&api, &name) {
        Ok(answer) => Json(answer).into_response(),
        Err((status, message)) => refuse(status, message),
    }
}

fn try_show(api: &Api, name: &str) -> Result<Value, Refused> {
    let snapshot = picture(api)?;
    let bare = name.rsplit_once(':').map_or(name, |(bare, _)| bare);
    let vips = match resolve(api, name, None) {
        Ok(vip) => vec![vip],
        Err(_) => match bare.parse::<IpAddr>() {
            Ok(addr) => snapshot
                .services
                .keys()
                .filter(|vip| vip.addr == addr)
                .copied()
                .collect(),
            Err(_) => named(&snapshot, name),
        },
    };
    if vips.is_empty() {
        return Err((StatusCode::NOT_FOUND, format!("no VIP is named `{name}`")));
    }
    let mut plane = locked(api)?;
    let lb = plane.inner();
    let shown = vips.iter().filter_map(|vip| Some(one(lb, snapshot.services.get(vip)?)));
    Ok(Value::Array(shown.collect()))
}

/// Every VIP with its counts, for `revere top`.
pub(super) async fn top(State(api): State<Api>) -> Response {
    let mut plane = match locked(&api) {
        Ok(plane) => plane,
        Err((status, message)) => return refuse(status, message),
    };
    let snapshot = plane.snapshot();
    let lb = plane.inner();
    let all: Vec<Value> = snapshot.services.values().map(|service| one(lb, service)).collect();
    Json(Value::Array(all)).into_response()
}

fn one(lb: &Lb, service: &Service) -> Value {
    let counts = lb.vip_counts(&service.vip).ok().flatten().unwrap_or_default();
    let slots: u32 = counts.slots.values().sum();
    let backends: Vec<Value> = service
        .backends
        .iter()
        .map(|backend| {
            let key = BackendKey {
                addr: backend.addr,
                port: backend.port,
                protocol: service.vip.protocol,
            };
            let seen = lb.backend_counts(&key).ok().flatten().unwrap_or_default();
            let own = counts.slots.get(&seen.index).copied().unwrap_or_default();
            json!({
                "backend": key.to_string(),
                "task": backend.task.as_str(),
                "node": backend.agent_ip,
                "weight": backend.weight,
                "share_percent": f64::from(own) * 100.0 / f64::from(slots.max(1)),
                "open_sockets": seen.open_sockets,
                "flows": seen.stats.flows,
                "packets": seen.stats.packets,
                "bytes": seen.stats.bytes,
            })
        })
        .collect();
    json!({
        "vip": service.vip.to_string(),
        "name": service.name.as_ref().map(ToString::to_string),
        "number": counts.id,
        "slots": slots,
        "previous_slots": counts.previous,
        "packets": counts.stats.packets,
        "bytes": counts.stats.bytes,
        "flows": counts.stats.flows,
        "connects": counts.stats.connects,
        "drops": counts.stats.drops,
        "strays": counts.stats.strays,
        "backends": backends,
    })
}
