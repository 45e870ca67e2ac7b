//! From a snapshot to the zones a node serves.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use model::{FrameworkInfo, Node, NodeView, PortScope, Protocol, Snapshot, Task, TaskPort};
use sha1::{Digest as _, Sha1};

use crate::Config;
use crate::zones::{DIRECTORY, L4LB, SPARTAN, THISNODE, ZoneInfo, Zones};

/// Longest DNS label.
const MAX_LABEL: usize = 63;
/// Longest part of an agent id kept in canonical names; Mesos's own (`s0`) are far shorter.
const MAX_TAIL: usize = 20;

/// All names that a node shall answer for. Depends on nothing but its arguments.
///
/// Names of VIPs exist while the service has a backend; task names while the task runs and its health allows.
pub fn desired(snapshot: &Snapshot, view: &NodeView, config: &Config) -> Zones {
    let zone = |apex: &str, ttl: u32| ZoneInfo {
        apex: apex.to_owned(),
        ttl,
        negative_ttl: config.negative_ttl,
    };
    let mut zones = Zones::new(
        snapshot.generation,
        vec![
            zone(DIRECTORY, config.vip_ttl),
            zone(L4LB, config.vip_ttl),
            zone(THISNODE, config.vip_ttl),
            zone(SPARTAN, config.vip_ttl),
            zone(&config.domain, config.mesos_ttl),
        ],
    );
    zones.add_addr(THISNODE, IpAddr::V4(view.ip));
    zones.add_addr(&format!("ready.{SPARTAN}"), IpAddr::V4(Ipv4Addr::LOCALHOST));
    zones.add_addr(&format!("ns.{SPARTAN}"), IpAddr::V4(view.ip));
    add_vips(&mut zones, snapshot);
    add_machines(&mut zones, snapshot, config);
    for task in snapshot.tasks.values() {
        let Some(names) = TaskNames::new(snapshot, task, &config.domain) else {
            continue;
        };
        names.add_addrs(&mut zones);
        names.add_host_ports(&mut zones);
        names.add_discovery(&mut zones);
    }
    zones.finish()
}

fn add_vips(zones: &mut Zones, snapshot: &Snapshot) {
    let mut owner = String::new();
    for (name, service) in snapshot.named_services() {
        if !service.backends.is_empty() {
            owner.clear();
            // Writing to a String cannot fail.
            let _ = write!(owner, "{}.{}.{L4LB}", name.label, name.framework);
            zones.add_addr(&owner, service.vip.addr);
        }
    }
}

fn add_machines(zones: &mut Zones, snapshot: &Snapshot, config: &Config) {
    let domain = &config.domain;
    let slave = format!("slave.{domain}");
    for node in snapshot.nodes.values() {
        zones.add_addr(&slave, IpAddr::V4(node.ip));
    }
    for (index, master) in config.masters.iter().enumerate() {
        let addr = IpAddr::V4(*master);
        zones.add_addr(&format!("master.{domain}"), addr);
        zones.add_addr(&format!("master{index}.{domain}"), addr);
    }
    if let Some(leader) = config.masters.first() {
        zones.add_addr(&format!("leader.{domain}"), IpAddr::V4(*leader));
    }
}

/// The names of one task that is ready.
struct TaskNames<'a> {
    task: &'a Task,
    node: &'a Node,
    /// `my-service`.
    label: String,
    /// `my-service-iffe9-s0`.
    canonical: String,
    /// `marathon.mesos`.
    suffix: String,
    /// `marathon.slave.mesos`.
    slave_suffix: String,
}

impl<'a> TaskNames<'a> {
    /// `None` for a task that has no names: not ready, on an unknown agent, or with nothing left of a name once cleaned.
    fn new(snapshot: &'a Snapshot, task: &'a Task, domain: &str) -> Option<Self> {
        if task.weight() != Some(1) {
            return None;
        }
        let node = snapshot.nodes.get(&task.agent)?;
        let framework: &FrameworkInfo = snapshot.frameworks.get(&task.framework)?;
        let framework = model::domain_frag(&framework.name);
        let label = model::label(&task.name);
        if label.is_empty() || framework.is_empty() {
            return None;
        }
        Some(Self {
            task,
            node,
            canonical: canonical(&label, task),
            label,
            suffix: format!("{framework}.{domain}"),
            slave_suffix: format!("{framework}.slave.{domain}"),
        })
    }

    fn add_addrs(&self, zones: &mut Zones) {
        for first in [&self.label, &self.canonical] {
            let name = format!("{first}.{}", self.suffix);
            for addr in &self.task.status.addresses {
                zones.add_addr(&name, *addr);
            }
            if self.task.status.addresses.is_empty() {
                zones.add_addr(&name, IpAddr::V4(self.node.ip));
            }
            zones.add_addr(&format!("{first}.{}", self.slave_suffix), IpAddr::V4(self.node.ip));
        }
    }

    /// SRV of the agent's ports: always under `slave`, and in the task's own place when it declares no ports itself.
    fn add_host_ports(&self, zones: &mut Zones) {
        let target = self.on_agent();
        for port in &self.task.host_ports {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let service = format!("_{}._{protocol}", self.service());
                zones.add_srv(&format!("{service}.{}", self.slave_suffix), &target, *port);
                if !self.task.has_discovery {
                    zones.add_srv(&format!("{service}.{}", self.suffix), &target, *port);
                }
            }
        }
    }

    /// SRV of the ports that the task declares, by task name and by port name.
    fn add_discovery(&self, zones: &mut Zones) {
        for port in &self.task.ports {
            let (target, number) = self.reach(port);
            let service = format!("_{}._{}.{}", self.service(), port.protocol, self.suffix);
            zones.add_srv(&service, &target, number);
            let port_name = port.name.as_deref().map(model::label).unwrap_or_default();
            if !port_name.is_empty() {
                let port_name = cut(&port_name, MAX_LABEL - 1);
                zones.add_srv(&format!("_{port_name}.{service}"), &target, number);
            }
        }
    }

    /// Target and port by which a client reaches a declared port: the rule by which backends of VIPs are chosen, so
    /// that SRV and VIP lead to the same place. Mesos-DNS paired the task's address with the agent's port here.
    fn reach(&self, port: &TaskPort) -> (String, u16) {
        let own = &self.task.status.addresses;
        let on_task = || format!("{}.{}", self.canonical, self.suffix);
        match port.scope {
            PortScope::Container => (on_task(), port.number),
            PortScope::Host if own.is_empty() || own[..] == [IpAddr::V4(self.node.ip)] => (on_task(), port.number),
            PortScope::Host => {
                let mapping = self
                    .task
                    .mappings
                    .iter()
                    .find(|m| m.host_port == port.number && m.protocol == port.protocol);
                match mapping {
                    Some(mapping) => (on_task(), mapping.container_port),
                    None => (self.on_agent(), port.number),
                }
            }
        }
    }

    /// The task's label where an underscore stands before it, which counts towards a label's length.
    fn service(&self) -> &str {
        cut(&self.label, MAX_LABEL - 1)
    }

    fn on_agent(&self) -> String {
        format!("{}.{}", self.canonical, self.slave_suffix)
    }
}

/// `<task>-<hash of the task id>-<tail of the agent id>`, at most one label long; Mesos-DNS let it grow past that and made
/// names nobody could resolve.
fn canonical(label: &str, task: &Task) -> String {
    let digest: [u8; 20] = Sha1::digest(task.id.as_str().as_bytes()).into();
    let hash = model::task_hash(&digest);
    let agent = task.agent.as_str();
    let tail = model::label(agent.rsplit('-').next().unwrap_or(agent));
    let tail = cut(&tail, MAX_TAIL);
    let end = if tail.is_empty() {
        format!("-{hash}")
    } else {
        format!("-{hash}-{tail}")
    };
    format!("{}{end}", cut(label, MAX_LABEL - end.len()))
}

/// The first `max` bytes of a cleaned label, not ending in `-`.
fn cut(label: &str, max: usize) -> &str {
    label.get(..max).unwrap_or(label).trim_end_matches('-')
}

#[cfg(test)]
#[path = "desired/tests.rs"]
mod tests;
