//! Reservations and volumes of roles: what agents keep, what of it is free, and how it changes.

use model::{AgentId, Resources};

use crate::quota::top;
use crate::reservation::{put, take};
use crate::{Claim, Effect, Holding, HoldingChange, InstanceId, NewVolume, Record, Reservation, RoleVolume, Timestamp};

use super::super::Scheduler;
use super::super::node::Link;
use super::super::timers::Timer;
use super::share::ANY_ROLE;

/// What a change may use.
#[derive(Clone, Debug, Default)]
pub(super) struct Usable {
    /// Not reserved.
    pub(super) free: Resources,
    /// Reserved, and in use by nobody.
    pub(super) reserved: Vec<Holding>,
}

/// Whether a written reservation means a known one.
fn means(written: &Reservation, known: &Reservation) -> bool {
    written.role == known.role
        && (written.principal.is_none() || written.principal == known.principal)
        && (written.labels.is_empty() || written.labels == known.labels)
}

impl Usable {
    /// Finds what a claim names; `None`: it is not there, or not whole.
    pub(super) fn claim(&self, claim: &Claim) -> Option<Holding> {
        let holds = |one: &&Holding| {
            let has = |(id, size): &(String, u64)| one.volumes.iter().any(|own| own.id == *id && own.size_mb == *size);
            one.resources.holds(&claim.resources) && claim.volumes.iter().all(has)
        };
        let all = || self.reserved.iter().filter(holds);
        // Who writes no principal and no labels may mean the one that has none.
        let exact = all().find(|one| one.by == claim.by);
        let found = exact.or_else(|| all().find(|one| means(&claim.by, &one.by)))?;
        let wanted = |own: &&RoleVolume| claim.volumes.iter().any(|(id, _)| own.id == *id);
        Some(Holding {
            by: found.by.clone(),
            resources: claim.resources,
            volumes: found.volumes.iter().filter(wanted).cloned().collect(),
        })
    }
}

impl Scheduler {
    /// What an agent keeps for roles.
    pub fn holdings(&self, agent: &AgentId) -> &[Holding] {
        self.nodes.get(agent).map_or(&[], |node| node.holdings())
    }

    /// What of that no task uses.
    pub fn unused_holdings(&self, agent: &AgentId) -> Vec<Holding> {
        let Some(node) = self.nodes.get(agent).filter(|node| !node.holdings().is_empty()) else {
            return Vec::new();
        };
        let mut free = node.holdings().to_vec();
        for one in &mut free {
            one.volumes.retain(|volume| !volume.leaving);
        }
        let tasks = node.tasks.iter().filter_map(|key| self.frameworks.task(key));
        let used = tasks
            .flat_map(|task| &task.from)
            .chain(node.strays.values().flat_map(|stray| &stray.from));
        used.for_each(|part| take(&mut free, part));
        free.retain(|one| one.total() != Resources::default());
        free
    }

    /// What of that is offered to nobody either.
    pub(super) fn free_holdings(&self, agent: &AgentId) -> Vec<Holding> {
        let mut free = self.unused_holdings(agent);
        if !free.is_empty() {
            let offers = self.frameworks.offers.values().filter(|offer| offer.agent.id == *agent);
            offers
                .flat_map(|offer| &offer.reserved)
                .for_each(|part| take(&mut free, part));
        }
        free
    }

    /// What is reserved for a role and everything below it, and neither used nor offered.
    pub(super) fn idle_reservations(&self, role: &str) -> Resources {
        let kept = self.nodes.values().filter(|node| !node.holdings().is_empty());
        let idle = kept.flat_map(|node| self.free_holdings(&node.record.id));
        idle.filter(|one| top(&one.by.role) == role)
            .fold(Resources::default(), |sum, one| sum.plus(&one.total()))
    }

    /// All that is reserved for a role.
    pub(super) fn reserved_for(&self, role: &str) -> Resources {
        let all = self.nodes.values().flat_map(|node| node.holdings());
        all.filter(|one| one.by.role == role)
            .fold(Resources::default(), |sum, one| sum.plus(&one.total()))
    }

    /// Takes a change that an operator makes. Offers of the agent are taken back for it. An error says why it is not taken.
    pub fn handle_holdings(&mut self, now: Timestamp, agent: &AgentId, change: HoldingChange) -> Result<(), String> {
        self.enter(now);
        let node = self.nodes.get(agent).filter(|node| !node.order.gone);
        let node = node.ok_or_else(|| format!("Agent '{agent}' is not known"))?;
        let mut usable = Usable {
            free: node.free().plus(&node.offered),
            reserved: self.unused_holdings(agent),
        };
        // A first look without consequences: offers are taken back only for what can be.
        self.changed(agent, &change, &mut usable.clone())?;
        self.rescind_all_of(agent);
        self.change_holdings(agent, &change, &mut usable)?;
        self.frameworks.freed(agent);
        self.capacity_changed();
        self.settle();
        Ok(())
    }

    /// Changes what an agent keeps, and what of it may be used after.
    pub(super) fn change_holdings(
        &mut self,
        agent: &AgentId,
        change: &HoldingChange,
        usable: &mut Usable,
    ) -> Result<(), String> {
        let mut after = usable.clone();
        let mut holdings = self.changed(agent, change, &mut after)?;
        // Names of directories come only now, so that what is refused draws none.
        for volume in holdings.iter_mut().flat_map(|one| &mut one.volumes) {
            if volume.owner.is_empty() {
                volume.owner = format!("volume-{}", self.random.uuid());
                let fresh = after.reserved.iter_mut().flat_map(|one| &mut one.volumes);
                for known in fresh.filter(|one| one.id == volume.id) {
                    known.owner.clone_from(&volume.owner);
                }
            }
        }
        *usable = after;
        self.keep(agent, holdings);
        if matches!(change, HoldingChange::Destroy(_)) {
            self.remove_role_volumes(agent);
        }
        Ok(())
    }

    fn keep(&mut self, agent: &AgentId, holdings: Vec<Holding>) {
        let Some(node) = self.nodes.get_mut(agent) else { return };
        node.set_holdings(holdings.clone());
        if holdings.is_empty() {
            self.persist(Record::DeleteHoldings(agent.clone()));
        } else {
            self.persist(Record::PutHoldings(agent.clone(), holdings));
        }
    }

    /// What an agent keeps after a change.
    fn changed(&self, agent: &AgentId, change: &HoldingChange, usable: &mut Usable) -> Result<Vec<Holding>, String> {
        let mut holdings = self.holdings(agent).to_vec();
        match change {
            HoldingChange::Reserve(claims) => {
                for claim in claims {
                    reserve(claim, usable, &mut holdings)?;
                }
            }
            HoldingChange::Unreserve(claims) => {
                for claim in claims {
                    let part = usable.claim(claim).filter(|_| claim.volumes.is_empty());
                    let part = part.ok_or_else(|| {
                        format!(
                            "not so much is reserved for '{}' and unused: volumes are destroyed first",
                            claim.by.role
                        )
                    })?;
                    take(&mut usable.reserved, &part);
                    take(&mut holdings, &part);
                    usable.free = usable.free.plus(&part.resources);
                }
            }
            HoldingChange::Create(volumes) => {
                for volume in volumes {
                    create(volume, usable, &mut holdings)?;
                }
            }
            HoldingChange::Destroy(named) => {
                for (by, id) in named {
                    let has = |one: &Holding| means(by, &one.by) && one.volumes.iter().any(|own| own.id == *id);
                    let known = usable.reserved.iter_mut().find(|one| has(one));
                    let known = known.ok_or_else(|| format!("there is no unused volume '{id}' of '{}'", by.role))?;
                    let by = known.by.clone();
                    known.volumes.retain(|own| own.id != *id);
                    let all = holdings.iter_mut().filter(|one| one.by == by);
                    for own in all.flat_map(|one| &mut one.volumes).filter(|own| own.id == *id) {
                        own.leaving = true;
                    }
                }
            }
        }
        Ok(holdings)
    }

    /// Asks an agent to remove the data of volumes that were destroyed, and again after a while.
    pub(in crate::core) fn remove_role_volumes(&mut self, agent: &AgentId) {
        let Some(node) = self.nodes.get(agent).filter(|node| node.link == Link::Connected) else {
            return;
        };
        let leaving = node
            .holdings()
            .iter()
            .flat_map(|one| &one.volumes)
            .filter(|one| one.leaving);
        let owners: Vec<InstanceId> = leaving.map(|one| InstanceId(one.owner.clone())).collect();
        for owner in owners {
            let agent = agent.clone();
            self.effects.push_back(Effect::RemoveVolumes {
                agent,
                owner: owner.clone(),
            });
            let again = self.now.after(self.config.retry);
            self.timers.set(Timer::RemoveVolumes(owner), again);
        }
    }

    /// The same for the one whose time it is.
    pub(in crate::core) fn remove_role_volume(&mut self, owner: &InstanceId) {
        let has = |one: &Holding| one.volumes.iter().any(|own| own.leaving && own.owner == owner.0);
        let agent = self.nodes.values().find(|node| node.holdings().iter().any(has));
        if let Some(agent) = agent.map(|node| node.record.id.clone()) {
            self.remove_role_volumes(&agent);
        }
    }

    /// An agent says that the data is gone: its disk is free for its role again.
    pub(in crate::core) fn role_volume_gone(&mut self, agent: &AgentId, owner: &InstanceId) {
        let mut holdings = self.holdings(agent).to_vec();
        let mut found = false;
        for one in &mut holdings {
            let gone = one.volumes.iter().position(|own| own.leaving && own.owner == owner.0);
            if let Some(index) = gone {
                let size_mb = one.volumes.remove(index).size_mb;
                one.resources.disk_mb = one.resources.disk_mb.saturating_add(size_mb);
                found = true;
            }
        }
        if found {
            self.timers.cancel(&Timer::RemoveVolumes(owner.clone()));
            self.keep(agent, holdings);
            self.frameworks.freed(agent);
        }
    }

    /// An agent will not come back.
    pub(in crate::core) fn forget_holdings(&mut self, agent: &AgentId) {
        if !self.holdings(agent).is_empty() {
            self.keep(agent, Vec::new());
        }
    }

    /// What an earlier master kept.
    pub(in crate::core) fn restore_holdings(&mut self, agent: AgentId, holdings: Vec<Holding>) {
        match self.nodes.get_mut(&agent) {
            Some(node) => node.set_holdings(holdings),
            None => self.persist(Record::DeleteHoldings(agent)),
        }
    }
}

fn reserve(claim: &Claim, usable: &mut Usable, holdings: &mut Vec<Holding>) -> Result<(), String> {
    if claim.by.role == ANY_ROLE {
        return Err("nothing can be reserved for the role '*': name another".to_owned());
    }
    if claim.resources == Resources::default() || !claim.volumes.is_empty() {
        return Err("a reservation is of cpus, mem or disk, without volumes".to_owned());
    }
    if !usable.free.holds(&claim.resources) {
        return Err(format!(
            "not so much is free that could be reserved for '{}'",
            claim.by.role
        ));
    }
    usable.free = usable.free.minus(&claim.resources);
    let part = Holding {
        by: claim.by.clone(),
        resources: claim.resources,
        volumes: Vec::new(),
    };
    put(&mut usable.reserved, part.clone());
    put(holdings, part);
    Ok(())
}

fn create(volume: &NewVolume, usable: &mut Usable, holdings: &mut Vec<Holding>) -> Result<(), String> {
    let id = &volume.id;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '#');
    if id.is_empty() || id.len() > 200 || !id.chars().all(plain) {
        return Err(format!(
            "'{id}' cannot be a volume's id: write 1 to 200 letters, digits, and -_.:#"
        ));
    }
    if volume.size_mb == 0 || volume.container_path.is_empty() {
        return Err(format!("the volume '{id}' has no size or no container_path"));
    }
    if holdings.iter().any(|one| one.volumes.iter().any(|own| own.id == *id)) {
        return Err(format!("there is a volume '{id}' on this agent"));
    }
    let need = Resources {
        disk_mb: volume.size_mb,
        ..Resources::default()
    };
    let claim = Claim {
        by: volume.by.clone(),
        resources: need,
        volumes: Vec::new(),
    };
    let by = usable.claim(&claim).map(|part| part.by);
    let by = by.ok_or_else(|| format!("not so much disk is reserved for '{}' and unused", volume.by.role))?;
    let made = RoleVolume {
        id: id.clone(),
        principal: volume.principal.clone(),
        container_path: volume.container_path.clone(),
        size_mb: volume.size_mb,
        owner: String::new(),
        leaving: false,
    };
    for all in [&mut usable.reserved, holdings] {
        let disk = Holding {
            by: by.clone(),
            resources: need,
            volumes: Vec::new(),
        };
        take(all, &disk);
        let part = Holding {
            by: by.clone(),
            resources: Resources::default(),
            volumes: vec![made.clone()],
        };
        put(all, part);
    }
    Ok(())
}
