//! Marathon's rules of persistent volumes.

use crate::{App, AppSpec, ContainerSpec, Fault, PersistentSpec, ResidencySpec, ServicePorts, Timestamp, VolumeSpec};
use crate::{UnreachableSpec, UnreachableStrategy};

fn check(spec: &AppSpec) -> Result<App, Vec<Fault>> {
    let mut ports = ServicePorts::new((10_000, 20_000));
    App::from_spec(Timestamp(5), spec, "marathon", "dcos", &mut ports)
}

fn with(change: impl FnOnce(&mut AppSpec, &mut VolumeSpec, &mut PersistentSpec)) -> AppSpec {
    let mut persistent = PersistentSpec {
        size: Some(100),
        ..PersistentSpec::default()
    };
    let mut volume = VolumeSpec {
        container_path: "pgdata".to_owned(),
        mode: Some("RW".to_owned()),
        ..VolumeSpec::default()
    };
    let mut spec = AppSpec {
        id: "/db".to_owned(),
        cmd: Some("x".to_owned()),
        ..AppSpec::default()
    };
    change(&mut spec, &mut volume, &mut persistent);
    volume.persistent = Some(persistent);
    spec.container = ContainerSpec {
        volumes: vec![volume],
        ..ContainerSpec::default()
    };
    spec
}

#[test]
fn an_app_with_a_volume_waits_for_its_node_and_never_runs_beside_itself() {
    let app = check(&with(|_, _, _| {})).expect("valid");
    assert_eq!(app.container.persistent[0].size_mb, 100);
    assert!(app.container.volumes.is_empty());
    assert_eq!(app.residency.map(|residency| residency.escalation_seconds), Some(3600));
    assert_eq!(app.unreachable, UnreachableStrategy::Disabled);
    let strategy = app.upgrade_strategy;
    assert_eq!(
        (strategy.minimum_health_capacity, strategy.maximum_over_capacity),
        (0.5, 0.0)
    );
}

#[test]
fn what_cannot_be_is_refused_at_its_place() {
    let paths = |spec: AppSpec| -> Vec<String> {
        let faults = check(&spec).expect_err("refused");
        faults.into_iter().map(|fault| fault.path).collect()
    };
    type Change = fn(&mut AppSpec, &mut VolumeSpec, &mut PersistentSpec);
    let cases: [(Change, &str); 13] = [
        (|_, _, one| one.size = Some(0), "/container/volumes(0)/persistent/size"),
        (|_, _, one| one.size = None, "/container/volumes(0)/persistent/size"),
        (
            |_, _, one| one.kind = Some("mount".to_owned()),
            "/container/volumes(0)/persistent/type",
        ),
        (
            |_, _, one| one.max_size = Some(200),
            "/container/volumes(0)/persistent/maxSize",
        ),
        (
            |_, _, one| one.constrained = true,
            "/container/volumes(0)/persistent/constraints",
        ),
        (
            |_, _, one| one.profile = Some("fast".to_owned()),
            "/container/volumes(0)/persistent/profileName",
        ),
        (
            |_, volume, _| volume.mode = Some("RO".to_owned()),
            "/container/volumes(0)/mode",
        ),
        (
            |_, volume, _| volume.host_path = "/srv".to_owned(),
            "/container/volumes(0)/hostPath",
        ),
        (
            |_, volume, _| volume.container_path = "a/b".to_owned(),
            "/container/volumes(0)/containerPath",
        ),
        (
            |_, volume, _| volume.container_path = "..".to_owned(),
            "/container/volumes(0)/containerPath",
        ),
        (
            |spec, _, _| spec.upgrade_strategy = Some((0.0, 0.5)),
            "/upgradeStrategy/maximumOverCapacity",
        ),
        (
            |spec, _, _| {
                let (inactive, expunge) = (1, 2);
                spec.unreachable_strategy = Some(UnreachableSpec::After { inactive, expunge });
            },
            "/unreachableStrategy",
        ),
        (
            |spec, _, _| {
                spec.residency = Some(ResidencySpec {
                    lost_behavior: Some("RELAUNCH_AFTER_TIMEOUT".to_owned()),
                    escalation_seconds: Some(10),
                });
            },
            "/residency/taskLostBehavior",
        ),
    ];
    for (change, path) in cases {
        assert_eq!(paths(with(change)), [path]);
    }
}

#[test]
fn residency_is_for_apps_with_volumes() {
    let alone = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        residency: Some(ResidencySpec::default()),
        ..AppSpec::default()
    };
    let faults = check(&alone).expect_err("refused");
    assert_eq!(faults[0].path, "/residency");
}
