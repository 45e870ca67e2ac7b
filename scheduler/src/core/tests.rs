//! The core from outside: one command or message at a time.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::{LaunchSpec, Resources, TaskId, TaskState, TaskStatus};

use crate::{AppSpec, Command, CommandError, Registered, Registration, Reply, ReportedTask};

use super::*;

const T0: u64 = 1_700_000_000_000;

pub(super) struct Bench {
    pub(super) core: Scheduler,
    pub(super) now: u64,
    pub(super) stored: Vec<Record>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::restored(Vec::new())
    }

    pub(super) fn restored(stored: Vec<Record>) -> Self {
        // Agents of most tests say nothing for long times.
        let config = Config {
            suspect_after: Duration::ZERO,
            ..Config::default()
        };
        Self::with(config, stored)
    }

    pub(super) fn with(config: Config, stored: Vec<Record>) -> Self {
        // Another seed at each start.
        let seed = 7 + u64::try_from(stored.len()).expect("few");
        let core = Scheduler::new(config, seed, stored.clone());
        Self { core, now: T0, stored }
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// All effects up to now; what is persisted is kept.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            if let Effect::Persist(record) = &effect {
                self.stored.push(record.clone());
            }
            effects.push(effect);
        }
        effects
    }

    pub(super) fn launches(&mut self) -> Vec<LaunchSpec> {
        let launch = |effect| match effect {
            Effect::Launch { spec, .. } => Some(*spec),
            _ => None,
        };
        self.effects().into_iter().filter_map(launch).collect()
    }

    pub(super) fn kills(&mut self) -> Vec<TaskId> {
        let kill = |effect| match effect {
            Effect::Kill { task, .. } => Some(task),
            _ => None,
        };
        self.effects().into_iter().filter_map(kill).collect()
    }

    pub(super) fn register(&mut self, agent: Option<&AgentId>, tasks: Vec<ReportedTask>) -> Registered {
        self.register_at(1, agent, tasks)
    }

    /// Registers the machine 10.0.0.`last`.
    pub(super) fn register_at(&mut self, last: u8, agent: Option<&AgentId>, tasks: Vec<ReportedTask>) -> Registered {
        let registration = Registration {
            agent: agent.cloned(),
            tasks,
            ..Self::registration(last)
        };
        self.core.handle_registration(self.at(), registration)
    }

    /// What that machine says without id and tasks.
    pub(super) fn registration(last: u8) -> Registration {
        Registration {
            agent: None,
            hostname: format!("10.0.0.{last}"),
            ip: Ipv4Addr::new(10, 0, 0, last),
            http_port: 5051,
            resources: Resources {
                cpus_milli: 1_000,
                mem_mb: 1_000,
                disk_mb: 250,
            },
            ports: vec![(31_000, 32_000)],
            attributes: BTreeMap::new(),
            domain: crate::Domain::default(),
            taken: Vec::new(),
            tasks: Vec::new(),
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Result<Reply, CommandError> {
        self.core.handle_command(self.at(), command)
    }

    fn create(&mut self, id: &str, instances: i64) {
        let spec = AppSpec {
            id: id.to_owned(),
            cmd: Some("x".to_owned()),
            cpus: Some(0.1),
            mem: Some(10.0),
            instances: Some(instances),
            ..AppSpec::default()
        };
        let reply = self.core.handle_command(self.at(), Command::CreateApp(Box::new(spec)));
        reply.expect("valid");
    }

    pub(super) fn tell(&mut self, agent: &AgentId, task: &TaskId, state: TaskState) {
        self.now += 1;
        let status = status(state, self.now);
        assert!(self.core.handle_status(self.at(), agent, task.clone(), status));
    }

    /// The same with the task's address.
    pub(super) fn tell_at(&mut self, agent: &AgentId, task: &TaskId, state: TaskState, address: std::net::IpAddr) {
        self.now += 1;
        let mut status = status(state, self.now);
        status.addresses = vec![address];
        assert!(self.core.handle_status(self.at(), agent, task.clone(), status));
    }

    /// Lets time pass until the next timer.
    pub(super) fn next_timer(&mut self) -> Duration {
        let before = self.now;
        self.now = self.core.poll_timeout().expect("a timer").0;
        self.core.handle_timeout(self.at());
        Duration::from_millis(self.now - before)
    }
}

pub(super) fn status(state: TaskState, timestamp_ms: u64) -> TaskStatus {
    TaskStatus {
        state,
        reason: None,
        healthy: None,
        addresses: Vec::new(),
        message: None,
        checks: Default::default(),
        timestamp_ms,
    }
}

#[test]
fn an_instance_is_persisted_told_and_then_sent() {
    let mut bench = Bench::new();
    let registered = bench.register(None, Vec::new());
    assert_eq!(registered.agent.as_str(), "revere-S0");
    assert_eq!(
        registered.subnet.map(|net| net.to_string()).as_deref(),
        Some("9.0.1.0/24")
    );
    bench.effects();
    bench.create("/a", 1);
    let kinds: Vec<&str> = bench
        .effects()
        .iter()
        .map(|effect| match effect {
            Effect::Persist(Record::PutApp(_)) => "app",
            Effect::Persist(Record::PutInstance(_)) => "instance",
            Effect::Emit(TaskEvent::TaskAdded(_)) => "added",
            Effect::Launch { .. } => "launch",
            Effect::Persist(Record::PutDeployment(_)) => "deployment",
            Effect::Tell(_) => "told",
            other => panic!("unexpected {other:?}"),
        })
        .filter(|kind| *kind != "told")
        .collect();
    assert_eq!(
        kinds,
        ["app", "deployment", "deployment", "instance", "added", "launch"]
    );
}

#[test]
fn failures_delay_the_next_launch_and_kills_do_not() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 1);
    let first = bench.launches().remove(0).task;
    bench.tell(&agent, &first, TaskState::Failed);
    assert!(bench.launches().is_empty(), "one second of delay");
    let delay = bench.core.queue().next().map(|item| (item.count, item.delay));
    assert_eq!(delay, Some((1, Duration::from_secs(1))));
    assert_eq!(bench.next_timer(), Duration::from_secs(1));
    let second = bench.launches().remove(0).task;
    assert_ne!(first, second);
    bench.tell(&agent, &second, TaskState::Killed);
    assert_eq!(bench.launches().len(), 1, "replaced at once");
}

#[test]
fn unanswered_launches_and_kills_are_repeated() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 1);
    let task = bench.launches().remove(0).task;
    assert_eq!(bench.next_timer(), Duration::from_secs(10));
    assert_eq!(bench.launches().remove(0).task, task);
    bench.tell(&agent, &task, TaskState::Starting);
    bench.tell(&agent, &task, TaskState::Running);
    assert!(bench.core.deployments().is_empty());
    let scale = Command::ScaleApp {
        id: "//a".to_owned(),
        instances: 0,
        force: Force::No,
    };
    bench.core.handle_command(bench.at(), scale).expect("known");
    assert_eq!(bench.kills(), std::slice::from_ref(&task));
    bench.tell(&agent, &task, TaskState::Killing);
    assert_eq!(bench.next_timer(), Duration::from_millis(9_999));
    assert_eq!(bench.kills(), std::slice::from_ref(&task));
    bench.tell(&agent, &task, TaskState::Killed);
    assert!(bench.core.deployments().is_empty());
    assert_eq!(bench.core.instances().count(), 0);
}

#[test]
fn a_silent_agent_is_replaced_and_its_tasks_end_on_return() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 1);
    let spec = bench.launches().remove(0);
    bench.tell(&agent, &spec.task, TaskState::Running);
    bench.core.handle_disconnect(bench.at(), &agent);
    assert_eq!(bench.next_timer(), Duration::from_secs(75));
    let told: Vec<TaskEvent> = bench
        .effects()
        .into_iter()
        .filter_map(|effect| {
            if let Effect::Emit(event) = effect {
                Some(event)
            } else {
                None
            }
        })
        .skip_while(
            |event| !matches!(event, TaskEvent::TaskUpdated { status, .. } if status.state == TaskState::Unreachable),
        )
        .collect();
    assert!(matches!(told.as_slice(), [_, TaskEvent::AgentRemoved(gone)] if *gone == agent));
    assert_eq!(bench.core.queue().count(), 1, "no other agent");
    assert!(
        !bench.core.handle_heartbeat(bench.at(), &agent),
        "it has to register again"
    );
    let report = ReportedTask {
        spec: spec.clone(),
        status: status(TaskState::Running, bench.now),
    };
    let registered = bench.register(Some(&agent), vec![report]);
    assert_eq!(
        (registered.agent, registered.unknown),
        (agent.clone(), vec![spec.task.clone()])
    );
    let used = bench.core.agents().next().map(|view| view.used.cpus_milli);
    assert_eq!(used, Some(200), "the old task counts until it has ended");
    bench.tell(&agent, &spec.task, TaskState::Killed);
    assert_eq!(bench.core.agents().next().map(|view| view.used.cpus_milli), Some(100));
}

#[test]
fn what_comes_back_unknown_is_charged_whole_where_known_tasks_are_lost() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    let app = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.8),
        mem: Some(10.0),
        instances: Some(1),
        ..AppSpec::default()
    };
    bench.command(Command::CreateApp(Box::new(app))).expect("valid");
    let spec = bench.launches().remove(0);
    bench.tell(&agent, &spec.task, TaskState::Running);
    let other = LaunchSpec {
        task: TaskId::new("nobodys"),
        ..spec
    };
    let report = ReportedTask {
        spec: other.clone(),
        status: status(TaskState::Running, bench.now),
    };
    let registered = bench.register(Some(&agent), vec![report]);
    assert_eq!(registered.unknown, std::slice::from_ref(&other.task));
    let used = |bench: &Bench| bench.core.agents().next().map(|view| view.used.cpus_milli);
    assert_eq!(used(&bench), Some(800), "with the lost one's port and cpus");
    assert!(bench.launches().is_empty(), "there is no room for both");
    bench.core.check();
    bench.tell(&agent, &other.task, TaskState::Killed);
    assert_eq!((bench.launches().len(), used(&bench)), (1, Some(800)));
}

#[test]
fn a_restored_core_waits_for_its_agents() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 2);
    let specs = bench.launches();
    bench.tell(&agent, &specs[0].task, TaskState::Running);
    bench.effects();
    let mut after = Bench::restored(bench.stored);
    after.now = bench.now + 60_000;
    after.core.handle_timeout(after.at());
    assert_eq!(after.core.recovered_agents().count(), 1);
    assert_eq!(after.core.state().tasks.len(), 2);
    assert!(
        after.launches().is_empty(),
        "nothing is replaced before the agents had their time"
    );
    let report = ReportedTask {
        spec: specs[0].clone(),
        status: status(TaskState::Running, after.now),
    };
    let registered = after.register(Some(&agent), vec![report]);
    assert!(registered.unknown.is_empty());
    assert_eq!(
        registered.subnet.map(|net| net.to_string()).as_deref(),
        Some("9.0.1.0/24")
    );
    let again: Vec<TaskId> = after.launches().into_iter().map(|spec| spec.task).collect();
    assert_eq!(
        again,
        [specs[1].task.clone()],
        "the one that never arrived is sent again"
    );
}

#[test]
fn agents_that_stay_away_after_a_restart_are_given_up() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 1);
    bench.effects();
    let mut after = Bench::restored(bench.stored);
    after.core.handle_timeout(after.at());
    assert_eq!(after.next_timer(), Duration::from_secs(600));
    assert_eq!(after.core.recovered_agents().count(), 0);
    assert_eq!(after.core.instances().count(), 0);
    assert!(after.effects().contains(&Effect::Emit(TaskEvent::AgentRemoved(agent))));
}

#[test]
fn commands_that_cannot_be_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    bench.create("/a", 0);
    bench.effects();
    let at = bench.at();
    let mut refused = |command| bench.core.handle_command(at, command).expect_err("refused");
    let create = |id: &str| {
        let spec = AppSpec {
            id: id.to_owned(),
            cmd: Some("x".to_owned()),
            ..AppSpec::default()
        };
        Command::CreateApp(Box::new(spec))
    };
    assert_eq!(refused(create("a")), CommandError::AppExists("/a".to_owned()));
    assert!(matches!(refused(create("/a/b")), CommandError::Invalid(faults) if faults[0].path == "/id"));
    let scale = |id: &str, instances| Command::ScaleApp {
        id: id.to_owned(),
        instances,
        force: Force::No,
    };
    assert_eq!(refused(scale("/x", 1)), CommandError::NoApp("/x".to_owned()));
    assert!(matches!(refused(scale("/a", -1)), CommandError::Invalid(_)));
    assert_eq!(
        refused(Command::RemoveApp {
            id: "/".to_owned(),
            force: Force::Yes
        }),
        CommandError::NoApp("/".to_owned())
    );
    assert_eq!(
        refused(Command::KillTasks {
            tasks: vec!["t".to_owned()],
            then: crate::AfterKill::Replace,
            volumes: crate::Volumes::Keep,
            force: Force::No
        }),
        CommandError::NoTask("t".to_owned())
    );
    assert!(bench.effects().is_empty());
}

#[test]
fn scaling_down_ends_what_does_not_run_and_then_the_youngest() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.create("/a", 1);
    let oldest = bench.launches().remove(0).task;
    bench.tell(&agent, &oldest, TaskState::Running);
    let scale = |instances| Command::ScaleApp {
        id: "/a".to_owned(),
        instances,
        force: Force::Yes,
    };
    bench.now += 1_000;
    bench.core.handle_command(bench.at(), scale(2)).expect("known");
    let youngest = bench.launches().remove(0).task;
    bench.tell(&agent, &youngest, TaskState::Running);
    bench.now += 1_000;
    bench.core.handle_command(bench.at(), scale(3)).expect("known");
    let staging = bench.launches().remove(0).task;
    bench.core.handle_command(bench.at(), scale(2)).expect("known");
    assert_eq!(bench.kills(), [staging]);
    bench.core.handle_command(bench.at(), scale(1)).expect("known");
    assert_eq!(bench.kills(), [youngest]);
}

#[test]
fn scaling_down_keeps_groups_even() {
    let mut bench = Bench::new();
    for (number, rack) in [(1, "east"), (2, "west")] {
        let registration = Registration {
            agent: None,
            hostname: format!("10.0.0.{number}"),
            ip: Ipv4Addr::new(10, 0, 0, number),
            http_port: 5051,
            resources: Resources {
                cpus_milli: 2_000,
                mem_mb: 1_000,
                disk_mb: 250,
            },
            ports: vec![(31_000, 32_000)],
            attributes: BTreeMap::from([("rack".to_owned(), rack.to_owned())]),
            domain: crate::Domain::default(),
            taken: Vec::new(),
            tasks: Vec::new(),
        };
        bench.core.handle_registration(bench.at(), registration);
    }
    let words = ["rack", "GROUP_BY"].map(str::to_owned).to_vec();
    let spec = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(12),
        constraints: vec![words],
        ..AppSpec::default()
    };
    bench.command(Command::CreateApp(Box::new(spec))).expect("valid");
    for left in (1..12).rev() {
        let scale = Command::ScaleApp {
            id: "/a".to_owned(),
            instances: left,
            force: Force::Yes,
        };
        bench.command(scale).expect("there");
        let on = |agent: &str| {
            let wanted = bench.core.instances().filter(|one| !one.unwanted);
            wanted.filter(|one| one.agent.as_str() == agent).count()
        };
        let (east, west) = (on("revere-S0"), on("revere-S1"));
        assert!(east.abs_diff(west) <= 1, "{east} and {west}");
    }
}

#[test]
fn an_app_that_is_named_like_anothers_instances_is_another_app() {
    let mut bench = Bench::new();
    bench.register(None, Vec::new());
    bench.create("/a", 2);
    bench.create("/a.instance-b", 1);
    let count = |id: &str| {
        let app = bench.core.app(id).expect("there").id.clone();
        bench.core.instances_of(&app).count()
    };
    assert_eq!((count("/a"), count("/a.instance-b")), (2, 1));
}
