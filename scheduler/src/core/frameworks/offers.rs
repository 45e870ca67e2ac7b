//! The allocator: what is free goes in offers to whom it belongs next, and Marathon's apps take their turn among them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{AgentId, FrameworkId, Resources};

use crate::quota::top;
use crate::reservation::total as total_of;
use crate::{App, FrameworkEvent, Holding, Offer, OfferId};

use super::super::Scheduler;
use super::super::node::{Link, Node};
use super::super::placement::Placer;
use super::super::random::Random;
use super::quota::Room;
use super::share::{ANY_ROLE, Share};
use super::{Filter, FrameworkTimer, add, subtract};

/// Smallest piece that is offered: this much cpu (Mesos `MIN_CPUS`) ...
const LEAST_CPUS_MILLI: u64 = 10;
/// ... or this much memory (Mesos `MIN_MEM`).
const LEAST_MEM_MB: u64 = 32;
/// A refusal holds at least so long (Mesos' allocation interval).
const LEAST_REFUSAL: Duration = Duration::from_secs(1);

/// Who is offered something next.
struct Taker {
    id: FrameworkId,
    role: String,
    share: Share,
    /// What it is offered of what is free.
    part: Resources,
    /// And of what is kept for its role.
    reserved: Vec<Holding>,
}

impl Scheduler {
    /// Offers what is free on agents where something became free. Marathon's apps have taken what is theirs before.
    pub(in crate::core) fn allocate(&mut self) {
        if self.frameworks.to_offer.is_empty() {
            return;
        }
        if !self.frameworks.quotas.is_empty() {
            // What became free here may be given to its role elsewhere, where others had no use for it.
            self.offer_everywhere();
        }
        let agents = std::mem::take(&mut self.frameworks.to_offer);
        if self.frameworks.joined.values().all(|one| one.stream.is_none()) {
            return;
        }
        let total = self.capacity_there();
        let mut room = self.room();
        let mut made: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        for agent in agents {
            if let Some(taker) = self.next_taker(&agent, &total, room.as_ref()) {
                let offer = self.hold(&agent, &taker);
                if let Some(room) = &mut room {
                    room.take(&taker.role, &taker.part);
                }
                made.entry(taker.id).or_default().extend(offer);
            }
        }
        for (id, offers) in made {
            self.tell_framework(&id, FrameworkEvent::Offers(offers));
        }
    }

    /// Looks at every agent again for somebody new, or who wants more again.
    pub(super) fn offer_everywhere(&mut self) {
        let there = self.nodes.values().filter(|node| node.link == Link::Connected);
        let agents: Vec<AgentId> = there.map(|node| node.record.id.clone()).collect();
        self.frameworks.to_offer.extend(agents);
    }

    /// Who is offered what is free on an agent.
    fn next_taker(&self, agent: &AgentId, total: &Resources, room: Option<&Room>) -> Option<Taker> {
        let node = self.nodes.get(agent).filter(|node| node.takes_more())?;
        let free = node.free();
        let too_little = |part: &Resources| part.cpus_milli < LEAST_CPUS_MILLI && part.mem_mb < LEAST_MEM_MB;
        // What a quota cut off is no use without the rest.
        let useless = |part: &Resources| part.cpus_milli < LEAST_CPUS_MILLI || part.mem_mb < LEAST_MEM_MB;
        let kept = self.free_holdings(agent);
        if too_little(&free) && kept.is_empty() {
            return None;
        }
        let mut best: Option<Taker> = None;
        for (id, framework) in &self.frameworks.joined {
            if framework.stream.is_none() {
                continue;
            }
            for role in &framework.record.spec.roles {
                let kept_for = &node.record.domain.role;
                let part = room.map_or(free, |room| room.part(role, &free));
                let reserved: Vec<Holding> = kept.iter().filter(|one| one.by.role == *role).cloned().collect();
                let all = part.plus(&total_of(&reserved));
                let refused = framework.filters.get(&(agent.clone(), role.clone()));
                let refused = refused.is_some_and(|filter| filter.until > self.now && filter.resources.holds(&all));
                if refused
                    || framework.suppressed.contains(role)
                    || (kept_for != ANY_ROLE && kept_for != role)
                    || reserved.is_empty() && (too_little(&part) || part != free && useless(&part))
                {
                    continue;
                }
                let share = self
                    .share(id, role, total)
                    .waiting(room.is_some_and(|room| room.waits(role)));
                if best.as_ref().is_none_or(|best| share.order(&best.share).is_lt()) {
                    best = Some(Taker {
                        id: id.clone(),
                        role: role.clone(),
                        share,
                        part,
                        reserved,
                    });
                }
            }
        }
        best
    }

    /// Holds what it may have of an agent for a framework.
    fn hold(&mut self, agent: &AgentId, taker: &Taker) -> Option<Offer> {
        let (id, role) = (&taker.id, taker.role.as_str());
        let node = self.nodes.get_mut(agent)?;
        let (resources, ports) = (taker.part, node.free_ranges());
        self.frameworks.next_offer = self.frameworks.next_offer.saturating_add(1);
        let offer = Offer {
            id: OfferId::new(format!("{}-O{}", self.frameworks.epoch, self.frameworks.next_offer)),
            framework: id.clone(),
            role: role.to_owned(),
            resources,
            ports,
            reserved: taker.reserved.clone(),
            agent: Arc::new(node.record.clone()),
            unavailability: node.unavailability,
        };
        node.hold(&offer.resources, &offer.ports);
        if let Some(framework) = self.frameworks.joined.get_mut(id) {
            framework.offers.insert(offer.id.clone());
            add(&mut framework.offered, role, &offer.total());
        }
        self.frameworks.offers.insert(offer.id.clone(), offer.clone());
        if !self.config.offer_timeout.is_zero() {
            self.set_timer(FrameworkTimer::Offer(offer.id.clone()), self.config.offer_timeout);
        }
        Some(offer)
    }

    /// An offer is no more; what it held is free.
    pub(super) fn end_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let offer = self.frameworks.offers.remove(id)?;
        self.cancel_timer(FrameworkTimer::Offer(id.clone()));
        if let Some(framework) = self.frameworks.joined.get_mut(&offer.framework) {
            framework.offers.remove(id);
            subtract(&mut framework.offered, &offer.role, &offer.total());
        }
        if let Some(node) = self.nodes.get_mut(&offer.agent.id) {
            node.let_go(&offer.resources, &offer.ports);
        }
        self.frameworks.freed(&offer.agent.id);
        self.capacity_changed();
        Some(offer)
    }

    /// Takes an offer back, and says so.
    pub(super) fn rescind(&mut self, id: &OfferId) {
        if let Some(offer) = self.end_offer(id) {
            self.tell_framework(&offer.framework, FrameworkEvent::Rescind(id.clone()));
        }
    }

    /// Takes all offers of an agent back: it is out of reach, or takes no more tasks.
    pub(in crate::core) fn rescind_all_of(&mut self, agent: &AgentId) {
        let of = self.frameworks.offers.values().filter(|offer| offer.agent.id == *agent);
        for id in of.map(|offer| offer.id.clone()).collect::<Vec<_>>() {
            self.rescind(&id);
        }
    }

    /// A framework is gone or begins anew: it knows of no offer.
    pub(super) fn drop_offers_of(&mut self, id: &FrameworkId) {
        let offers = self.frameworks.joined.get(id).map(|framework| framework.offers.clone());
        for offer in offers.unwrap_or_default() {
            self.end_offer(&offer);
        }
    }

    /// `DECLINE`.
    pub(super) fn decline(&mut self, id: &FrameworkId, offers: &[OfferId], refuse: Duration) {
        for offer in offers {
            let own = self
                .frameworks
                .offers
                .get(offer)
                .is_some_and(|offer| offer.framework == *id);
            if own && let Some(offer) = self.end_offer(offer) {
                self.filter(id, &offer.agent.id, &offer.role, offer.total(), refuse);
            }
        }
    }

    /// Notes that a framework does not want so much, or less, of that agent for a while.
    pub(super) fn filter(&mut self, id: &FrameworkId, agent: &AgentId, role: &str, what: Resources, refuse: Duration) {
        let lasts = refuse.max(LEAST_REFUSAL);
        let until = self.now.after(lasts);
        if let Some(framework) = self.frameworks.joined.get_mut(id) {
            let filter = Filter { resources: what, until };
            framework.filters.insert((agent.clone(), role.to_owned()), filter);
            let timer = FrameworkTimer::Filter(id.clone(), agent.clone(), role.to_owned());
            self.set_timer(timer, lasts);
        }
    }

    /// Forgets refusals for these roles; none are all.
    pub(super) fn forget_filters(&mut self, id: &FrameworkId, roles: &[String]) {
        let Some(framework) = self.frameworks.joined.get_mut(id) else {
            return;
        };
        let meant = |role: &String| roles.is_empty() || roles.contains(role);
        let keys = framework.filters.keys().filter(|(_, role)| meant(role));
        let keys: Vec<(AgentId, String)> = keys.cloned().collect();
        for key in keys {
            framework.filters.remove(&key);
            let timer = FrameworkTimer::Filter(id.clone(), key.0, key.1);
            self.timers.cancel(&super::Timer::Framework(timer));
        }
    }

    /// `REVIVE`.
    pub(super) fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        if let Some(framework) = self.frameworks.joined.get_mut(id) {
            framework
                .suppressed
                .retain(|role| !roles.is_empty() && !roles.contains(role));
        }
        self.forget_filters(id, roles);
        self.offer_everywhere();
    }

    /// `SUPPRESS`. Offers that are out stay.
    pub(super) fn suppress(&mut self, id: &FrameworkId, roles: &[String]) {
        if let Some(framework) = self.frameworks.joined.get_mut(id) {
            let all = framework.record.spec.roles.clone();
            let meant = if roles.is_empty() { all } else { roles.to_vec() };
            framework.suppressed.extend(meant);
        }
    }

    /// Whether what is free on an agent goes to somebody whose share is less than Marathon's even with it. Then it is
    /// offered to them first, and Marathon's app waits for what they leave. The very measure by which
    /// [`make_room`](Self::make_room) takes offers back, or the two would undo each other for ever.
    pub(in crate::core) fn yields(&mut self, agent: &AgentId) -> bool {
        if self.frameworks.joined.is_empty() {
            return false;
        }
        let (total, room) = (self.capacity_there(), self.room());
        let Some(taker) = self.next_taker(agent, &total, room.as_ref()) else {
            return false;
        };
        let waits = room.is_some_and(|room| room.waits(&taker.role));
        let more = taker.part.plus(&total_of(&taker.reserved));
        let share = self.share_with(&taker.id, &taker.role, &more, &total);
        if !share.waiting(waits).is_less(&self.own_share(&total)) {
            return false;
        }
        if let Some(offer) = self.hold(agent, &taker) {
            self.tell_framework(&taker.id, FrameworkEvent::Offers(vec![offer]));
        }
        true
    }

    /// Makes room for an instance that finds none, where those to whom the room is offered have no lesser share than
    /// Marathon; or takes offers back until it fits beside what quotas keep for others. `false`: there is none to be made.
    pub(in crate::core) fn make_room(&mut self, app: &App, placed: &BTreeMap<AgentId, u32>) -> bool {
        if self.frameworks.offers.is_empty() {
            return false;
        }
        let could_go = self.offers_for_marathon();
        if could_go.is_empty() {
            return false;
        }
        let (mut nodes, mut room) = (self.nodes.clone(), self.room());
        let mut after = room.clone();
        for offer in &could_go {
            if let Some(node) = nodes.get_mut(&offer.agent.id) {
                node.let_go(&offer.resources, &offer.ports);
            }
            if let Some(after) = &mut after {
                after.add(&offer.resources);
            }
        }
        nodes.refresh();
        let fits = |room: &Option<Room>| room.as_ref().is_none_or(|room| room.has_for_marathon(&app.resources));
        // Which host port it would be does not matter here.
        let mut random = Random::new(0);
        let place = Placer::new(app, &nodes, placed).next(&nodes, &mut random);
        let Some(place) = place.ok().filter(|_| fits(&after)) else {
            return false;
        };
        let (here, elsewhere): (Vec<Offer>, Vec<Offer>) =
            could_go.into_iter().partition(|offer| offer.agent.id == place.agent);
        let mut made = !here.is_empty();
        for (offer, needed) in here
            .iter()
            .map(|one| (one, true))
            .chain(elsewhere.iter().map(|one| (one, false)))
        {
            if needed || !fits(&room) {
                self.rescind(&offer.id);
                made = true;
                if let Some(room) = &mut room {
                    room.add(&offer.resources);
                }
            }
        }
        made
    }

    /// Offers that Marathon's apps may take back, all of them together: not of those who have less than Marathon, and not
    /// what is guaranteed.
    fn offers_for_marathon(&self) -> Vec<Offer> {
        let total = self.capacity_there();
        let own = self.own_share(&total);
        let mut given_up: BTreeMap<&str, Resources> = BTreeMap::new();
        let mut found = Vec::new();
        for offer in self.frameworks.offers.values() {
            let of_role = given_up.entry(top(&offer.role)).or_default();
            let share = self.share(&offer.framework, &offer.role, &total);
            let takes_more = self.nodes.get(&offer.agent.id).is_some_and(Node::takes_more);
            if takes_more && !share.is_less(&own) && !self.is_guaranteed_beside(offer, of_role) {
                *of_role = of_role.plus(&offer.total());
                found.push(offer.clone());
            }
        }
        found
    }
}
