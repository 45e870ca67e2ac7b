//! Frameworks from outside: one call at a time.

use std::time::Duration;

use model::{
    AgentId, Command as Program, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskId, TaskNetwork, TaskState,
};

use super::super::tests::{Bench, status};
use crate::{
    AppSpec, Capability, Command, Effect, FrameworkCall, FrameworkEvent, FrameworkSpec, FrameworkUpdate, Offer,
    Operation, Record, ReportedTask, Subscription, TaskOrder,
};

mod holdings;
mod quota;

/// What a framework was told, and what went to agents.
#[derive(Default)]
struct Heard {
    events: Vec<FrameworkEvent>,
    launches: Vec<LaunchSpec>,
    kills: Vec<(TaskId, KillPolicy)>,
}

impl Heard {
    fn offers(&self) -> Vec<Offer> {
        let offers = self.events.iter().filter_map(|event| match event {
            FrameworkEvent::Offers(offers) => Some(offers.clone()),
            _ => None,
        });
        offers.flatten().collect()
    }

    fn updates(&self) -> Vec<FrameworkUpdate> {
        let updates = self.events.iter().filter_map(|event| match event {
            FrameworkEvent::Update(update) => Some((**update).clone()),
            _ => None,
        });
        updates.collect()
    }

    fn states(&self) -> Vec<(String, TaskState)> {
        let updates = self.updates();
        updates
            .iter()
            .map(|one| (one.task.to_string(), one.status.state))
            .collect()
    }
}

impl Bench {
    fn hear(&mut self) -> Heard {
        let mut heard = Heard::default();
        for effect in self.effects() {
            match effect {
                Effect::ToFramework { event, .. } => heard.events.push(*event),
                Effect::Launch { spec, .. } => heard.launches.push(*spec),
                Effect::Kill { task, policy, .. } => heard.kills.push((task, policy)),
                _ => {}
            }
        }
        self.core.check();
        heard
    }

    fn join(&mut self, spec: FrameworkSpec) -> Subscription {
        let at = self.at();
        self.core.handle_subscribe(at, None, spec, Vec::new()).expect("joins")
    }

    fn ask(&mut self, by: &Subscription, call: FrameworkCall) -> Heard {
        let at = self.at();
        self.core
            .handle_framework(at, &by.framework, by.stream, call)
            .expect("taken");
        self.hear()
    }

    fn accept(&mut self, by: &Subscription, offer: &Offer, orders: Vec<TaskOrder>) -> Heard {
        let call = FrameworkCall::Accept {
            offers: vec![offer.id.clone()],
            operations: vec![Operation::Launch(orders)],
            refuse: Duration::from_secs(5),
        };
        self.ask(by, call)
    }

    fn say(&mut self, agent: &AgentId, spec: &LaunchSpec, state: TaskState) -> Heard {
        self.now += 1;
        let (at, now) = (self.at(), self.now);
        assert!(
            self.core
                .handle_status(at, agent, spec.task.clone(), status(state, now))
        );
        self.hear()
    }

    fn later(&mut self, by: Duration) -> Heard {
        self.now += u64::try_from(by.as_millis()).expect("fits");
        let at = self.at();
        self.core.handle_timeout(at);
        self.hear()
    }
}

fn spec(aware: bool) -> FrameworkSpec {
    FrameworkSpec {
        user: "root".to_owned(),
        name: "x".to_owned(),
        failover_timeout: Duration::from_secs(60),
        roles: vec!["*".to_owned()],
        capabilities: aware.then_some(Capability::PartitionAware).into_iter().collect(),
        ..FrameworkSpec::default()
    }
}

fn order(offer: &Offer, task: &str, cpus_milli: u64) -> TaskOrder {
    let task = TaskId::new(task);
    let spec = LaunchSpec {
        pod: None,
        task: task.clone(),
        name: "x".to_owned(),
        framework: offer.framework.clone(),
        command: Program::Shell("x".to_owned()),
        user: None,
        container: Default::default(),
        fetch: Vec::new(),
        env: Default::default(),
        resources: Resources {
            cpus_milli,
            mem_mb: cpus_milli,
            disk_mb: cpus_milli / 4,
        },
        network: TaskNetwork::Host,
        ports: Vec::new(),
        mappings: Vec::new(),
        host_ports: Vec::new(),
        labels: Default::default(),
        ready: ReadyRule::AtStart,
        checks: Default::default(),
        kill: KillPolicy {
            drain: Duration::ZERO,
            grace: Duration::from_secs(3),
        },
    };
    TaskOrder {
        task,
        name: "x".to_owned(),
        has_discovery: false,
        agent: offer.agent.id.clone(),
        from: Vec::new(),
        spec: Ok(Box::new(spec)),
    }
}

/// One agent, one framework that has all of it in an offer.
fn joined(aware: bool) -> (Bench, AgentId, Subscription, Offer) {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    bench.effects();
    let framework = bench.join(spec(aware));
    let heard = bench.hear();
    assert_eq!(heard.events[0], FrameworkEvent::Subscribed(framework.framework.clone()));
    let offer = heard.offers().remove(0);
    assert_eq!(
        (offer.resources.cpus_milli, &offer.ports[..]),
        (1_000, &[(31_000, 32_000)][..])
    );
    (bench, agent, framework, offer)
}

fn acknowledge(update: &FrameworkUpdate) -> FrameworkCall {
    FrameworkCall::Acknowledge {
        task: update.task.clone(),
        update: update.id.expect("is to be acknowledged"),
    }
}

#[test]
fn a_task_goes_the_whole_way_and_its_updates_come_until_they_are_acknowledged() {
    let (mut bench, agent, framework, offer) = joined(true);
    let heard = bench.accept(&framework, &offer, vec![order(&offer, "t", 400)]);
    let launched = heard.launches[0].clone();
    assert_eq!(
        (launched.user.as_deref(), heard.offers().len()),
        (Some("root"), 0),
        "the rest is refused for 5 s"
    );
    let stored = |bench: &Bench| {
        bench
            .stored
            .iter()
            .any(|one| matches!(one, Record::PutFrameworkTask(_)))
    };
    assert!(stored(&bench));
    let rest = bench.later(Duration::from_secs(5)).offers();
    assert_eq!(rest[0].resources.cpus_milli, 600);

    let running = bench.say(&agent, &launched, TaskState::Running).updates();
    assert_eq!((running.len(), running[0].status.state), (1, TaskState::Running));
    let again = bench.later(Duration::from_secs(10)).updates();
    assert_eq!(again[0].id, running[0].id, "not acknowledged");
    let killed = bench.say(&agent, &launched, TaskState::Killed).updates();
    assert!(killed.is_empty(), "in order: the one before is not acknowledged");
    let killed = bench.ask(&framework, acknowledge(&running[0])).updates();
    assert_eq!(killed[0].status.state, TaskState::Killed);
    assert_eq!(bench.core.framework_tasks().count(), 1);
    bench.ask(&framework, acknowledge(&killed[0]));
    assert_eq!(bench.core.framework_tasks().count(), 0);
    assert!(bench.later(Duration::from_secs(700)).updates().is_empty());
}

#[test]
fn what_was_not_offered_is_not_given() {
    let (mut bench, _, framework, offer) = joined(false);
    let other = order(&offer, "port", 10);
    let mut port = other.clone();
    if let Ok(spec) = &mut port.spec {
        spec.host_ports = vec![80];
    }
    let mut elsewhere = order(&offer, "agent", 10);
    elsewhere.agent = AgentId::new("other");
    let mut wrong = order(&offer, "wrong", 10);
    wrong.spec = Err("nonsense".to_owned());
    let orders = vec![
        order(&offer, "large", 1_001),
        port,
        elsewhere,
        wrong,
        order(&offer, "a/b", 10),
        order(&offer, "fits", 600),
        order(&offer, "fits", 10),
        order(&offer, "late", 600),
    ];
    let heard = bench.accept(&framework, &offer, orders);
    let refused: Vec<String> = heard
        .states()
        .into_iter()
        .map(|(task, state)| {
            assert_eq!(state, TaskState::Error, "{task}");
            task
        })
        .collect();
    assert_eq!(refused, ["large", "port", "agent", "wrong", "a/b", "fits", "late"]);
    assert_eq!(heard.launches.len(), 1);
    // The offer is gone: whoever uses it again gets nothing, in words that it understands.
    let heard = bench.accept(&framework, &offer, vec![order(&offer, "again", 10)]);
    assert_eq!(heard.states(), [("again".to_owned(), TaskState::Lost)]);
}

#[test]
fn refusals_hold_as_long_as_they_say_and_revive_ends_them() {
    let (mut bench, _, framework, offer) = joined(false);
    let refuse = Duration::from_secs(100);
    let offers = vec![offer.id];
    assert!(
        bench
            .ask(&framework, FrameworkCall::Decline { offers, refuse })
            .offers()
            .is_empty()
    );
    assert!(bench.later(Duration::from_secs(60)).offers().is_empty());
    let offers = bench.ask(&framework, FrameworkCall::Revive(Vec::new())).offers();
    assert_eq!(offers.len(), 1);
    bench.ask(&framework, FrameworkCall::Suppress(Vec::new()));
    let offers = vec![offers[0].id.clone()];
    bench.ask(
        &framework,
        FrameworkCall::Decline {
            offers,
            refuse: Duration::ZERO,
        },
    );
    assert!(bench.later(Duration::from_secs(600)).offers().is_empty(), "suppressed");
    let offer = bench
        .ask(&framework, FrameworkCall::Revive(Vec::new()))
        .offers()
        .remove(0);
    let heard = bench.later(Duration::from_secs(120));
    assert!(
        heard.events.contains(&FrameworkEvent::Rescind(offer.id)),
        "nobody answered it"
    );
}

#[test]
fn a_kill_reaches_the_agent_and_an_unknown_task_is_told() {
    let (mut bench, agent, framework, offer) = joined(true);
    let launched = bench
        .accept(&framework, &offer, vec![order(&offer, "t", 100)])
        .launches
        .remove(0);
    bench.say(&agent, &launched, TaskState::Running);
    let kill = |task: &str, grace| FrameworkCall::Kill {
        task: TaskId::new(task),
        agent: None,
        grace,
    };
    let kills = bench.ask(&framework, kill("t", Some(Duration::from_secs(9)))).kills;
    assert_eq!(
        (&kills[0].0, kills[0].1.grace),
        (&launched.task, Duration::from_secs(9))
    );
    assert_eq!(
        bench.later(Duration::from_secs(10)).kills.len(),
        1,
        "again until it has ended"
    );
    let told = bench.ask(&framework, kill("nobody", None)).updates();
    assert_eq!((told[0].status.state, told[0].id), (TaskState::Unknown, None));
    let told = bench.ask(&framework, FrameworkCall::Reconcile(Vec::new())).updates();
    assert_eq!(
        (told.len(), told[0].status.state, told[0].id),
        (1, TaskState::Running, None)
    );
}

#[test]
fn a_framework_that_comes_back_in_time_finds_its_tasks_and_one_that_does_not_loses_them() {
    let (mut bench, agent, framework, offer) = joined(true);
    let launched = bench
        .accept(&framework, &offer, vec![order(&offer, "t", 100)])
        .launches
        .remove(0);
    let at = bench.at();
    bench.core.handle_stream_end(at, framework.stream);
    assert!(bench.say(&agent, &launched, TaskState::Running).updates().is_empty());
    let again = bench
        .core
        .handle_subscribe(at, Some(framework.framework.clone()), spec(true), Vec::new());
    let again = again.expect("in time");
    let heard = bench.hear();
    assert_eq!(heard.states(), [("t".to_owned(), TaskState::Running)]);
    let refusal = bench
        .core
        .handle_framework(at, &framework.framework, framework.stream, FrameworkCall::Teardown);
    assert!(refusal.is_err(), "the stream is another one");
    let other = FrameworkSpec {
        user: "nobody".to_owned(),
        ..spec(true)
    };
    let refused = bench
        .core
        .handle_subscribe(at, Some(framework.framework.clone()), other, Vec::new());
    assert_eq!(refused, Err("Updating 'FrameworkInfo.user' is unsupported".to_owned()));

    bench.core.handle_stream_end(at, again.stream);
    bench.effects();
    let heard = bench.later(Duration::from_secs(60));
    assert_eq!(heard.kills[0].0, launched.task);
    let used = |bench: &Bench| bench.core.agents().next().map(|view| view.used.cpus_milli);
    assert_eq!(used(&bench), Some(100), "until it has ended");
    bench.say(&agent, &launched, TaskState::Killed);
    assert_eq!(used(&bench), Some(0));
    let at = bench.at();
    let refused = bench
        .core
        .handle_subscribe(at, Some(framework.framework), spec(true), Vec::new());
    assert_eq!(refused, Err("Framework has been removed".to_owned()));
}

#[test]
fn a_restarted_core_knows_frameworks_their_tasks_and_what_they_have_not_acknowledged() {
    let (mut bench, agent, framework, offer) = joined(true);
    let launched = bench
        .accept(&framework, &offer, vec![order(&offer, "t", 100)])
        .launches
        .remove(0);
    let running = bench.say(&agent, &launched, TaskState::Running).updates().remove(0);
    let now = bench.now;
    let mut bench = Bench::restored(bench.stored);
    bench.now = now;
    let report = ReportedTask {
        spec: launched.clone(),
        status: status(TaskState::Running, now),
    };
    assert!(bench.register(Some(&agent), vec![report]).unknown.is_empty());
    bench.effects();
    let at = bench.at();
    let old = bench
        .core
        .handle_framework(at, &framework.framework, framework.stream, FrameworkCall::Teardown);
    assert!(old.is_err(), "its stream ended with the earlier core");
    let back = bench
        .core
        .handle_subscribe(at, Some(framework.framework), spec(true), Vec::new());
    let back = back.expect("comes back");
    let heard = bench.hear();
    assert_eq!(heard.updates()[0].id, running.id);
    assert_eq!(heard.offers()[0].resources.cpus_milli, 900);
    bench.ask(&back, acknowledge(&heard.updates()[0]));
    assert_eq!(bench.ask(&back, FrameworkCall::Teardown).kills[0].0, launched.task);
}

#[test]
fn lost_agents_are_told_in_words_that_a_framework_understands() {
    for (aware, state) in [(true, TaskState::Unreachable), (false, TaskState::Lost)] {
        let (mut bench, agent, framework, offer) = joined(aware);
        let launched = bench
            .accept(&framework, &offer, vec![order(&offer, "t", 100)])
            .launches
            .remove(0);
        let running = bench.say(&agent, &launched, TaskState::Running).updates().remove(0);
        bench.ask(&framework, acknowledge(&running));
        bench.now += 75_000;
        let at = bench.at();
        // A standstill is forgiven once.
        bench.core.handle_timeout(at);
        let heard = bench.later(Duration::from_secs(75));
        assert_eq!(heard.states(), [("t".to_owned(), state)]);
        assert!(heard.events.contains(&FrameworkEvent::AgentFailed(agent.clone())));
        bench.ask(&framework, acknowledge(&heard.updates()[0]));
        let report = ReportedTask {
            spec: launched.clone(),
            status: status(TaskState::Running, bench.now),
        };
        assert!(bench.register(Some(&agent), vec![report]).unknown.is_empty());
        assert_eq!(
            bench.hear().states(),
            [("t".to_owned(), TaskState::Running)],
            "it is back"
        );
    }
}

#[test]
fn who_has_less_is_offered_first_and_marathon_takes_its_turn() {
    let (mut bench, _, framework, offer) = joined(false);
    let app = |id: &str, cpus: f64| AppSpec {
        id: id.to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(cpus),
        mem: Some(cpus * 1_000.0),
        disk: Some(cpus * 250.0),
        ..AppSpec::default()
    };
    // The framework holds everything, Marathon nothing: what is offered is taken back for its app.
    bench
        .command(Command::CreateApp(Box::new(app("/a", 0.6))))
        .expect("valid");
    let heard = bench.hear();
    assert!(heard.events.contains(&FrameworkEvent::Rescind(offer.id)));
    assert_eq!(heard.launches.len(), 1);
    let rest = heard.offers().remove(0);
    assert_eq!(rest.resources.cpus_milli, 400);
    // Now Marathon has more: its next app waits for what the framework leaves.
    bench.accept(&framework, &rest, vec![order(&rest, "t", 100)]);
    let rest = bench.later(Duration::from_secs(5)).offers().remove(0);
    assert_eq!(rest.resources.cpus_milli, 300);
    bench
        .command(Command::CreateApp(Box::new(app("/b", 0.2))))
        .expect("valid");
    assert!(bench.hear().launches.is_empty());
    assert_eq!(bench.core.queue().count(), 1);
    let offers = vec![rest.id];
    let refuse = Duration::from_secs(5);
    assert_eq!(
        bench
            .ask(&framework, FrameworkCall::Decline { offers, refuse })
            .launches
            .len(),
        1
    );
}
