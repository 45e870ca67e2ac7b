//! What must hold at every step and at the end.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    AgentId, FrameworkId, LaunchSpec, ServiceTable, TaskEvent, TaskId, TaskState, VipRange, launched_task, volume_owner,
};

use crate::{
    AgentOrder, AgentRecord, App, AppId, DeploymentRecord, FrameworkRecord, FrameworkTaskRecord, GroupId, GroupRecord,
    GroupVersion, Holding, InstanceId, InstanceRecord, Maintenance, Quota, Record, Residence, Timestamp, ToldShare,
};

use super::agent::SimTask;
use super::world::World;

/// The durable store of the simulated master.
#[derive(Default)]
pub(super) struct Store {
    framework: Option<FrameworkId>,
    apps: BTreeMap<AppId, App>,
    versions: BTreeMap<(AppId, Timestamp), App>,
    agents: BTreeMap<AgentId, AgentRecord>,
    instances: BTreeMap<InstanceId, InstanceRecord>,
    residences: BTreeMap<InstanceId, Residence>,
    deployments: BTreeMap<String, DeploymentRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    group_versions: BTreeMap<(GroupId, Timestamp), GroupVersion>,
    frameworks: BTreeMap<FrameworkId, FrameworkRecord>,
    orders: BTreeMap<AgentId, AgentOrder>,
    weights: BTreeMap<String, f64>,
    quotas: BTreeMap<String, Quota>,
    shares: BTreeMap<AppId, ToldShare>,
    maintenance: Maintenance,
    pub(super) holdings: BTreeMap<AgentId, Vec<Holding>>,
    pub(super) tasks: BTreeMap<(FrameworkId, TaskId), FrameworkTaskRecord>,
}

impl Store {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Framework(id) => assert!(self.framework.replace(id).is_none(), "written once"),
            Record::PutApp(app) => drop(self.apps.insert(app.id.clone(), *app)),
            Record::DeleteApp(id) => drop(self.apps.remove(&id)),
            Record::PutVersion(app) => drop(self.versions.insert((app.id.clone(), app.version), *app)),
            Record::DeleteVersion(id, version) => {
                assert!(
                    self.versions.remove(&(id, version)).is_some(),
                    "only a kept version is forgotten"
                );
            }
            Record::PutAgent(agent) => drop(self.agents.insert(agent.id.clone(), *agent)),
            Record::DeleteAgent(id) => drop(self.agents.remove(&id)),
            Record::PutInstance(instance) => drop(self.instances.insert(instance.id.clone(), *instance)),
            Record::DeleteInstance(id) => drop(self.instances.remove(&id)),
            Record::PutResidence(one) => drop(self.residences.insert(one.id.clone(), *one)),
            Record::DeleteResidence(id) => {
                assert!(self.residences.remove(&id).is_some(), "volumes are removed once");
            }
            // Nobody has secrets or networks here.
            Record::PutSecret(_) | Record::DeleteSecret(_) | Record::PutNetwork(_) | Record::DeleteNetwork(_) => {}
            Record::PutDeployment(one) => drop(self.deployments.insert(one.id.clone(), *one)),
            Record::DeleteDeployment(id) => {
                assert!(self.deployments.remove(&id).is_some(), "a deployment ends once");
            }
            Record::PutGroup(group) => drop(self.groups.insert(group.id.clone(), group)),
            Record::DeleteGroup(id) => drop(self.groups.remove(&id)),
            Record::PutGroupVersion(kept) => drop(self.group_versions.insert((kept.id.clone(), kept.version), *kept)),
            Record::DeleteGroupVersion(id, version) => drop(self.group_versions.remove(&(id, version))),
            Record::PutAgentOrder(id, order) => drop(self.orders.insert(id, order)),
            Record::DeleteAgentOrder(id) => drop(self.orders.remove(&id)),
            Record::PutWeight(role, weight) => drop(self.weights.insert(role, weight)),
            Record::PutMaintenance(maintenance) => self.maintenance = *maintenance,
            Record::PutHoldings(agent, all) => drop(self.holdings.insert(agent, all)),
            Record::DeleteHoldings(agent) => drop(self.holdings.remove(&agent)),
            Record::PutQuota(quota) => drop(self.quotas.insert(quota.role.clone(), *quota)),
            Record::DeleteQuota(role) => assert!(self.quotas.remove(&role).is_some(), "a quota ends once"),
            Record::PutShare(id, told) => drop(self.shares.insert(id, told)),
            Record::DeleteShare(id) => assert!(self.shares.remove(&id).is_some(), "a share ends once"),
            Record::PutFramework(one) => drop(self.frameworks.insert(one.id.clone(), *one)),
            Record::DeleteFramework(id) => drop(self.frameworks.remove(&id)),
            Record::PutFrameworkTask(one) => {
                drop(self.tasks.insert((one.framework().clone(), one.task.clone()), *one));
            }
            Record::DeleteFrameworkTask(framework, task) => drop(self.tasks.remove(&(framework, task))),
        }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.framework.clone().map(Record::Framework).into_iter().collect();
        records.extend(self.apps.values().cloned().map(|app| Record::PutApp(Box::new(app))));
        records.extend(
            self.versions
                .values()
                .cloned()
                .map(|app| Record::PutVersion(Box::new(app))),
        );
        records.extend(
            self.agents
                .values()
                .cloned()
                .map(|agent| Record::PutAgent(Box::new(agent))),
        );
        records.extend(
            self.instances
                .values()
                .cloned()
                .map(|one| Record::PutInstance(Box::new(one))),
        );
        let residences = self.residences.values().cloned();
        records.extend(residences.map(|one| Record::PutResidence(Box::new(one))));
        let deployments = self.deployments.values().cloned();
        records.extend(deployments.map(|one| Record::PutDeployment(Box::new(one))));
        records.extend(self.groups.values().cloned().map(Record::PutGroup));
        let kept = self.group_versions.values().cloned();
        records.extend(kept.map(|one| Record::PutGroupVersion(Box::new(one))));
        let orders = self.orders.iter();
        records.extend(orders.map(|(id, order)| Record::PutAgentOrder(id.clone(), order.clone())));
        records.push(Record::PutMaintenance(Box::new(self.maintenance.clone())));
        let holdings = self.holdings.iter();
        records.extend(holdings.map(|(id, all)| Record::PutHoldings(id.clone(), all.clone())));
        let quotas = self.quotas.values().cloned();
        records.extend(quotas.map(|one| Record::PutQuota(Box::new(one))));
        let shares = self.shares.iter();
        records.extend(shares.map(|(id, told)| Record::PutShare(id.clone(), *told)));
        let frameworks = self.frameworks.values().cloned();
        records.extend(frameworks.map(|one| Record::PutFramework(Box::new(one))));
        let tasks = self.tasks.values().cloned();
        records.extend(tasks.map(|one| Record::PutFrameworkTask(Box::new(one))));
        records
    }

    pub(super) fn wanted(&self) -> BTreeMap<String, u32> {
        self.apps
            .values()
            .map(|app| (app.id.to_string(), app.instances))
            .collect()
    }

    /// What a task weighs in its VIP: what was kept of its app's share, or as any other.
    fn share_of(&self, task: &TaskId) -> u16 {
        let instance = self.instances.values().find(|one| one.spec.task == *task);
        let told = instance.and_then(|one| self.shares.get(&one.app));
        told.map_or(1, |one| one.share)
    }

    pub(super) fn has_task(&self, task: &TaskId) -> bool {
        let framework = launched_task(task).is_some_and(|key| self.tasks.contains_key(&key));
        framework || InstanceId::of_task(task).is_some_and(|id| self.instances.contains_key(&id))
    }
}

impl World {
    pub(super) fn check_step(&self) {
        let (mut live, mut owners) = (BTreeSet::new(), BTreeSet::new());
        for agent in &self.agents {
            agent.check();
            for task in agent.live() {
                assert!(live.insert(&task.spec.task), "task {} lives twice", task.spec.task);
                if !task.spec.container.persistent.is_empty() {
                    let owner = volume_owner(&task.spec.task);
                    assert!(owners.insert(owner), "two tasks use the volumes of {owner}");
                }
            }
        }
        self.check_pods();
        if let Some(core) = &self.core {
            core.check();
        }
    }

    /// A dependant's new instances come only after there was a moment when all it depends on was in place.
    pub(super) fn check_order(&mut self) {
        let (Some(core), Some(layered)) = (&self.core, &mut self.layered) else {
            return;
        };
        let new = |id: &str| {
            let of = core.app(id).map(|app| app.id.clone());
            let all = of.into_iter().flat_map(|id| core.instances_of(&id).collect::<Vec<_>>());
            all.filter(|one| one.version >= layered.version).collect::<Vec<_>>()
        };
        let wanted = core.app("/b/c").map_or(0, |app| app.instances);
        let running = new("/b/c")
            .into_iter()
            .filter(|one| one.status.state == TaskState::Running);
        layered.base_stood |= u32::try_from(running.count()) == Ok(wanted);
        assert!(
            layered.base_stood || new("/b/d").is_empty(),
            "/b/d changed before /b/c, which it depends on, was in place"
        );
    }

    /// How many instances of an app there may be at once, after every step: never more than the upgrade strategy of the
    /// definition in force allows, beyond those that were there before the step.
    pub(super) fn check_launch(&mut self) {
        let Some(core) = &self.core else { return };
        let mut counts = BTreeMap::new();
        for app in core.apps().chain(core.pods()) {
            let there = core.instances_of(&app.id).count();
            let before = self.counts.get(&app.id).copied().unwrap_or_default();
            counts.insert(app.id.clone(), there);
            if there <= before {
                continue;
            }
            let Some(app) = core.in_force(&app.id) else { continue };
            let wanted = f64::from(app.instances);
            let over = app.upgrade_strategy.maximum_over_capacity;
            let most = (wanted * (1.0 + over)).floor().max(wanted) + 1.0;
            let float = |count: usize| f64::from(u32::try_from(count).expect("few"));
            // Replacements of what died count beside what still dies, and beside what is away.
            let leaving = |one: &&InstanceRecord| one.unwanted || one.unreachable_since.is_some();
            let ending = core.instances_of(&app.id).filter(leaving).count();
            assert!(
                float(there - ending) <= most,
                "{}: {there} instances, {ending} of them ending, {most} allowed",
                app.id
            );
        }
        self.counts = counts;
    }

    /// Nothing that the core knows is missing in the store, or stale there.
    pub(super) fn check_store(&self) {
        let Some(core) = &self.core else { return };
        assert!(
            core.pods().chain(core.apps()).count() == self.store.apps.len()
                && self
                    .store
                    .apps
                    .values()
                    .all(|app| core.run_spec(app.id.as_str()) == Some(app)),
            "apps differ from the store"
        );
        assert!(
            core.instances().eq(self.store.instances.values()),
            "instances differ from the store"
        );
        assert!(
            core.residences().eq(self.store.residences.values()),
            "residences differ from the store"
        );
        assert!(
            core.deployments().len() == self.store.deployments.len()
                && core
                    .deployments()
                    .into_iter()
                    .all(|one| self.store.deployments.get(&one.id) == Some(one)),
            "deployments differ from the store"
        );
        assert!(
            core.framework_tasks().eq(self.store.tasks.values()),
            "tasks of frameworks differ from the store"
        );
        for agent in core.agents() {
            assert_eq!(
                self.store.agents.get(&agent.record.id),
                Some(agent.record),
                "agent differs from the store"
            );
        }
        let wanted: BTreeMap<String, u32> = core
            .apps()
            .chain(core.pods())
            .map(|app| (app.id.to_string(), app.instances))
            .collect();
        assert_eq!(wanted, self.wanted, "apps differ from what users were promised");
    }

    /// Why the cluster is not yet as users want it.
    pub(super) fn unsettled(&self) -> Option<String> {
        let Some(core) = &self.core else {
            return Some("no master".to_owned());
        };
        if let Some(why) = self.framework_unsettled() {
            return Some(why);
        }
        let mut known: BTreeSet<&TaskId> = core.instances().flat_map(InstanceRecord::live_tasks).collect();
        known.extend(core.framework_tasks().map(|record| &record.spec.task));
        let mut running: BTreeMap<String, u32> = self.wanted.keys().map(|app| (app.clone(), 0)).collect();
        let (mut seen, mut counted) = (BTreeSet::new(), BTreeSet::new());
        for task in self.agents.iter().flat_map(|agent| agent.tasks.values()) {
            if task.spec.pod.is_some() && task.status.state == TaskState::Finished && self.has_live_sibling(task) {
                continue;
            }
            if task.status.state != TaskState::Running || !known.contains(&task.spec.task) {
                return Some(format!(
                    "task {} is {:?} on its machine",
                    task.spec.task, task.status.state
                ));
            }
            if task.spec.exhausted(&task.status.checks).is_some() {
                return Some(format!("{} is as sick as can be, and runs on", task.spec.task));
            }
            if !task.spec.serves(&task.status) {
                return Some(format!("{} is not healthy yet", task.spec.task));
            }
            seen.insert(&task.spec.task);
            if launched_task(&task.spec.task).is_some() {
                continue;
            }
            let app = task.spec.env.get("MARATHON_APP_ID").cloned().unwrap_or_default();
            if let Some(newest) = core.run_spec(&app)
                && !runs(newest, &task.spec)
                && !self.mixed.contains(&app)
            {
                return Some(format!("{} still runs {:?}", task.spec.task, task.spec.command));
            }
            // The instance, of which each container is a task.
            if counted.insert(InstanceId::of_task(&task.spec.task)) {
                *running.entry(app).or_default() += 1;
            }
        }
        if running != self.wanted {
            return Some(format!(
                "running {running:?}, wanted {:?}, deployments {:?}",
                self.wanted,
                core.deployments()
            ));
        }
        if seen != known {
            return Some(format!("the core knows {known:?}, the machines {seen:?}"));
        }
        if core.agents().filter(|agent| agent.connected).count() != self.agents.len() {
            return Some("not every agent is back".to_owned());
        }
        if let Some(late) = core
            .instances()
            .find(|one| one.unwanted || !one.spec.serves(&one.status))
        {
            return Some(format!("the core holds {} for {:?}", late.id, late.status.state));
        }
        for residence in core.residences().filter(|one| one.wiped) {
            // Those of a machine that lost its id wait until nobody remembers it.
            if core.agents().any(|agent| agent.record.id == residence.agent) {
                return Some(format!("volumes of {} are still to be removed", residence.id));
            }
        }
        let left = core.deployments();
        (!left.is_empty()).then(|| format!("deployments left: {left:?}"))
    }

    fn has_live_sibling(&self, task: &SimTask) -> bool {
        let members = task.spec.pod.iter().flat_map(|pod| &pod.members);
        let live = |member: &TaskId| {
            self.agents
                .iter()
                .any(|agent| agent.live().any(|one| one.spec.task == *member))
        };
        members.into_iter().any(live)
    }

    /// All live tasks of a pod's instance are on one machine.
    fn check_pods(&self) {
        let mut at: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, agent) in self.agents.iter().enumerate() {
            for pod in agent.live().filter_map(|task| task.spec.pod.as_ref()) {
                let first = *at.entry(&pod.instance).or_insert(number);
                assert_eq!(first, number, "{} is torn apart", pod.instance);
            }
        }
    }

    /// Once settled: who followed the stream sees what who subscribes now is told.
    pub(super) fn check_end(&mut self) {
        self.check_store();
        let core = self.core.as_ref().expect("settled");
        assert_eq!(core.queue().count(), 0, "nothing waits");
        let mut fresh = ServiceTable::new(VipRange::default());
        fresh.apply(TaskEvent::Snapshot(core.state()));
        self.table.apply(TaskEvent::HoldExpired);
        let (followed, told) = (self.table.snapshot(), fresh.snapshot());
        assert_eq!(
            followed.services, told.services,
            "services differ between stream and state"
        );
        assert_eq!(followed.tasks, told.tasks, "tasks differ between stream and state");
        let wanted: usize = self
            .wanted
            .values()
            .map(|count| usize::try_from(*count).expect("few"))
            .sum();
        let all = told.services.values().flat_map(|service| service.backends.iter());
        let taking: Vec<_> = all.filter(|backend| backend.weight > 0).collect();
        assert_eq!(taking.len(), wanted, "each instance takes connections of its VIP");
        for backend in taking {
            let share = self.store.share_of(&backend.task);
            assert_eq!(backend.weight, share, "{} has what its app's share says", backend.task);
        }
    }
}

/// Whether a task is of that definition.
fn runs(definition: &App, spec: &LaunchSpec) -> bool {
    match &definition.pod {
        None => definition.command == spec.command,
        Some(pod) => pod
            .containers
            .iter()
            .any(|one| one.command.as_ref() == Some(&spec.command)),
    }
}
