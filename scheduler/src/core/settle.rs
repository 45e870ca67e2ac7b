//! The rule that drives everything: as many instances as wanted, no more, no fewer.

use std::collections::BTreeMap;

use model::{AgentId, TaskEvent, TaskState};

use crate::{App, AppId, InstanceId, InstanceRecord, Record};

use super::placement::{self, Placement};
use super::rolling;
use super::view::task_of;
use super::{Scheduler, Waiting};

impl Scheduler {
    /// Brings every app that was touched to its wanted number of instances of its present definition: surplus and old
    /// ones are told to end, missing ones are launched where there is room and no delay, the rest waits.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            match self.apps.get(&id).cloned() {
                Some(app) => {
                    self.settle_app(&app);
                    self.conclude(&id);
                }
                None => self.settle_removed(&id),
            }
            self.tell_hidden(&id);
        }
    }

    /// Notes that a change has been carried out whole.
    fn conclude(&mut self, id: &AppId) {
        if self.is_deployed(id)
            && let Some(deployment) = self.deployments.get_mut(id)
        {
            deployment.done = true;
        }
    }

    fn settle_removed(&mut self, id: &AppId) {
        let left: Vec<InstanceId> = self.wanted_instances(id).map(|instance| instance.id.clone()).collect();
        for instance in left {
            self.end(&instance);
        }
        self.dirty.remove(id);
        if !self.by_app.contains_key(id) {
            self.deployments.remove(id);
        }
    }

    fn settle_app(&mut self, app: &App) {
        let rolls = self
            .wanted_instances(&app.id)
            .any(|instance| rolling::is_old(app, instance));
        let new = |instance: &&InstanceRecord| !rolling::is_old(app, instance);
        let held = u32::try_from(self.wanted_instances(&app.id).filter(new).count()).unwrap_or(u32::MAX);
        if held > app.instances {
            for id in self.surplus(app, held - app.instances) {
                self.end(&id);
            }
        }
        let missing = if rolls {
            let there = self.instances_of(&app.id).filter(|one| !self.is_inactive(one));
            let step = rolling::step(app, there);
            for id in &step.end {
                self.end(id);
            }
            step.launch
        } else {
            app.instances.saturating_sub(held)
        };
        self.dirty.remove(&app.id);
        self.fill(app, missing);
    }

    /// Launches so many, as far as there is room and no delay; the rest waits.
    fn fill(&mut self, app: &App, mut missing: u32) {
        let mut refusals = super::Refusals::default();
        while missing > 0 && self.delayed_until(&app.id).is_none() {
            match self.place(app) {
                Ok(placement) => self.launch(app, placement),
                Err(why) => {
                    refusals = why;
                    break;
                }
            }
            missing -= 1;
        }
        if missing == 0 {
            self.waiting.remove(&app.id);
        } else {
            let since = self.waiting.get(&app.id).map_or(self.now, |waiting| waiting.since);
            self.waiting.insert(app.id.clone(), Waiting { since, refusals });
        }
    }

    /// Which instances of the present definition end when there are too many.
    fn surplus(&self, app: &App, count: u32) -> Vec<InstanceId> {
        let new = |instance: &&InstanceRecord| !rolling::is_old(app, instance);
        let mut candidates: Vec<&InstanceRecord> = self.wanted_instances(&app.id).filter(new).collect();
        rolling::sort_for_ending(app, &mut candidates);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        candidates
            .into_iter()
            .take(count)
            .map(|instance| instance.id.clone())
            .collect()
    }

    fn place(&mut self, app: &App) -> Result<Placement, super::Refusals> {
        let mut placed: BTreeMap<&AgentId, u32> = BTreeMap::new();
        for instance in self
            .by_app
            .get(&app.id)
            .into_iter()
            .flatten()
            .filter_map(|id| self.instances.get(id))
        {
            *placed.entry(&instance.agent).or_default() += 1;
        }
        placement::place(app, &self.nodes, &placed, &mut self.random)
    }

    /// Persisted first, then told, then sent.
    fn launch(&mut self, app: &App, placement: Placement) {
        let id = InstanceId::new_for(&app.id, &self.random.uuid());
        let spec = super::launch::spec(app, &id, &placement.host_ports, &self.framework.id, &self.config);
        let mut status = self.own_status(TaskState::Staging, "");
        status.message = None;
        let instance = InstanceRecord {
            id: id.clone(),
            app: app.id.clone(),
            version: app.version,
            agent: placement.agent.clone(),
            spec,
            service_ports: app.ports.iter().map(|port| port.service_port).collect(),
            status,
            staged_at: self.now,
            started_at: None,
            unwanted: false,
            unreachable_since: None,
        };
        if let Some(node) = self.nodes.get_mut(&placement.agent) {
            node.add_instance(id.clone(), &instance.spec);
        }
        self.by_app.entry(app.id.clone()).or_default().insert(id.clone());
        self.persist(Record::PutInstance(Box::new(instance.clone())));
        self.emit(TaskEvent::TaskAdded(task_of(&instance, instance.status.clone())));
        self.instances.insert(id.clone(), instance);
        self.repeat(&id);
    }
}
