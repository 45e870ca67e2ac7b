//! Updates, restarts and returns, one command at a time.

use model::{TaskId, TaskState};

use super::super::tests::Bench;
use crate::{AppSpec, Command, CommandError, Force, PortSpec, Record};

fn spec(cmd: &str, instances: i64) -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some(cmd.to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(instances),
        ..AppSpec::default()
    }
}

fn update(spec: AppSpec, force: Force) -> Command {
    Command::UpdateApp {
        id: "a".to_owned(),
        spec: Box::new(spec),
        force,
    }
}

/// An app of two instances that run.
fn running(bench: &mut Bench) -> (model::AgentId, Vec<TaskId>) {
    let agent = bench.register(None, Vec::new()).agent;
    bench
        .command(Command::CreateApp(Box::new(spec("one", 2))))
        .expect("valid");
    let tasks: Vec<TaskId> = bench.launches().into_iter().map(|spec| spec.task).collect();
    for task in &tasks {
        bench.tell(&agent, task, TaskState::Running);
    }
    bench.effects();
    (agent, tasks)
}

#[test]
fn old_instances_go_only_as_new_ones_become_ready() {
    let mut bench = Bench::new();
    let (agent, old) = running(&mut bench);
    bench.command(update(spec("two", 2), Force::No)).expect("unlocked");
    let new: Vec<TaskId> = bench.launches().into_iter().map(|spec| spec.task).collect();
    assert_eq!(new.len(), 2, "maximumOverCapacity is 1");
    assert!(bench.kills().is_empty());
    bench.tell(&agent, &new[0], TaskState::Running);
    let first = bench.kills();
    assert_eq!(first.len(), 1, "one for one");
    bench.tell(&agent, &new[1], TaskState::Running);
    let second = bench.kills();
    assert_eq!(second.len(), 1);
    assert_eq!(bench.core.deployments().len(), 1, "the old ones still end");
    for task in old {
        bench.tell(&agent, &task, TaskState::Killed);
    }
    assert!(bench.core.deployments().is_empty());
    assert_eq!(bench.core.instances().count(), 2);
    assert!(bench.launches().is_empty());
}

#[test]
fn a_new_definition_that_never_works_leaves_the_old_instances_alone() {
    let mut bench = Bench::new();
    let (agent, old) = running(&mut bench);
    bench.command(update(spec("broken", 2), Force::No)).expect("unlocked");
    for _ in 0..5 {
        for spec in bench.launches() {
            bench.tell(&agent, &spec.task, TaskState::Failed);
        }
        bench.next_timer();
    }
    let left: Vec<TaskId> = bench
        .core
        .instances()
        .filter(|one| !one.unwanted)
        .map(|one| one.spec.task.clone())
        .collect();
    assert!(old.iter().all(|task| left.contains(task)));
}

#[test]
fn a_change_of_instances_alone_restarts_nothing() {
    let mut bench = Bench::new();
    let (_, old) = running(&mut bench);
    bench.command(update(spec("one", 3), Force::No)).expect("unlocked");
    assert_eq!(bench.launches().len(), 1);
    assert!(bench.kills().is_empty());
    let app = bench.core.app("/a").expect("there");
    assert!(app.last_config_change < app.version);
    assert!(
        old.iter()
            .all(|task| bench.core.instances().any(|one| one.spec.task == *task))
    );
}

#[test]
fn one_change_at_a_time_unless_forced() {
    let mut bench = Bench::new();
    running(&mut bench);
    let first = bench
        .command(update(spec("two", 2), Force::No))
        .expect("unlocked")
        .deployment;
    let first: Vec<String> = first.into_iter().collect();
    let refused = bench.command(update(spec("three", 2), Force::No));
    assert_eq!(refused, Err(CommandError::Locked(first.clone())));
    let scale = |force| Command::ScaleApp {
        id: "/a".to_owned(),
        instances: 1,
        force,
    };
    assert_eq!(bench.command(scale(Force::No)), Err(CommandError::Locked(first)));
    assert_eq!(bench.core.versions(&bench.core.app("/a").expect("there").id).len(), 2);
    assert_eq!(
        bench
            .command(scale(Force::Yes))
            .map(|reply| reply.apps[0].to_string())
            .as_deref(),
        Ok("/a")
    );
}

#[test]
fn a_crash_after_the_change_locks_nothing() {
    let mut bench = Bench::new();
    let (agent, old) = running(&mut bench);
    bench.tell(&agent, &old[0], TaskState::Failed);
    assert!(bench.command(update(spec("two", 2), Force::No)).is_ok());
}

#[test]
fn a_restart_replaces_all_and_a_return_brings_the_earlier_definition_back() {
    let mut bench = Bench::new();
    let (agent, _) = running(&mut bench);
    let id = bench.core.app("/a").expect("there").id.clone();
    let first = bench.core.versions(&id)[0];
    bench
        .command(Command::RestartApp {
            id: "/a".to_owned(),
            force: Force::No,
        })
        .expect("unlocked");
    assert_eq!(bench.launches().len(), 2);
    bench.command(update(spec("two", 2), Force::Yes)).expect("forced");
    bench.effects();
    let back = Command::RollBackApp {
        id: "/a".to_owned(),
        version: first,
        force: Force::Yes,
    };
    bench.command(back).expect("kept");
    let launched = bench.launches();
    assert!(
        launched
            .iter()
            .all(|spec| spec.command == model::Command::Shell("one".to_owned()))
    );
    assert_eq!(bench.core.versions(&id).len(), 4);
    // A core that starts from the records knows them all.
    let after = Bench::restored(bench.stored.clone());
    assert_eq!(after.core.versions(&id), bench.core.versions(&id));
    let missing = Command::RollBackApp {
        id: "/a".to_owned(),
        version: crate::Timestamp(5),
        force: Force::Yes,
    };
    assert!(matches!(bench.command(missing), Err(CommandError::NoVersion(..))));
    bench
        .command(Command::RemoveApp {
            id: "/a".to_owned(),
            force: Force::Yes,
        })
        .expect("there");
    let forgotten = bench
        .effects()
        .into_iter()
        .filter(|effect| matches!(effect, crate::Effect::Persist(Record::DeleteVersion(..))))
        .count();
    assert_eq!(forgotten, 3);
    drop(agent);
}

#[test]
fn service_ports_stay_and_a_refused_definition_changes_nothing() {
    let mut bench = Bench::new();
    running(&mut bench);
    let port = bench.core.app("/a").expect("there").ports[0].service_port;
    let with_port = |cpus| AppSpec {
        cpus: Some(cpus),
        port_definitions: Some(vec![PortSpec::default()]),
        ..spec("two", 2)
    };
    assert!(matches!(
        bench.command(update(with_port(-1.0), Force::No)),
        Err(CommandError::Invalid(_))
    ));
    assert!(bench.effects().is_empty());
    bench.command(update(with_port(0.1), Force::No)).expect("valid");
    assert_eq!(bench.core.app("/a").expect("there").ports[0].service_port, port);
}

#[test]
fn only_so_many_versions_are_kept() {
    let mut bench = Bench::new();
    bench
        .command(Command::CreateApp(Box::new(spec("one", 0))))
        .expect("valid");
    for n in 0..60 {
        bench.now += 1;
        bench
            .command(update(spec(&format!("v{n}"), 0), Force::Yes))
            .expect("valid");
    }
    let id = bench.core.app("/a").expect("there").id.clone();
    assert_eq!(bench.core.versions(&id).len(), 50);
    bench.effects();
    assert_eq!(Bench::restored(bench.stored).core.versions(&id).len(), 50);
}
