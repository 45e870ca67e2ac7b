//! From an app and a place to the complete launch order, as Marathon built its TaskInfo.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    FrameworkId, KillPolicy, LaunchSpec, PortMapping, PortScope, Protocol, ReadyRule, TaskId, TaskNetwork, TaskPort,
    is_vip_label,
};

use crate::{App, AppPort, NetworkMode};

use super::Config;
use super::placement::host_port_wishes;

mod checks;
mod pod;

pub(super) use pod::{members, whole};

/// Marathon leaves labels out of the environment whose key or value is this long.
const MAX_ENV_LABEL: usize = 512;

/// One port of the app with the numbers it got.
struct Assigned<'a> {
    app: &'a AppPort,
    host: Option<u16>,
    /// As bound inside the task's network namespace.
    inside: u16,
}

/// The order for one instance. `host_ports` are those chosen for the ports that need one, in order.
pub(super) fn spec(
    app: &App,
    task: &TaskId,
    host_ports: &[u16],
    framework: &FrameworkId,
    config: &Config,
) -> LaunchSpec {
    let ports = assign(app, host_ports);
    let has_vip = app.ports.iter().any(has_vip_label);
    LaunchSpec {
        task: task.clone(),
        name: task_name(app.id.as_str()),
        framework: framework.clone(),
        command: app.command.clone(),
        user: app.user.clone(),
        container: app.container.clone(),
        fetch: app.fetch.clone(),
        env: environment(app, task, &ports),
        resources: app.resources,
        network: network(app),
        ports: ports.iter().flat_map(discovery).collect(),
        mappings: if app.network == NetworkMode::Host {
            Vec::new()
        } else {
            ports.iter().flat_map(mappings).collect()
        },
        host_ports: host_ports.to_vec(),
        labels: app.labels.clone(),
        ready: ready_rule(&ports, config.ready_within),
        checks: checks::of_task(app, &ports),
        kill: KillPolicy {
            drain: if has_vip { config.drain } else { Duration::ZERO },
            grace: app.kill_grace.unwrap_or(config.grace),
        },
        pod: None,
    }
}

fn network(app: &App) -> TaskNetwork {
    match &app.network {
        NetworkMode::Host => TaskNetwork::Host,
        NetworkMode::Bridge => TaskNetwork::Container {
            name: "bridge".to_owned(),
        },
        NetworkMode::Container(name) => TaskNetwork::Container { name: name.clone() },
    }
}

/// `/a/b/c` is `c.b.a`.
fn task_name(id: &str) -> String {
    let segments: Vec<&str> = id.split('/').filter(|segment| !segment.is_empty()).rev().collect();
    segments.join(".")
}

fn assign<'a>(app: &'a App, host_ports: &[u16]) -> Vec<Assigned<'a>> {
    let mut chosen = host_ports.iter().copied();
    let wishes = host_port_wishes(app);
    app.ports
        .iter()
        .zip(wishes)
        .map(|(port, wish)| {
            let host = wish.and_then(|_| chosen.next());
            let inside = match (&app.network, port.port) {
                (NetworkMode::Host, _) | (_, 0) => host.unwrap_or(port.port),
                (_, number) => number,
            };
            Assigned {
                app: port,
                host,
                inside,
            }
        })
        .collect()
}

fn discovery(port: &Assigned<'_>) -> Vec<TaskPort> {
    let (number, scope) = match port.host {
        Some(host) => (host, PortScope::Host),
        None => (port.inside, PortScope::Container),
    };
    let labels: Vec<(String, String)> = port.app.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let one = |protocol: &Protocol| TaskPort {
        number,
        name: port.app.name.clone(),
        protocol: *protocol,
        scope,
        labels: labels.clone(),
    };
    port.app.protocols.iter().map(one).collect()
}

fn mappings(port: &Assigned<'_>) -> Vec<PortMapping> {
    let Some(host_port) = port.host else { return Vec::new() };
    let one = |protocol: &Protocol| PortMapping {
        host_port,
        container_port: port.inside,
        protocol: *protocol,
    };
    port.app.protocols.iter().map(one).collect()
}

fn has_vip_label(port: &AppPort) -> bool {
    port.labels.keys().any(|key| is_vip_label(key))
}

fn ready_rule(ports: &[Assigned<'_>], within: Duration) -> ReadyRule {
    let ports: Vec<u16> = ports
        .iter()
        .filter(|port| has_vip_label(port.app) && port.app.protocols.contains(&Protocol::Tcp))
        .map(|port| port.inside)
        .collect();
    if ports.is_empty() {
        ReadyRule::AtStart
    } else {
        ReadyRule::WhenListening { ports, within }
    }
}

/// Marathon's environment; `HOST` is the agent's to add, and the user's own entries win.
fn environment(app: &App, task: &TaskId, ports: &[Assigned<'_>]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: String| {
        env.insert(key.to_owned(), value);
    };
    set("MESOS_TASK_ID", task.to_string());
    set("MARATHON_APP_ID", app.id.to_string());
    set("MARATHON_APP_VERSION", app.version.to_string());
    set("MARATHON_APP_RESOURCE_CPUS", decimal(app.resources.cpus_milli));
    set("MARATHON_APP_RESOURCE_MEM", format!("{}.0", app.resources.mem_mb));
    set("MARATHON_APP_RESOURCE_DISK", format!("{}.0", app.resources.disk_mb));
    set("MARATHON_APP_RESOURCE_GPUS", "0".to_owned());
    set("MARATHON_APP_ENFORCE_GROUP_ROLE", "false".to_owned());
    let short = |(key, value): &(&String, &String)| key.len() < MAX_ENV_LABEL && value.len() < MAX_ENV_LABEL;
    let mut names = Vec::new();
    for (key, value) in app.labels.iter().filter(short) {
        let name = env_name(key);
        set(&format!("MARATHON_APP_LABEL_{name}"), value.clone());
        names.push(name);
    }
    set("MARATHON_APP_LABELS", names.join(" "));
    let numbers: Vec<u16> = ports.iter().map(|port| port.host.unwrap_or(port.inside)).collect();
    if let Some(first) = numbers.first() {
        set("PORT", first.to_string());
    }
    for (index, (port, number)) in ports.iter().zip(&numbers).enumerate() {
        set(&format!("PORT{index}"), number.to_string());
        if port.app.port != 0 {
            set(&format!("PORT_{}", port.app.port), number.to_string());
        }
        if let Some(name) = &port.app.name {
            set(&format!("PORT_{}", env_name(name)), number.to_string());
        }
    }
    let list: Vec<String> = numbers.iter().map(u16::to_string).collect();
    set("PORTS", list.join(","));
    env.extend(app.env.clone());
    env
}

fn env_name(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// Thousandths as a decimal number with at least one digit behind the point, as Java prints doubles.
fn decimal(milli: u64) -> String {
    let fraction = format!("{:03}", milli % 1_000);
    let trimmed = fraction.trim_end_matches('0');
    format!("{}.{}", milli / 1_000, if trimmed.is_empty() { "0" } else { trimmed })
}

#[cfg(test)]
#[path = "launch/tests.rs"]
mod tests;
