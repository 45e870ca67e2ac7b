//! Whose turn it is: weighted dominant resource fairness among roles, and among the frameworks of a role.

use std::cmp::Ordering;

use model::{FrameworkId, Resources};

use super::super::Scheduler;
use super::super::node::Link;

/// Role of Marathon's apps, and of frameworks that name none.
pub(crate) const ANY_ROLE: &str = "*";

/// What one who takes resources has, compared with others: the least comes first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    /// Whether the role has less than is guaranteed to it.
    waits: bool,
    role: f64,
    own: f64,
    name: String,
    id: FrameworkId,
}

impl Share {
    /// The same of a role that may wait for what is guaranteed to it.
    pub(super) fn waiting(self, waits: bool) -> Self {
        Self { waits, ..self }
    }

    /// Roles that wait for what is guaranteed to them first, then by weighted share of the role, then by share within it, then by name.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        other
            .waits
            .cmp(&self.waits)
            .then_with(|| self.role.total_cmp(&other.role))
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.own.total_cmp(&other.own))
            .then_with(|| self.id.cmp(&other.id))
    }

    /// Whether this one has less, ids and names left aside.
    pub(super) fn is_less(&self, other: &Self) -> bool {
        if self.waits != other.waits {
            return self.waits;
        }
        match self.role.total_cmp(&other.role) {
            Ordering::Equal => self.name == other.name && self.own < other.own,
            order => order == Ordering::Less,
        }
    }
}

/// The largest part of any kind of resource, of what there is of it.
pub(super) fn dominant(held: &Resources, total: &Resources) -> f64 {
    let part = |held: u64, total: u64| {
        // Far below 2^53 in any cluster there is.
        let (held, total) = (
            u32::try_from(held).unwrap_or(u32::MAX),
            u32::try_from(total).unwrap_or(u32::MAX),
        );
        if total == 0 {
            0.0
        } else {
            f64::from(held) / f64::from(total)
        }
    };
    let parts = [
        part(held.cpus_milli, total.cpus_milli),
        part(held.mem_mb, total.mem_mb),
        part(held.disk_mb, total.disk_mb),
    ];
    parts.into_iter().fold(0.0, f64::max)
}

impl Scheduler {
    /// All that agents have which can be asked for more.
    pub(super) fn capacity_there(&self) -> Resources {
        let there = self.nodes.values().filter(|node| node.link == Link::Connected);
        there.fold(Resources::default(), |sum, node| sum.plus(&node.record.resources))
    }

    /// What all who take offers for a role hold of it.
    fn held_by_role(&self, role: &str) -> Resources {
        let marathon = if role == ANY_ROLE {
            self.frameworks.marathon
        } else {
            Resources::default()
        };
        let joined = self.frameworks.joined.values();
        joined.fold(marathon, |sum, framework| sum.plus(&framework.held(role)))
    }

    fn share_of(
        &self,
        id: &FrameworkId,
        role: &str,
        (held, more): (&Resources, &Resources),
        total: &Resources,
    ) -> Share {
        let weight = self.frameworks.weights.get(role).copied().unwrap_or(1.0);
        Share {
            waits: false,
            role: dominant(&self.held_by_role(role).plus(more), total) / weight,
            own: dominant(&held.plus(more), total),
            name: role.to_owned(),
            id: id.clone(),
        }
    }

    /// A framework's share in one of its roles.
    pub(super) fn share(&self, id: &FrameworkId, role: &str, total: &Resources) -> Share {
        self.share_with(id, role, &Resources::default(), total)
    }

    /// The same if it had so much more.
    pub(super) fn share_with(&self, id: &FrameworkId, role: &str, more: &Resources, total: &Resources) -> Share {
        let held = self.frameworks.joined.get(id).map(|framework| framework.held(role));
        self.share_of(id, role, (&held.unwrap_or_default(), more), total)
    }

    pub(in crate::core) fn set_weight(&mut self, role: &str, weight: f64) {
        self.frameworks.weights.insert(role.to_owned(), weight);
        self.offer_everywhere();
    }

    /// What roles weigh, where it is not 1.
    pub fn weights(&self) -> impl Iterator<Item = (&str, f64)> {
        self.frameworks
            .weights
            .iter()
            .map(|(role, weight)| (role.as_str(), *weight))
    }

    /// The share of Marathon's apps.
    pub(super) fn own_share(&self, total: &Resources) -> Share {
        let none = Resources::default();
        self.share_of(&self.framework.id, ANY_ROLE, (&self.frameworks.marathon, &none), total)
    }
}
