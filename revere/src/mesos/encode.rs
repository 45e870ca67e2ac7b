//! The master's state and changes in the operator API's exact JSON.

mod framework;
mod maintenance;
mod reserved;
mod role;
#[cfg(test)]
mod tests;

pub use framework::{completed, framework_event, framework_info, framework_updated, joined, master_info};
pub use maintenance::{maintenance_status, schedule, unavailability};
pub use reserved::{held, reserved};
pub use role::{get_quota, legacy_role, quota_info, role};

use model::{FrameworkInfo, Network, PortMapping, PortScope, Resources, Task, TaskNetwork, TaskPort, TaskStatus};
use scheduler::{AgentRecord, AgentView};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Seconds between heartbeats, as Mesos has it.
pub const HEARTBEAT_SECONDS: f64 = 15.0;
/// The Mesos release whose API this is.
pub const VERSION: &str = "1.11.0";

/// What the stream says of a task beyond [`Task`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sizes {
    /// Its scalars.
    pub resources: Resources,
    /// Its network.
    pub network: TaskNetwork,
}

fn id(text: impl ToString) -> Value {
    json!({"value": text.to_string()})
}

/// `{"labels":[{"key","value"}]}`, or `None` when there are none.
fn labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Value> {
    let list: Vec<Value> = pairs.map(|(key, value)| json!({"key": key, "value": value})).collect();
    (!list.is_empty()).then(|| json!({"labels": list}))
}

/// Thousandths as the number Mesos prints.
pub(super) fn milli(value: u64) -> Value {
    // Exact up to 2^53 thousandths; far above any machine.
    let whole = value / 1000;
    let part = u32::try_from(value % 1000).unwrap_or(0);
    let number = f64::from(u32::try_from(whole).unwrap_or(u32::MAX)) + f64::from(part) / 1000.0;
    json!(number)
}

pub(super) fn mega(value: u64) -> Value {
    json!(f64::from(u32::try_from(value).unwrap_or(u32::MAX)))
}

/// Scalars and port ranges.
pub fn resources(scalars: &Resources, ranges: &[(u16, u16)]) -> Value {
    let scalar = |name: &str, value: Value| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    let mut list = vec![
        scalar("cpus", milli(scalars.cpus_milli)),
        scalar("mem", mega(scalars.mem_mb)),
        scalar("disk", mega(scalars.disk_mb)),
    ];
    if !ranges.is_empty() {
        let range: Vec<Value> = ranges
            .iter()
            .map(|(begin, end)| json!({"begin": begin, "end": end}))
            .collect();
        list.push(json!({"name": "ports", "type": "RANGES", "ranges": {"range": range}}));
    }
    Value::Array(list)
}

/// One range per port keeps their order, which is that of `PORT0`, `PORT1`.
fn single_ports(ports: &[u16]) -> Vec<(u16, u16)> {
    ports.iter().map(|port| (*port, *port)).collect()
}

/// A `Task`.
pub fn task(task: &Task, sizes: Option<&Sizes>) -> Value {
    let scalars = sizes.map(|sizes| sizes.resources).unwrap_or_default();
    let mut out = json!({
        "name": task.name,
        "task_id": id(&task.id),
        "framework_id": id(&task.framework),
        "agent_id": id(&task.agent),
        "state": task.status.state.as_str(),
        "status_update_state": task.status.state.as_str(),
        "resources": resources(&scalars, &single_ports(&task.host_ports)),
        "statuses": [],
    });
    if task.status.state != model::TaskState::Staging {
        out["statuses"] = json!([status(task)]);
    }
    if let Some(labels) = labels(task.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))) {
        out["labels"] = labels;
    }
    if task.has_discovery {
        let ports: Vec<Value> = task.ports.iter().map(|port| discovery_port(port, task)).collect();
        out["discovery"] = json!({"visibility": "FRAMEWORK", "name": task.name, "ports": {"ports": ports}});
    }
    if task.has_health_check {
        out["health_check"] = json!({"type": "TCP"});
    }
    if let Some(TaskNetwork::Container { name }) = sizes.map(|sizes| &sizes.network) {
        let mappings: Vec<Value> = task.mappings.iter().map(mapping).collect();
        let info = json!({"name": name, "port_mappings": mappings, "ip_addresses": [{"protocol": "IPv4"}]});
        out["container"] = json!({"type": "MESOS", "network_infos": [info]});
    }
    out
}

fn mapping(mapping: &PortMapping) -> Value {
    json!({
        "host_port": mapping.host_port,
        "container_port": mapping.container_port,
        "protocol": mapping.protocol.as_str(),
    })
}

fn discovery_port(port: &TaskPort, task: &Task) -> Value {
    let scope = match port.scope {
        PortScope::Container => Some("container"),
        PortScope::Host if !task.mappings.is_empty() => Some("host"),
        PortScope::Host => None,
    };
    let scope = scope.map(|scope| ("network-scope", scope));
    let declared = port.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let mut out = json!({"number": port.number, "protocol": port.protocol.as_str()});
    if let Some(name) = &port.name {
        out["name"] = json!(name);
    }
    if let Some(labels) = labels(declared.chain(scope)) {
        out["labels"] = labels;
    }
    out
}

fn status(task: &Task) -> Value {
    status_of(task.id.as_str(), Some(task.agent.as_str()), &task.status)
}

fn status_of(task: &str, agent: Option<&str>, status: &TaskStatus) -> Value {
    let seconds = std::time::Duration::from_millis(status.timestamp_ms).as_secs_f64();
    let mut out = json!({
        "task_id": id(task),
        "state": status.state.as_str(),
        "source": "SOURCE_EXECUTOR",
        "timestamp": seconds,
    });
    if let Some(agent) = agent {
        out["agent_id"] = id(agent);
    }
    if let Some(reason) = status.reason {
        out["reason"] = json!(reason.as_str());
    }
    if let Some(message) = &status.message {
        out["message"] = json!(message);
    }
    if let Some(healthy) = status.healthy {
        out["healthy"] = json!(healthy);
    }
    if !status.addresses.is_empty() {
        let address = |addr: &std::net::IpAddr| {
            let protocol = if addr.is_ipv4() { "IPv4" } else { "IPv6" };
            json!({"protocol": protocol, "ip_address": addr.to_string()})
        };
        let addresses: Vec<Value> = status.addresses.iter().map(address).collect();
        out["container_status"] = json!({"network_infos": [{"ip_addresses": addresses}]});
    }
    out
}

/// An agent's attributes, its overlay block and the networks among them.
fn agent_attributes(record: &AgentRecord) -> Vec<Value> {
    let mut attributes = record.attributes.clone();
    if let Some(subnet) = record.subnet {
        attributes.insert(super::decode::SUBNET_ATTRIBUTE.to_owned(), subnet.to_string());
    }
    if !record.networks.is_empty() {
        attributes.insert(
            super::decode::NETWORKS_ATTRIBUTE.to_owned(),
            Network::join(&record.networks),
        );
    }
    attributes
        .iter()
        .map(|(name, text)| json!({"name": name, "type": "TEXT", "text": {"value": text}}))
        .collect()
}

/// `AgentInfo`.
pub fn agent_info(record: &AgentRecord) -> Value {
    json!({
        "id": id(&record.id),
        "hostname": record.hostname,
        "port": record.http_port,
        "resources": resources(&record.resources, &record.ports),
        "attributes": agent_attributes(record),
    })
}

/// `GetAgents.Agent`. `used` is what its tasks use, `reserved` what is told apart of its resources, with its sum.
pub fn agent(
    record: &AgentRecord,
    used: &Resources,
    used_ports: &[u16],
    (reserved, sum): (Vec<Value>, Resources),
) -> Value {
    let mut total = resources(&record.resources.minus(&sum), &record.ports);
    if let Value::Array(total) = &mut total {
        total.extend(reserved);
    }
    json!({
        "agent_info": agent_info(record),
        "active": true,
        "deactivated": false,
        "version": VERSION,
        "pid": format!("slave(1)@{}:{}", record.ip, record.http_port),
        "total_resources": total,
        "allocated_resources": resources(used, &single_ports(used_ports)),
        "offered_resources": [],
        "capabilities": [],
    })
}

/// Adds what is offered of an agent, and what operators said of it.
pub fn ordered(mut agent: Value, view: &AgentView<'_>) -> Value {
    agent["offered_resources"] = resources(&view.offered, &[]);
    agent["active"] = json!(!view.order.deactivated);
    agent["deactivated"] = json!(view.order.deactivated);
    if let Some(drain) = &view.order.drain {
        let mut config = json!({"mark_gone": drain.mark_gone});
        if let Some(grace) = drain.max_grace {
            config["max_grace_period"] = json!({"nanoseconds": u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX)});
        }
        agent["drain_info"] = json!({"state": if view.empty { "DRAINED" } else { "DRAINING" }, "config": config});
    }
    agent
}

/// `GetFrameworks.Framework`.
pub fn framework(info: &FrameworkInfo) -> Value {
    json!({
        "framework_info": {
            "id": id(&info.id),
            "name": info.name,
            "user": "root",
            "checkpoint": true,
            "failover_timeout": 604_800.0,
            "capabilities": [{"type": "TASK_KILLING_STATE"}, {"type": "PARTITION_AWARE"}],
        },
        "active": true,
        "connected": true,
        "recovered": false,
    })
}

/// `TASK_ADDED`.
pub fn task_added(added: &Task, sizes: Option<&Sizes>) -> Value {
    json!({"type": "TASK_ADDED", "task_added": {"task": task(added, sizes)}})
}

/// `TASK_UPDATED`.
pub fn task_updated(framework: &str, task: &str, agent: Option<&str>, status: &TaskStatus) -> Value {
    json!({"type": "TASK_UPDATED", "task_updated": {
        "framework_id": id(framework),
        "status": status_of(task, agent, status),
        "state": status.state.as_str(),
    }})
}

/// `AGENT_ADDED`.
pub fn agent_added(record: &AgentRecord) -> Value {
    json!({"type": "AGENT_ADDED", "agent_added": {"agent": agent(record, &Resources::default(), &[], Default::default())}})
}

/// `AGENT_REMOVED`.
pub fn agent_removed(agent: &str) -> Value {
    json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": id(agent)}})
}

/// `FRAMEWORK_ADDED`.
pub fn framework_added(framework: Value) -> Value {
    json!({"type": "FRAMEWORK_ADDED", "framework_added": {"framework": framework}})
}

/// `FRAMEWORK_REMOVED`.
pub fn framework_removed(framework: &str, name: &str) -> Value {
    let info = json!({"id": id(framework), "name": name, "user": "root"});
    json!({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": info}})
}

/// How a copy tells its subscribers where they are: what they come back with.
pub const POSITION: &str = "REVERE_POSITION";

/// With which a subscriber says that it can come back, and where it was; empty at first.
pub const POSITION_HEADER: &str = "x-revere-position";

/// How a stream begins that goes on where its reader was.
pub const RESUMED: &str = "REVERE_RESUMED";

/// A position; told only to those who asked for it.
pub fn position(position: &str) -> Value {
    json!({"type": POSITION, "position": position})
}

/// In place of `SUBSCRIBED`.
pub fn resumed() -> Value {
    json!({"type": RESUMED, "heartbeat_interval_seconds": HEARTBEAT_SECONDS})
}

/// `HEARTBEAT`.
pub fn heartbeat() -> Value {
    json!({"type": "HEARTBEAT"})
}

#[derive(Serialize)]
struct Event<'a, S> {
    #[serde(rename = "type")]
    kind: &'static str,
    subscribed: Subscribed<'a, S>,
}

#[derive(Serialize)]
struct Subscribed<'a, S> {
    get_state: &'a S,
    heartbeat_interval_seconds: f64,
}

/// `SUBSCRIBED`, around a `get_state`, as it is written.
pub fn subscribed(state: &impl Serialize) -> Vec<u8> {
    let subscribed = Subscribed {
        get_state: state,
        heartbeat_interval_seconds: HEARTBEAT_SECONDS,
    };
    let kind = "SUBSCRIBED";
    // Nothing fails but maps whose keys are no texts.
    serde_json::to_vec(&Event { kind, subscribed }).unwrap_or_default()
}

/// An object of the lists given that are not empty: Mesos leaves empty ones out.
pub fn lists(named: Vec<(&str, Vec<Value>)>) -> Value {
    let mut out = Map::new();
    for (name, list) in named {
        if !list.is_empty() {
            out.insert(name.to_owned(), Value::Array(list));
        }
    }
    Value::Object(out)
}
