//! Instances that live where their volumes are: they are launched again there and nowhere else, and their volumes are
//! removed only when somebody says so.
//!
//! A residence is *held* by its instance, or *idle* while it has none (Marathon's waiting instances). It is launched again
//! only where nothing of its earlier task can still run: its agent is connected, and tells no stray of it.

use model::{AgentId, Resources, TaskId, TaskState};

use crate::{App, AppId, CommandError, Effect, Fault, InstanceId, Record, Residence, Timestamp};

use super::node::{Link, Node};
use super::placement::{Decision, Placement, Placer, Refusal, host_port_wishes, ports_for};
use super::timers::Timer;
use super::{Refusals, Scheduler};

impl Scheduler {
    /// What an app's instances keep on agents, those with a task and those without.
    pub fn residences_of(&self, app: &AppId) -> impl Iterator<Item = &Residence> {
        self.residences_by_app
            .get(app)
            .into_iter()
            .flatten()
            .filter_map(|id| self.residences.get(id))
    }

    /// All of them.
    pub fn residences(&self) -> impl Iterator<Item = &Residence> {
        self.residences.values()
    }

    /// Of one instance.
    pub fn residence(&self, id: &InstanceId) -> Option<&Residence> {
        self.residences.get(id)
    }

    /// Residences that wait for a task and are not to be removed.
    pub fn idle_residences(&self, app: &AppId) -> impl Iterator<Item = &Residence> {
        self.residences_of(app)
            .filter(|one| !one.wiped && !self.instances.contains_key(&one.id))
    }

    /// The idle residence whose newest task a user names.
    pub(super) fn idle_residence_of(&self, task: &str) -> Option<InstanceId> {
        let id = InstanceId::of_task(&TaskId::new(task))?;
        let residence = self.residences.get(&id).filter(|one| one.task().as_str() == task)?;
        (!self.instances.contains_key(&id)).then(|| residence.id.clone())
    }

    pub(super) fn restore_residence(&mut self, mut residence: Residence) {
        let Some(node) = self.nodes.get_mut(&residence.agent) else {
            // Its agent was forgotten, which only happens with what was to be removed anyway.
            return self.persist(Record::DeleteResidence(residence.id));
        };
        node.reserve(&residence);
        if !residence.wiped && !self.apps.contains_key(&residence.app) {
            residence.wiped = true;
            self.persist(Record::PutResidence(Box::new(residence.clone())));
        }
        self.index_residence(residence);
    }

    pub(super) fn index_residence(&mut self, residence: Residence) {
        let of_app = self.residences_by_app.entry(residence.app.clone()).or_default();
        of_app.insert(residence.id.clone());
        self.residences.insert(residence.id.clone(), residence);
    }

    /// Launches so many instances of an app: first where its idle residences are, then in as many new ones as it may
    /// have. What still lacks then waits.
    pub(super) fn fill_resident(&mut self, app: &App, mut missing: u32) -> (u32, Refusals) {
        let mut refusals = Refusals::default();
        let idle: Vec<InstanceId> = self.idle_residences(&app.id).map(|one| one.id.clone()).collect();
        for id in idle {
            if missing == 0 {
                break;
            }
            let Some(residence) = self.residences.get(&id).cloned() else {
                continue;
            };
            refusals.processed += 1;
            match self.place_again(app, &residence) {
                Ok(placement) => {
                    self.launch_again(app, residence, placement);
                    missing -= 1;
                }
                Err(refusal) => refusals.note(&residence.agent, refusal),
            }
        }
        let kept = self.residences_of(&app.id).filter(|one| !one.wiped).count();
        let new = app.instances.saturating_sub(u32::try_from(kept).unwrap_or(u32::MAX));
        for _ in 0..new.min(missing) {
            // Volumes take disk beside what the task itself asks for.
            let whole = App {
                resources: app.resources.plus(&app.volume_disk()),
                ..app.clone()
            };
            let placed = self.placed(app);
            let kept = self.room().is_some_and(|room| !room.has_for_marathon(&whole.resources));
            if kept && !self.make_room(&whole, &placed) {
                refusals.add(self.kept_refusals(&whole, &placed));
                break;
            }
            let place = loop {
                self.nodes.refresh();
                match Placer::new(&whole, &self.nodes, &placed).next(&self.nodes, &mut self.random) {
                    Err(_) if self.make_room(&whole, &placed) => {}
                    place => break place,
                }
            };
            match place {
                Ok(placement) => {
                    self.launch_first(app, placement);
                    missing -= 1;
                }
                Err(why) => {
                    refusals.add(why);
                    break;
                }
            }
        }
        (missing, refusals)
    }

    /// Whether a residence can be launched in now, and with which host ports.
    fn place_again(&mut self, app: &App, residence: &Residence) -> Result<Placement, Refusal> {
        let node = self.nodes.get(&residence.agent);
        let ready = |node: &&Node| node.takes_more() && !node.has_stray_of(&residence.id);
        let node = node.filter(ready).ok_or(Refusal::Reservation)?;
        if node.away {
            return Err(Refusal::Maintenance);
        }
        let own = node.charge_of(&residence.id).minus(&residence.disk());
        let left = node.free().plus(&own);
        let need = &app.resources;
        if left.cpus_milli < need.cpus_milli {
            return Err(Refusal::Cpus);
        }
        if left.mem_mb < need.mem_mb {
            return Err(Refusal::Memory);
        }
        if left.disk_mb < need.disk_mb {
            return Err(Refusal::Disk);
        }
        let wishes: Vec<u16> = host_port_wishes(app).into_iter().flatten().collect();
        let host_ports = ports_for(node, &wishes, &mut self.random).ok_or(Refusal::Ports)?;
        let used = node.used;
        Ok(Placement {
            agent: residence.agent.clone(),
            host_ports,
            decision: Decision {
                same_app: 0,
                used,
                considered: 1,
                refusals: Refusals::default(),
                next: Vec::new(),
            },
        })
    }

    /// A new instance with new volumes.
    fn launch_first(&mut self, app: &App, placement: Placement) {
        let residence = Residence {
            id: InstanceId::new_for(&app.id, &self.random.uuid()),
            app: app.id.clone(),
            agent: placement.agent.clone(),
            volumes: app.container.persistent.clone(),
            resources: app.resources,
            attempt: 0,
            version: app.version,
            ended: None,
            wiped: false,
        };
        self.launch_again(app, residence, placement);
    }

    fn launch_again(&mut self, app: &App, mut residence: Residence, placement: Placement) {
        residence.attempt = residence.attempt.saturating_add(1);
        residence.version = app.version;
        residence.ended = None;
        let (id, task) = (residence.id.clone(), residence.task());
        if let Some(node) = self.nodes.get_mut(&residence.agent) {
            // Its next reservation is what its task is given now.
            node.unreserve(&id);
            residence.resources = app.resources;
            node.reserve(&residence);
        }
        self.persist(Record::PutResidence(Box::new(residence.clone())));
        self.index_residence(residence);
        self.start(app, id, task, placement);
    }

    /// An instance is over: its residence is idle now.
    pub(super) fn residence_left(&mut self, id: &InstanceId, ended: TaskState) {
        let Some(residence) = self.residences.get_mut(id) else {
            return;
        };
        residence.ended = Some(ended);
        let record = Record::PutResidence(Box::new(residence.clone()));
        self.persist(record);
        self.remove_wiped(id);
    }

    /// The volumes of an instance are to go as soon as its task has ended.
    pub(super) fn wipe(&mut self, id: &InstanceId) {
        let Some(residence) = self.residences.get_mut(id).filter(|one| !one.wiped) else {
            return;
        };
        residence.wiped = true;
        let (app, record) = (residence.app.clone(), Record::PutResidence(Box::new(residence.clone())));
        self.dirty.insert(app);
        self.persist(record);
        self.remove_wiped(id);
    }

    /// Every volume of an app.
    pub(super) fn wipe_all(&mut self, app: &AppId) {
        let ids: Vec<InstanceId> = self.residences_of(app).map(|one| one.id.clone()).collect();
        for id in ids {
            self.wipe(&id);
        }
    }

    /// Asks an agent to remove volumes that nobody uses any more, and again after a while.
    pub(super) fn remove_wiped(&mut self, id: &InstanceId) {
        let Some(residence) = self.residences.get(id).filter(|one| one.wiped) else {
            return;
        };
        let ready = |node: &Node| node.link == Link::Connected && !node.has_stray_of(id);
        if self.instances.contains_key(id) || !self.nodes.get(&residence.agent).is_some_and(ready) {
            return;
        }
        let effect = Effect::RemoveVolumes {
            agent: residence.agent.clone(),
            owner: id.clone(),
        };
        self.effects.push_back(effect);
        let again = self.now.after(self.config.retry);
        self.timers.set(Timer::RemoveVolumes(id.clone()), again);
    }

    /// An agent registered, or a stray of it ended: what is to be removed there is asked for again.
    pub(super) fn remove_wiped_on(&mut self, agent: &AgentId) {
        for id in self.wiped_on(agent) {
            self.remove_wiped(&id);
        }
    }

    /// Whose volumes on an agent are to be removed.
    fn wiped_on(&self, agent: &AgentId) -> Vec<InstanceId> {
        let there = |one: &&Residence| one.wiped && one.agent == *agent;
        let those = self.residences.values().filter(there);
        those.map(|one| one.id.clone()).collect()
    }

    /// Takes an agent's word that the volumes of an instance are no longer there. `false` as for
    /// [`handle_status`](Self::handle_status).
    pub fn handle_volumes_gone(&mut self, now: Timestamp, agent: &AgentId, owner: &InstanceId) -> bool {
        self.enter(now);
        let known = self.heard_from(agent);
        if known
            && self
                .residences
                .get(owner)
                .is_some_and(|one| one.wiped && one.agent == *agent)
            && !self.instances.contains_key(owner)
        {
            self.forget_residence(owner);
            self.capacity_changed();
        } else if known {
            self.role_volume_gone(agent, owner);
        }
        self.settle();
        known
    }

    pub(super) fn forget_residence(&mut self, id: &InstanceId) {
        let Some(residence) = self.residences.remove(id) else {
            return;
        };
        if let Some(of_app) = self.residences_by_app.get_mut(&residence.app) {
            of_app.remove(id);
            if of_app.is_empty() {
                self.residences_by_app.remove(&residence.app);
            }
        }
        if let Some(node) = self.nodes.get_mut(&residence.agent) {
            node.unreserve(id);
        }
        self.frameworks.freed(&residence.agent);
        self.timers.cancel(&Timer::RemoveVolumes(id.clone()));
        self.persist(Record::DeleteResidence(id.clone()));
        self.dirty.insert(residence.app);
    }

    /// Whether an agent has volumes that are not to be removed.
    pub(super) fn keeps_volumes(&self, agent: &AgentId) -> bool {
        self.residences.values().any(|one| one.agent == *agent && !one.wiped)
    }

    /// The agent will not come back: what was to be removed there is forgotten with it.
    pub(super) fn forget_wiped_on(&mut self, agent: &AgentId) {
        for id in self.wiped_on(agent) {
            self.forget_residence(&id);
        }
    }
}

/// What may not change of an app whose instances have volumes (Marathon's rule): they would have to move.
pub(super) fn update_faults(old: &App, new: &App) -> Vec<Fault> {
    if !old.is_resident() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    let (before, after) = (&old.container.persistent, &new.container.persistent);
    if before.len() != after.len() || !before.iter().all(|volume| after.contains(volume)) {
        let error = "Persistent volumes can not be changed! Remove the app, with its data, and create it anew";
        faults.push(Fault::new("/", error));
    }
    let (had, has): (Resources, Resources) = (old.resources, new.resources);
    let changed = [
        ("/cpus", had.cpus_milli != has.cpus_milli),
        ("/mem", had.mem_mb != has.mem_mb),
        ("/disk", had.disk_mb != has.disk_mb),
    ];
    for (path, _) in changed.iter().filter(|(_, changed)| *changed) {
        let error = "Resident Tasks may not change resource requirements! They are reserved beside the volumes";
        faults.push(Fault::new(*path, error));
    }
    faults
}

/// The same for a change that is refused at once.
pub(super) fn check_update(old: &App, new: &App) -> Result<(), CommandError> {
    let faults = update_faults(old, new);
    if faults.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Invalid(faults))
    }
}

#[cfg(test)]
#[path = "residence/tests.rs"]
mod tests;
