//! The rule of an update, for many mixtures of instances.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{
    AgentId, Command, Container, FrameworkId, KillPolicy, LaunchSpec, ReadyRule, Resources, TaskNetwork, TaskState,
    TaskStatus,
};
use proptest::prelude::*;

use crate::{AppId, AppSpec, ServicePorts, Timestamp};

use super::*;

fn app(instances: u32, minimum: f64, over: f64) -> App {
    let spec = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        instances: Some(i64::from(instances)),
        upgrade_strategy: Some((minimum, over)),
        ..AppSpec::default()
    };
    App::from_spec(
        Timestamp(100),
        &spec,
        "marathon",
        "dcos",
        &mut ServicePorts::new((1, 99)),
    )
    .expect("valid")
}

#[derive(Clone, Copy, Debug)]
struct One {
    old: bool,
    ready: bool,
    unwanted: bool,
}

fn records(app: &App, ones: &[One]) -> Vec<InstanceRecord> {
    ones.iter()
        .zip(0_u64..)
        .map(|(one, number)| InstanceRecord {
            id: InstanceId(format!("a.instance-{number}")),
            app: AppId::parse("/a").expect("valid"),
            version: if one.old { Timestamp(50) } else { app.version },
            config: if one.old { Timestamp(50) } else { app.version },
            agent: AgentId::new("S0"),
            spec: std::sync::Arc::new(launch_spec()),
            service_ports: Vec::new(),
            status: TaskStatus {
                state: if one.ready {
                    TaskState::Running
                } else {
                    TaskState::Staging
                },
                reason: None,
                healthy: None,
                addresses: Vec::new(),
                message: None,
                checks: Default::default(),
                timestamp_ms: 0,
            },
            staged_at: Timestamp(number),
            started_at: None,
            unwanted: one.unwanted,
            unreachable_since: None,
            members: Vec::new(),
        })
        .collect()
}

fn launch_spec() -> LaunchSpec {
    LaunchSpec {
        task: model::TaskId::new("t"),
        name: "a".to_owned(),
        framework: FrameworkId::new("f"),
        command: Command::Shell("x".to_owned()),
        user: None,
        container: Container::default(),
        fetch: Vec::new(),
        env: BTreeMap::new(),
        resources: Resources::default(),
        network: TaskNetwork::Host,
        ports: Vec::new(),
        mappings: Vec::new(),
        host_ports: Vec::new(),
        labels: BTreeMap::new(),
        ready: ReadyRule::AtStart,
        checks: Default::default(),
        kill: KillPolicy {
            drain: Duration::ZERO,
            grace: Duration::ZERO,
        },
        pod: None,
    }
}

#[test]
fn limits_follow_marathons_arithmetic() {
    for (instances, minimum, over, least_ready, most) in [
        (10, 1.0, 1.0, 10, 20),
        (10, 0.5, 0.0, 5, 10),
        (10, 1.0, 0.25, 10, 12),
        (3, 0.5, 0.5, 2, 4),
        (1, 1.0, 0.0, 1, 2),
        (2, 0.9, 0.0, 2, 3),
        (1, 0.0, 0.0, 0, 1),
        (0, 1.0, 1.0, 0, 1),
    ] {
        let strategy = app(instances, minimum, over).upgrade_strategy;
        assert_eq!(
            Limits::new(instances, &strategy, Moves::Anywhere),
            Limits { least_ready, most },
            "{instances} {minimum} {over}"
        );
    }
}

#[test]
fn who_takes_over_volumes_comes_after_the_old_one_and_never_beside_it() {
    for (instances, minimum, least_ready) in [(1, 0.5, 0), (1, 0.0, 0), (2, 0.5, 1), (4, 1.0, 3), (0, 0.5, 0)] {
        let strategy = app(instances, minimum, 0.0).upgrade_strategy;
        let limits = Limits::new(instances, &strategy, Moves::InPlace);
        assert_eq!(
            (limits.least_ready, limits.most),
            (least_ready, instances),
            "{instances} {minimum}"
        );
    }
}

#[test]
fn a_full_replacement_starts_all_new_ones_and_lets_one_old_go_for_each_that_is_ready() {
    let app = app(3, 1.0, 1.0);
    let old = One {
        old: true,
        ready: true,
        unwanted: false,
    };
    let fresh = One {
        old: false,
        ready: false,
        unwanted: false,
    };
    let start = step(&app, records(&app, &[old; 3]).iter());
    assert_eq!((start.end.len(), start.launch), (0, 3));
    let first = step(
        &app,
        records(&app, &[old, old, old, fresh, fresh, One { ready: true, ..fresh }]).iter(),
    );
    assert_eq!((first.end.len(), first.launch), (1, 0));
    let end = step(
        &app,
        records(
            &app,
            &[
                old,
                One { ready: true, ..fresh },
                One { ready: true, ..fresh },
                One { ready: true, ..fresh },
            ],
        )
        .iter(),
    );
    assert_eq!((end.end.len(), end.launch), (1, 0));
}

/// Carries an update on to its end: what is launched becomes ready, what is ended goes, one at a time.
fn finish(app: &App, mut ones: Vec<One>) -> Result<usize, String> {
    let limits = Limits::new(app.instances, &app.upgrade_strategy, Moves::Anywhere);
    for round in 0..400 {
        let all = records(app, &ones);
        let step = step(app, all.iter());
        let ready = |ones: &[One]| ones.iter().filter(|one| one.ready && !one.unwanted).count();
        let before = ready(&ones);
        for (one, record) in ones.iter_mut().zip(&all) {
            one.unwanted |= step.end.contains(&record.id);
        }
        let least = usize::try_from(limits.least_ready).unwrap_or(usize::MAX);
        if ready(&ones) < before.min(least) {
            return Err(format!(
                "{} ready after ending {:?}, {least} to keep",
                ready(&ones),
                step.end
            ));
        }
        for _ in 0..step.launch {
            ones.push(One {
                old: false,
                ready: false,
                unwanted: false,
            });
        }
        if step.launch > 0 && ones.len() > usize::try_from(limits.most).unwrap_or(usize::MAX) {
            return Err(format!("{} at once, {} allowed", ones.len(), limits.most));
        }
        if let Some(gone) = ones.iter().position(|one| one.unwanted) {
            ones.remove(gone);
        } else if let Some(starting) = ones.iter_mut().find(|one| !one.ready) {
            starting.ready = true;
        } else if step.launch == 0 && step.end.is_empty() {
            let done = ones.iter().all(|one| !one.old) && ones.len() >= usize::try_from(app.instances).unwrap_or(0);
            return if done {
                Ok(round)
            } else {
                Err(format!("stuck at {ones:?}"))
            };
        }
    }
    Err("does not end".to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_update_keeps_its_limits_and_ends(
        instances in 0_u32..8,
        minimum in 0..=4_u8,
        over in 0..=4_u8,
        there in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 0..10),
    ) {
        let app = app(instances, f64::from(minimum) / 4.0, f64::from(over) / 4.0);
        let ones: Vec<One> = there.into_iter().map(|(old, ready, unwanted)| One { old, ready, unwanted }).collect();
        // What there is too much of the new definition is settled by scaling, not here.
        let new = ones.iter().filter(|one| !one.old && !one.unwanted).count();
        prop_assume!(new <= usize::try_from(instances).expect("small"));
        let ended = finish(&app, ones);
        prop_assert!(ended.is_ok(), "{:?}", ended);
    }
}
