//! What the driver owns and readers may look at: the scheduler core and what is derived from its effects.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use model::{AgentId, FrameworkId, FrameworkInfo, LaunchSpec, Resources, ServiceTable, SharedMap, TaskEvent, TaskId};
use scheduler::{ClusterEvent, Effect, InstanceRecord, Record, Scheduler, Timestamp};
use serde_json::Value;
use tokio::sync::broadcast;

use super::events::Events;
use super::trail::Trail;
use crate::mesos::decode::Encoding;
use crate::mesos::encode::{self, Sizes};
use crate::mesos::protobuf;
use crate::recordio;

/// Gathered events a subscriber may lag behind before it is dropped; it then reconnects and takes a new snapshot.
const GATHERED_BUFFER: usize = 256;
/// Events that go out together at most; with the number above this bounds what is kept for readers.
const MOST_GATHERED: usize = 64;
/// Events that come this soon after others wait for more: a thousand readers cannot be woken for each of a thousand
/// events a second. The first after a pause goes out at once.
pub(super) const GATHER: Duration = Duration::from_millis(20);

/// State for readers.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) scheduler: Scheduler,
    /// The master's own fold of what it emits, for `revere vip list`.
    pub(super) table: ServiceTable,
    /// When each connected agent last said something.
    pub(super) heard: BTreeMap<AgentId, Timestamp>,
    pub(super) started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) sizes: SharedMap<(FrameworkId, TaskId), Arc<Sizes>>,
    events: broadcast::Sender<Arc<Gathered>>,
    /// Events that have not gone out yet.
    gathered: Vec<Value>,
    sent_at: Timestamp,
    /// Marathon's event stream.
    pub(super) told: Events,
    /// Of a copy.
    trail: Option<Trail>,
}

fn key_of(spec: &LaunchSpec) -> (FrameworkId, TaskId) {
    (spec.framework.clone(), spec.task.clone())
}

fn sizes_of(spec: &LaunchSpec) -> Sizes {
    Sizes {
        resources: spec.resources,
        network: spec.network.clone(),
    }
}

/// What was sent of an instance: one order of an app, one for each container of a pod.
fn specs(instance: &InstanceRecord) -> Vec<&LaunchSpec> {
    if instance.members.is_empty() {
        return vec![&instance.spec];
    }
    instance.members.iter().map(|member| &member.spec).collect()
}

impl Core {
    pub(super) fn new(scheduler: Scheduler, now: Timestamp) -> Self {
        let mut table = ServiceTable::default();
        table.apply(TaskEvent::Snapshot(scheduler.state()));
        let mut sizes = SharedMap::new();
        let known = scheduler
            .instances()
            .flat_map(specs)
            .map(|spec| (key_of(spec), sizes_of(spec)))
            .chain(scheduler.framework_tasks().map(|one| {
                let key = (one.framework().clone(), one.task.clone());
                (key, sizes_of(&one.spec))
            }));
        for (key, of_task) in known {
            sizes.insert(key, Arc::new(of_task));
        }
        Self {
            scheduler,
            table,
            heard: BTreeMap::new(),
            started: now,
            now,
            sizes,
            events: broadcast::Sender::new(GATHERED_BUFFER),
            gathered: Vec::new(),
            sent_at: Timestamp::default(),
            told: Events::new(now),
            trail: None,
        }
    }

    /// Notes the sizes of tasks before their events are told.
    pub(super) fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Persist(Record::PutInstance(instance)) => {
                for spec in specs(instance) {
                    self.sizes.insert(key_of(spec), Arc::new(sizes_of(spec)));
                }
            }
            Effect::Persist(Record::PutFrameworkTask(one)) if !one.is_over() => {
                let key = (one.framework().clone(), one.task.clone());
                self.sizes.insert(key, Arc::new(sizes_of(&one.spec)));
            }
            _ => {}
        }
    }

    /// Tells every reader of Marathon's events.
    pub(super) fn tell(&mut self, event: &ClusterEvent) {
        for (kind, data) in super::marathon::event::of(event) {
            self.told.tell(kind, self.now, data);
        }
    }

    /// Tells every subscriber, soon: see [`send_gathered`](Self::send_gathered).
    pub(super) fn emit(&mut self, event: TaskEvent) {
        if (self.trail.is_some() || self.events.receiver_count() > 0)
            && let Some(json) = self.event(&event)
        {
            if let Some(trail) = &mut self.trail {
                trail.keep(Arc::new(Gathered::new(vec![json.clone()])));
            }
            self.gathered.push(json);
            if self.gathered.len() >= MOST_GATHERED {
                self.send_all();
            }
        }
        if let TaskEvent::TaskUpdated {
            framework,
            task,
            status,
            ..
        } = &event
            && status.state.is_terminal()
        {
            self.sizes.remove(&(framework.clone(), task.clone()));
        }
        self.table.apply(event);
    }

    /// Sends what was gathered unless events went out just before; when to try again.
    pub(super) fn send_gathered(&mut self) -> Option<Timestamp> {
        if self.gathered.is_empty() {
            return None;
        }
        let due = self.sent_at.after(GATHER);
        if self.now < due {
            return Some(due);
        }
        self.send_all();
        None
    }

    /// Sends what was gathered. Before a new subscriber is told the state, so that nothing is told to it twice.
    pub(super) fn send_all(&mut self) {
        if !self.gathered.is_empty() {
            self.sent_at = self.now;
            // Fails only when nobody listens any more.
            let _ = self
                .events
                .send(Arc::new(Gathered::new(std::mem::take(&mut self.gathered))));
        }
    }

    fn event(&self, event: &TaskEvent) -> Option<Value> {
        Some(match event {
            TaskEvent::TaskAdded(task) => encode::task_added(task, self.sizes_of(task)),
            TaskEvent::TaskUpdated {
                framework,
                task,
                status,
                ..
            } => {
                let known = self.table.snapshot();
                let agent = known
                    .tasks
                    .get(&(framework.clone(), task.clone()))
                    .map(|task| task.agent.as_str().to_owned());
                encode::task_updated(framework.as_str(), task.as_str(), agent.as_deref(), status)
            }
            TaskEvent::AgentAdded(agent) => encode::agent_added(self.scheduler.agent(&agent.id)?),
            TaskEvent::AgentRemoved(agent) => encode::agent_removed(agent.as_str()),
            TaskEvent::FrameworkAdded(framework) => {
                let known = self.table.snapshot().frameworks.contains_key(&framework.id);
                let told = if known {
                    encode::framework_updated
                } else {
                    encode::framework_added
                };
                told(self.framework(framework))
            }
            TaskEvent::FrameworkRemoved(framework) => {
                let known = self.table.snapshot();
                let name = known.frameworks.get(framework).map_or("", |info| info.name.as_str());
                encode::framework_removed(framework.as_str(), name)
            }
            // Inputs of a node's own table; a master never tells them.
            TaskEvent::Snapshot(_) | TaskEvent::LocalExit(_) | TaskEvent::AgentSettled(_) | TaskEvent::HoldExpired => {
                return None;
            }
        })
    }

    /// The first records of a subscriber and everything after them, with nothing between.
    pub(super) fn subscribe(&self, encoding: Encoding) -> (Bytes, broadcast::Receiver<Arc<Gathered>>) {
        let first = record(&encode::subscribed(self.get_state()), encoding);
        (first, self.events.subscribe())
    }

    /// From here on subscribers can come back to where they were.
    pub(super) fn begin_trail(&mut self, identity: String, revision: u64) {
        self.trail = Some(Trail::new(identity, revision));
        self.tell_position();
    }

    /// A commit is told whole.
    pub(super) fn reach(&mut self, revision: u64) {
        if let Some(trail) = &mut self.trail {
            trail.reach(revision);
            self.tell_position();
        }
    }

    fn tell_position(&mut self) {
        if let Some(position) = self.trail.as_ref().and_then(Trail::position) {
            self.send_all();
            // Fails only when nobody listens.
            let _ = self
                .events
                .send(Arc::new(Gathered::new(vec![encode::position(&position)])));
        }
    }

    /// As [`Self::subscribe`], for a reader that can come back and was at `position`: what it missed, if that is known.
    pub(super) fn resume(&self, position: &str) -> (Vec<Bytes>, broadcast::Receiver<Arc<Gathered>>) {
        let encoding = Encoding::Json;
        let trail = self.trail.as_ref();
        let mut first = match trail.and_then(|trail| trail.since(position)) {
            Some(missed) => {
                let missed = missed.iter().map(|told| told.records(encoding));
                std::iter::once(record(&encode::resumed(), encoding))
                    .chain(missed)
                    .collect()
            }
            None => vec![record(&encode::subscribed(self.get_state()), encoding)],
        };
        if let Some(position) = trail.and_then(Trail::position) {
            first.push(record(&encode::position(&position), encoding));
        }
        (first, self.events.subscribe())
    }

    /// `get_state`.
    pub(super) fn get_state(&self) -> Value {
        serde_json::json!({
            "get_tasks": self.get_tasks(),
            "get_executors": {},
            "get_frameworks": self.get_frameworks(),
            "get_agents": self.get_agents(),
        })
    }

    /// `get_tasks`.
    pub(super) fn get_tasks(&self) -> Value {
        let shown = |tasks: &[model::Task]| {
            let tasks = tasks.iter();
            tasks.map(|task| encode::task(task, self.sizes_of(task))).collect()
        };
        encode::lists(vec![
            ("tasks", shown(&self.scheduler.state().tasks)),
            ("unreachable_tasks", shown(&self.scheduler.unreachable_tasks())),
            (
                "completed_tasks",
                self.scheduler
                    .completed_framework_tasks()
                    .map(|task| encode::task(task, None))
                    .collect(),
            ),
        ])
    }

    fn sizes_of(&self, task: &model::Task) -> Option<&Sizes> {
        self.sizes
            .get(&(task.framework.clone(), task.id.clone()))
            .map(Arc::as_ref)
    }

    /// A framework that joined, or the master's own.
    fn framework(&self, info: &FrameworkInfo) -> Value {
        match self.scheduler.joined_framework(&info.id) {
            Some(view) => encode::joined(&view),
            None => encode::framework(info),
        }
    }

    /// `get_frameworks`.
    pub(super) fn get_frameworks(&self) -> Value {
        let own = encode::framework(self.scheduler.framework());
        let joined = self.scheduler.joined_frameworks();
        let frameworks = std::iter::once(own)
            .chain(joined.map(|view| encode::joined(&view)))
            .collect();
        let completed = self.scheduler.completed_frameworks().map(encode::completed).collect();
        encode::lists(vec![("frameworks", frameworks), ("completed_frameworks", completed)])
    }

    /// `get_roles`.
    pub(super) fn get_roles(&self) -> Value {
        let roles = self.scheduler.roles();
        encode::lists(vec![("roles", roles.iter().map(encode::role).collect())])
    }

    /// `get_agents`.
    pub(super) fn get_agents(&self) -> Value {
        let ports = self.ports_used();
        let empty = Vec::new();
        let agents = self
            .scheduler
            .agents()
            .map(|view| {
                let id = &view.record.id;
                let there: Vec<_> = self.scheduler.residences().filter(|one| one.agent == *id).collect();
                let mut reserved = encode::reserved(self.scheduler.framework(), there.iter().copied());
                for held in self.scheduler.holdings(id) {
                    reserved.0.extend(encode::held(held));
                    reserved.1 = reserved.1.plus(&held.total());
                }
                // Reservations without a task are used by nobody.
                let idle = there
                    .into_iter()
                    .filter(|one| self.scheduler.instance(&one.id).is_none());
                let (_, mut unused) = encode::reserved(self.scheduler.framework(), idle);
                for held in self.scheduler.unused_holdings(id) {
                    unused = unused.plus(&held.total());
                }
                let shown = encode::agent(
                    view.record,
                    &view.used.minus(&unused),
                    ports.get(id).unwrap_or(&empty),
                    reserved,
                );
                encode::ordered(shown, &view)
            })
            .collect();
        let recovered = self.scheduler.recovered_agents().map(encode::agent_info).collect();
        encode::lists(vec![("agents", agents), ("recovered_agents", recovered)])
    }

    fn ports_used(&self) -> BTreeMap<AgentId, Vec<u16>> {
        let mut used: BTreeMap<AgentId, Vec<u16>> = BTreeMap::new();
        for instance in self.scheduler.instances() {
            used.entry(instance.agent.clone())
                .or_default()
                .extend(&instance.spec.host_ports);
        }
        for task in self.scheduler.framework_tasks().filter(|task| !task.is_over()) {
            used.entry(task.agent.clone())
                .or_default()
                .extend(&task.spec.host_ports);
        }
        used
    }

    /// Sum over all registered agents: (used, total).
    pub(super) fn capacity(&self) -> (Resources, Resources) {
        self.scheduler
            .agents()
            .fold(Default::default(), |(used, total): (Resources, Resources), view| {
                (used.plus(&view.used), total.plus(&view.record.resources))
            })
    }
}

/// One RecordIO record.
pub(super) fn record(json: &Value, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => recordio::encode(json.to_string().as_bytes()),
        Encoding::Protobuf => recordio::encode(&protobuf::from_json(&protobuf::EVENT, json)),
    }
}

/// Some events for all subscribers: each encoding is made once, when the first subscriber needs it.
#[derive(Debug)]
pub(super) struct Gathered {
    events: Vec<Value>,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Bytes>,
}

impl Gathered {
    pub(super) fn new(events: Vec<Value>) -> Self {
        Self {
            events,
            json: OnceLock::new(),
            protobuf: OnceLock::new(),
        }
    }

    /// The type of the first, which is the only one if it tells a position.
    pub(super) fn kind(&self) -> &Value {
        self.events.first().map_or(&Value::Null, |event| &event["type"])
    }

    /// Their records.
    pub(super) fn records(&self, encoding: Encoding) -> Bytes {
        let made = match encoding {
            Encoding::Json => &self.json,
            Encoding::Protobuf => &self.protobuf,
        };
        let write = || {
            let records: Vec<Bytes> = self.events.iter().map(|event| record(event, encoding)).collect();
            records.concat().into()
        };
        made.get_or_init(write).clone()
    }
}
