//! All agents by id, and of each, close together, what a placement asks first: ten thousand are looked at for every app.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use model::{AgentId, Resources};

use super::node::Node;

/// What a placement asks of an agent first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    pub(crate) takes_more: bool,
    /// Its machine is expected to be away now.
    pub(crate) away: bool,
    /// It has no block of some network.
    pub(crate) lacks: bool,
    /// Index of its role in [`Table::roles`].
    pub(crate) role: usize,
    pub(crate) free: Resources,
    pub(crate) used_cpus: u64,
    /// At least so many host ports are free.
    pub(crate) ports: usize,
}

/// A glance of every agent, in the order of their ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) ids: Arc<[AgentId]>,
    pub(crate) glances: Vec<Glance>,
    pub(crate) roles: Vec<String>,
}

impl Table {
    fn of(all: &BTreeMap<AgentId, Node>) -> Self {
        let mut table = Self {
            ids: all.keys().cloned().collect(),
            ..Self::default()
        };
        table.glances.reserve(all.len());
        for node in all.values() {
            let glance = table.glance(node);
            table.glances.push(glance);
        }
        table
    }

    fn glance(&mut self, node: &Node) -> Glance {
        let role = &node.record.domain.role;
        let known = self.roles.iter().position(|one| one == role);
        let role = known.unwrap_or_else(|| {
            self.roles.push(role.clone());
            self.roles.len() - 1
        });
        let width = |(low, high): &(u16, u16)| usize::from(high.saturating_sub(*low)) + 1;
        let all: usize = node.record.ports.iter().map(width).sum();
        let held: usize = node.offered_ports.iter().map(width).sum();
        Glance {
            takes_more: node.takes_more(),
            away: node.away,
            lacks: !node.lacks.is_empty(),
            role,
            free: node.free(),
            used_cpus: node.used.cpus_milli,
            ports: all.saturating_sub(node.used_ports.len()).saturating_sub(held),
        }
    }

    pub(crate) fn index(&self, id: &AgentId) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }
}

/// See the module. Agents are changed through it alone, so that it knows whose glance is old.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes {
    all: BTreeMap<AgentId, Node>,
    table: Table,
    /// Changed since the table was made.
    touched: BTreeSet<AgentId>,
    /// Agents came or went since then.
    moved: bool,
}

impl Deref for Nodes {
    type Target = BTreeMap<AgentId, Node>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl FromIterator<(AgentId, Node)> for Nodes {
    fn from_iter<T: IntoIterator<Item = (AgentId, Node)>>(nodes: T) -> Self {
        Self {
            all: nodes.into_iter().collect(),
            moved: true,
            ..Self::default()
        }
    }
}

impl Nodes {
    pub(crate) fn get_mut(&mut self, id: &AgentId) -> Option<&mut Node> {
        let node = self.all.get_mut(id)?;
        if !self.moved {
            self.touched.insert(id.clone());
        }
        Some(node)
    }

    pub(crate) fn get_or_insert(&mut self, id: &AgentId, new: impl FnOnce() -> Node) -> &mut Node {
        if self.all.contains_key(id) {
            self.touched.insert(id.clone());
        } else {
            self.moved = true;
        }
        self.all.entry(id.clone()).or_insert_with(new)
    }

    pub(crate) fn insert(&mut self, id: AgentId, node: Node) {
        self.moved = true;
        self.all.insert(id, node);
    }

    pub(crate) fn remove(&mut self, id: &AgentId) -> Option<Node> {
        self.moved = true;
        self.all.remove(id)
    }

    /// Brings the table up to what the agents are now.
    pub(crate) fn refresh(&mut self) {
        if self.moved {
            self.table = Table::of(&self.all);
            self.moved = false;
            self.touched.clear();
        }
        for id in std::mem::take(&mut self.touched) {
            if let (Some(index), Some(node)) = (self.table.index(&id), self.all.get(&id)) {
                let glance = self.table.glance(node);
                if let Some(place) = self.table.glances.get_mut(index) {
                    *place = glance;
                }
            }
        }
    }

    /// The table as of now: made anew if nobody [refreshed](Self::refresh) it.
    pub(crate) fn table(&self) -> Cow<'_, Table> {
        if self.moved || !self.touched.is_empty() {
            Cow::Owned(Table::of(&self.all))
        } else {
            Cow::Borrowed(&self.table)
        }
    }

    /// Asserts that whoever was not noted as changed is as the table says.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        if self.moved {
            return;
        }
        let mut table = self.table.clone();
        assert!(self.all.keys().eq(table.ids.iter()), "agents in the table");
        for (index, (id, node)) in self.all.iter().enumerate() {
            let glance = table.glance(node);
            if !self.touched.contains(id) {
                assert_eq!(self.table.glances[index], glance, "{id} changed unnoticed");
            }
        }
    }
}
