//! Frameworks, and what they are told, in the JSON of the scheduler and operator APIs.

use data_encoding::BASE64;
use model::Resources;
use scheduler::{FrameworkEvent, FrameworkRecord, FrameworkUpdate, FrameworkView, Offer, UpdateSource};
use serde_json::{Value, json};

use super::{HEARTBEAT_SECONDS, VERSION, agent_attributes, id, labels, resources, status_of};

/// `FrameworkInfo`.
pub fn framework_info(record: &FrameworkRecord) -> Value {
    let spec = &record.spec;
    let capabilities: Vec<Value> = spec
        .capabilities
        .iter()
        .map(|one| json!({"type": one.as_str()}))
        .collect();
    let mut out = json!({
        "id": id(&record.id),
        "name": spec.name,
        "user": spec.user,
        "failover_timeout": spec.failover_timeout.as_secs_f64(),
        "checkpoint": spec.checkpoint,
        "hostname": spec.hostname,
        "capabilities": capabilities,
    });
    if spec.has(scheduler::Capability::MultiRole) {
        out["roles"] = json!(spec.roles);
    } else if let Some(role) = spec.roles.first().filter(|role| *role != "*") {
        out["role"] = json!(role);
    }
    if let Some(principal) = &spec.principal {
        out["principal"] = json!(principal);
    }
    if let Some(url) = &spec.webui_url {
        out["webui_url"] = json!(url);
    }
    if let Some(labels) = labels(spec.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        out["labels"] = labels;
    }
    out
}

fn nanoseconds(at: scheduler::Timestamp) -> Value {
    json!({"nanoseconds": at.0.saturating_mul(1_000_000)})
}

/// `GetFrameworks.Framework` of one that joined.
pub fn joined(view: &FrameworkView<'_>) -> Value {
    let used = view
        .allocated
        .values()
        .fold(Resources::default(), |sum, part| sum.plus(part));
    let mut out = json!({
        "framework_info": framework_info(view.record),
        "active": view.connected,
        "connected": view.connected,
        "recovered": view.recovered,
        "registered_time": nanoseconds(view.record.registered_at),
        "allocated_resources": resources(&used, &[]),
        "offered_resources": resources(&view.offered, &[]),
    });
    if let Some(at) = view.record.reregistered_at {
        out["reregistered_time"] = nanoseconds(at);
    }
    out
}

/// `GetFrameworks.Framework` of one that has ended.
pub fn completed(record: &FrameworkRecord) -> Value {
    let mut out = json!({
        "framework_info": framework_info(record),
        "active": false,
        "connected": false,
        "recovered": false,
        "registered_time": nanoseconds(record.registered_at),
    });
    if let Some(at) = record.removed_at {
        out["unregistered_time"] = nanoseconds(at);
    }
    out
}

/// An event of a framework's stream. `None` for one that only ends it.
pub fn framework_event(event: &FrameworkEvent, master: &Value) -> Option<Value> {
    Some(match event {
        FrameworkEvent::Subscribed(framework) => json!({"type": "SUBSCRIBED", "subscribed": {
            "framework_id": id(framework),
            "heartbeat_interval_seconds": HEARTBEAT_SECONDS,
            "master_info": master,
        }}),
        FrameworkEvent::Offers(offers) => {
            let offers: Vec<Value> = offers.iter().map(offer).collect();
            json!({"type": "OFFERS", "offers": {"offers": offers}})
        }
        FrameworkEvent::Rescind(offer) => json!({"type": "RESCIND", "rescind": {"offer_id": id(offer)}}),
        FrameworkEvent::Update(told) => json!({"type": "UPDATE", "update": {"status": update(told)}}),
        FrameworkEvent::AgentFailed(agent) => json!({"type": "FAILURE", "failure": {"agent_id": id(agent)}}),
        FrameworkEvent::OperationDone(operation) => json!({
            "type": "UPDATE_OPERATION_STATUS",
            "update_operation_status": {"status": {"operation_id": id(operation), "state": "OPERATION_FINISHED"}},
        }),
        FrameworkEvent::OperationFailed { id: operation, why } => json!({
            "type": "UPDATE_OPERATION_STATUS",
            "update_operation_status": {"status": {
                "operation_id": id(operation),
                "state": "OPERATION_ERROR",
                "message": why,
            }},
        }),
        FrameworkEvent::Error(message) => json!({"type": "ERROR", "error": {"message": message}}),
        FrameworkEvent::Closed => return None,
    })
}

fn offer(offer: &Offer) -> Value {
    let agent = &offer.agent;
    let mut list = resources(&offer.resources, &offer.ports);
    for one in list.as_array_mut().into_iter().flatten() {
        one["allocation_info"] = json!({"role": offer.role});
        if agent.domain.role != "*" {
            one["role"] = json!(agent.domain.role);
        }
    }
    let reserved = offer.reserved.iter().flat_map(super::held).map(|mut one| {
        one["allocation_info"] = json!({"role": offer.role});
        one
    });
    if let Some(list) = list.as_array_mut() {
        list.extend(reserved);
    }
    let mut out = json!({
        "id": id(&offer.id),
        "framework_id": id(&offer.framework),
        "agent_id": id(&agent.id),
        "hostname": agent.hostname,
        "url": {
            "scheme": "http",
            "address": {"hostname": agent.hostname, "ip": agent.ip.to_string(), "port": agent.http_port},
            "path": "/slave(1)",
        },
        "resources": list,
        "attributes": agent_attributes(agent),
        "allocation_info": {"role": offer.role},
    });
    if let Some(planned) = &offer.unavailability {
        out["unavailability"] = super::unavailability(planned);
    }
    if let (Some(region), Some(zone)) = (&agent.domain.region, &agent.domain.zone) {
        out["domain"] = json!({"fault_domain": {"region": {"name": region}, "zone": {"name": zone}}});
    }
    out
}

fn update(told: &FrameworkUpdate) -> Value {
    let agent = told.agent.as_ref().map(|agent| agent.as_str());
    let mut out = status_of(told.task.as_str(), agent, &told.status);
    if told.source == UpdateSource::Master {
        out["source"] = json!("SOURCE_MASTER");
    } else {
        // A command task's executor has its id.
        out["executor_id"] = id(&told.task);
    }
    if let Some(update) = told.id {
        out["uuid"] = json!(BASE64.encode(&update.0.to_be_bytes()));
    }
    if let Some(since) = told.unreachable_since {
        out["unreachable_time"] = nanoseconds(since);
    }
    out
}

/// `MasterInfo`, from the address that the master listens on.
pub fn master_info(address: &str, port: u16) -> Value {
    // Packed as Mesos has it: the bytes in network order, read as a little-endian number.
    let packed = match address.parse::<std::net::SocketAddr>().map(|address| address.ip()) {
        Ok(std::net::IpAddr::V4(ip)) => u32::from_le_bytes(ip.octets()),
        _ => 0,
    };
    json!({"id": address, "ip": packed, "hostname": address, "port": port, "version": VERSION})
}

/// `FRAMEWORK_UPDATED`.
pub fn framework_updated(framework: Value) -> Value {
    json!({"type": "FRAMEWORK_UPDATED", "framework_updated": {"framework": framework}})
}
