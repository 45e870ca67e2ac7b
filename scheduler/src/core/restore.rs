//! Making a core, new or from the records that an earlier one persisted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::{AgentId, FrameworkId, FrameworkInfo, Network, SecretValues, TaskId};

use crate::{
    AgentOrder, AgentRecord, App, AppId, DeploymentRecord, FrameworkRecord, FrameworkTaskRecord, GroupId, GroupRecord,
    GroupVersion, Holding, InstanceId, InstanceRecord, Maintenance, Quota, Record, Residence, Timestamp, ToldShare,
};

use super::message::Subnets;
use super::node::{Link, Node};
use super::placement::Decisions;
use super::random::Random;
use super::timers::Timers;
use super::{Config, Scheduler, ServicePorts};

/// What a list of records comes to.
#[derive(Default)]
struct Folded {
    framework: Option<FrameworkId>,
    apps: BTreeMap<AppId, App>,
    versions: BTreeMap<AppId, BTreeMap<Timestamp, App>>,
    agents: BTreeMap<AgentId, AgentRecord>,
    instances: BTreeMap<InstanceId, InstanceRecord>,
    residences: BTreeMap<InstanceId, Residence>,
    secrets: SecretValues,
    networks: BTreeMap<String, Network>,
    deployments: BTreeMap<String, DeploymentRecord>,
    groups: BTreeMap<GroupId, GroupRecord>,
    group_versions: BTreeMap<GroupId, BTreeMap<Timestamp, GroupVersion>>,
    joined: BTreeMap<FrameworkId, FrameworkRecord>,
    orders: BTreeMap<AgentId, AgentOrder>,
    weights: BTreeMap<String, f64>,
    quotas: BTreeMap<String, Quota>,
    shares: BTreeMap<AppId, ToldShare>,
    maintenance: Maintenance,
    holdings: BTreeMap<AgentId, Vec<Holding>>,
    tasks: BTreeMap<(FrameworkId, TaskId), FrameworkTaskRecord>,
}

impl Folded {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Framework(id) => self.framework = Some(id),
            Record::PutApp(app) => {
                self.apps.insert(app.id.clone(), *app);
            }
            Record::DeleteApp(id) => {
                self.apps.remove(&id);
            }
            Record::PutVersion(app) => {
                self.versions
                    .entry(app.id.clone())
                    .or_default()
                    .insert(app.version, *app);
            }
            Record::DeleteVersion(id, version) => {
                if let Some(kept) = self.versions.get_mut(&id) {
                    kept.remove(&version);
                }
            }
            Record::PutAgent(agent) => {
                self.agents.insert(agent.id.clone(), *agent);
            }
            Record::DeleteAgent(id) => {
                self.agents.remove(&id);
            }
            Record::PutInstance(instance) => {
                self.instances.insert(instance.id.clone(), *instance);
            }
            Record::DeleteInstance(id) => {
                self.instances.remove(&id);
            }
            Record::PutResidence(residence) => {
                self.residences.insert(residence.id.clone(), *residence);
            }
            Record::DeleteResidence(id) => {
                self.residences.remove(&id);
            }
            Record::PutSecret(secret) => {
                self.secrets.insert(secret.path, secret.value);
            }
            Record::DeleteSecret(path) => {
                self.secrets.remove(&path);
            }
            other => self.apply_change(other),
        }
    }

    /// Deployments and groups.
    fn apply_change(&mut self, record: Record) {
        match record {
            Record::PutDeployment(record) => {
                self.deployments.insert(record.id.clone(), *record);
            }
            Record::DeleteDeployment(id) => {
                self.deployments.remove(&id);
            }
            Record::PutGroup(group) => {
                self.groups.insert(group.id.clone(), group);
            }
            Record::DeleteGroup(id) => {
                self.groups.remove(&id);
            }
            Record::PutGroupVersion(kept) => {
                self.group_versions
                    .entry(kept.id.clone())
                    .or_default()
                    .insert(kept.version, *kept);
            }
            Record::DeleteGroupVersion(id, version) => {
                if let Some(kept) = self.group_versions.get_mut(&id) {
                    kept.remove(&version);
                }
            }
            other => self.apply_framework(other),
        }
    }

    /// Networks, what operators said, frameworks that joined.
    fn apply_framework(&mut self, record: Record) {
        match record {
            Record::PutNetwork(network) => {
                self.networks.insert(network.name.clone(), *network);
            }
            Record::DeleteNetwork(name) => {
                self.networks.remove(&name);
            }
            Record::PutAgentOrder(agent, order) => {
                self.orders.insert(agent, order);
            }
            Record::DeleteAgentOrder(agent) => {
                self.orders.remove(&agent);
            }
            Record::PutWeight(role, weight) => {
                self.weights.insert(role, weight);
            }
            Record::PutMaintenance(maintenance) => self.maintenance = *maintenance,
            Record::PutHoldings(agent, holdings) => {
                self.holdings.insert(agent, holdings);
            }
            Record::DeleteHoldings(agent) => {
                self.holdings.remove(&agent);
            }
            Record::PutQuota(quota) => {
                self.quotas.insert(quota.role.clone(), *quota);
            }
            Record::DeleteQuota(role) => {
                self.quotas.remove(&role);
            }
            Record::PutShare(id, told) => {
                self.shares.insert(id, told);
            }
            Record::DeleteShare(id) => {
                self.shares.remove(&id);
            }
            Record::PutFramework(framework) => {
                self.joined.insert(framework.id.clone(), *framework);
            }
            Record::DeleteFramework(id) => {
                self.joined.remove(&id);
            }
            Record::PutFrameworkTask(task) => {
                self.tasks.insert((task.framework().clone(), task.task.clone()), *task);
            }
            Record::DeleteFrameworkTask(framework, task) => {
                self.tasks.remove(&(framework, task));
            }
            _ => {}
        }
    }
}

impl Scheduler {
    /// A core that goes on from `restored`: the records that an earlier core persisted, in order, or only the newest
    /// of each key. `seed` must differ at each start, or task ids would come twice.
    pub fn new(config: Config, seed: u64, restored: Vec<Record>) -> Self {
        let mut folded = Folded::default();
        for record in restored {
            folded.apply(record);
        }
        let id = folded
            .framework
            .clone()
            .unwrap_or_else(|| FrameworkId::new(format!("{}-0000", config.cluster)));
        let mut core = Self {
            random: Random::new(seed),
            framework: FrameworkInfo {
                id: id.clone(),
                name: config.framework_name.clone(),
                ip: None,
                port: None,
            },
            now: Timestamp::default(),
            started: false,
            apps: std::mem::take(&mut folded.apps),
            versions: std::mem::take(&mut folded.versions),
            instances: BTreeMap::new(),
            by_app: BTreeMap::new(),
            nodes: super::nodes::Nodes::default(),
            agents_numbered: None,
            subnets: Subnets::default(),
            residences: BTreeMap::new(),
            residences_by_app: BTreeMap::new(),
            secrets: std::mem::take(&mut folded.secrets),
            maintenance: Maintenance::default(),
            networks: std::mem::take(&mut folded.networks),
            service_ports: ServicePorts::new(config.service_ports),
            delays: BTreeMap::new(),
            shares: BTreeMap::new(),
            waiting: BTreeMap::new(),
            groups: std::mem::take(&mut folded.groups),
            group_versions: std::mem::take(&mut folded.group_versions),
            deployments: BTreeMap::new(),
            deploying: BTreeMap::new(),
            rolling: BTreeSet::new(),
            failures: BTreeMap::new(),
            decisions: Decisions::default(),
            dirty: BTreeSet::new(),
            suspects: BTreeSet::new(),
            hidden: BTreeSet::new(),
            leaving: BTreeSet::new(),
            last_loss: None,
            timers: Timers::default(),
            effects: VecDeque::new(),
            last_version: Timestamp::default(),
            ends: Default::default(),
            frameworks: Default::default(),
            config,
        };
        if folded.framework.is_none() {
            core.persist(Record::Framework(id));
        }
        core.take_up_shares(std::mem::take(&mut folded.shares));
        core.put_back(folded);
        core
    }

    fn put_back(&mut self, folded: Folded) {
        for (id, record) in folded.agents {
            self.subnets.take(record.subnet);
            self.nodes.insert(id.clone(), Node::new(record, Link::Recovered));
            self.refresh_networks(&id);
        }
        for (id, order) in folded.orders {
            if let Some(node) = self.nodes.get_mut(&id) {
                if order.gone {
                    node.link = Link::Unreachable;
                }
                if order.drain.as_ref().is_some_and(|drain| drain.mark_gone) {
                    self.leaving.insert(id);
                }
                node.order = order;
            }
        }
        for (agent, holdings) in folded.holdings {
            self.restore_holdings(agent, holdings);
        }
        self.take_up_definitions();
        for residence in folded.residences.into_values() {
            self.restore_residence(residence);
        }
        for instance in folded.instances.into_values() {
            self.restore_instance(instance);
        }
        self.restore_frameworks(
            folded.joined.into_values(),
            folded.tasks.into_values(),
            folded.weights.into_iter(),
        );
        self.take_quotas(folded.quotas);
        self.take_maintenance(folded.maintenance);
        for (id, record) in folded.deployments {
            self.last_version = self.last_version.max(record.version);
            for app in record.apps() {
                self.deploying.insert(app.clone(), id.clone());
            }
            self.deployments.insert(id, record);
        }
    }

    /// Their service ports are taken, and their versions do not come again.
    fn take_up_definitions(&mut self) {
        for app in self.apps.values() {
            self.service_ports.take(app);
            self.last_version = self.last_version.max(app.version);
        }
        let versions = self.groups.values().map(|group| group.version);
        self.last_version = versions.fold(self.last_version, Ord::max);
    }

    /// An instance whose app is gone was to be ended when the earlier core stopped; one whose agent is gone is over.
    fn restore_instance(&mut self, mut instance: InstanceRecord) {
        let Some(node) = self.nodes.get_mut(&instance.agent) else {
            self.persist(Record::DeleteInstance(instance.id));
            return;
        };
        node.add_instance(instance.id.clone(), &instance.spec);
        self.frameworks.marathon_uses(&instance.spec.resources);
        if instance.config == Timestamp::default() {
            // A record of an earlier release: there age decided.
            let present = self.apps.get(&instance.app).map(|app| app.last_config_change);
            instance.config = present.map_or(instance.version, |config| config.min(instance.version));
        }
        let wiped = self
            .residences
            .get(&instance.id)
            .is_some_and(|residence| residence.wiped);
        if !instance.unwanted && (wiped || !self.apps.contains_key(&instance.app)) {
            instance.unwanted = true;
            self.persist(Record::PutInstance(Box::new(instance.clone())));
        }
        self.by_app
            .entry(instance.app.clone())
            .or_default()
            .insert(instance.id.clone());
        self.instances.insert(instance.id.clone(), instance);
    }
}
