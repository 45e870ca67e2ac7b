//! Silence, loss and return of agents, with the picture that readers of the stream have.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ServiceTable, VipRange};

use super::super::tests::{Bench, status};
use crate::core::Config;
use crate::{AppSpec, Command, Effect, Force, PortSpec, Registered, ReportedTask, UnreachableSpec};

use super::*;

/// A core, its agents and a reader of its stream.
struct Site {
    bench: Bench,
    agents: Vec<AgentId>,
    table: ServiceTable,
    launched: Vec<TaskId>,
    killed: Vec<TaskId>,
}

fn config() -> Config {
    Config {
        forget_agent: seconds(3600),
        ..Config::default()
    }
}

impl Site {
    fn new(agents: u8) -> Self {
        let mut bench = Bench::with(config(), Vec::new());
        let agents = (1..=agents)
            .map(|last| bench.register_at(last, None, Vec::new()).agent)
            .collect();
        let mut table = ServiceTable::new(VipRange::default());
        table.apply(TaskEvent::Snapshot(bench.core.state()));
        let mut site = Self {
            bench,
            agents,
            table,
            launched: Vec::new(),
            killed: Vec::new(),
        };
        site.fold();
        site
    }

    /// Carries out what the core wants.
    fn fold(&mut self) {
        for effect in self.bench.effects() {
            match effect {
                // Followers are none of its business.
                Effect::Tell(_) | Effect::ToFramework { .. } => {}
                Effect::Launch { spec, .. } => self.launched.push(spec.task),
                Effect::Kill { task, .. } => self.killed.push(task),
                Effect::Emit(event) => drop(self.table.apply(event)),
                Effect::LaunchPod { .. }
                | Effect::Persist(_)
                | Effect::RemoveVolumes { .. }
                | Effect::Secrets { .. } => {}
            }
        }
        self.bench.core.check();
    }

    /// An app with a VIP, each of its instances running.
    fn app(&mut self, instances: i64, strategy: Option<UnreachableSpec>) {
        let labels = BTreeMap::from([("VIP_0".to_owned(), "/a:80".to_owned())]);
        let spec = AppSpec {
            id: "/a".to_owned(),
            cmd: Some("x".to_owned()),
            cpus: Some(0.1),
            mem: Some(10.0),
            instances: Some(instances),
            unreachable_strategy: strategy,
            port_definitions: Some(vec![PortSpec {
                labels,
                ..PortSpec::default()
            }]),
            ..AppSpec::default()
        };
        self.bench.command(Command::CreateApp(Box::new(spec))).expect("valid");
        self.fold();
        self.run_all();
    }

    /// Every task launched so far runs, where its agent is there.
    fn run_all(&mut self) {
        for task in std::mem::take(&mut self.launched) {
            let agent = self.agent_of(&task);
            self.bench.tell(&agent, &task, TaskState::Running);
        }
        self.fold();
    }

    fn agent_of(&self, task: &TaskId) -> AgentId {
        let instance = self.bench.core.instances().find(|one| one.spec.task == *task);
        instance.expect("known").agent.clone()
    }

    fn task_on(&self, agent: usize) -> TaskId {
        let mut instances = self.bench.core.instances();
        let one = instances.find(|one| one.agent == self.agents[agent]);
        one.expect("one there").spec.task.clone()
    }

    /// Lets time pass while the agents of these numbers say every second that they live.
    fn pass(&mut self, time: Duration, speak: &[usize]) {
        let until = self.bench.now + u64::try_from(time.as_millis()).expect("short");
        let mut beat = self.bench.now;
        loop {
            let timer = self
                .bench
                .core
                .poll_timeout()
                .map_or(u64::MAX, |at| at.0.max(self.bench.now));
            self.bench.now = timer.min(beat).min(until);
            let at = self.bench.at();
            if self.bench.now == beat {
                for number in speak {
                    self.bench.core.handle_heartbeat(at, &self.agents[*number]);
                }
                beat += 1_000;
            }
            self.bench.core.handle_timeout(at);
            self.fold();
            if self.bench.now == until {
                return;
            }
        }
    }

    /// (Task, weight) of the VIP's backends.
    fn weights(&self) -> BTreeMap<TaskId, u16> {
        let snapshot = self.table.snapshot();
        let backends = snapshot.services.values().flat_map(|service| service.backends.iter());
        backends.map(|backend| (backend.task.clone(), backend.weight)).collect()
    }

    fn come_back(&mut self, agent: usize, tasks: &[(TaskId, model::LaunchSpec)]) -> Registered {
        self.bench.now += 1;
        let report = |(_, spec): &(TaskId, model::LaunchSpec)| ReportedTask {
            spec: spec.clone(),
            status: status(TaskState::Running, 5),
        };
        let told = tasks.iter().map(report).collect();
        let id = self.agents[agent].clone();
        let last = u8::try_from(agent + 1).expect("few");
        let registered = self.bench.register_at(last, Some(&id), told);
        self.fold();
        registered
    }

    fn specs_on(&self, agent: usize) -> Vec<(TaskId, model::LaunchSpec)> {
        let there = |one: &&InstanceRecord| one.agent == self.agents[agent];
        let instances = self.bench.core.instances().filter(there);
        instances
            .map(|one| (one.spec.task.clone(), model::LaunchSpec::clone(&one.spec)))
            .collect()
    }

    fn lost(&self) -> usize {
        self.agents.len() - self.bench.core.agents().count()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn after(inactive: i64, expunge: i64) -> Option<UnreachableSpec> {
    Some(UnreachableSpec::After { inactive, expunge })
}

#[test]
fn a_silent_agents_tasks_take_no_new_connections_where_others_can() {
    let mut site = Site::new(2);
    site.app(2, None);
    let (silent, other) = (site.task_on(0), site.task_on(1));
    site.pass(Duration::from_millis(2_900), &[1]);
    assert_eq!(
        site.weights(),
        BTreeMap::from([(silent.clone(), 1), (other.clone(), 1)])
    );
    site.pass(Duration::from_millis(200), &[1]);
    assert_eq!(
        site.weights(),
        BTreeMap::from([(silent.clone(), 0), (other.clone(), 1)])
    );
    let told = site.bench.core.state().tasks;
    let told = told.iter().find(|task| task.id == silent).expect("told");
    assert_eq!(told.status.healthy, Some(false), "who subscribes now is told the same");
    assert!(
        site.killed.is_empty() && site.launched.is_empty(),
        "nothing is replaced for that"
    );
    site.pass(seconds(1), &[0, 1]);
    assert_eq!(site.weights(), BTreeMap::from([(silent, 1), (other, 1)]));
}

#[test]
fn the_last_ready_instances_stay_in_rotation() {
    let mut site = Site::new(2);
    site.app(2, None);
    let (first, second) = (site.task_on(0), site.task_on(1));
    let all = BTreeMap::from([(first.clone(), 1), (second.clone(), 1)]);
    site.pass(seconds(10), &[]);
    assert_eq!(
        site.weights(),
        all,
        "everybody is silent: it is the master that is cut off"
    );
    site.pass(seconds(1), &[1]);
    assert_eq!(site.weights()[&first], 0, "now there is one that can");
    let agent = site.agents[1].clone();
    site.bench.tell(&agent, &second, TaskState::Killing);
    site.fold();
    assert_eq!(site.weights()[&first], 1, "and now there is none again");
}

#[test]
fn a_standstill_of_the_master_is_no_silence_of_its_agents() {
    let mut site = Site::new(2);
    site.app(2, None);
    site.bench.now += 3_600_000;
    let at = site.bench.at();
    site.bench.core.handle_timeout(at);
    site.fold();
    assert_eq!((site.lost(), site.weights().into_values().min()), (0, Some(1)));
    site.pass(seconds(70), &[1]);
    assert_eq!(site.lost(), 0, "its time began anew");
    site.pass(seconds(10), &[1]);
    assert_eq!(site.lost(), 1);
}

#[test]
fn a_mass_loss_is_bounded_in_share_and_rate() {
    let mut site = Site::new(10);
    site.app(10, None);
    site.pass(seconds(75), &[0, 1]);
    let mut lost_at = vec![site.lost()];
    for _ in 0..40 {
        site.pass(Duration::from_millis(300), &[0, 1]);
        lost_at.push(site.lost());
    }
    let steps: Vec<usize> = lost_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        steps.windows(2).all(|pair| pair[0] + pair[1] <= 1),
        "one in 600 ms: {lost_at:?}"
    );
    assert_eq!(site.lost(), 5, "half of them, no more for now");
    let kept = site.weights().len();
    assert!(kept >= 5, "{kept} backends stay");
    site.pass(seconds(61), &[0, 1]);
    assert_eq!(site.lost(), 6, "the rest one a minute");
    let back = site.specs_on(9);
    let registered = site.come_back(9, &back);
    assert!(
        registered.unknown.is_empty(),
        "who comes back meanwhile has lost nothing"
    );
    site.pass(seconds(200), &[0, 1, 9]);
    assert_eq!(site.lost(), 7, "all that stay away are given up in the end");
}

#[test]
fn without_a_strategy_tasks_are_replaced_and_forgotten_at_once() {
    let mut site = Site::new(2);
    site.app(2, None);
    let there = site.specs_on(0);
    site.pass(seconds(76), &[1]);
    assert_eq!((site.launched.len(), site.bench.core.instances().count()), (1, 2));
    assert!(site.bench.core.unreachable_tasks().is_empty());
    let registered = site.come_back(0, &there);
    assert_eq!(registered.unknown, [there[0].0.clone()]);
}

#[test]
fn a_disabled_strategy_waits_for_ever() {
    let mut site = Site::new(2);
    site.app(2, Some(UnreachableSpec::Disabled));
    let there = site.specs_on(0);
    site.pass(seconds(2 * 3600), &[1]);
    assert!(site.launched.is_empty(), "nothing is replaced");
    assert_eq!(site.weights().len(), 1, "it is no backend meanwhile");
    let away = site.bench.core.unreachable_tasks();
    assert_eq!((away.len(), away[0].status.state), (1, TaskState::Unreachable));
    let registered = site.come_back(0, &there);
    assert!(registered.unknown.is_empty());
    assert_eq!(
        site.weights().values().copied().collect::<Vec<_>>(),
        [1, 1],
        "it is one again"
    );
    assert!(site.bench.core.instances().all(|one| one.unreachable_since.is_none()));
}

#[test]
fn an_instance_is_replaced_when_inactive_and_forgotten_when_expunged() {
    let mut site = Site::new(2);
    site.app(2, after(30, 300));
    let there = site.specs_on(0);
    site.pass(seconds(75 + 29), &[1]);
    assert!(site.launched.is_empty(), "it may still come back");
    site.pass(seconds(2), &[1]);
    assert_eq!(site.launched.len(), 1, "another takes its place");
    site.run_all();
    assert_eq!(site.bench.core.instances().count(), 3);
    site.pass(seconds(300), &[1]);
    assert_eq!(site.bench.core.instances().count(), 2, "forgotten");
    let registered = site.come_back(0, &there);
    assert_eq!(registered.unknown, [there[0].0.clone()], "too late");
}

#[test]
fn one_that_comes_back_after_it_was_replaced_makes_one_too_many() {
    let mut site = Site::new(2);
    site.app(2, after(0, 300));
    let there = site.specs_on(0);
    site.pass(seconds(76), &[1]);
    let replacement = site.launched[0].clone();
    site.run_all();
    let registered = site.come_back(0, &there);
    assert!(registered.unknown.is_empty(), "it is one of the app's");
    assert_eq!(site.killed, [replacement], "of three the youngest ends");
}

#[test]
fn a_restored_core_goes_on_waiting_for_the_same_time() {
    let mut site = Site::new(2);
    site.app(2, after(30, 300));
    let there = site.specs_on(0);
    site.pass(seconds(76), &[1]);
    assert_eq!(site.bench.core.unreachable_tasks().len(), 1);
    let mut bench = Bench::with(config(), site.bench.stored.clone());
    bench.now = site.bench.now + 25_000;
    let (at, id) = (bench.at(), site.agents[1].clone());
    bench.core.handle_timeout(at);
    let second = site.specs_on(1);
    site.bench = bench;
    site.come_back(1, &second);
    assert_eq!(
        site.bench.core.agents().next().map(|view| view.record.id.clone()),
        Some(id)
    );
    assert!(site.launched.is_empty());
    site.pass(seconds(6), &[1]);
    assert_eq!(site.launched.len(), 1, "30 s after the loss");
    site.pass(seconds(300), &[1]);
    assert!(
        !site.come_back(0, &there).unknown.is_empty(),
        "expunged 300 s after the loss"
    );
}

#[test]
fn scaling_down_ends_the_one_that_is_away_for_good() {
    let mut site = Site::new(2);
    site.app(2, Some(UnreachableSpec::Disabled));
    let there = site.specs_on(0);
    site.pass(seconds(76), &[1]);
    let scale = Command::ScaleApp {
        id: "/a".to_owned(),
        instances: 1,
        force: Force::Yes,
    };
    site.bench.command(scale).expect("known");
    site.fold();
    assert!(site.killed.is_empty() && site.bench.core.instances().count() == 1);
    assert_eq!(site.come_back(0, &there).unknown, [there[0].0.clone()]);
}
