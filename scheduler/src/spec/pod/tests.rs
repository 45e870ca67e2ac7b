//! What of a pod's definition is refused, and at which path.

use model::Command;

use crate::{
    App, AppSpec, Fault, PodCheckSpec, PodContainerSpec, PodMountSpec, PodSpec, PodVolumeSpec, PortSpec, ServicePorts,
    Timestamp,
};

fn valid() -> AppSpec {
    let container = PodContainerSpec {
        name: "web".to_owned(),
        common: AppSpec {
            cmd: Some("x".to_owned()),
            ..AppSpec::default()
        },
        endpoints: vec![PortSpec {
            name: Some("http".to_owned()),
            host_port: Some(0),
            ..PortSpec::default()
        }],
        ..PodContainerSpec::default()
    };
    AppSpec {
        id: "/p".to_owned(),
        pod: Some(Box::new(PodSpec {
            containers: vec![container],
            volumes: vec![PodVolumeSpec {
                name: "data".to_owned(),
                host: None,
            }],
            ..PodSpec::default()
        })),
        ..AppSpec::default()
    }
}

fn checked(spec: &AppSpec) -> Result<App, Vec<Fault>> {
    App::from_spec(
        Timestamp(1),
        spec,
        "marathon",
        "dcos",
        &mut ServicePorts::new((10_000, 20_000)),
    )
}

type Change = fn(&mut AppSpec);

fn pod(spec: &mut AppSpec) -> &mut PodSpec {
    spec.pod.as_mut().expect("a pod")
}

fn web(spec: &mut AppSpec) -> &mut PodContainerSpec {
    &mut pod(spec).containers[0]
}

#[test]
fn defaults_are_marathons() {
    let app = checked(&valid()).expect("valid");
    let pod = app.pod.as_ref().expect("a pod");
    assert_eq!(app.instances, 1);
    assert_eq!(
        (pod.executor.cpus_milli, pod.executor.mem_mb, pod.executor.disk_mb),
        (100, 32, 10)
    );
    let own = pod.containers[0].resources;
    assert_eq!((own.cpus_milli, own.mem_mb, own.disk_mb), (1_000, 128, 0));
    assert_eq!(app.resources.cpus_milli, 1_100);
    assert_eq!(app.backoff.max.as_secs(), 300);
    assert_eq!(app.ports.len(), 1);
}

/// A change of a valid definition, the path of the fault that it is, and words of it.
type Case = (Change, &'static str, &'static str);

const CASES: [Case; 27] = [
    (|spec| pod(spec).containers.clear(), "/containers", "at least one"),
    (|spec| spec.instances = Some(-1), "/scaling/instances", "whole number"),
    (
        |spec| spec.backoff_factor = Some(0.5),
        "/scheduling/backoff/backoffFactor",
        "not below 1",
    ),
    (
        |spec| spec.max_launch_delay_seconds = Some(-1.0),
        "/scheduling/backoff/maxLaunchDelay",
        "seconds",
    ),
    (
        |spec| spec.upgrade_strategy = Some((2.0, 1.0)),
        "/scheduling/upgrade/minimumHealthCapacity",
        "0 to 1",
    ),
    (
        |spec| spec.constraints = vec![vec!["a".to_owned()]],
        "/scheduling/placement/constraints(0)",
        "",
    ),
    (
        |spec| drop(spec.env.insert("A=".to_owned(), String::new())),
        "/environment(A=)",
        "variable",
    ),
    (
        |spec| spec.unsupported = vec!["secrets".to_owned()],
        "/secrets",
        "not carried out",
    ),
    (
        |spec| pod(spec).executor.0 = Some(-1.0),
        "/executorResources/cpus",
        "not below 0",
    ),
    (
        |spec| pod(spec).max_instances = Some(0),
        "/scaling/instances",
        "maxInstances",
    ),
    (
        |spec| pod(spec).volumes[0].host = Some("srv".to_owned()),
        "/volumes(0)/host",
        "leading slash",
    ),
    (
        |spec| pod(spec).volumes[0].name = "A".to_owned(),
        "/volumes(0)/name",
        "lower-case",
    ),
    (
        |spec| web(spec).name = "W".to_owned(),
        "/containers(0)/name",
        "lower-case",
    ),
    (
        |spec| web(spec).common.cmd = None,
        "/containers(0)/exec",
        "needs exec.command",
    ),
    (
        |spec| web(spec).common.args = Some(vec!["y".to_owned()]),
        "/containers(0)/exec/command",
        "one of shell and argv",
    ),
    (
        |spec| web(spec).override_entrypoint = Some(true),
        "/containers(0)/exec/overrideEntrypoint",
        "argv",
    ),
    (
        |spec| web(spec).common.cpus = Some(0.0),
        "/containers(0)/resources/cpus",
        "not below 0.001",
    ),
    (
        |spec| web(spec).common.container.image = Some(String::new()),
        "/containers(0)/image/id",
        "name of an image",
    ),
    (
        |spec| web(spec).common.unsupported = vec!["tty".to_owned()],
        "/containers(0)/tty",
        "not carried out",
    ),
    (
        |spec| web(spec).endpoints[0].host_port = None,
        "/containers(0)/endpoints(0)/hostPort",
        "0 takes any",
    ),
    (
        |spec| web(spec).endpoints[0].port = 80,
        "/containers(0)/endpoints(0)/containerPort",
        "hostPort alone",
    ),
    (
        |spec| web(spec).endpoints[0].name = None,
        "/containers(0)/endpoints(0)/name",
        "lower-case",
    ),
    (
        |spec| drop(web(spec).endpoints[0].labels.insert("VIP_0".to_owned(), "x".to_owned())),
        "/containers(0)/endpoints(0)/labels(VIP_0)",
        "",
    ),
    (
        |spec| {
            web(spec).health_check = Some(PodCheckSpec {
                tcp: Some("none".to_owned()),
                ..PodCheckSpec::default()
            });
        },
        "/containers(0)/healthCheck/tcp/endpoint",
        "no endpoint none",
    ),
    (
        |spec| {
            web(spec).health_check = Some(PodCheckSpec {
                exec: Some(Command::Shell("x".to_owned())),
                tcp: Some("http".to_owned()),
                ..PodCheckSpec::default()
            });
        },
        "/containers(0)/healthCheck",
        "exactly one",
    ),
    (
        |spec| {
            web(spec).mounts = vec![PodMountSpec {
                volume: "data".to_owned(),
                path: "/absolute".to_owned(),
                read_only: None,
            }];
        },
        "/containers(0)/volumeMounts(0)/mountPath",
        "sandbox",
    ),
    (
        |spec| {
            web(spec).mounts = vec![PodMountSpec {
                volume: "other".to_owned(),
                path: "a".to_owned(),
                read_only: None,
            }];
        },
        "/containers(0)/volumeMounts(0)/name",
        "no volume other",
    ),
];

#[test]
fn faults_are_told_at_the_paths_of_a_pods_definition() {
    for (change, path, words) in CASES {
        let mut spec = valid();
        change(&mut spec);
        let faults = checked(&spec).expect_err(path);
        let fault = faults.iter().find(|fault| fault.path == path);
        let fault = fault.unwrap_or_else(|| panic!("{path}: {faults:?}"));
        assert!(fault.errors.iter().any(|error| error.contains(words)), "{fault:?}");
    }
}

#[test]
fn names_and_fixed_ports_occur_once() {
    let mut spec = valid();
    web(&mut spec).endpoints[0].host_port = Some(8080);
    let twin = web(&mut spec).clone();
    pod(&mut spec).containers.push(twin);
    let faults = checked(&spec).expect_err("twice");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/containers(1)/name",
            "/containers(1)/endpoints(0)/name",
            "/containers(1)/endpoints(0)/hostPort"
        ]
    );
}
