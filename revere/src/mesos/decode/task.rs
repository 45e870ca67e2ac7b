//! One Mesos `Task` or `TaskStatus` to the model.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::{AgentId, FrameworkId, PortMapping, PortScope, Protocol, Reason, Task, TaskId, TaskPort, TaskStatus};
use serde_json::Value;

use super::{RejectKind, Rejects, double, flag, get, id, list, number, parse_state, text};

/// Host ports of one task that are listed; far above any real task, far below what a forged range could ask for.
const MAX_HOST_PORTS: usize = 4096;

/// Label of a discovery port that says whose port number it carries.
pub(super) const SCOPE_LABEL: &str = "network-scope";

pub(super) fn decode_task(value: &Value, rejects: &mut Rejects) -> Option<Task> {
    let (Some(task), Some(framework), Some(agent)) =
        (id(value, "task_id"), id(value, "framework_id"), id(value, "agent_id"))
    else {
        let known = id(value, "task_id").unwrap_or("without task_id");
        rejects.add(
            RejectKind::Task,
            format!("task {known}: task_id, framework_id or agent_id is missing"),
        );
        return None;
    };
    let newest = newest_status(value);
    let state = text(value, "state").or_else(|| text(newest?, "state"));
    let discovery = get(value, "discovery");
    let discovery_name = discovery
        .and_then(|info| text(info, "name"))
        .filter(|name| !name.is_empty());
    let labels: BTreeMap<_, _> = labels(value, task, rejects).into_iter().collect();
    let host_ports = host_ports(value, task, rejects);
    let ports = discovery_ports(discovery.unwrap_or(&Value::Null), task, rejects);
    Some(Task {
        id: TaskId::new(task),
        name: discovery_name
            .or_else(|| text(value, "name"))
            .unwrap_or_default()
            .to_owned(),
        framework: FrameworkId::new(framework),
        agent: AgentId::new(agent),
        status: decode_status(newest, state, task, rejects),
        has_health_check: get(value, "health_check").is_some(),
        // To Mesos-DNS a DiscoveryInfo without a name is none.
        has_discovery: discovery_name.is_some(),
        ports,
        mappings: mappings(value, newest, task, rejects),
        host_ports,
        labels,
    })
}

/// The status with the greatest timestamp; of equal ones the last.
fn newest_status(task: &Value) -> Option<&Value> {
    let time = |status: &Value| double(status, "timestamp").unwrap_or(0.0);
    list(task, "statuses").max_by(|a, b| time(a).total_cmp(&time(b)))
}

pub(super) fn decode_status(
    status: Option<&Value>,
    state: Option<&str>,
    task: &str,
    rejects: &mut Rejects,
) -> TaskStatus {
    let state = parse_state(state, task, rejects);
    let status = status.unwrap_or(&Value::Null);
    let mut addresses: Vec<IpAddr> = Vec::new();
    let container = get(status, "container_status").unwrap_or(&Value::Null);
    for address in list(container, "network_infos").flat_map(|info| list(info, "ip_addresses")) {
        match text(address, "ip_address").map(str::parse) {
            Some(Ok(ip)) => addresses.push(ip),
            _ => rejects.add(RejectKind::Address, format!("task {task}: `{address}` is no address")),
        }
    }
    let timestamp = double(status, "timestamp").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    TaskStatus {
        state,
        reason: text(status, "reason").and_then(Reason::parse),
        healthy: flag(status, "healthy"),
        addresses,
        message: text(status, "message").map(str::to_owned),
        checks: Default::default(),
        timestamp_ms: timestamp
            .and_then(|time| u64::try_from(time.as_millis()).ok())
            .unwrap_or(0),
    }
}

/// `labels.labels[{key, value?}]`, in order.
fn labels(value: &Value, task: &str, rejects: &mut Rejects) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for label in get(value, "labels")
        .into_iter()
        .flat_map(|wrapped| list(wrapped, "labels"))
    {
        let value = match get(label, "value") {
            None => Some(""),
            Some(value) => value.as_str(),
        };
        match (text(label, "key"), value) {
            (Some(key), Some(value)) => out.push((key.to_owned(), value.to_owned())),
            _ => rejects.add(RejectKind::Label, format!("task {task}: `{label}` is no label")),
        }
    }
    out
}

fn discovery_ports(discovery: &Value, task: &str, rejects: &mut Rejects) -> Vec<TaskPort> {
    let mut out = Vec::new();
    for port in get(discovery, "ports")
        .into_iter()
        .flat_map(|wrapped| list(wrapped, "ports"))
    {
        match discovery_port(port, task, rejects) {
            Ok(made) => out.extend(made),
            Err(why) => rejects.add(RejectKind::Port, format!("task {task}: port `{port}`: {why}")),
        }
    }
    out
}

/// One declared port; `tcp,udp` makes two, number 0 (not assigned) none.
fn discovery_port(port: &Value, task: &str, rejects: &mut Rejects) -> Result<Vec<TaskPort>, &'static str> {
    let number = number(port, "number").ok_or("no number")?;
    let number = u16::try_from(number).map_err(|_| "the number is over 65535")?;
    if number == 0 {
        return Ok(Vec::new());
    }
    let labels = labels(port, task, rejects);
    let mut scopes = labels
        .iter()
        .filter(|(key, _)| key == SCOPE_LABEL)
        .map(|(_, value)| value.as_str());
    let scope = match (scopes.next(), scopes.next()) {
        (Some("host"), None) => PortScope::Host,
        (Some("container") | None, None) => PortScope::Container,
        (Some(_), Some(_)) => return Err("two network-scope labels"),
        _ => return Err("network-scope is neither host nor container"),
    };
    let name = text(port, "name").map(str::to_owned);
    protocols(port)?
        .into_iter()
        .map(|protocol| {
            Ok(TaskPort {
                number,
                name: name.clone(),
                protocol,
                scope,
                labels: labels.clone(),
            })
        })
        .collect()
}

/// `tcp`, `udp` or both with a comma; an absent protocol is TCP, as in Marathon.
fn protocols(port: &Value) -> Result<Vec<Protocol>, &'static str> {
    let Some(value) = get(port, "protocol") else {
        return Ok(vec![Protocol::Tcp]);
    };
    let bad = "the protocol is neither tcp nor udp";
    let mut out = Vec::new();
    for word in value.as_str().ok_or(bad)?.split(',') {
        let protocol = Protocol::parse(word.trim()).ok_or(bad)?;
        if !out.contains(&protocol) {
            out.push(protocol);
        }
    }
    Ok(out)
}

/// Port mappings: those of the container's own kind, else those that the newest status tells.
fn mappings(task: &Value, newest: Option<&Value>, id: &str, rejects: &mut Rejects) -> Vec<PortMapping> {
    let container = get(task, "container").unwrap_or(&Value::Null);
    let status = newest
        .and_then(|status| get(status, "container_status"))
        .unwrap_or(&Value::Null);
    let of_networks = |holder: &Value| -> Vec<Value> {
        list(holder, "network_infos")
            .flat_map(|info| list(info, "port_mappings"))
            .cloned()
            .collect()
    };
    let docker = get(container, "docker").unwrap_or(&Value::Null);
    let declared: Vec<Value> = if text(container, "type") == Some("DOCKER") {
        list(docker, "port_mappings").cloned().collect()
    } else {
        let own = of_networks(container);
        if own.is_empty() { of_networks(status) } else { own }
    };
    read_mappings(&declared, id, rejects)
}

/// The port mappings that a status of its own tells: some networks choose host ports only when the container starts.
pub(super) fn status_mappings(status: &Value, id: &str, rejects: &mut Rejects) -> Vec<PortMapping> {
    let container = get(status, "container_status").unwrap_or(&Value::Null);
    let told: Vec<Value> = list(container, "network_infos")
        .flat_map(|info| list(info, "port_mappings"))
        .cloned()
        .collect();
    read_mappings(&told, id, rejects)
}

fn read_mappings(declared: &[Value], id: &str, rejects: &mut Rejects) -> Vec<PortMapping> {
    let mut out = Vec::new();
    for mapping in declared {
        match port_mapping(mapping) {
            Some(made) => out.extend(made),
            None => rejects.add(
                RejectKind::Mapping,
                format!("task {id}: `{mapping}` is no port mapping"),
            ),
        }
    }
    out
}

fn port_mapping(mapping: &Value) -> Option<Vec<PortMapping>> {
    let port = |key: &str| u16::try_from(number(mapping, key)?).ok();
    let (host_port, container_port) = (port("host_port")?, port("container_port")?);
    let made = protocols(mapping).ok()?.into_iter().map(|protocol| PortMapping {
        host_port,
        container_port,
        protocol,
    });
    Some(made.collect())
}

/// The `ports` resource, expanded in order.
fn host_ports(task: &Value, id: &str, rejects: &mut Rejects) -> Vec<u16> {
    let mut out = Vec::new();
    let ports = list(task, "resources").filter(|resource| text(resource, "name") == Some("ports"));
    for range in ports
        .flat_map(|resource| get(resource, "ranges"))
        .flat_map(|ranges| list(ranges, "range"))
    {
        let end = |key: &str| u16::try_from(number(range, key)?).ok();
        let (Some(begin), Some(end)) = (end("begin"), end("end")) else {
            rejects.add(
                RejectKind::Resource,
                format!("task {id}: `{range}` is no range of ports"),
            );
            continue;
        };
        out.extend((begin..=end).take(MAX_HOST_PORTS.saturating_sub(out.len())));
    }
    out
}
