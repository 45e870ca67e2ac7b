//! The simulated world: virtual time, events in flight, and who receives them.

use std::collections::{BTreeMap, BTreeSet};

use model::{AgentId, LaunchSpec, ServiceTable, TaskId, TaskStatus, VipRange};

use crate::core::random::Random;
use crate::{
    AppId, FrameworkCall, FrameworkEvent, InstanceId, Registered, Registration, Scheduler, StreamId, Timestamp,
};

use super::agent::SimAgent;
use super::check::Store;
use super::follower::Copies;
use super::framework::SimFramework;
use super::stuck::Held;

/// Machines in the cluster. Together they hold twice what the apps can want.
pub(super) const AGENTS: usize = 3;
/// Virtual milliseconds with faults.
const FAULTS_UNTIL: u64 = 300_000;
/// Virtual milliseconds after the last fault by which everything must be in place.
const SETTLE_WITHIN: u64 = 600_000;
/// Unix time at which the simulation begins.
pub(super) const EPOCH: u64 = 1_700_000_000_000;

/// A message on an agent's connection.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Register(Box<Registration>),
    Status(TaskId, TaskStatus),
    Heartbeat,
    Disconnect,
    Registered(Registered),
    Launch(Box<LaunchSpec>),
    LaunchPod(Vec<LaunchSpec>),
    Kill(TaskId),
    RemoveVolumes(InstanceId),
    VolumesGone(InstanceId),
    Ack(TaskId, u64),
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    ToMaster {
        from: usize,
        connection: u64,
        message: Message,
    },
    ToAgent {
        to: usize,
        connection: u64,
        message: Message,
    },
    AgentTick(usize),
    TaskStep(usize, TaskId),
    Check(usize, TaskId),
    AgentUp(usize),
    MasterTimer,
    MasterUp,
    StoreAnswers,
    Fault,
    Command,
    FrameworkTick,
    ToFramework(StreamId, FrameworkEvent),
    FromFramework(StreamId, FrameworkCall),
    StreamEnd(StreamId),
}

/// A mistake put into the world on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The driver acknowledges ends that it never hands to the core.
    LostAcknowledgement,
    /// The driver sends a launch to two agents.
    DoubleLaunch,
    /// The driver sends launches before their records are kept.
    EarlyOrder,
    /// Agents remove volumes whenever a task ends, and say nothing of it.
    ForgottenVolumes,
    /// Agents offer one instance's cpus more than they have.
    CapacityOffByOne,
    /// A copy misses what becomes of instances.
    MissedRecord,
    /// The framework's acknowledgements of ends are taken for granted: one that never comes is never missed.
    ForgottenUpdate,
}

/// `/b/d` depends on `/b/c`, and both were changed at once.
pub(super) struct Layered {
    pub(super) version: Timestamp,
    /// Whether all of `/b/c` was seen running since.
    pub(super) base_stood: bool,
}

/// All of it.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now: u64,
    pub(super) core: Option<Scheduler>,
    pub(super) store: Store,
    /// What waits for it.
    pub(super) held: Held,
    /// By how much the leading master's clock is fast.
    pub(super) fast: u64,
    /// What the other masters have of the store.
    pub(super) copies: Copies,
    pub(super) agents: Vec<SimAgent>,
    pub(super) framework: SimFramework,
    /// Newest connection that the master has of each agent id.
    pub(super) connections: BTreeMap<AgentId, (usize, u64)>,
    pub(super) table: ServiceTable,
    /// What users were promised: instances by app.
    pub(super) wanted: BTreeMap<String, u32>,
    /// Apps of which a change was given up half way: they may run more than one definition.
    pub(super) mixed: BTreeSet<String>,
    /// A change of a group whose parts have an order.
    pub(super) layered: Option<Layered>,
    /// Instances of each app after the step before.
    pub(super) counts: BTreeMap<AppId, usize>,
    /// The master died while carrying out a command; whether it holds is read from the store.
    pub(super) wanted_unsure: bool,
    pub(super) faults: bool,
    /// Instances that ever had volumes, and those whose volumes were removed on demand.
    pub(super) owners: BTreeSet<String>,
    pub(super) removed: BTreeSet<String>,
    pub(super) bug: Option<Bug>,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    trace: u64,
    timer_at: Option<u64>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut world = Self {
            random: Random::new(seed),
            now: EPOCH,
            core: None,
            store: Store::default(),
            held: Held::default(),
            fast: 0,
            copies: Copies::new(),
            agents: (0..AGENTS).map(SimAgent::new).collect(),
            framework: SimFramework::new(seed),
            connections: BTreeMap::new(),
            table: ServiceTable::new(VipRange::default()),
            wanted: BTreeMap::new(),
            mixed: BTreeSet::new(),
            layered: None,
            counts: BTreeMap::new(),
            wanted_unsure: false,
            faults: true,
            owners: BTreeSet::new(),
            removed: BTreeSet::new(),
            bug: None,
            events: BTreeMap::new(),
            sequence: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            timer_at: None,
        };
        world.after(0, Event::MasterUp);
        for agent in 0..AGENTS {
            let delay = world.random.below(2_000);
            world.after(delay, Event::AgentTick(agent));
        }
        world.after(3_000, Event::Command);
        world.after(4_000, Event::FrameworkTick);
        world.after(5_000, Event::Fault);
        world
    }

    /// Makes a mistake from now on.
    pub(super) fn plant(&mut self, bug: Bug) {
        self.bug = Some(bug);
        if bug == Bug::CapacityOffByOne {
            // Machines that fill up, or nobody would see it.
            for agent in &mut self.agents {
                agent.cpus_milli = 600;
            }
        }
    }

    /// Runs to the end of faults, then until all is in place.
    pub(super) fn run(&mut self) {
        let mut steps = 0u32;
        while self.now < EPOCH + FAULTS_UNTIL {
            self.step();
            steps += 1;
            if steps.is_multiple_of(16) && !self.held.stuck {
                self.check_store();
            }
            if steps.is_multiple_of(128) && !self.held.stuck {
                self.check_copies();
            }
        }
        self.faults = false;
        self.heal();
        self.store_answers();
        let limit = self.now + SETTLE_WITHIN;
        let mut next_look = self.now;
        loop {
            self.step();
            if self.now >= next_look {
                next_look = self.now + 5_000;
                self.give_up_lost_volumes();
                self.end_quota();
                match self.unsettled() {
                    None => break,
                    Some(why) => assert!(self.now < limit, "not settled in time: {why}"),
                }
            }
        }
        self.check_end();
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn note(&mut self, text: &str) {
        for byte in text.bytes().chain(self.now.to_le_bytes()) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if std::env::var_os("REVERE_SIM_TRACE").is_some() {
            eprintln!("{:>7} {text}", self.now - EPOCH);
        }
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time.max(self.now), self.sequence), event);
    }

    /// True once in `n` times, while there are faults.
    pub(super) fn bad_luck(&mut self, n: u64) -> bool {
        self.random.below(n) == 0 && self.faults
    }

    fn step(&mut self) {
        let ((time, _), event) = self.events.pop_first().expect("agents tick for ever");
        self.now = time;
        match event {
            Event::ToMaster {
                from,
                connection,
                message,
            } => self.master_receives(from, connection, message),
            Event::ToAgent {
                to,
                connection,
                message,
            } => self.agent_receives(to, connection, message),
            Event::AgentTick(agent) => self.agent_tick(agent),
            Event::TaskStep(agent, task) => self.task_step(agent, &task),
            Event::Check(agent, task) => self.task_checked(agent, &task),
            Event::AgentUp(agent) => self.agents[agent].up = true,
            Event::MasterTimer => self.master_timer(),
            Event::MasterUp => self.master_up(),
            Event::StoreAnswers => self.store_answers(),
            Event::Fault => self.fault(),
            Event::Command => self.command(),
            Event::FrameworkTick => self.framework_tick(),
            Event::ToFramework(stream, event) => self.framework_receives(stream, event),
            Event::FromFramework(stream, call) => self.framework_calls(stream, call),
            Event::StreamEnd(stream) => self.stream_ends(stream),
        }
        self.arm_timer();
        self.check_step();
        self.check_launch();
        self.check_order();
    }

    fn arm_timer(&mut self) {
        let due = self
            .core
            .as_ref()
            .and_then(Scheduler::poll_timeout)
            .map(|at| at.0.saturating_sub(self.fast).max(self.now));
        if due.is_some_and(|due| self.timer_at.is_none_or(|armed| due < armed)) {
            self.timer_at = due;
            self.at(due.unwrap_or_default(), Event::MasterTimer);
        }
    }

    fn master_timer(&mut self) {
        if self.timer_at.is_some_and(|armed| armed > self.now) {
            return;
        }
        self.timer_at = None;
        let now = self.master_now();
        if let Some(core) = &mut self.core
            && core.poll_timeout().is_some_and(|due| due <= now)
        {
            core.handle_timeout(now);
            self.carry_out();
        }
    }
}
