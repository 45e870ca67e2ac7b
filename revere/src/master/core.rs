//! What the driver owns and readers may look at: the scheduler core and what is derived from its effects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{AgentId, FrameworkId, FrameworkInfo, LaunchSpec, Resources, ServiceTable, SharedMap, TaskEvent, TaskId};
use scheduler::{ClusterEvent, Effect, InstanceRecord, Record, Scheduler, Timestamp};
use serde_json::Value;
use tokio::sync::broadcast;

use super::events::Events;
use super::gathered::{Gathered, Starts, record};
use super::trail::Trail;
use crate::mesos::decode::Encoding;
use crate::mesos::encode::{self, Sizes};

/// Gathered events a subscriber may lag behind before it is dropped; it then reconnects and takes a new snapshot.
const GATHERED_BUFFER: usize = 256;
/// Events that go out together at most; with the number above this bounds what is kept for readers.
const MOST_GATHERED: usize = 2_048;
/// Events that come this soon after others wait for more: a thousand readers cannot be woken for each of a thousand
/// events a second. The first after a pause goes out at once.
const GATHER: Duration = Duration::from_millis(20);
/// The longest such wait, however many readers there are.
const MOST_GATHER: Duration = Duration::from_millis(250);
/// From so many events on, gathered within that wait, they come fast, and waits are twice as long: what a waking costs then
/// is mostly the bytes, and half as many wakings leave time for those.
const MANY: usize = 100;
/// The longest of these. With the rest of a change's way it is to be at the last reader within a second.
const LONG_GATHER: Duration = Duration::from_millis(450);
/// What one core should have between two wakings of each reader: some four times what a waking costs it, so that the rest
/// is left for everything else.
const PER_READER: Duration = Duration::from_micros(200);

/// While more than one in so many readers has not taken what went out last, more wakings would come on top: events wait.
const MOST_TO_TAKE: u32 = 4;
/// So few are woken whatever they have taken.
const FEW: u32 = 64;
/// Until then they are looked at this often,
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// but they do not wait for longer than this.
const LONGEST_GATHER: Duration = Duration::from_secs(2);

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
    /// Records of events that have not gone out yet, and how many.
    gathered: Vec<u8>,
    events_gathered: usize,
    sent_at: Timestamp,
    /// What went out then, and to how many.
    sent: Option<(Arc<Gathered>, u32)>,
    cores: u32,
    starts: Starts,
    /// Marathon's event stream.
    pub(super) told: Events,
    /// Of a copy.
    trail: Option<Trail>,
    /// Where subscribers are who were told everything that went out.
    position: Option<String>,
    /// That, as it is told.
    here: Option<Arc<Gathered>>,
}

/// Everything that is told from some moment on.
pub(super) type Followed = broadcast::Receiver<Arc<Gathered>>;

/// How many cores wake readers.
fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1))
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
        return vec![instance.spec.as_ref()];
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
            events_gathered: 0,
            sent: None,
            sent_at: Timestamp::default(),
            cores: cores(),
            starts: Starts::default(),
            told: Events::new(now),
            trail: None,
            position: None,
            here: None,
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
        let heard = self.trail.is_some() || self.events.receiver_count() > 0 || !self.starts.is_empty();
        if heard && let Some(json) = self.event(&event) {
            let record = record(&json, Encoding::Json);
            self.gathered.extend_from_slice(&record);
            self.events_gathered += 1;
            if let Some(trail) = &mut self.trail {
                trail.keep(record);
            }
            if self.events_gathered >= MOST_GATHERED {
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
        if !self.has_news() {
            return None;
        }
        let due = self
            .sent_at
            .after(gather(self.readers(), self.cores, self.events_gathered));
        if self.now < due {
            return Some(due);
        }
        if self.is_being_taken() && self.now < self.sent_at.after(LONGEST_GATHER) {
            return Some(self.now.after(LOOK_AGAIN));
        }
        self.send_all();
        None
    }

    fn readers(&self) -> u32 {
        u32::try_from(self.events.receiver_count()).unwrap_or(u32::MAX)
    }

    /// Whether many readers have yet to take what went out last: they are short of processors, here or where they are.
    fn is_being_taken(&self) -> bool {
        let sent = self.sent.as_ref();
        sent.is_some_and(|(sent, to)| is_being_taken(sent.taken(), (*to).min(self.readers())))
    }

    /// Whether there are events to send, or subscribers are elsewhere than they know.
    fn has_news(&self) -> bool {
        let reached = self
            .trail
            .as_ref()
            .is_some_and(|trail| !trail.is_at(self.position.as_deref()));
        self.events_gathered > 0 || reached
    }

    /// Sends what was gathered, and where its readers are then.
    fn send_all(&mut self) {
        if !self.has_news() {
            return;
        }
        self.sent_at = self.now;
        self.position = self.trail.as_ref().and_then(Trail::position);
        self.here = None;
        let json = std::mem::take(&mut self.gathered).into();
        let events = std::mem::take(&mut self.events_gathered);
        let gathered = Arc::new(Gathered::new(json, self.position.as_deref()));
        self.starts.told(&gathered, events);
        self.sent = Some((Arc::clone(&gathered), self.readers()));
        if let Some(trail) = &mut self.trail {
            trail.sent();
        }
        // Fails only when nobody listens any more.
        let _ = self.events.send(gathered);
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

    /// From here on subscribers can come back to where they were.
    pub(super) fn begin_trail(&mut self, identity: String, revision: u64) {
        self.trail = Some(Trail::new(identity, revision));
        self.starts.forget();
        self.send_all();
    }

    /// A commit is told whole.
    pub(super) fn reach(&mut self, revision: u64) {
        if let Some(trail) = &mut self.trail {
            trail.reach(revision);
        }
    }

    /// A state and everything after it, with nothing between and nothing twice, for so many readers. It is that of now if it
    /// shall be `new`, and else one that no event was told after.
    pub(super) fn begin(&mut self, new: bool, readers: usize) -> (Arc<Gathered>, Vec<Followed>) {
        let known = self.starts.state().filter(|_| !new);
        let state = known.unwrap_or_else(|| {
            self.send_all();
            let state = Arc::new(Gathered::whole(self.state(), self.position.as_deref()));
            self.starts.begin(Arc::clone(&state));
            state
        });
        (state, (0..readers).map(|_| self.events.subscribe()).collect())
    }

    /// The same for a reader that was at `position`: what it missed, if that is known. It may be what an earlier one was told,
    /// with what was told since.
    pub(super) fn resume(&mut self, position: &str) -> Option<(Vec<Arc<Gathered>>, Followed)> {
        self.trail.as_ref().filter(|trail| trail.knows(position))?;
        let mut first = match self.starts.at(position) {
            Some(first) => first,
            None => {
                if self.trail.as_ref()?.is_beyond_sent(position) {
                    self.send_all();
                }
                let missed = self.trail.as_ref()?.since(position)?;
                let resumed = record(&encode::resumed(), Encoding::Json);
                let records: Vec<Bytes> = std::iter::once(resumed).chain(missed).collect();
                let first = Arc::new(Gathered::new(records.concat().into(), None));
                self.starts.add(position.to_owned(), Arc::clone(&first));
                vec![first]
            }
        };
        first.extend(self.here());
        Some((first, self.events.subscribe()))
    }

    /// The commit that `position` names, if this copy has yet to reach it.
    pub(super) fn ahead(&self, position: &str) -> Option<u64> {
        self.trail.as_ref()?.ahead(position)
    }

    /// Where all are who were told everything that went out.
    fn here(&mut self) -> Option<Arc<Gathered>> {
        let position = self.position.as_deref()?;
        let here = || Arc::new(Gathered::new(Bytes::new(), Some(position)));
        Some(Arc::clone(self.here.get_or_insert_with(here)))
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

    /// Sum over all registered agents: (used, total).
    pub(super) fn capacity(&self) -> (Resources, Resources) {
        self.scheduler
            .agents()
            .fold(Default::default(), |(used, total): (Resources, Resources), view| {
                (used.plus(&view.used), total.plus(&view.record.resources))
            })
    }
}

/// How long events wait for more: the more readers, the fewer wakings of all of them.
fn gather(readers: u32, cores: u32, events: usize) -> Duration {
    let wait = PER_READER * readers / cores.max(1);
    match events < MANY {
        true => wait.clamp(GATHER, MOST_GATHER),
        false => (wait * 2).clamp(GATHER, LONG_GATHER),
    }
}

fn is_being_taken(taken: u32, readers: u32) -> bool {
    readers.saturating_sub(taken) > FEW.max(readers / MOST_TO_TAKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_have_yet_to_take_holds_the_rest_back() {
        assert!(is_being_taken(0, 100) && is_being_taken(700, 1_000) && is_being_taken(7_000, 10_000));
        assert!(!is_being_taken(50, 100) && !is_being_taken(750, 1_000) && !is_being_taken(7_500, 10_000));
        assert!(!is_being_taken(0, 3), "one that hangs must not hold two others up");
    }

    #[test]
    fn many_readers_are_woken_less_often() {
        let millis = |readers, cores| gather(readers, cores, MANY - 1).as_millis();
        assert_eq!((millis(0, 2), millis(200, 2), millis(1_000, 2)), (20, 20, 100));
        assert_eq!(
            (millis(1_000, 8), millis(10_000, 2), millis(10_000, 16)),
            (25, 250, 125)
        );
        assert_eq!(millis(u32::MAX, 1), 250, "no reader waits for ever");
        let fast = |readers, cores| gather(readers, cores, MANY).as_millis();
        assert_eq!((fast(10, 2), fast(1_000, 2)), (20, 200));
        assert_eq!((fast(3_333, 2), fast(10_000, 16)), (450, 250));
        assert_eq!(fast(1_000_000, 1), 450, "nor while events come fast");
    }
}
