//! Where instances go: a pure function of the app, the agents and where its instances are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use model::{AgentId, Resources};

use crate::{App, NetworkMode};

use super::Refusals;
use super::node::Node;
use super::nodes::{Glance, Nodes, Table};
use super::random::Random;

mod decision;
mod ports;
mod rule;

pub use decision::Decision;
pub(crate) use decision::Decisions;
pub(crate) use ports::ports_for;

use ports::{choose_ports, ports_suffice};
use rule::Rules;

/// Agents named in a decision, of those that were refused and of those that came next.
const NAMED: usize = 16;

/// Which rule refused an agent, in the order in which they are tried (Marathon's funnel).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Its resources are of a role that the app does not take, or kept for one.
    Role,
    /// A constraint does not hold there.
    Constraint,
    /// The app's volumes are there, but the agent is away, or an earlier task may still use them.
    Reservation,
    /// Its machine is expected to be away now.
    Maintenance,
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
    /// In funnel order.
    pub const ALL: [Self; 8] = [
        Self::Role,
        Self::Constraint,
        Self::Reservation,
        Self::Maintenance,
        Self::Cpus,
        Self::Memory,
        Self::Disk,
        Self::Ports,
    ];

    /// Marathon's name of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "UnfulfilledRole",
            Self::Constraint => "UnfulfilledConstraint",
            Self::Reservation => "NoCorrespondingReservationFound",
            Self::Maintenance => "AgentMaintenance",
            Self::Cpus => "InsufficientCpus",
            Self::Memory => "InsufficientMemory",
            Self::Disk => "InsufficientDisk",
            Self::Ports => "InsufficientPorts",
        }
    }
}

impl Refusals {
    /// One more agent that was refused.
    pub(crate) fn note(&mut self, agent: &AgentId, reason: Refusal) {
        *self.by_rule.entry(reason).or_default() += 1;
        if self.agents.len() < NAMED {
            self.agents.push((agent.clone(), reason));
        }
    }

    /// Those of a further attempt.
    pub(crate) fn add(&mut self, other: Self) {
        self.processed = self.processed.saturating_add(other.processed);
        for (reason, count) in other.by_rule {
            *self.by_rule.entry(reason).or_default() += count;
        }
        let room = NAMED.saturating_sub(self.agents.len());
        self.agents.extend(other.agents.into_iter().take(room));
    }
}

/// A place for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) agent: AgentId,
    /// One per entry of [`host_port_wishes`], in order.
    pub(crate) host_ports: Vec<u16>,
    pub(crate) decision: Decision,
}

/// The host ports that an app's instance needs, by index of its port: `Some(0)` is any. `None` needs none.
pub(crate) fn host_port_wishes(app: &App) -> Vec<Option<u16>> {
    let wish = |port: &crate::AppPort| match app.network {
        _ if app.pod.is_some() => port.host_port,
        NetworkMode::Host => Some(if app.require_ports { port.port } else { 0 }),
        NetworkMode::Bridge => Some(port.host_port.unwrap_or(0)),
        NetworkMode::Container(_) => port.host_port,
    };
    app.ports.iter().map(wish).collect()
}

/// What agents are compared by: instances of the app there, used cpus, and the place among all in the order of ids. The
/// least wins.
type Rank = (u32, u64, usize);

/// Finds places for several instances of one app, looking at every agent once.
///
/// Agents of one class (equal values for all GROUP_BY fields) stand in one heap, so that each further instance costs a
/// look at the first of each class.
pub(crate) struct Placer<'a> {
    app: &'a App,
    rules: Rules,
    wishes: Vec<u16>,
    ids: Arc<[AgentId]>,
    classes: BTreeMap<Vec<String>, BinaryHeap<Reverse<Rank>>>,
    refusals: Refusals,
}

impl<'a> Placer<'a> {
    /// `placed` counts the app's instances per agent, those on their way out included.
    pub(crate) fn new(app: &'a App, nodes: &Nodes, placed: &BTreeMap<AgentId, u32>) -> Self {
        let table = nodes.table();
        let mut placer = Self {
            app,
            rules: Rules::new(app, nodes, placed),
            wishes: host_port_wishes(app).into_iter().flatten().collect(),
            ids: Arc::clone(&table.ids),
            classes: BTreeMap::new(),
            refusals: Refusals::default(),
        };
        let takes = |role: &String| app.accepted_roles.contains(role);
        let roles: Vec<bool> = table.roles.iter().map(takes).collect();
        let here = placer.counts(&table, placed);
        let mut classes: BTreeMap<Vec<String>, Vec<Reverse<Rank>>> = BTreeMap::new();
        let all = table.glances.iter().zip(table.ids.iter()).enumerate();
        for (index, (glance, id)) in all.filter(|(_, (glance, _))| glance.takes_more) {
            placer.refusals.processed += 1;
            let takes = roles.get(glance.role).copied().unwrap_or(false);
            let refused = if takes {
                placer.refusal_at(glance, id, nodes)
            } else {
                Some(Refusal::Role)
            };
            match refused {
                Some(reason) => placer.refused(id, reason),
                None => {
                    let count = here.get(index).copied().unwrap_or(0);
                    let class = placer.class_of(id, nodes);
                    let rank = (count, glance.used_cpus, index);
                    classes.entry(class).or_default().push(Reverse(rank));
                }
            }
        }
        placer.classes = classes
            .into_iter()
            .map(|(class, ranks)| (class, ranks.into()))
            .collect();
        placer
    }

    /// The app's instances by the agents' places in the table; empty: there are none.
    fn counts(&self, table: &Table, placed: &BTreeMap<AgentId, u32>) -> Vec<u32> {
        let mut counts = Vec::new();
        for (id, count) in placed {
            counts.resize(table.ids.len(), 0);
            if let Some(place) = table.index(id).and_then(|index| counts.get_mut(index)) {
                *place = *count;
            }
        }
        counts
    }

    /// As [`Self::refusal`] of an agent whose role is taken, and it is seldom looked at itself.
    fn refusal_at(&self, glance: &Glance, id: &AgentId, nodes: &Nodes) -> Option<Refusal> {
        let exact = self.wishes.iter().any(|port| *port != 0);
        if !self.rules.is_empty() || glance.lacks || exact || glance.ports < self.wishes.len() {
            return nodes.get(id).and_then(|node| self.refusal(node));
        }
        if glance.away {
            return Some(Refusal::Maintenance);
        }
        self.lacking(&glance.free)
    }

    fn class_of(&self, id: &AgentId, nodes: &Nodes) -> Vec<String> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        nodes.get(id).map(|node| self.rules.class(node)).unwrap_or_default()
    }

    /// A place for one more instance. The caller charges it to its agent before it asks again.
    pub(crate) fn next(&mut self, nodes: &BTreeMap<AgentId, Node>, random: &mut Random) -> Result<Placement, Refusals> {
        loop {
            let Some((class, rank)) = self.best() else {
                return Err(self.why_none());
            };
            let heap = self.classes.entry(class).or_default();
            heap.pop();
            let Some(id) = self.ids.get(rank.2).cloned() else {
                continue;
            };
            let Some(node) = nodes.get(&id) else { continue };
            if let Some(reason) = self.refusal(node) {
                // No instance that is placed later makes room or lifts such a rule.
                self.refused(&id, reason);
                continue;
            }
            let host_ports = choose_ports(node, &self.wishes, random);
            let decision = Decision {
                same_app: rank.0,
                used: node.used,
                considered: self.refusals.processed,
                refusals: self.refusals.clone(),
                next: self.runners_up(),
            };
            self.rules.placed(node);
            let after = (
                rank.0.saturating_add(1),
                node.used.cpus_milli.saturating_add(self.app.resources.cpus_milli),
                rank.2,
            );
            self.classes
                .entry(self.rules.class(node))
                .or_default()
                .push(Reverse(after));
            return Ok(Placement {
                agent: id,
                host_ports,
                decision,
            });
        }
    }

    /// The first of the classes that may have one more.
    fn best(&self) -> Option<(Vec<String>, Rank)> {
        let open = self.classes.iter().filter(|(class, _)| self.rules.class_is_open(class));
        let tops = open.filter_map(|(class, heap)| Some((class, &heap.peek()?.0)));
        let (class, rank) = tops.min_by(|(_, one), (_, other)| one.cmp(other))?;
        Some((class.clone(), *rank))
    }

    fn runners_up(&self) -> Vec<AgentId> {
        let open = self.classes.iter().filter(|(class, _)| self.rules.class_is_open(class));
        let mut tops: Vec<&Rank> = open.filter_map(|(_, heap)| Some(&heap.peek()?.0)).collect();
        tops.sort();
        let ids = tops.into_iter().filter_map(|(_, _, index)| self.ids.get(*index));
        ids.take(NAMED).cloned().collect()
    }

    fn refusal(&self, node: &Node) -> Option<Refusal> {
        if !self.app.accepted_roles.contains(&node.record.domain.role) {
            return Some(Refusal::Role);
        }
        if !self.rules.hold(node) {
            return Some(Refusal::Constraint);
        }
        if let NetworkMode::Container(name) = &self.app.network
            && node.lacks.contains(name)
        {
            return Some(Refusal::Constraint);
        }
        if node.away {
            return Some(Refusal::Maintenance);
        }
        let lacking = self.lacking(&node.free());
        lacking.or_else(|| (!ports_suffice(node, &self.wishes)).then_some(Refusal::Ports))
    }

    fn lacking(&self, left: &Resources) -> Option<Refusal> {
        let need = &self.app.resources;
        if left.cpus_milli < need.cpus_milli {
            Some(Refusal::Cpus)
        } else if left.mem_mb < need.mem_mb {
            Some(Refusal::Memory)
        } else if left.disk_mb < need.disk_mb {
            Some(Refusal::Disk)
        } else {
            None
        }
    }

    fn refused(&mut self, agent: &AgentId, reason: Refusal) {
        self.refusals.note(agent, reason);
    }

    /// All refusals so far, and the agents whose group has its share.
    fn why_none(&self) -> Refusals {
        let mut refusals = self.refusals.clone();
        for Reverse((_, _, index)) in self.classes.values().flatten() {
            if let Some(agent) = self.ids.get(*index) {
                refusals.note(agent, Refusal::Constraint);
            }
        }
        refusals
    }
}

#[cfg(test)]
pub(crate) mod oracle;
#[cfg(test)]
#[path = "placement/tests.rs"]
mod tests;
