//! A simulated agent: it keeps its tasks over restarts of its daemon and tells every status until it is acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use model::{AgentId, LaunchSpec, Resources, TaskId, TaskState, TaskStatus, volume_owner};

use crate::{InstanceId, Registration, ReportedTask};

use super::world::{Bug, Event, Message, World};

/// Virtual milliseconds between two health checks.
const CHECK_EVERY: u64 = 5_000;
/// What a machine's disk holds: fewer volumes than instances of the app that has some.
const DISK_MB: u64 = 40;

/// A task on a machine.
pub(super) struct SimTask {
    pub(super) spec: LaunchSpec,
    pub(super) status: TaskStatus,
    acked: bool,
    /// Its health check fails from now on.
    pub(super) sick: bool,
}

/// A machine with its daemon.
pub(super) struct SimAgent {
    number: usize,
    /// What its machine really has.
    pub(super) cpus_milli: u64,
    pub(super) id: Option<AgentId>,
    /// Whether the daemon runs.
    pub(super) up: bool,
    /// The open connection.
    pub(super) connection: Option<u64>,
    pub(super) registered: bool,
    next_connection: u64,
    /// No connection succeeds before this.
    pub(super) cut_until: u64,
    pub(super) tasks: BTreeMap<TaskId, SimTask>,
    /// Whose volumes are on its disk.
    pub(super) volumes: BTreeSet<String>,
    last_status: u64,
    /// Delivery time of the newest message to the agent: a connection keeps its order.
    last_down: u64,
    last_up: u64,
}

impl SimAgent {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            cpus_milli: 1_000,
            id: None,
            up: true,
            connection: None,
            registered: false,
            next_connection: 1,
            cut_until: 0,
            tasks: BTreeMap::new(),
            volumes: BTreeSet::new(),
            last_status: 0,
            last_down: 0,
            last_up: 0,
        }
    }

    fn capacity(&self) -> (Resources, Vec<(u16, u16)>) {
        (
            Resources {
                cpus_milli: self.cpus_milli,
                mem_mb: 1_000,
                disk_mb: DISK_MB,
            },
            vec![(31_000, 31_004), (31_010, 31_014)],
        )
    }

    fn registration(&self) -> Registration {
        let (resources, ports) = self.capacity();
        let last = u8::try_from(self.number).expect("few agents") + 1;
        Registration {
            agent: self.id.clone(),
            hostname: format!("10.0.0.{last}"),
            ip: Ipv4Addr::new(10, 0, 0, last),
            http_port: 5051,
            resources,
            ports,
            attributes: BTreeMap::from([("rack".to_owned(), format!("r{}", self.number % 2))]),
            domain: crate::Domain::default(),
            taken: Vec::new(),
            tasks: self
                .tasks
                .values()
                .map(|task| ReportedTask {
                    spec: task.spec.clone(),
                    status: task.status.clone(),
                })
                .collect(),
        }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &SimTask> {
        self.tasks.values().filter(|task| !task.status.state.is_terminal())
    }

    /// A task whose end was acknowledged is forgotten, one of a pod with the last of its instance.
    fn forget(&mut self, task: &TaskId) {
        let Some(known) = self.tasks.get(task) else { return };
        let group = known
            .spec
            .pod
            .as_ref()
            .map_or(vec![task.clone()], |pod| pod.members.clone());
        let over = |task: &TaskId| {
            let known = self.tasks.get(task);
            known.is_none_or(|known| known.acked && known.status.state.is_terminal())
        };
        if group.iter().all(over) {
            self.tasks.retain(|task, _| !group.contains(task));
        }
    }

    /// What of a pod's instance is here, is here whole.
    fn check_pods(&self) {
        for task in self.tasks.values() {
            for member in task.spec.pod.iter().flat_map(|pod| &pod.members) {
                assert!(
                    self.tasks.contains_key(member),
                    "{} is here without {member}",
                    task.spec.task
                );
            }
        }
    }

    /// Its machine is the only place where two tasks could collide.
    pub(super) fn check(&self) {
        let (capacity, _) = self.capacity();
        let used = self
            .live()
            .fold(Resources::default(), |sum, task| sum.plus(&task.spec.resources));
        assert!(
            capacity.holds(&used),
            "machine {} is over-committed: {used:?}",
            self.number
        );
        self.check_pods();
        let mut ports = BTreeSet::new();
        for port in self.live().flat_map(|task| &task.spec.host_ports) {
            assert!(
                ports.insert(port),
                "machine {}: host port {port} is used twice",
                self.number
            );
        }
    }
}

impl World {
    pub(super) fn agent_tick(&mut self, number: usize) {
        let pause = 4_000 + self.random.below(3_000);
        self.after(pause, Event::AgentTick(number));
        let agent = &mut self.agents[number];
        if !agent.up {
            return;
        }
        if agent.connection.is_none() {
            if agent.cut_until <= self.now {
                agent.connection = Some(agent.next_connection);
                agent.next_connection += 1;
                agent.registered = false;
                let mut registration = agent.registration();
                if self.bug == Some(Bug::CapacityOffByOne) {
                    registration.resources.cpus_milli += 100;
                }
                self.send_up(number, Message::Register(Box::new(registration)));
            }
            return;
        }
        if !agent.registered {
            return;
        }
        let unacked: Vec<(TaskId, TaskStatus)> = agent
            .tasks
            .iter()
            .filter(|(_, task)| !task.acked)
            .map(|(id, task)| (id.clone(), task.status.clone()))
            .collect();
        self.send_up(number, Message::Heartbeat);
        for (task, status) in unacked {
            self.send_up(number, Message::Status(task, status));
        }
    }

    pub(super) fn agent_receives(&mut self, number: usize, connection: u64, message: Message) {
        let agent = &mut self.agents[number];
        if agent.connection != Some(connection) || !agent.up {
            return;
        }
        match message {
            Message::Registered(registered) => {
                agent.id = Some(registered.agent);
                agent.registered = true;
                for task in registered.unknown {
                    self.agent_kills(number, task);
                }
            }
            Message::Launch(spec) => self.agent_launches(number, *spec),
            Message::LaunchPod(specs) => specs.into_iter().for_each(|spec| self.agent_launches(number, spec)),
            Message::Kill(task) => self.agent_kills(number, task),
            Message::RemoveVolumes(owner) => self.agent_removes(number, owner),
            Message::Ack(task, timestamp) => {
                if let Some(known) = agent.tasks.get_mut(&task)
                    && known.status.timestamp_ms == timestamp
                {
                    known.acked = true;
                    agent.forget(&task);
                }
            }
            Message::Disconnect => agent.connection = None,
            other => panic!("an agent received {other:?}"),
        }
    }

    /// Volumes go only when no task of theirs is left.
    fn agent_removes(&mut self, number: usize, owner: InstanceId) {
        let agent = &mut self.agents[number];
        let user = agent.live().find(|task| volume_owner(&task.spec.task) == owner.0);
        assert!(user.is_none(), "the volumes of {owner} go under a task that uses them");
        agent.volumes.remove(&owner.0);
        self.removed.insert(owner.0.clone());
        self.send_up(number, Message::VolumesGone(owner));
    }

    /// The first task of an instance makes its volumes; the others must find them.
    fn agent_mounts(&mut self, number: usize, spec: &LaunchSpec) {
        let owner = volume_owner(&spec.task).to_owned();
        assert!(
            !self.removed.contains(&owner),
            "{owner} is launched after its volumes were removed"
        );
        let agent = &mut self.agents[number];
        if self.owners.insert(owner.clone()) {
            agent.volumes.insert(owner);
        } else {
            assert!(agent.volumes.contains(&owner), "{owner} ran away from its volumes");
        }
    }

    fn agent_launches(&mut self, number: usize, spec: LaunchSpec) {
        let id = spec.task.clone();
        if let Some(known) = self.agents[number].tasks.get_mut(&id) {
            known.acked = false;
            return;
        }
        let elsewhere = self
            .agents
            .iter()
            .any(|agent| agent.live().any(|task| task.spec.task == id));
        assert!(!elsewhere, "task {id} lives twice");
        if !spec.container.persistent.is_empty() {
            self.agent_mounts(number, &spec);
        }
        for volume in &spec.container.kept {
            let owner = &volume.owner;
            assert!(!self.removed.contains(owner), "{owner} is mounted after it was removed");
            assert!(!owner.is_empty(), "a volume without a directory");
        }
        let status = TaskStatus {
            state: TaskState::Staging,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: 0,
        };
        self.agents[number].tasks.insert(
            id.clone(),
            SimTask {
                spec,
                status,
                acked: false,
                sick: false,
            },
        );
        self.task_becomes(number, &id, TaskState::Starting);
        let delay = self.random.below(3_000);
        self.after(delay, Event::TaskStep(number, id));
    }

    fn agent_kills(&mut self, number: usize, task: TaskId) {
        match self.agents[number].tasks.get(&task).map(|known| known.status.state) {
            None => {
                // Nothing of that name here: say so.
                let status = self.new_status(number, TaskState::Lost);
                self.send_up(number, Message::Status(task, status));
            }
            Some(TaskState::Starting | TaskState::Running) => {
                self.task_becomes(number, &task, TaskState::Killing);
                let delay = 1_000 + self.random.below(4_000);
                self.after(delay, Event::TaskStep(number, task));
            }
            Some(_) => {}
        }
    }

    /// The task's process goes on: it listens, or it ends.
    pub(super) fn task_step(&mut self, number: usize, task: &TaskId) {
        let Some(state) = self.agents[number].tasks.get(task).map(|known| known.status.state) else {
            return;
        };
        if !self.agents[number].up {
            // Seen by the daemon once it runs again.
            self.after(1_000, Event::TaskStep(number, task.clone()));
            return;
        }
        match state {
            TaskState::Starting if self.bad_luck(12) => self.task_becomes(number, task, TaskState::Failed),
            TaskState::Starting => {
                self.task_becomes(number, task, TaskState::Running);
                self.after(CHECK_EVERY, Event::Check(number, task.clone()));
            }
            TaskState::Killing => self.task_becomes(number, task, TaskState::Killed),
            _ => {}
        }
    }

    /// The task's health check has a result, told if it is news.
    pub(super) fn task_checked(&mut self, number: usize, task: &TaskId) {
        let agent = &self.agents[number];
        let Some(known) = agent
            .tasks
            .get(task)
            .filter(|known| known.status.state == TaskState::Running)
        else {
            return;
        };
        let check = known.spec.checks.health.first().filter(|_| agent.up).cloned();
        let before = known.status.checks.health.first().cloned().unwrap_or_default();
        let mut result = before.clone();
        let sick = known.sick;
        self.after(CHECK_EVERY, Event::Check(number, task.clone()));
        let Some(check) = check else { return };
        result.alive = Some(!sick);
        result.failures = if sick {
            (result.failures + 1).min(check.max_failures)
        } else {
            0
        };
        if result == before {
            return;
        }
        let mut status = self.new_status(number, TaskState::Running);
        status.healthy = result.alive;
        status.checks.health = vec![result];
        self.task_says(number, task, status);
    }

    pub(super) fn task_becomes(&mut self, number: usize, task: &TaskId, state: TaskState) {
        let status = self.new_status(number, state);
        self.task_says(number, task, status);
    }

    /// A container that ends in any other way than by itself and well takes the others of its instance with it.
    fn others_end(&mut self, number: usize, task: &TaskId) {
        let Some(known) = self.agents[number].tasks.get(task) else {
            return;
        };
        let state = known.status.state;
        if !state.is_terminal() || state == TaskState::Finished {
            return;
        }
        let others: Vec<TaskId> = known.spec.pod.iter().flat_map(|pod| pod.members.clone()).collect();
        for other in others.into_iter().filter(|other| other != task) {
            self.agent_kills(number, other);
        }
    }

    fn task_says(&mut self, number: usize, task: &TaskId, status: TaskStatus) {
        if let Some(known) = self.agents[number].tasks.get_mut(task) {
            known.status = status.clone();
            known.acked = false;
            if self.bug == Some(Bug::ForgottenVolumes) && status.state.is_terminal() {
                let owner = volume_owner(task).to_owned();
                self.agents[number].volumes.remove(&owner);
            }
            if self.agents[number].registered {
                self.send_up(number, Message::Status(task.clone(), status));
            }
        }
        self.others_end(number, task);
    }

    /// Each agent's clock is wrong by its own amount; its statuses never share a time.
    fn new_status(&mut self, number: usize, state: TaskState) -> TaskStatus {
        let skew = 7_000 * u64::try_from(number).unwrap_or(0);
        let agent = &mut self.agents[number];
        agent.last_status = (self.now - skew).max(agent.last_status + 1);
        TaskStatus {
            state,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: agent.last_status,
        }
    }

    /// Statuses may be lost, doubled and overtake each other; the first message of a connection may not.
    fn send_up(&mut self, number: usize, message: Message) {
        let Some(connection) = self.agents[number].connection else {
            return;
        };
        let event = |message| Event::ToMaster {
            from: number,
            connection,
            message,
        };
        let delay = 1 + self.random.below(200);
        if let Message::Status(..) = message {
            if self.bad_luck(15) {
                return;
            }
            if self.bad_luck(10) {
                let late = self.random.below(20_000);
                self.at(
                    (self.now + late).max(self.agents[number].last_up + 1),
                    event(message.clone()),
                );
            }
            self.at((self.now + delay).max(self.agents[number].last_up + 1), event(message));
        } else {
            let at = (self.now + delay).max(self.agents[number].last_up + 1);
            if let Message::Register(_) = message {
                self.agents[number].last_up = at;
            }
            self.at(at, event(message));
        }
    }

    /// Orders keep their order, but may be lost and doubled.
    pub(super) fn send_down(&mut self, number: usize, connection: u64, message: Message) {
        if self.agents[number].connection != Some(connection) {
            return;
        }
        let order = matches!(
            message,
            Message::Launch(_) | Message::Kill(_) | Message::RemoveVolumes(_)
        );
        if !matches!(message, Message::Registered(_)) && self.bad_luck(15) {
            return;
        }
        let copies = if order && self.bad_luck(10) { 2 } else { 1 };
        let at = (self.now + 1 + self.random.below(200)).max(self.agents[number].last_down);
        self.agents[number].last_down = at;
        for _ in 0..copies {
            self.at(
                at,
                Event::ToAgent {
                    to: number,
                    connection,
                    message: message.clone(),
                },
            );
        }
    }

    /// Breaks an agent's connection: what is in flight is lost, and the master hears of it later.
    pub(super) fn break_connection(&mut self, number: usize) {
        if let Some(connection) = self.agents[number].connection.take() {
            self.agents[number].registered = false;
            let delay = self.random.below(5_000);
            self.after(
                delay,
                Event::ToMaster {
                    from: number,
                    connection,
                    message: Message::Disconnect,
                },
            );
        }
    }
}
