//! Quotas in the allocator: no role gets more than its limits, and what is guaranteed to one is not given to others.

use std::collections::{BTreeMap, BTreeSet};

use model::{AgentId, Resources};

use crate::quota::{least, top};
use crate::{App, Force, Offer, OfferId, Quota, Record, Timestamp};

use super::super::placement::{Placer, Refusal};
use super::super::random::Random;
use super::super::{Refusals, Scheduler};
use super::share::ANY_ROLE;

/// What may still be given to whom, as long as nothing else changes.
#[derive(Clone, Debug)]
pub(in crate::core) struct Room {
    /// What nobody uses on agents that take more.
    free: Resources,
    /// What of its guarantees each role does not have yet.
    kept: BTreeMap<String, Resources>,
    /// What each role may have beside what it has.
    left: BTreeMap<String, Resources>,
}

impl Room {
    fn kept_for_others(&self, role: &str) -> Resources {
        let others = self.kept.iter().filter(|(other, _)| other.as_str() != top(role));
        others.fold(Resources::default(), |sum, (_, kept)| sum.plus(kept))
    }

    /// What of `free` on one agent a role may be offered.
    pub(super) fn part(&self, role: &str, free: &Resources) -> Resources {
        let part = least(free, &self.free.minus(&self.kept_for_others(role)));
        match self.left.get(top(role)) {
            Some(left) => least(&part, left),
            None => part,
        }
    }

    /// Whether a role has less than is guaranteed to it.
    pub(super) fn waits(&self, role: &str) -> bool {
        self.kept
            .get(top(role))
            .is_some_and(|kept| *kept != Resources::default())
    }

    /// A role has so much more of what was free.
    pub(in crate::core) fn take(&mut self, role: &str, taken: &Resources) {
        self.free = self.free.minus(taken);
        for sums in [&mut self.kept, &mut self.left] {
            if let Some(sum) = sums.get_mut(top(role)) {
                *sum = sum.minus(taken);
            }
        }
    }

    /// Whether one of Marathon's instances fits beside what is kept for others. Where nothing is, that is for agents to say.
    pub(in crate::core) fn has_for_marathon(&self, need: &Resources) -> bool {
        let kept = self.kept_for_others(ANY_ROLE);
        kept == Resources::default() || self.free.minus(&kept).holds(need)
    }

    /// So much more is free: an offer of a role that has enough without it was taken back.
    pub(super) fn add(&mut self, freed: &Resources) {
        self.free = self.free.plus(freed);
    }

    pub(in crate::core) fn taken_by_marathon(&mut self, taken: &Resources) {
        self.take(ANY_ROLE, taken);
    }
}

impl Scheduler {
    /// All quotas, by role.
    pub fn quotas(&self) -> impl Iterator<Item = &Quota> {
        self.frameworks.quotas.values()
    }

    /// What a role and everything below it has: used by tasks, held in offers, or reserved and unused.
    pub fn consumed(&self, role: &str) -> Resources {
        let mut sum = Resources::default();
        for framework in self.frameworks.joined.values() {
            for sums in [&framework.allocated, &framework.offered] {
                let own = sums.iter().filter(|(name, _)| top(name) == role);
                sum = own.fold(sum, |sum, (_, part)| sum.plus(part));
            }
        }
        sum.plus(&self.idle_reservations(role))
    }

    /// Takes quotas of several roles, all or none; one that says nothing ends what there was. An error says why not.
    pub fn handle_quotas(&mut self, now: Timestamp, force: Force, quotas: Vec<Quota>) -> Result<(), String> {
        self.enter(now);
        self.check_quotas(force, &quotas)?;
        for quota in quotas {
            if quota.is_empty() {
                if self.frameworks.quotas.remove(&quota.role).is_some() {
                    self.persist(Record::DeleteQuota(quota.role));
                }
            } else {
                self.persist(Record::PutQuota(Box::new(quota.clone())));
                self.frameworks.quotas.insert(quota.role.clone(), quota);
            }
        }
        self.take_back_for_quotas();
        self.offer_everywhere();
        self.capacity_changed();
        self.settle();
        Ok(())
    }

    fn check_quotas(&self, force: Force, quotas: &[Quota]) -> Result<(), String> {
        let mut after = self.frameworks.quotas.clone();
        let mut named = BTreeSet::new();
        for quota in quotas {
            let role = &quota.role;
            if role == ANY_ROLE || role.contains('/') {
                return Err(format!(
                    "Quota for the role '{role}' is not supported: name a role other than '*', without a slash"
                ));
            }
            if !named.insert(role) {
                return Err(format!("the role '{role}' is named twice"));
            }
            if !quota.limits.as_limits().holds(&quota.guarantees.as_guarantees()) {
                return Err(format!("the guarantees of the role '{role}' are above its limits"));
            }
            if force == Force::No && !quota.limits.as_limits().holds(&self.consumed(role)) {
                return Err(format!(
                    "the role '{role}' has more than these limits already: end some of its tasks, or write force"
                ));
            }
            after.insert(role.clone(), quota.clone());
        }
        let sum = after.values().fold(Resources::default(), |sum, one| {
            sum.plus(&one.guarantees.as_guarantees())
        });
        if force == Force::No && !self.capacity_there().holds(&sum) {
            return Err(
                "the guarantees of all roles come to more than the agents have: lower them, or write force".to_owned(),
            );
        }
        Ok(())
    }

    /// Offers of roles that have too much now, and of others as long as a guarantee lacks something.
    fn take_back_for_quotas(&mut self) {
        let Some(room) = self.room() else { return };
        let lacks = room
            .kept
            .values()
            .fold(Resources::default(), |sum, kept| sum.plus(kept));
        let lacks = !room.free.holds(&lacks);
        let goes = |offer: &&Offer| {
            let quota = self.frameworks.quotas.get(top(&offer.role));
            let over = quota.is_some_and(|quota| !quota.limits.as_limits().holds(&self.consumed(&quota.role)));
            over || lacks && !self.is_guaranteed(offer)
        };
        let gone: Vec<OfferId> = self
            .frameworks
            .offers
            .values()
            .filter(goes)
            .map(|one| one.id.clone())
            .collect();
        for id in gone {
            self.rescind(&id);
        }
    }

    /// Whether an offer's role would have less than is guaranteed to it without the offer.
    fn is_guaranteed(&self, offer: &Offer) -> bool {
        self.is_guaranteed_beside(offer, &Resources::default())
    }

    /// The same where the role gives up so much already.
    pub(super) fn is_guaranteed_beside(&self, offer: &Offer, given_up: &Resources) -> bool {
        let quota = self.frameworks.quotas.get(top(&offer.role));
        quota.is_some_and(|quota| {
            let without = self.consumed(&quota.role).minus(given_up).minus(&offer.total());
            !without.holds(&quota.guarantees.as_guarantees())
        })
    }

    /// What may still be given; without quotas nothing has to be asked.
    pub(in crate::core) fn room(&self) -> Option<Room> {
        if self.frameworks.quotas.is_empty() {
            return None;
        }
        let free = self.nodes.values().filter(|node| node.takes_more());
        let free = free.fold(Resources::default(), |sum, node| sum.plus(&node.free()));
        let (mut kept, mut left) = (BTreeMap::new(), BTreeMap::new());
        for (role, quota) in &self.frameworks.quotas {
            let consumed = self.consumed(role);
            kept.insert(role.clone(), quota.guarantees.as_guarantees().minus(&consumed));
            left.insert(role.clone(), quota.limits.as_limits().minus(&consumed));
        }
        Some(Room { free, kept, left })
    }

    /// Why Marathon's instance waits: where there is room, because that is kept for other roles.
    pub(in crate::core) fn kept_refusals(&self, app: &App, placed: &BTreeMap<AgentId, u32>) -> Refusals {
        // Which host port it would be does not matter here.
        let mut random = Random::new(0);
        if let Err(why) = Placer::new(app, &self.nodes, placed).next(&self.nodes, &mut random) {
            return why;
        }
        let mut refusals = Refusals::default();
        for (id, _) in self.nodes.iter().filter(|(_, node)| node.takes_more()) {
            refusals.processed = refusals.processed.saturating_add(1);
            refusals.note(id, Refusal::Role);
        }
        refusals
    }
}
