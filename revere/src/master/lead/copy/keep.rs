//! The one task that owns the copy: takes what changes, tells subscribers of it, lets readers look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use model::{AgentId, AgentInfo, FrameworkId, Task, TaskEvent, TaskId, TaskState, TaskStatus};
use scheduler::{Effect, Record, Scheduler, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use super::{Copy, Current};
use crate::etcd::clock::Moment;
use crate::master::clock::Clock;
use crate::master::core::Core;
use crate::master::events::Events;
use crate::master::handle::{Input, Look};
use crate::store::etcd::Step;

/// What subscribers know of an agent.
#[derive(Debug)]
struct Told {
    info: AgentInfo,
    tasks: BTreeMap<(FrameworkId, TaskId), Task>,
}

/// See the module.
pub(super) struct Keeper {
    copy: Arc<Copy>,
    config: scheduler::Config,
    inputs: mpsc::Receiver<Input>,
    steps: mpsc::Receiver<Step>,
    core: Option<Core>,
    told: BTreeMap<AgentId, Told>,
    revision: u64,
    /// A commit that was the newest one at that moment, and is yet to come.
    awaits: Option<(Moment, u64)>,
    clock: Clock,
}

/// What stands on the wall.
fn wall() -> Timestamp {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}

fn ids(names: BTreeSet<String>) -> BTreeSet<AgentId> {
    names.into_iter().map(AgentId::new).collect()
}

impl Keeper {
    pub(super) fn new(
        copy: Arc<Copy>,
        config: scheduler::Config,
        inputs: mpsc::Receiver<Input>,
        steps: mpsc::Receiver<Step>,
    ) -> Self {
        Self {
            copy,
            config,
            inputs,
            steps,
            core: None,
            told: BTreeMap::new(),
            revision: 0,
            awaits: None,
            clock: Clock::new(),
        }
    }

    /// Until nobody feeds it or nobody asks.
    pub(super) async fn run(mut self) {
        let mut gathered: Option<Duration> = None;
        loop {
            tokio::select! {
                biased;
                step = self.steps.recv() => match step {
                    Some(step) => self.take(step),
                    None => return,
                },
                // Who asks before there is anything waits.
                input = self.inputs.recv(), if self.core.is_some() => match input {
                    Some(Input::Look(look)) => self.look(look),
                    Some(Input::Tell { kind, data, .. }) => {
                        let now = self.clock.now();
                        if let Some(core) = &mut self.core {
                            core.told.tell_here(kind, now, data);
                        }
                    }
                    // All else is the leader's: its asker hears that nobody is there.
                    Some(_) => {}
                    None => return,
                },
                () = sleep(gathered.unwrap_or_default()), if gathered.is_some() => {}
            }
            gathered = self.send_gathered();
        }
    }

    fn look(&mut self, look: Look) {
        if let Some(core) = &mut self.core {
            core.now = self.clock.now();
            look(core);
        }
    }

    /// Tells subscribers, or how soon they will be told.
    fn send_gathered(&mut self) -> Option<Duration> {
        let core = self.core.as_mut()?;
        core.now = self.clock.now();
        let due = core.send_gathered()?;
        Some(due.since(core.now))
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::All {
                records,
                events,
                suspects,
                identity,
                revision,
                asked,
            } => {
                self.begin(records, &ids(suspects));
                self.awaits = None;
                // Who missed what lay between cannot be told it.
                if let Some(core) = &mut self.core {
                    core.told.take_up(&identity, &events);
                    core.begin_trail(identity, revision);
                }
                self.reached(revision, Some(asked));
            }
            Step::Some {
                records,
                events,
                suspects,
                revision,
            } => {
                self.follow(records, suspects.map(ids));
                // Who hears of something finds it here.
                if let Some(core) = &mut self.core {
                    events.iter().for_each(|events| core.told.publish(events));
                }
                if let Some(revision) = revision {
                    if let Some(core) = &mut self.core {
                        core.reach(revision);
                    }
                    self.reached(revision, None);
                }
            }
            Step::Seen(..) if self.core.is_none() => {}
            Step::Seen(at, newest) if newest > self.revision => {
                self.awaits.get_or_insert((at, newest));
            }
            Step::Seen(at, _) => {
                self.copy.set(Some(Current {
                    revision: self.revision,
                    at,
                    moved: at,
                }));
            }
        }
    }

    /// A later commit is in it, which was the newest one when it was asked for, if it was.
    fn reached(&mut self, revision: u64, asked: Option<Moment>) {
        self.revision = revision;
        // While commits never cease no look finds the copy to be the newest, though it is soon as new as the look was.
        let met = self.awaits.take_if(|(_, newest)| *newest <= revision);
        let known = self.copy.current().map(|known| known.at);
        if let Some(at) = asked.max(met.map(|(at, _)| at)).max(known) {
            let moved = Moment::now();
            self.copy.set(Some(Current { revision, at, moved }));
        }
    }

    /// All of it. Subscribers are told what is otherwise than they know, as always.
    fn begin(&mut self, records: Vec<Record>, suspects: &BTreeSet<AgentId>) {
        let mut scheduler = Scheduler::following(self.config.clone(), records);
        scheduler.follow_suspects(suspects);
        let agents: BTreeSet<AgentId> = scheduler.known_agents().chain(self.told.keys()).cloned().collect();
        let mut fresh = Core::new(scheduler, self.clock.now());
        match &mut self.core {
            Some(core) => {
                core.scheduler = fresh.scheduler;
                core.sizes = fresh.sizes;
                self.tell_frameworks();
                self.tell_agents(&agents);
            }
            None => {
                let told = |id: &AgentId| Some((id.clone(), told_on(&fresh.scheduler, id)?));
                self.told = agents.iter().filter_map(told).collect();
                fresh.told = Events::copying();
                self.core = Some(fresh);
            }
        }
    }

    /// What came after.
    fn follow(&mut self, records: Vec<Record>, suspects: Option<BTreeSet<AgentId>>) {
        let Some(core) = &mut self.core else { return };
        let now = self.clock.now();
        core.now = now;
        let mut touched = BTreeSet::new();
        let mut frameworks = false;
        for record in records {
            frameworks |= matches!(record, Record::PutFramework(_) | Record::DeleteFramework(_));
            let effect = Effect::Persist(record);
            core.note(&effect);
            if let Effect::Persist(record) = effect {
                touched.extend(core.scheduler.follow(now, record));
            }
        }
        if let Some(suspects) = suspects {
            touched.extend(core.scheduler.follow_suspects(&suspects));
        }
        if frameworks {
            self.tell_frameworks();
        }
        self.tell_agents(&touched);
    }

    fn tell_frameworks(&mut self) {
        let Some(core) = &mut self.core else { return };
        let known = core.table.snapshot();
        let own = core.scheduler.framework().id.clone();
        let infos: BTreeMap<_, _> = core
            .scheduler
            .framework_infos()
            .map(|info| (info.id.clone(), info))
            .collect();
        for (id, info) in &infos {
            if known.frameworks.get(id) != Some(info) {
                core.emit(TaskEvent::FrameworkAdded(info.clone()));
            }
        }
        for id in known.frameworks.keys() {
            if *id != own && !infos.contains_key(id) {
                core.emit(TaskEvent::FrameworkRemoved(id.clone()));
            }
        }
    }

    /// What is new comes before what is gone.
    fn tell_agents(&mut self, touched: &BTreeSet<AgentId>) {
        let Some(core) = &mut self.core else { return };
        let mut gone = Vec::new();
        for id in touched {
            let new = told_on(&core.scheduler, id);
            let old = self.told.remove(id);
            match (&old, &new) {
                (Some(_), None) => gone.push(TaskEvent::AgentRemoved(id.clone())),
                (old, Some(new)) => difference(old.as_ref(), new, core, &mut gone),
                (None, None) => {}
            }
            if let Some(new) = new {
                self.told.insert(id.clone(), new);
            }
        }
        for event in gone {
            core.emit(event);
        }
    }
}

fn told_on(scheduler: &Scheduler, id: &AgentId) -> Option<Told> {
    let (info, tasks) = scheduler.told_on(id)?;
    let tasks = tasks.into_iter();
    let tasks = tasks.map(|task| ((task.framework.clone(), task.id.clone()), task));
    Some(Told {
        info,
        tasks: tasks.collect(),
    })
}

/// Tells what is new of an agent, and notes what is gone.
fn difference(old: Option<&Told>, new: &Told, core: &mut Core, gone: &mut Vec<TaskEvent>) {
    if old.is_none_or(|old| old.info != new.info) {
        core.emit(TaskEvent::AgentAdded(new.info.clone()));
    }
    for (key, task) in &new.tasks {
        match old.and_then(|old| old.tasks.get(key)) {
            Some(known) if known == task => {}
            Some(known) if *known == with_status(task, &known.status) => core.emit(TaskEvent::TaskUpdated {
                framework: key.0.clone(),
                task: key.1.clone(),
                status: task.status.clone(),
                mappings: Vec::new(),
            }),
            _ => core.emit(TaskEvent::TaskAdded(task.clone())),
        }
    }
    let ended = old.iter().flat_map(|old| old.tasks.keys());
    let ended = ended.filter(|key| !new.tasks.contains_key(key));
    gone.extend(ended.map(|(framework, task)| TaskEvent::TaskUpdated {
        framework: framework.clone(),
        task: task.clone(),
        status: ended_status(),
        mappings: Vec::new(),
    }));
}

fn with_status(task: &Task, status: &TaskStatus) -> Task {
    Task {
        status: status.clone(),
        ..task.clone()
    }
}

/// Of a task whose record is no more. How it ended only its leader knew.
fn ended_status() -> TaskStatus {
    TaskStatus {
        state: TaskState::Gone,
        reason: None,
        healthy: None,
        addresses: Vec::new(),
        message: Some("it has ended; the leading master knows how".to_owned()),
        checks: Default::default(),
        timestamp_ms: wall().0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_as_old_as_the_question_for_it() {
        let copy = Arc::new(Copy::new());
        let (_, inputs) = crate::master::handle::Handle::new();
        let (_, steps) = mpsc::channel(1);
        let mut keeper = Keeper::new(Arc::clone(&copy), scheduler::Config::default(), inputs, steps);
        let all = |revision, age| Step::All {
            records: Vec::new(),
            events: Vec::new(),
            suspects: BTreeSet::new(),
            identity: "x".to_owned(),
            revision,
            asked: Moment::now().before(Duration::from_secs(age)),
        };
        let age = || copy.current().expect("there").age().as_secs();
        keeper.take(all(7, 100));
        assert!(age() >= 100, "{}", age());
        // It was seen to be the newest since.
        keeper.take(Step::Seen(Moment::now().before(Duration::from_secs(50)), 7));
        assert!((50..100).contains(&age()), "{}", age());
        keeper.take(Step::Seen(Moment::now(), 8));
        assert!(age() >= 50, "a later one was there: {}", age());
        keeper.take(all(9, 70));
        assert!((50..70).contains(&age()), "{}", age());
        // Commits come without end: it was never the newest, and yet is as new as the looks were.
        let some = |revision| Step::Some {
            records: Vec::new(),
            events: Vec::new(),
            suspects: None,
            revision: Some(revision),
        };
        keeper.take(Step::Seen(Moment::now().before(Duration::from_secs(40)), 11));
        keeper.take(Step::Seen(Moment::now(), 12));
        keeper.take(some(10));
        assert!(age() >= 50, "not yet: {}", age());
        keeper.take(some(11));
        assert!((40..50).contains(&age()), "{}", age());
    }
}
