//! A simulated framework: it takes offers, launches, kills, acknowledges, asks again, falls away and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    Command, Container, FrameworkId, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskChecks, TaskId, TaskNetwork,
    TaskState,
};

use crate::{
    Capability, Claim, FrameworkCall, FrameworkEvent, FrameworkSpec, FrameworkUpdate, HoldingChange, NewVolume, Offer,
    Operation, Reservation, StreamId, TaskOrder,
};

use super::world::{Bug, Event, World};

/// Tasks that it wants to run at once.
const MOST_TASKS: usize = 4;

/// What each of its tasks needs.
const TASK: Resources = Resources {
    cpus_milli: 100,
    mem_mb: 10,
    disk_mb: 0,
};
/// What it reserves at a time: a task, and disk for a volume.
const SMALL: Resources = Resources { disk_mb: 2, ..TASK };

fn claim(resources: Resources) -> Claim {
    Claim {
        by: Reservation {
            role: "db".to_owned(),
            ..Reservation::default()
        },
        resources,
        volumes: Vec::new(),
    }
}

/// All that an offer holds of reservations, given back. The disk of volumes is once their data is gone.
fn released(offer: &Offer) -> Vec<Operation> {
    let mut operations = Vec::new();
    for held in &offer.reserved {
        let change = |change| Operation::Change { id: None, change };
        let volumes: Vec<_> = held
            .volumes
            .iter()
            .map(|one| (held.by.clone(), one.id.clone()))
            .collect();
        if !volumes.is_empty() {
            operations.push(change(HoldingChange::Destroy(volumes)));
        }
        if held.resources != Resources::default() {
            let all = Claim {
                by: held.by.clone(),
                resources: held.resources,
                volumes: Vec::new(),
            };
            operations.push(change(HoldingChange::Unreserve(vec![all])));
        }
    }
    operations
}

/// See the module.
pub(super) struct SimFramework {
    aware: bool,
    failover: Duration,
    /// That of Marathon's apps, or one of its own, for which it reserves.
    role: &'static str,
    id: Option<FrameworkId>,
    pub(super) stream: Option<StreamId>,
    /// What it was told of each task last, ends included.
    pub(super) believes: BTreeMap<TaskId, TaskState>,
    offers: Vec<Offer>,
    next_task: u64,
    last_event: u64,
}

impl SimFramework {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            aware: seed.is_multiple_of(2),
            failover: Duration::from_secs(if seed.is_multiple_of(3) { 20 } else { 600 }),
            role: if seed % 4 < 2 { "*" } else { "db" },
            id: None,
            stream: None,
            believes: BTreeMap::new(),
            offers: Vec::new(),
            next_task: 0,
            last_event: 0,
        }
    }

    fn spec(&self) -> FrameworkSpec {
        let aware = self.aware.then_some(Capability::PartitionAware);
        FrameworkSpec {
            user: "root".to_owned(),
            name: "sim".to_owned(),
            failover_timeout: self.failover,
            roles: vec![self.role.to_owned()],
            capabilities: aware.into_iter().collect(),
            ..FrameworkSpec::default()
        }
    }

    fn live(&self) -> Vec<TaskId> {
        let live = self.believes.iter().filter(|(_, state)| !state.is_terminal());
        live.map(|(task, _)| task.clone()).collect()
    }
}

impl World {
    pub(super) fn framework_tick(&mut self) {
        let pause = 1_000 + self.random.below(5_000);
        self.after(pause, Event::FrameworkTick);
        let Some(stream) = self.framework.stream else {
            return self.framework_subscribes();
        };
        if self.bad_luck(25) {
            self.note("framework falls away");
            self.framework.stream = None;
            let late = self.random.below(40_000);
            return self.after(late, Event::StreamEnd(stream));
        }
        let offers = std::mem::take(&mut self.framework.offers);
        for offer in offers {
            let call = self.answer_to(offer);
            self.framework_asks(stream, call);
        }
        let live = self.framework.live();
        let kill = self.faults && self.random.below(6) == 0;
        if let Some(task) = live.first().filter(|_| kill) {
            let (task, agent, grace) = (task.clone(), None, None);
            self.framework_asks(stream, FrameworkCall::Kill { task, agent, grace });
        }
        // Who asks again hears of whatever was forgotten.
        let asks = self.bug != Some(Bug::ForgottenUpdate);
        match self.random.below(20) {
            0..=2 if !asks => {}
            0 => self.framework_asks(stream, FrameworkCall::Reconcile(Vec::new())),
            1 | 2 => {
                let asked = live.into_iter().map(|task| (task, None)).collect();
                self.framework_asks(stream, FrameworkCall::Reconcile(asked));
            }
            3 => self.framework_asks(stream, FrameworkCall::Suppress(Vec::new())),
            4 | 5 => self.framework_asks(stream, FrameworkCall::Revive(Vec::new())),
            _ => {}
        }
    }

    fn framework_subscribes(&mut self) {
        let now = self.master_now();
        // Whoever asks while the store is silent is told to come back.
        let Some(core) = self.core.as_mut().filter(|_| !self.held.stuck) else {
            return;
        };
        let (id, spec) = (self.framework.id.clone(), self.framework.spec());
        match core.handle_subscribe(now, id, spec, Vec::new()) {
            Ok(subscription) => {
                self.framework.id = Some(subscription.framework);
                self.framework.stream = Some(subscription.stream);
                self.framework.offers.clear();
                self.note("framework subscribed");
            }
            Err(why) => {
                assert_eq!(why, "Framework has been removed");
                self.note("framework begins anew");
                self.framework.id = None;
                self.framework.believes.clear();
            }
        }
        self.carry_out();
    }

    /// Takes an offer, or not.
    fn answer_to(&mut self, offer: Offer) -> FrameworkCall {
        let refuse = Duration::from_secs(self.random.below(15));
        let room = MOST_TASKS.saturating_sub(self.framework.live().len());
        let count = usize::try_from(self.random.below(3)).expect("few").min(room);
        if !self.faults && !offer.reserved.is_empty() {
            // In the end nothing is kept from others.
            return Self::accept_of(&offer, released(&offer), refuse);
        }
        if self.faults && self.framework.role != "*" && self.random.below(2) == 0 {
            let operations = self.change_from(&offer, count);
            return Self::accept_of(&offer, operations, refuse);
        }
        if !self.faults || count == 0 {
            let offers = vec![offer.id];
            return FrameworkCall::Decline { offers, refuse };
        }
        let orders = (0..count).map(|index| self.order_from(&offer, index)).collect();
        FrameworkCall::Accept {
            offers: vec![offer.id],
            operations: vec![Operation::Launch(orders)],
            refuse,
        }
    }

    fn accept_of(offer: &Offer, operations: Vec<Operation>, refuse: Duration) -> FrameworkCall {
        FrameworkCall::Accept {
            offers: vec![offer.id.clone()],
            operations,
            refuse,
        }
    }

    /// Reserves a little, makes a volume of it, launches on what is reserved, or gives some of it back.
    fn change_from(&mut self, offer: &Offer, count: usize) -> Vec<Operation> {
        let change = |change| Operation::Change {
            id: Some("op".to_owned()),
            change,
        };
        let Some(held) = offer.reserved.first() else {
            return vec![change(HoldingChange::Reserve(vec![claim(SMALL)]))];
        };
        match self.random.below(5) {
            0 => released(offer),
            1 if held.resources.disk_mb > 0 => {
                self.framework.next_task += 1;
                let volume = NewVolume {
                    by: held.by.clone(),
                    id: format!("v{}", self.framework.next_task),
                    principal: None,
                    container_path: "data".to_owned(),
                    size_mb: held.resources.disk_mb,
                };
                vec![change(HoldingChange::Create(vec![volume]))]
            }
            _ if count > 0 && held.resources.cpus_milli >= TASK.cpus_milli && held.resources.mem_mb >= TASK.mem_mb => {
                let volume = held.volumes.first();
                let mut order = self.order_from(offer, 0);
                order.from = vec![Claim {
                    volumes: volume.map(|one| (one.id.clone(), one.size_mb)).into_iter().collect(),
                    ..claim(TASK)
                }];
                if let Ok(spec) = &mut order.spec {
                    spec.resources.disk_mb = volume.map_or(0, |one| one.size_mb);
                }
                vec![Operation::Launch(vec![order])]
            }
            _ => Vec::new(),
        }
    }

    fn order_from(&mut self, offer: &Offer, index: usize) -> TaskOrder {
        self.framework.next_task += 1;
        let task = TaskId::new(format!("t{}", self.framework.next_task));
        let ports = offer.ports.iter().flat_map(|(low, high)| *low..=*high);
        let port = ports.skip(index).take(1);
        let spec = LaunchSpec {
            pod: None,
            task: task.clone(),
            name: "sim".to_owned(),
            framework: offer.framework.clone(),
            command: Command::Shell("serve".to_owned()),
            user: None,
            container: Container::default(),
            fetch: Vec::new(),
            env: BTreeMap::new(),
            resources: TASK,
            network: TaskNetwork::Host,
            ports: Vec::new(),
            mappings: Vec::new(),
            host_ports: port.collect(),
            labels: BTreeMap::new(),
            ready: ReadyRule::AtStart,
            checks: TaskChecks::default(),
            kill: KillPolicy {
                drain: Duration::ZERO,
                grace: Duration::from_secs(3),
            },
        };
        TaskOrder {
            task,
            name: "sim".to_owned(),
            has_discovery: false,
            agent: offer.agent.id.clone(),
            from: Vec::new(),
            spec: Ok(Box::new(spec)),
        }
    }

    /// Calls go over connections of their own: they may be lost, doubled and overtake each other.
    fn framework_asks(&mut self, stream: StreamId, call: FrameworkCall) {
        if self.bad_luck(15) {
            return;
        }
        let copies = if self.bad_luck(10) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = 1 + self.random.below(500);
            self.after(delay, Event::FromFramework(stream, call.clone()));
        }
    }

    pub(super) fn framework_calls(&mut self, stream: StreamId, call: FrameworkCall) {
        let now = self.master_now();
        let (Some(core), Some(id), false) = (&mut self.core, &self.framework.id, self.held.stuck) else {
            return;
        };
        // A refusal means that the stream is another one by now.
        let _ = core.handle_framework(now, id, stream, call);
        self.carry_out();
    }

    pub(super) fn stream_ends(&mut self, stream: StreamId) {
        let now = self.master_now();
        if let Some(core) = &mut self.core {
            core.handle_stream_end(now, stream);
            self.carry_out();
        }
    }

    /// Events of a stream keep their order; what was on its way when it broke is lost.
    pub(super) fn tell_framework(&mut self, stream: StreamId, event: FrameworkEvent) {
        let now = self.master_now();
        if let FrameworkEvent::Update(update) = &event
            && self.bug == Some(Bug::ForgottenUpdate)
            && update.status.state.is_terminal()
            && let (Some(core), Some(id), Some(update)) = (&mut self.core, &self.framework.id, update.id)
        {
            let FrameworkEvent::Update(told) = &event else { return };
            let task = told.task.clone();
            let call = FrameworkCall::Acknowledge { task, update };
            let _ = core.handle_framework(now, id, stream, call);
            return;
        }
        let at = (self.now + 1 + self.random.below(200)).max(self.framework.last_event);
        self.framework.last_event = at;
        self.at(at, Event::ToFramework(stream, event));
    }

    pub(super) fn framework_receives(&mut self, stream: StreamId, event: FrameworkEvent) {
        if self.framework.stream != Some(stream) {
            return;
        }
        match event {
            FrameworkEvent::Subscribed(id) => assert_eq!(self.framework.id, Some(id)),
            FrameworkEvent::Offers(offers) => self.framework.offers.extend(offers),
            FrameworkEvent::Rescind(id) => self.framework.offers.retain(|offer| offer.id != id),
            FrameworkEvent::Update(update) => self.framework_hears(stream, *update),
            FrameworkEvent::AgentFailed(_)
            | FrameworkEvent::OperationDone(_)
            | FrameworkEvent::OperationFailed { .. } => {}
            FrameworkEvent::Error(_) | FrameworkEvent::Closed => self.framework.stream = None,
        }
    }

    fn framework_hears(&mut self, stream: StreamId, update: FrameworkUpdate) {
        let state = update.status.state;
        let finer = matches!(
            state,
            TaskState::Dropped | TaskState::Unreachable | TaskState::Gone | TaskState::Unknown
        );
        assert!(self.framework.aware || !finer, "{state:?} is not understood");
        self.note(&format!("framework hears {} {}", update.task, state.as_str()));
        // One that says nothing new about a task that nobody knows is no task.
        self.framework.believes.insert(update.task.clone(), state);
        if let Some(id) = update.id {
            let task = update.task;
            self.framework_asks(stream, FrameworkCall::Acknowledge { task, update: id });
        }
    }

    /// Whether the framework knows what there is, and nothing waits any more.
    pub(super) fn framework_unsettled(&self) -> Option<String> {
        let core = self.core.as_ref()?;
        if self.framework.stream.is_none() {
            return Some("the framework is away".to_owned());
        }
        if let Some(late) = core
            .framework_tasks()
            .find(|one| !one.pending.is_empty() || one.kill.is_some())
        {
            return Some(format!("{} waits: {:?}", late.spec.task, late.pending));
        }
        for record in core.framework_tasks() {
            if self.framework.believes.get(&record.task) != Some(&record.status.state) {
                return Some(format!(
                    "the framework does not know that {} is {:?}",
                    record.task, record.status.state
                ));
            }
        }
        let known = |task: &TaskId| core.framework_tasks().any(|record| record.task == *task);
        let unknown = |state: TaskState| matches!(state, TaskState::Unreachable | TaskState::Unknown);
        let ghost = self
            .framework
            .believes
            .iter()
            .find(|(task, state)| !state.is_terminal() && !unknown(**state) && !known(task));
        ghost.map(|(task, state)| format!("the framework believes that {task} is {state:?}, and nobody has it"))
    }
}
