//! Instances of pods from launch to end: several tasks, one instance.

use model::{AgentId, CheckResult, CheckResults, LaunchSpec, TaskId, TaskState, TaskStatus};

use super::super::tests::{Bench, status};
use crate::{AppSpec, ClusterEvent, Command, Effect, PodCheckSpec, PodContainerSpec, PodSpec, PortSpec, ReportedTask};

fn container(name: &str) -> PodContainerSpec {
    PodContainerSpec {
        name: name.to_owned(),
        common: AppSpec {
            cmd: Some("x".to_owned()),
            cpus: Some(0.1),
            mem: Some(10.0),
            ..AppSpec::default()
        },
        ..PodContainerSpec::default()
    }
}

/// Two containers, the first with an endpoint and a health check.
pub(crate) fn pod(instances: i64) -> AppSpec {
    let mut web = container("web");
    web.endpoints = vec![PortSpec {
        name: Some("http".to_owned()),
        host_port: Some(0),
        ..PortSpec::default()
    }];
    web.health_check = Some(PodCheckSpec {
        tcp: Some("http".to_owned()),
        ..PodCheckSpec::default()
    });
    AppSpec {
        id: "/p".to_owned(),
        instances: Some(instances),
        pod: Some(Box::new(PodSpec {
            containers: vec![web, container("side")],
            executor: (Some(0.1), Some(10.0), Some(0.0)),
            ..PodSpec::default()
        })),
        ..AppSpec::default()
    }
}

struct Site {
    bench: Bench,
    agent: AgentId,
    specs: Vec<LaunchSpec>,
}

fn launched(effects: &[Effect]) -> Vec<LaunchSpec> {
    let orders = effects.iter().filter_map(|effect| match effect {
        Effect::LaunchPod { specs, .. } => Some(specs.clone()),
        _ => None,
    });
    orders.flatten().collect()
}

impl Site {
    /// One instance, sent to its agent.
    fn new() -> Self {
        let mut bench = Bench::new();
        let agent = bench.register(None, Vec::new()).agent;
        bench.command(Command::CreateApp(Box::new(pod(1)))).expect("valid");
        let specs = launched(&bench.effects());
        assert_eq!(specs.len(), 2, "both containers in one order");
        Self { bench, agent, specs }
    }

    fn task(&self, index: usize) -> TaskId {
        self.specs[index].task.clone()
    }

    fn tell(&mut self, index: usize, state: TaskState) -> Vec<Effect> {
        self.say(index, |at| status(state, at))
    }

    fn say(&mut self, index: usize, status: impl Fn(u64) -> TaskStatus) -> Vec<Effect> {
        self.bench.now += 1;
        let status = status(self.bench.now);
        let (at, task) = (self.bench.at(), self.task(index));
        assert!(self.bench.core.handle_status(at, &self.agent, task, status));
        self.bench.core.check();
        self.bench.effects()
    }

    fn well(&mut self, alive: bool, failures: u32) -> Vec<Effect> {
        self.say(0, |at| TaskStatus {
            healthy: Some(alive),
            checks: Box::new(CheckResults {
                health: vec![CheckResult {
                    alive: Some(alive),
                    failures,
                    ..CheckResult::default()
                }],
                readiness: Vec::new(),
            }),
            ..status(TaskState::Running, at)
        })
    }

    fn state(&self) -> Option<TaskState> {
        self.bench.core.instances().next().map(|one| one.status.state)
    }

    fn report(&self, index: usize, state: TaskState) -> ReportedTask {
        ReportedTask {
            spec: self.specs[index].clone(),
            status: status(state, self.bench.now),
        }
    }
}

fn kills(effects: &[Effect]) -> Vec<TaskId> {
    let kill = |effect: &Effect| match effect {
        Effect::Kill { task, .. } => Some(task.clone()),
        _ => None,
    };
    effects.iter().filter_map(kill).collect()
}

#[test]
fn one_place_is_charged_for_all_containers_and_the_executor() {
    let site = Site::new();
    let used = site.bench.core.agent_view(&site.agent).expect("known").used;
    assert_eq!((used.cpus_milli, used.mem_mb), (300, 30));
    let part = site.specs[0].pod.as_ref().expect("a part");
    assert_eq!(part.members, [site.task(0), site.task(1)]);
    assert!(site.task(0).as_str().ends_with(".web.1") && site.task(1).as_str().ends_with(".side.1"));
    assert_eq!(site.specs[1].pod.as_ref().expect("a part").members, part.members);
}

#[test]
fn a_pod_is_deployed_when_all_of_it_runs_and_is_healthy() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    assert_eq!(site.state(), Some(TaskState::Starting), "half of it runs");
    site.tell(1, TaskState::Running);
    assert_eq!(site.state(), Some(TaskState::Running));
    assert_eq!(site.bench.core.deployments().len(), 1, "not yet healthy");
    site.well(true, 0);
    assert!(site.bench.core.deployments().is_empty());
    let told = site.bench.core.state().tasks;
    assert_eq!(told.len(), 2, "the stream tells each container");
}

#[test]
fn a_container_that_fails_ends_the_instance_and_another_comes_after_the_delay() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    site.tell(1, TaskState::Running);
    site.well(true, 0);
    let effects = site.tell(1, TaskState::Failed);
    assert_eq!(kills(&effects), [site.task(0)]);
    assert!(launched(&effects).is_empty(), "not before the delay");
    site.bench.next_timer();
    assert_eq!(launched(&site.bench.effects()).len(), 2);
    let effects = site.tell(0, TaskState::Killed);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Tell(ClusterEvent::Status(_, status)) if status.state == TaskState::Failed)),
        "it failed, although the last of it was killed"
    );
    assert_eq!(site.bench.core.instances().count(), 1);
}

#[test]
fn a_container_that_is_done_leaves_the_others_alone() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    site.tell(1, TaskState::Running);
    site.well(true, 0);
    assert!(kills(&site.tell(1, TaskState::Finished)).is_empty());
    assert_eq!(site.state(), Some(TaskState::Running));
    assert_eq!(site.bench.core.state().tasks.len(), 1);
    // Ending the instance asks only for what still runs.
    let end = Command::RemoveApp {
        id: "/p".to_owned(),
        force: crate::Force::Yes,
    };
    site.bench.command(end).expect("known");
    assert_eq!(kills(&site.bench.effects()), [site.task(0)]);
}

#[test]
fn a_check_that_fails_too_often_ends_all_of_it() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    site.tell(1, TaskState::Running);
    site.well(true, 0);
    assert!(kills(&site.well(false, 2)).is_empty());
    assert_eq!(kills(&site.well(false, 3)), [site.task(0), site.task(1)]);
}

#[test]
fn an_agent_that_comes_back_with_half_a_pod_ends_that_half() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    site.tell(1, TaskState::Running);
    let report = vec![site.report(0, TaskState::Running)];
    let agent = site.agent.clone();
    let registered = site.bench.register(Some(&agent), report);
    site.bench.core.check();
    let ends = kills(&site.bench.effects());
    assert!(registered.unknown.contains(&site.task(0)) || ends.contains(&site.task(0)));
    site.tell(0, TaskState::Killed);
    assert!(site.bench.core.instances().all(|one| !one.has_task(&site.task(0))));
}

#[test]
fn an_order_that_never_arrived_is_sent_whole_again() {
    let mut site = Site::new();
    let agent = site.agent.clone();
    site.bench.register(Some(&agent), Vec::new());
    let again = launched(&site.bench.effects());
    assert_eq!(again, site.specs);
}

#[test]
fn a_user_may_name_any_container_of_an_instance_to_end_it() {
    let mut site = Site::new();
    site.tell(0, TaskState::Running);
    site.tell(1, TaskState::Running);
    let end = Command::KillTasks {
        tasks: vec![site.task(1).to_string()],
        then: crate::AfterKill::Replace,
        volumes: crate::Volumes::Keep,
        force: crate::Force::No,
    };
    site.bench.command(end).expect("known");
    assert_eq!(kills(&site.bench.effects()), [site.task(0), site.task(1)]);
}

#[test]
fn an_app_never_takes_a_pods_place() {
    let mut site = Site::new();
    let app = AppSpec {
        id: "/p".to_owned(),
        cmd: Some("x".to_owned()),
        ..AppSpec::default()
    };
    let put = Command::PutApps {
        specs: vec![app],
        force: crate::Force::Yes,
    };
    let error = site.bench.command(put).expect_err("refused");
    assert!(format!("{error:?}").contains("a pod has this id"), "{error:?}");
}
