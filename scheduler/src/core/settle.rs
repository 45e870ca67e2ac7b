//! The rule that drives everything: as many instances as wanted, no more, no fewer.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{AgentId, LaunchSpec, TaskId, TaskState, TaskStatus};

use crate::{App, AppId, ClusterEvent, InstanceId, InstanceRecord, Member, Operator, Record};

use super::placement::{Placement, Placer};
use super::rolling;
use super::{Scheduler, Waiting};

impl Scheduler {
    /// Brings every app that was touched to its wanted number of instances of its present definition: surplus and old
    /// ones are told to end, missing ones are launched where there is room and no delay, the rest waits.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            match self.in_force(&id) {
                Some(app) => self.settle_app(&app),
                None => self.settle_removed(&id),
            }
            if let Some(deployment) = self.deploying.get(&id).cloned() {
                self.advance(&deployment);
            }
            self.tell_hidden(&id);
            self.tell_share(&id);
        }
        self.finish_drains();
        self.allocate();
    }

    fn settle_removed(&mut self, id: &AppId) {
        let left: Vec<InstanceId> = self.wanted_instances(id).map(|instance| instance.id.clone()).collect();
        for instance in left {
            self.end(&instance);
        }
        self.wipe_all(id);
        self.dirty.remove(id);
        self.rolling.remove(id);
    }

    fn settle_app(&mut self, app: &App) {
        let (mut held, mut rolls) = (0_u32, false);
        for instance in self.wanted_instances(&app.id) {
            if rolling::is_old(app, instance) {
                rolls = true;
            } else {
                held = held.saturating_add(1);
            }
        }
        if rolls {
            self.rolling.insert(app.id.clone());
        } else {
            self.rolling.remove(&app.id);
        }
        if held > app.instances {
            for id in self.surplus(app, held - app.instances) {
                self.end(&id);
            }
        }
        let missing = if rolls {
            for id in &self.next_step_of(app).end {
                self.end(id);
            }
            // What ended at once, as everything does on an agent that is away, made room.
            self.next_step_of(app).launch
        } else {
            app.instances.saturating_sub(held)
        };
        self.dirty.remove(&app.id);
        self.fill(app, missing);
    }

    fn next_step_of(&self, app: &App) -> rolling::Step {
        let there = self.instances_of(&app.id).filter(|one| !self.is_inactive(one));
        rolling::step(app, there)
    }

    /// Launches so many, as far as there is room and no delay; the rest waits.
    fn fill(&mut self, app: &App, mut missing: u32) {
        let mut refusals = super::Refusals::default();
        let may = missing > 0 && self.delayed_until(&app.id).is_none();
        if may && app.is_resident() {
            (missing, refusals) = self.fill_resident(app, missing);
        } else if may {
            let mut placed = self.placed(app);
            let mut placer = self.placer(app, &placed);
            let mut room = self.room();
            while missing > 0 {
                if room.as_ref().is_some_and(|room| !room.has_for_marathon(&app.resources)) {
                    if !self.make_room(app, &placed) {
                        refusals = self.kept_refusals(app, &placed);
                        break;
                    }
                    room = self.room();
                    placer = self.placer(app, &placed);
                    continue;
                }
                match placer.next(&self.nodes, &mut self.random) {
                    Ok(placement) if self.yields(&placement.agent) => {
                        room = self.room();
                        placed = self.placed(app);
                        placer = self.placer(app, &placed);
                        continue;
                    }
                    Ok(placement) => {
                        self.launch(app, placement);
                        if let Some(room) = &mut room {
                            room.taken_by_marathon(&app.resources);
                        }
                    }
                    Err(_) if self.make_room(app, &placed) => {
                        room = self.room();
                        placed = self.placed(app);
                        placer = self.placer(app, &placed);
                        continue;
                    }
                    Err(why) => {
                        refusals = why;
                        break;
                    }
                }
                missing -= 1;
            }
        }
        if missing == 0 {
            self.waiting.remove(&app.id);
        } else {
            let since = self.waiting.get(&app.id).map_or(self.now, |waiting| waiting.since);
            self.waiting.insert(app.id.clone(), Waiting { since, refusals });
        }
    }

    fn placer<'a>(&mut self, app: &'a App, placed: &BTreeMap<AgentId, u32>) -> Placer<'a> {
        self.nodes.refresh();
        Placer::new(app, &self.nodes, placed)
    }

    /// The app's instances per agent.
    pub(super) fn placed(&self, app: &App) -> BTreeMap<AgentId, u32> {
        let mut placed = BTreeMap::new();
        for instance in self.instances_of(&app.id) {
            *placed.entry(instance.agent.clone()).or_default() += 1;
        }
        placed
    }

    /// Which instances of the present definition end when there are too many: first those that do not run, then of the
    /// fullest group of each GROUP_BY, then by age as the app says.
    fn surplus(&self, app: &App, count: u32) -> Vec<InstanceId> {
        let new = |instance: &&InstanceRecord| !rolling::is_old(app, instance);
        let mut left: Vec<&InstanceRecord> = self.wanted_instances(&app.id).filter(new).collect();
        rolling::sort_for_ending(app, &mut left);
        let fields = app.constraints.iter().filter(|one| one.operator == Operator::GroupBy);
        let fields: Vec<&str> = fields.map(|one| one.field.as_str()).collect();
        let mut ends = Vec::new();
        while ends.len() < usize::try_from(count).unwrap_or(usize::MAX) && !left.is_empty() {
            let next = if fields.is_empty() {
                0
            } else {
                self.of_fullest_group(&fields, &left)
            };
            ends.push(left.remove(next).id.clone());
        }
        ends
    }

    /// Index of the first instance in the fullest group, among those as unready as the first.
    fn of_fullest_group(&self, fields: &[&str], left: &[&InstanceRecord]) -> usize {
        let group = |one: &InstanceRecord| -> Vec<Option<&str>> {
            let node = self.nodes.get(&one.agent);
            fields
                .iter()
                .map(|field| node.and_then(|node| node.field(field)))
                .collect()
        };
        let mut counts: BTreeMap<Vec<Option<&str>>, usize> = BTreeMap::new();
        for one in left {
            *counts.entry(group(one)).or_default() += 1;
        }
        let first = left.first().map(|one| rolling::is_ready(one));
        let alike = left
            .iter()
            .enumerate()
            .filter(|(_, one)| Some(rolling::is_ready(one)) == first);
        // Of equally full groups the first instance in the order wins.
        let best = alike.max_by_key(|(index, one)| (counts.get(&group(one)).copied(), std::cmp::Reverse(*index)));
        best.map_or(0, |(index, _)| index)
    }

    fn launch(&mut self, app: &App, placement: Placement) {
        let id = InstanceId::new_for(&app.id, &self.random.uuid());
        let task = id.task();
        self.start(app, id, task, placement);
    }

    /// Persisted first, then told, then sent.
    pub(super) fn start(&mut self, app: &App, id: InstanceId, task: TaskId, placement: Placement) {
        let mut status = self.own_status(TaskState::Staging, "");
        status.message = None;
        let (spec, members) = self.orders(app, (&id, &task), &placement.host_ports, &status);
        self.decisions.remember(spec.task.clone(), placement.decision);
        let instance = InstanceRecord {
            id: id.clone(),
            app: app.id.clone(),
            version: app.version,
            config: app.last_config_change,
            agent: placement.agent.clone(),
            spec: Arc::new(spec),
            service_ports: app.ports.iter().map(|port| port.service_port).collect(),
            status,
            staged_at: self.now,
            started_at: None,
            unwanted: false,
            unreachable_since: None,
            members,
        };
        if let Some(node) = self.nodes.get_mut(&placement.agent) {
            node.add_instance(id.clone(), &instance.spec);
            self.frameworks.marathon_uses(&instance.spec.resources);
        }
        self.by_app.entry(app.id.clone()).or_default().insert(id.clone());
        self.persist(Record::PutInstance(Box::new(instance.clone())));
        self.tell_added(&instance);
        self.tell_event(ClusterEvent::Placed(Box::new(self.facts(&instance))));
        self.instances.insert(id.clone(), instance);
        self.repeat(&id);
    }

    /// What is sent to the agent: of an app one order, of a pod one per container beside the whole.
    fn orders(
        &self,
        app: &App,
        (id, task): (&InstanceId, &TaskId),
        host_ports: &[u16],
        status: &TaskStatus,
    ) -> (LaunchSpec, Vec<Member>) {
        let (framework, config) = (&self.framework.id, &self.config);
        let Some(pod) = &app.pod else {
            return (
                super::launch::spec(app, task, host_ports, framework, config),
                Vec::new(),
            );
        };
        let specs = super::launch::members(app, pod, id, host_ports, framework, config);
        let whole = super::launch::whole(app, id, host_ports, &specs);
        let member = |spec| Member {
            spec,
            status: status.clone(),
            since: self.now,
        };
        (whole, specs.into_iter().map(member).collect())
    }
}
