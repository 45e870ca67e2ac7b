//! Deadlines, one command at a time.

use model::TaskState;

use super::super::tests::Bench;
use super::*;
use crate::{AppSpec, ClusterEvent, Command, CommandError, Effect, Force, Reply};

fn spec(cmd: &str, deadline: &str) -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some(cmd.to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        port_definitions: Some(Vec::new()),
        labels: [(DEADLINE_LABEL.to_owned(), deadline.to_owned())].into(),
        ..AppSpec::default()
    }
}

fn update(bench: &mut Bench, cmd: &str) -> Reply {
    let command = Command::UpdateApp {
        id: "/a".to_owned(),
        spec: Box::new(spec(cmd, "90s")),
        force: Force::No,
    };
    bench.command(command).expect("valid")
}

/// One instance that runs.
fn running(bench: &mut Bench) -> model::AgentId {
    let agent = bench.register(None, Vec::new()).agent;
    let reply = bench.command(Command::CreateApp(Box::new(spec("one", "90s"))));
    let first = reply.expect("valid").deployment.expect("one");
    let record = bench.core.deployments()[0].clone();
    assert_eq!(bench.core.deadline_of(&record), None, "there is nothing before it");
    let launched = bench.launches().remove(0);
    bench.tell(&agent, &launched.task, TaskState::Running);
    bench.effects();
    assert_eq!(bench.core.ended_deployment(&first), Some(&DeploymentEnd::Done));
    agent
}

fn until_deadline(bench: &mut Bench, agent: &model::AgentId) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..100 {
        if !bench
            .core
            .deployments()
            .iter()
            .any(|one| bench.core.deadline_of(one).is_some())
        {
            return effects;
        }
        bench.next_timer();
        let now = bench.at();
        bench.core.handle_heartbeat(now, agent);
        effects.extend(bench.effects());
    }
    panic!("the deadline does not come")
}

#[test]
fn what_is_not_done_in_time_is_taken_back_once() {
    let mut bench = Bench::new();
    let agent = running(&mut bench);
    let began = bench.at();
    let update = update(&mut bench, "two");
    let id = update.deployment.expect("one");
    let new = bench.launches().remove(0);
    let effects = until_deadline(&mut bench, &agent);
    let took = bench.at().since(began);
    assert!((90..=95).contains(&took.as_secs()), "{took:?}");
    let why = "its deadline passed in step 1 of 1";
    let told = effects.iter().any(
        |effect| matches!(effect, Effect::Tell(ClusterEvent::GivenUp(record, said)) if record.id == id && said == why),
    );
    assert!(told, "{effects:?}");
    assert_eq!(
        bench.core.ended_deployment(&id),
        Some(&DeploymentEnd::GivenUp(why.to_owned()))
    );
    let app = bench.core.app("/a").expect("there");
    assert_eq!(app.command, model::Command::Shell("one".to_owned()));
    // The new instance goes, the old one never went.
    let kills = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Kill { task, .. } if *task == new.task));
    assert!(kills.count() > 0);
    bench.tell(&agent, &new.task, TaskState::Killed);
    bench.effects();
    assert!(
        bench.core.deployments().is_empty(),
        "the way back is done and has no deadline"
    );
}

#[test]
fn a_deadline_outlives_the_master_and_a_wrong_one_is_refused() {
    let mut bench = Bench::new();
    let agent = running(&mut bench);
    let id = update(&mut bench, "two").deployment.expect("one");
    bench.effects();
    let mut bench = Bench::restored(bench.stored.clone());
    bench.register(Some(&agent), Vec::new());
    bench.effects();
    until_deadline(&mut bench, &agent);
    assert!(matches!(
        bench.core.ended_deployment(&id),
        Some(DeploymentEnd::GivenUp(_))
    ));
    for wrong in ["soon", "0", "-1s", "1.5h", "", "99999999999999999999", "h"] {
        let reply = bench.command(Command::UpdateApp {
            id: "/a".to_owned(),
            spec: Box::new(spec("three", wrong)),
            force: Force::Yes,
        });
        let Err(CommandError::Invalid(faults)) = reply else {
            panic!("{wrong} was taken")
        };
        assert_eq!(faults[0].path, "/labels/revere.deadline", "{wrong}");
    }
    for (text, seconds) in [("7", 7), ("90s", 90), ("15m", 900), ("2h", 7_200)] {
        let labels = BTreeMap::from([(DEADLINE_LABEL.to_owned(), text.to_owned())]);
        assert_eq!(of_labels(&labels), Some(Ok(Duration::from_secs(seconds))));
    }
}
