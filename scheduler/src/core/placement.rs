//! Where an instance goes: a pure function of the app, the agents and where its instances are.

use std::collections::{BTreeMap, BTreeSet};

use model::AgentId;

use crate::{App, Constraint, NetworkMode, Operator};

use super::Refusals;
use super::node::{Link, Node};
use super::random::Random;

/// Which rule refused an agent, in the order in which they are tried (Marathon's funnel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A constraint does not hold there.
    Constraint,
    /// Not enough cpus left.
    Cpus,
    /// Not enough memory left.
    Memory,
    /// Not enough disk left.
    Disk,
    /// A wanted host port is taken, or too few are left.
    Ports,
}

impl Refusal {
    /// Marathon's name of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Constraint => "UnfulfilledConstraint",
            Self::Cpus => "InsufficientCpus",
            Self::Memory => "InsufficientMemory",
            Self::Disk => "InsufficientDisk",
            Self::Ports => "InsufficientPorts",
        }
    }
}

/// A place for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) agent: AgentId,
    /// One per entry of [`host_port_wishes`], in order.
    pub(crate) host_ports: Vec<u16>,
}

/// The host ports that an app's instance needs, by index of its port: `Some(0)` is any. `None` needs none.
pub(crate) fn host_port_wishes(app: &App) -> Vec<Option<u16>> {
    let wish = |port: &crate::AppPort| match app.network {
        NetworkMode::Host => Some(if app.require_ports { port.port } else { 0 }),
        NetworkMode::Bridge => Some(port.host_port.unwrap_or(0)),
        NetworkMode::Container(_) => port.host_port,
    };
    app.ports.iter().map(wish).collect()
}

/// Chooses among the connected agents that have room and satisfy the constraints the one with the fewest instances of
/// the app, then the fewest used cpus, then the lowest id. `placed` counts the app's instances per agent.
pub(crate) fn place(
    app: &App,
    nodes: &BTreeMap<AgentId, Node>,
    placed: &BTreeMap<&AgentId, u32>,
    random: &mut Random,
) -> Result<Placement, Refusals> {
    let wishes: Vec<u16> = host_port_wishes(app).into_iter().flatten().collect();
    let mut refusals = Refusals::default();
    let mut best: Option<((u32, u64), &Node)> = None;
    for node in nodes.values().filter(|node| node.link == Link::Connected) {
        refusals.processed += 1;
        if let Some(reason) = refusal(app, node, nodes, placed, &wishes) {
            *refusals.by_rule.entry(reason).or_default() += 1;
            continue;
        }
        let rank = (placed.get(&node.record.id).copied().unwrap_or(0), node.used.cpus_milli);
        if best.is_none_or(|(other, _)| rank < other) {
            best = Some((rank, node));
        }
    }
    match best {
        Some((_, node)) => Ok(Placement {
            agent: node.record.id.clone(),
            host_ports: choose_ports(node, &wishes, random),
        }),
        None => Err(refusals),
    }
}

fn refusal(
    app: &App,
    node: &Node,
    nodes: &BTreeMap<AgentId, Node>,
    placed: &BTreeMap<&AgentId, u32>,
    wishes: &[u16],
) -> Option<Refusal> {
    if !app
        .constraints
        .iter()
        .all(|constraint| holds(constraint, node, nodes, placed))
    {
        return Some(Refusal::Constraint);
    }
    let left = node.record.resources.minus(&node.used);
    let need = &app.resources;
    if left.cpus_milli < need.cpus_milli {
        Some(Refusal::Cpus)
    } else if left.mem_mb < need.mem_mb {
        Some(Refusal::Memory)
    } else if left.disk_mb < need.disk_mb {
        Some(Refusal::Disk)
    } else if !ports_suffice(node, wishes) {
        Some(Refusal::Ports)
    } else {
        None
    }
}

fn ports_suffice(node: &Node, wishes: &[u16]) -> bool {
    wishes
        .iter()
        .filter(|port| **port != 0)
        .all(|port| node.port_is_free(*port))
        && node.free_ports().take(wishes.len()).count() == wishes.len()
}

/// Exact ports as they are; any port by chance, so that a port just left is not taken again at once.
fn choose_ports(node: &Node, wishes: &[u16], random: &mut Random) -> Vec<u16> {
    let exact: BTreeSet<u16> = wishes.iter().copied().filter(|port| *port != 0).collect();
    let mut free: Vec<u16> = Vec::new();
    if wishes.contains(&0) {
        free.extend(node.free_ports().filter(|port| !exact.contains(port)));
    }
    let mut chosen = Vec::new();
    for wish in wishes {
        if *wish != 0 {
            chosen.push(*wish);
        } else if !free.is_empty() {
            let length = u64::try_from(free.len()).unwrap_or(u64::MAX);
            let index = usize::try_from(random.below(length)).unwrap_or(0);
            chosen.push(free.swap_remove(index));
        }
    }
    chosen
}

/// Whether one more instance on `node` keeps the constraint. An agent without the field fails every operator.
fn holds(
    constraint: &Constraint,
    node: &Node,
    nodes: &BTreeMap<AgentId, Node>,
    placed: &BTreeMap<&AgentId, u32>,
) -> bool {
    let field = constraint.field.as_str();
    let Some(value) = node.field(field) else { return false };
    let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
    for (agent, count) in placed {
        if let Some(group) = nodes.get(*agent).and_then(|node| node.field(field)) {
            *groups.entry(group).or_default() += count;
        }
    }
    let here = groups.get(value).copied().unwrap_or(0);
    let number = constraint.value.as_deref().and_then(|text| text.parse::<u32>().ok());
    match constraint.operator {
        Operator::Unique => here == 0,
        Operator::MaxPer => here < number.unwrap_or(0),
        Operator::Is => constraint.value.as_deref() == Some(value),
        Operator::Cluster => match constraint.value.as_deref() {
            Some(wanted) => wanted == value,
            None => groups.is_empty() || here > 0,
        },
        Operator::GroupBy => {
            // Groups without an instance count too, as far as agents of them are known.
            for other in nodes.values().filter(|node| node.link == Link::Connected) {
                if let Some(group) = other.field(field) {
                    groups.entry(group).or_default();
                }
            }
            let known = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let least = if known < number.unwrap_or(0) {
                0
            } else {
                groups.values().copied().min().unwrap_or(0)
            };
            here <= least
        }
    }
}

#[cfg(test)]
#[path = "placement/tests.rs"]
mod tests;
