//! Networks and ports as written: which belong together, their numbers, names, protocols and VIP labels.

use std::collections::BTreeSet;

use model::{Protocol, is_vip_label, parse_vip};

use crate::{AppPort, AppSpec, NetworkMode, PortSpec, ServicePorts};

use super::{Faults, id};

/// Longest network name.
const MAX_NETWORK_NAME: usize = 63;

/// The network mode: exactly one network of a known mode.
pub(super) fn network(spec: &AppSpec, default_network: &str, faults: &mut Faults) -> NetworkMode {
    if spec.networks.len() > 1 {
        faults.add(
            "/networks",
            "more than one network is not carried out by this version of Revere; name one",
        );
    }
    let Some((mode, name)) = spec.networks.first() else {
        return NetworkMode::Host;
    };
    match mode.as_str() {
        "host" | "container/bridge" if name.is_some() => {
            faults.add(
                "/networks(0)/name",
                format!("a network of mode {mode} has no name; remove it"),
            );
            NetworkMode::Host
        }
        "host" => NetworkMode::Host,
        "container/bridge" => NetworkMode::Bridge,
        "container" => {
            let name = name.as_deref().unwrap_or(default_network);
            let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
            if name.is_empty() || name.len() > MAX_NETWORK_NAME || !name.chars().all(valid) {
                let error = "must have 1 to 63 letters, digits, hyphens, underscores or dots";
                faults.add("/networks(0)/name", error);
            }
            NetworkMode::Container(name.to_owned())
        }
        other => {
            faults.add(
                "/networks(0)/mode",
                format!("{other} is no mode: write host, container or container/bridge"),
            );
            NetworkMode::Host
        }
    }
}

/// The ports of the app's mode, each rule applied.
pub(super) fn ports(
    spec: &AppSpec,
    network: &NetworkMode,
    framework: &str,
    service_ports: &mut ServicePorts,
    faults: &mut Faults,
) -> Vec<AppPort> {
    let host = *network == NetworkMode::Host;
    if host && spec.port_mappings.is_some() {
        let error = "portMappings need a network of mode container or container/bridge";
        faults.add("/container/portMappings", error);
    }
    if !host && spec.port_definitions.is_some() {
        faults.add(
            "/portDefinitions",
            "portDefinitions are only for host networking; write container.portMappings",
        );
    }
    if !host && spec.require_ports {
        faults.add(
            "/requirePorts",
            "requirePorts is only for host networking; give hostPort in the portMappings",
        );
    }
    let default = PortSpec {
        name: Some("default".to_owned()),
        ..PortSpec::default()
    };
    let (written, base) = match network {
        NetworkMode::Host => (
            spec.port_definitions.clone().unwrap_or(vec![default]),
            "/portDefinitions",
        ),
        NetworkMode::Bridge => (
            spec.port_mappings.clone().unwrap_or(vec![default]),
            "/container/portMappings",
        ),
        NetworkMode::Container(_) => (
            spec.port_mappings.clone().unwrap_or_default(),
            "/container/portMappings",
        ),
    };
    unique(&written, base, network, faults);
    let rules = Rules {
        network,
        framework,
        require_ports: spec.require_ports,
    };
    written
        .iter()
        .enumerate()
        .map(|(index, port)| rules.port(port, &format!("{base}({index})"), service_ports, faults))
        .collect()
}

/// Names, requested host ports and container ports may each occur once.
fn unique(ports: &[PortSpec], base: &str, network: &NetworkMode, faults: &mut Faults) {
    let (mut names, mut numbers, mut host_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = &port.name
            && !names.insert(name)
        {
            faults.add(
                format!("{base}({index})/name"),
                format!("port names must be unique; {name} occurs twice"),
            );
        }
        let protocol = port.protocol.as_deref().unwrap_or("tcp");
        if port.port != 0 && *network == NetworkMode::Host && !numbers.insert(port.port) {
            faults.add(
                format!("{base}({index})/port"),
                format!("ports must be unique; {} occurs twice", port.port),
            );
        }
        if let Some(host_port) = port.host_port.filter(|number| *number != 0)
            && !host_ports.insert((host_port, protocol))
        {
            let error = format!("host ports must be unique; {host_port} occurs twice");
            faults.add(format!("{base}({index})/hostPort"), error);
        }
    }
}

struct Rules<'a> {
    network: &'a NetworkMode,
    framework: &'a str,
    require_ports: bool,
}

impl Rules<'_> {
    fn port(&self, spec: &PortSpec, path: &str, service_ports: &mut ServicePorts, faults: &mut Faults) -> AppPort {
        let host = *self.network == NetworkMode::Host;
        let field = if host { "port" } else { "containerPort" };
        let mut port = number(&format!("{path}/{field}"), spec.port, faults);
        let host_port = spec
            .host_port
            .map(|value| number(&format!("{path}/hostPort"), value, faults));
        if let NetworkMode::Container(_) = self.network
            && spec.port == 0
            && host_port.is_none()
        {
            let error = "0 means the host port's number, and there is no hostPort: give one of the two";
            faults.add(format!("{path}/containerPort"), error);
        }
        let asked = if host {
            port
        } else {
            number(&format!("{path}/servicePort"), spec.service_port.unwrap_or(0), faults)
        };
        let service_port = if asked != 0 {
            asked
        } else {
            service_ports.give().unwrap_or_else(|| {
                faults.add(format!("{path}/{field}"), "no service port is left; remove unused apps");
                0
            })
        };
        if host && port == 0 && !self.require_ports {
            port = service_port;
        }
        if let Some(name) = &spec.name
            && !id::is_name(name)
        {
            let error = "must be lower-case letters, digits and hyphens, beginning and ending in a letter or digit";
            faults.add(format!("{path}/name"), error);
        }
        let protocols = protocols(&format!("{path}/protocol"), spec.protocol.as_deref(), faults);
        vip_labels(spec, path, self.framework, &protocols, faults);
        let (name, labels) = (spec.name.clone(), spec.labels.clone());
        AppPort {
            port,
            host_port,
            service_port,
            protocols,
            name,
            labels,
        }
    }
}

fn vip_labels(spec: &PortSpec, path: &str, framework: &str, protocols: &[Protocol], faults: &mut Faults) {
    let protocol = protocols.first().copied().unwrap_or(Protocol::Tcp);
    for (key, value) in spec.labels.iter().filter(|(key, _)| is_vip_label(key)) {
        if let Err(error) = parse_vip(value, framework, protocol) {
            faults.add(format!("{path}/labels({key})"), error.to_string());
        }
    }
}

/// An endpoint of a pod's container. In the host network it has a host port and nothing else; a bridge gives one where
/// none is asked for.
pub(super) fn endpoint(
    spec: &PortSpec,
    path: &str,
    network: &NetworkMode,
    framework: &str,
    faults: &mut Faults,
) -> AppPort {
    let name = spec.name.as_deref().unwrap_or_default();
    if !id::is_name(name) || name.len() > model::MAX_LABEL {
        let error = "must be 1 to 63 lower-case letters, digits and hyphens, beginning and ending in a letter or digit";
        faults.add(format!("{path}/name"), error);
    }
    let port = number(&format!("{path}/containerPort"), spec.port, faults);
    let host_port = spec
        .host_port
        .map(|value| number(&format!("{path}/hostPort"), value, faults));
    let host_port = match network {
        NetworkMode::Host => {
            if spec.port != 0 {
                let error = "is for pods with a network of their own; in the host network give hostPort alone";
                faults.add(format!("{path}/containerPort"), error);
            }
            if host_port.is_none() {
                let error = "is missing: in the host network an endpoint is a host port; 0 takes any";
                faults.add(format!("{path}/hostPort"), error);
            }
            host_port
        }
        NetworkMode::Bridge => host_port.or(Some(0)),
        NetworkMode::Container(_) => {
            if spec.port == 0 && host_port.is_none() {
                let error = "0 means the host port's number, and there is no hostPort: give one of the two";
                faults.add(format!("{path}/containerPort"), error);
            }
            host_port
        }
    };
    let protocols = protocols(&format!("{path}/protocol"), spec.protocol.as_deref(), faults);
    vip_labels(spec, path, framework, &protocols, faults);
    AppPort {
        port,
        host_port,
        service_port: 0,
        protocols,
        name: spec.name.clone(),
        labels: spec.labels.clone(),
    }
}

fn number(path: &str, value: i64, faults: &mut Faults) -> u16 {
    u16::try_from(value).unwrap_or_else(|_| {
        faults.add(path, format!("must be a whole number from 0 to 65535, not {value}"));
        0
    })
}

fn protocols(path: &str, text: Option<&str>, faults: &mut Faults) -> Vec<Protocol> {
    match text.unwrap_or("tcp") {
        "tcp" => vec![Protocol::Tcp],
        "udp" => vec![Protocol::Udp],
        "udp,tcp" | "tcp,udp" => vec![Protocol::Udp, Protocol::Tcp],
        other => {
            faults.add(path, format!("must be tcp, udp or udp,tcp, not {other}"));
            Vec::new()
        }
    }
}
