//! Instances and their volumes: where they start again, what is kept for them, and how volumes end.

use model::LaunchSpec;

use crate::{AfterKill, AppSpec, Command, ContainerSpec, Force, PersistentSpec, ReportedTask, VolumeSpec, Volumes};

use super::super::tests::{Bench, status};
use super::*;

fn spec(instances: i64, size: i64) -> AppSpec {
    AppSpec {
        id: "/db".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.4),
        mem: Some(10.0),
        instances: Some(instances),
        container: ContainerSpec {
            volumes: vec![VolumeSpec {
                container_path: "data".to_owned(),
                persistent: Some(PersistentSpec {
                    size: Some(size),
                    ..PersistentSpec::default()
                }),
                ..VolumeSpec::default()
            }],
            ..ContainerSpec::default()
        },
        ..AppSpec::default()
    }
}

/// A machine and what runs on it.
struct Place {
    agent: AgentId,
    last: u8,
}

fn place(bench: &mut Bench, last: u8) -> Place {
    Place {
        agent: bench.register_at(last, None, Vec::new()).agent,
        last,
    }
}

fn create(bench: &mut Bench, instances: i64, size: i64) -> Vec<LaunchSpec> {
    let create = Command::CreateApp(Box::new(spec(instances, size)));
    bench.command(create).expect("valid");
    bench.launches()
}

fn scale(bench: &mut Bench, instances: i64) {
    let scale = Command::ScaleApp {
        id: "/db".to_owned(),
        instances,
        force: Force::Yes,
    };
    bench.command(scale).expect("valid");
}

fn kill(bench: &mut Bench, task: &TaskId, volumes: Volumes) {
    let kill = Command::KillTasks {
        tasks: vec![task.to_string()],
        then: AfterKill::Replace,
        volumes,
        force: Force::No,
    };
    bench.command(kill).expect("known");
}

fn removals(bench: &mut Bench) -> Vec<InstanceId> {
    let removal = |effect| match effect {
        Effect::RemoveVolumes { owner, .. } => Some(owner),
        _ => None,
    };
    bench.effects().into_iter().filter_map(removal).collect()
}

fn used(bench: &Bench, place: &Place) -> Resources {
    bench.core.check();
    bench.core.agent_view(&place.agent).expect("known").used
}

#[test]
fn what_ends_starts_again_where_its_volumes_are_and_nowhere_else() {
    let mut bench = Bench::new();
    let (one, two) = (place(&mut bench, 1), place(&mut bench, 2));
    let first = create(&mut bench, 1, 100).remove(0);
    let home = bench.core.instances().next().expect("placed").agent.clone();
    let (home, other) = if home == one.agent { (one, two) } else { (two, one) };
    bench.tell(&home.agent, &first.task, TaskState::Running);
    bench.tell(&home.agent, &first.task, TaskState::Failed);
    bench.effects();
    assert_eq!(used(&bench, &home).disk_mb, 100, "kept while it has no task");
    assert_eq!(used(&bench, &home).cpus_milli, 400, "and what its next task needs");
    // Its node is away when its time comes: it waits, though the other node is empty.
    bench.core.handle_disconnect(bench.at(), &home.agent);
    bench.next_timer();
    assert!(bench.launches().is_empty());
    let queue: Vec<_> = bench.core.queue().map(|one| one.refusals.by_rule.clone()).collect();
    assert_eq!(queue[0].get(&Refusal::Reservation), Some(&1));
    assert_eq!(used(&bench, &other), Resources::default());
    bench.register_at(home.last, Some(&home.agent), Vec::new());
    let again = bench.launches().remove(0);
    assert_eq!(again.task.as_str(), first.task.as_str().replace("._app.1", "._app.2"));
    assert_eq!(used(&bench, &home).cpus_milli, 400);
}

#[test]
fn nothing_starts_beside_an_earlier_task_of_the_same_volumes() {
    let mut bench = Bench::new();
    let home = place(&mut bench, 1);
    let first = create(&mut bench, 1, 100).remove(0);
    bench.tell(&home.agent, &first.task, TaskState::Running);
    bench.effects();
    // Given up, then ended by a user: the core forgets the task, its machine does not.
    bench.core.agent_lost(&home.agent, "for the test");
    kill(&mut bench, &first.task, Volumes::Keep);
    bench.effects();
    let told = ReportedTask {
        spec: first.clone(),
        status: status(TaskState::Running, bench.now),
    };
    bench.register_at(home.last, Some(&home.agent), vec![told]);
    assert!(bench.launches().is_empty(), "the first one still runs there");
    bench.tell(&home.agent, &first.task, TaskState::Killed);
    assert_eq!(bench.launches().len(), 1);
}

#[test]
fn suspended_instances_keep_their_volumes_and_come_back_to_them() {
    let mut bench = Bench::new();
    let home = place(&mut bench, 1);
    let first = create(&mut bench, 2, 100);
    for task in &first {
        bench.tell(&home.agent, &task.task, TaskState::Running);
    }
    scale(&mut bench, 0);
    for task in bench.kills() {
        bench.tell(&home.agent, &task, TaskState::Killed);
    }
    assert_eq!(
        (used(&bench, &home).disk_mb, used(&bench, &home).cpus_milli),
        (200, 800)
    );
    let idle = |bench: &Bench| bench.core.residences().filter(|one| one.ended.is_some()).count();
    assert_eq!(idle(&bench), 2);
    bench.effects();
    // A new master knows them too.
    let mut bench = Bench::restored(bench.stored.clone());
    bench.register_at(home.last, Some(&home.agent), Vec::new());
    assert_eq!((used(&bench, &home).disk_mb, idle(&bench)), (200, 2));
    // Nobody else gets what is reserved.
    let other = AppSpec {
        id: "/other".to_owned(),
        ..spec(1, 100)
    };
    bench.command(Command::CreateApp(Box::new(other))).expect("valid");
    assert!(bench.launches().is_empty(), "250 MiB hold no third volume");
    scale(&mut bench, 1);
    assert!(bench.launches().remove(0).task.as_str().ends_with("._app.2"));
}

#[test]
fn wiped_volumes_are_asked_for_until_they_are_gone_and_their_place_is_free_then() {
    let mut bench = Bench::new();
    let home = place(&mut bench, 1);
    let first = create(&mut bench, 1, 200).remove(0);
    bench.tell(&home.agent, &first.task, TaskState::Running);
    bench.effects();
    kill(&mut bench, &first.task, Volumes::Wipe);
    assert!(removals(&mut bench).is_empty(), "not under a running task");
    assert!(
        bench.core.instances().all(|one| one.unwanted),
        "no room for a second volume yet"
    );
    bench.tell(&home.agent, &first.task, TaskState::Killed);
    let owner = InstanceId::of_task(&first.task).expect("a task");
    assert_eq!(removals(&mut bench), std::slice::from_ref(&owner));
    assert_eq!(
        used(&bench, &home).disk_mb,
        200,
        "until the agent says that they are gone"
    );
    let again = loop {
        bench.next_timer();
        let asked = removals(&mut bench);
        if !asked.is_empty() {
            break asked;
        }
        bench.core.handle_heartbeat(bench.at(), &home.agent);
    };
    assert_eq!(again, std::slice::from_ref(&owner), "asked again");
    assert!(bench.core.handle_volumes_gone(bench.at(), &home.agent, &owner));
    let second = bench.launches().remove(0);
    assert_ne!(
        InstanceId::of_task(&second.task),
        Some(owner),
        "another instance with its own volume"
    );
    assert_eq!(used(&bench, &home).disk_mb, 200);
}

#[test]
fn a_removed_app_takes_its_volumes_along() {
    let mut bench = Bench::new();
    let home = place(&mut bench, 1);
    let first = create(&mut bench, 1, 100).remove(0);
    bench.tell(&home.agent, &first.task, TaskState::Running);
    let remove = Command::RemoveApp {
        id: "/db".to_owned(),
        force: Force::Yes,
    };
    bench.command(remove).expect("there");
    bench.tell(&home.agent, &first.task, TaskState::Killed);
    let owner = removals(&mut bench).remove(0);
    assert!(bench.core.handle_volumes_gone(bench.at(), &home.agent, &owner));
    assert_eq!(used(&bench, &home), Resources::default());
    assert_eq!(bench.core.residences().count(), 0);
}

#[test]
fn volumes_stay_as_long_as_a_task_that_nobody_knew_of_may_use_them() {
    let mut bench = Bench::new();
    let home = place(&mut bench, 1);
    let first = create(&mut bench, 1, 100).remove(0);
    bench.tell(&home.agent, &first.task, TaskState::Running);
    bench.tell(&home.agent, &first.task, TaskState::Failed);
    bench.next_timer();
    assert_eq!(bench.launches().len(), 1, "the second task");
    let remove = Command::RemoveApp {
        id: "/db".to_owned(),
        force: Force::Yes,
    };
    bench.command(remove).expect("there");
    // Its machine has the first one again, and not the second.
    let told = ReportedTask {
        spec: first.clone(),
        status: status(TaskState::Running, bench.now),
    };
    bench.register_at(home.last, Some(&home.agent), vec![told]);
    assert_eq!(removals(&mut bench), []);
    assert_eq!(
        (used(&bench, &home).cpus_milli, used(&bench, &home).disk_mb),
        (400, 100)
    );
    bench.tell(&home.agent, &first.task, TaskState::Killed);
    assert_eq!(removals(&mut bench).len(), 1);
}

#[test]
fn volumes_and_what_is_reserved_beside_them_may_not_change() {
    let mut bench = Bench::new();
    place(&mut bench, 1);
    create(&mut bench, 1, 100);
    let mut update = |spec: AppSpec| {
        let update = Command::UpdateApp {
            id: "/db".to_owned(),
            spec: Box::new(spec),
            force: Force::Yes,
        };
        match bench.command(update) {
            Err(CommandError::Invalid(faults)) => faults.into_iter().map(|fault| fault.path).collect(),
            other => vec![format!("{}", other.is_ok())],
        }
    };
    assert_eq!(update(spec(1, 200)), ["/"]);
    let larger = AppSpec {
        cpus: Some(0.5),
        ..spec(1, 100)
    };
    assert_eq!(update(larger), ["/cpus"]);
    let other = AppSpec {
        cmd: Some("y".to_owned()),
        ..spec(1, 100)
    };
    assert_eq!(update(other), ["true"]);
}
