//! What one task adds to the services: for which VIPs it is a backend, and at which address.

use std::net::IpAddr;

use super::index::Share;
use super::reject::{RejectReason, Rejected};
use crate::{
    Backend, FrameworkInfo, Node, PortScope, Protocol, ServiceOptions, Task, TaskPort, VipLabelError, VipTarget,
    is_vip_label, is_vip_port_label, parse_vip, port_options, split_vip_port,
};

/// Everything the task declares, each thing by itself: what is wrong with one costs the others nothing.
pub(super) fn share(task: &Task, node: &Node, framework: &FrameworkInfo) -> Share {
    let mut share = Share::default();
    for port in &task.ports {
        let from = share.backends.len();
        let mut declares = false;
        for (_, value) in port.labels.iter().filter(|(key, _)| is_vip_label(key)) {
            let places = reach(task, port, node);
            add(&mut share, task, node, framework, port.protocol, value, &places);
            declares = true;
        }
        if declares {
            ask(&mut share, task, port, from);
        }
    }
    for (key, value) in task.labels.iter().filter(|(key, _)| is_vip_port_label(key)) {
        match host_port(task, key, value) {
            Ok((number, protocol, value)) => {
                let places = [(IpAddr::V4(node.ip), number)];
                add(&mut share, task, node, framework, protocol, value, &places);
            }
            Err(error) => reject(&mut share, RejectReason::VipPortLabel, task, &error),
        }
    }
    share
}

/// What a port's labels ask for counts for all that it declares: the backends from `from` on.
fn ask(share: &mut Share, task: &Task, port: &TaskPort, from: usize) {
    let asked = port_options(&port.labels);
    for error in &asked.errors {
        reject(share, error.reason(), task, error);
    }
    for (vip, backend) in share.backends.iter_mut().skip(from) {
        backend.weight *= asked.weight.unwrap_or(1);
        if asked.service != ServiceOptions::default() {
            share.options.entry(vip.clone()).or_default().join(&asked.service);
        }
    }
}

fn reject(share: &mut Share, reason: RejectReason, task: &Task, what: &dyn std::fmt::Display) {
    share.rejected.push(Rejected {
        reason,
        what: format!("task {}: {what}", task.id),
    });
}

fn add(
    share: &mut Share,
    task: &Task,
    node: &Node,
    framework: &FrameworkInfo,
    protocol: Protocol,
    value: &str,
    places: &[(IpAddr, u16)],
) {
    let vip = match parse_vip(value, &framework.name, protocol) {
        Ok(vip) => vip,
        Err(error) => return reject(share, RejectReason::VipLabel, task, &error),
    };
    if let VipTarget::Name(name) = &vip.target {
        let written = value.rsplit_once(':').map_or(value, |(left, _)| left);
        let spelling = (framework.name.clone(), written.trim_start_matches('/').to_owned());
        let pair = (name.clone(), spelling);
        if !share.names.contains(&pair) {
            share.names.push(pair);
        }
    }
    let Some(weight) = task.weight() else { return };
    let fits = |addr: &IpAddr| match &vip.target {
        VipTarget::Name(_) => true,
        VipTarget::Addr(vip) => vip.is_ipv4() == addr.is_ipv4(),
    };
    let before = share.backends.len();
    for (addr, port) in places.iter().filter(|(addr, _)| fits(addr)) {
        let backend = Backend {
            addr: *addr,
            port: *port,
            weight,
            agent: task.agent.clone(),
            agent_ip: node.ip,
            task: task.id.clone(),
        };
        share.backends.push((vip.clone(), backend));
    }
    if share.backends.len() == before {
        let what = format!("VIP `{value}` on a port without a task address of its family");
        reject(share, RejectReason::NoAddress, task, &what);
    }
}

/// The host port that an older task label points at, and the label's value in the newer form.
fn host_port<'a>(task: &Task, key: &str, value: &'a str) -> Result<(u16, Protocol, &'a str), VipLabelError> {
    let (index, protocol, value) = split_vip_port(key, value)?;
    let count = task.host_ports.len();
    let number = task.host_ports.get(index);
    let number = number.ok_or_else(|| VipLabelError::NoSuchPort(key.to_owned(), count))?;
    Ok((*number, protocol, value))
}

/// Where clients anywhere in the cluster reach a declared port.
///
/// A port that has a host port is reached there, at the agent's address, as in DC/OS. Only where the task has addresses
/// in an overlay, whose blocks every node has routes to, does the way lead straight to the container: no second
/// translation on the host. A port without a host port is reached at every address of the task.
pub fn reach(task: &Task, port: &TaskPort, node: &Node) -> Vec<(IpAddr, u16)> {
    let mapping = task.mappings.iter().find(|mapping| {
        let number = match port.scope {
            PortScope::Host => mapping.host_port,
            PortScope::Container => mapping.container_port,
        };
        number == port.number && mapping.protocol == port.protocol
    });
    let at = |addrs: Vec<IpAddr>, number| addrs.into_iter().map(|addr| (addr, number)).collect();
    let agent = vec![IpAddr::V4(node.ip)];
    match (mapping, port.scope) {
        (Some(mapping), _) => match routed(task, node) {
            own if own.is_empty() && mapping.host_port != 0 => at(agent, mapping.host_port),
            own if own.is_empty() => at(task.status.addresses.clone(), mapping.container_port),
            own => at(own, mapping.container_port),
        },
        (None, PortScope::Host) => at(agent, port.number),
        (None, PortScope::Container) => at(task.status.addresses.clone(), port.number),
    }
}

/// The task's addresses in its node's block of the default overlay, or in another overlay.
fn routed(task: &Task, node: &Node) -> Vec<IpAddr> {
    let blocks = || {
        node.subnet
            .into_iter()
            .chain(node.networks.iter().map(|network| network.subnet))
    };
    let inside = |addr: &&IpAddr| match addr {
        IpAddr::V4(addr) => blocks().any(|net| net.contains(*addr)),
        IpAddr::V6(_) => false,
    };
    task.status.addresses.iter().filter(inside).copied().collect()
}
