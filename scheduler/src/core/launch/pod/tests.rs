//! What the containers of a pod are sent with.

use model::{CheckAddress, Command, FrameworkId, LaunchSpec, Parameter, Probe, TaskNetwork, Volume, VolumeMode};

use super::super::super::Config;
use super::{members, whole};
use crate::{
    App, AppSpec, InstanceId, PodCheckSpec, PodContainerSpec, PodMountSpec, PodSpec, PodVolumeSpec, PortSpec,
    ServicePorts, Timestamp,
};

fn endpoint(name: &str, port: i64, host_port: Option<i64>) -> PortSpec {
    PortSpec {
        name: Some(name.to_owned()),
        port,
        host_port,
        ..PortSpec::default()
    }
}

fn container(name: &str) -> PodContainerSpec {
    PodContainerSpec {
        name: name.to_owned(),
        common: AppSpec {
            cmd: Some("x".to_owned()),
            ..AppSpec::default()
        },
        ..PodContainerSpec::default()
    }
}

fn orders(spec: &AppSpec, host_ports: &[u16]) -> (LaunchSpec, Vec<LaunchSpec>) {
    let mut ports = ServicePorts::new((10_000, 20_000));
    let app = App::from_spec(Timestamp(1), spec, "marathon", "dcos", &mut ports).expect("valid");
    let pod = app.pod.as_deref().expect("a pod");
    let id = InstanceId("a_p.instance-77".to_owned());
    let all = members(&app, pod, &id, host_ports, &FrameworkId::new("f"), &Config::default());
    (whole(&app, &id, host_ports, &all), all)
}

fn spec(network: &str, containers: Vec<PodContainerSpec>) -> AppSpec {
    AppSpec {
        id: "/a/p".to_owned(),
        networks: vec![(network.to_owned(), None)],
        env: [("A".to_owned(), "pod".to_owned()), ("B".to_owned(), "pod".to_owned())].into(),
        pod: Some(Box::new(PodSpec {
            containers,
            volumes: vec![
                PodVolumeSpec {
                    name: "own".to_owned(),
                    host: None,
                },
                PodVolumeSpec {
                    name: "node".to_owned(),
                    host: Some("/srv".to_owned()),
                },
            ],
            ..PodSpec::default()
        })),
        ..AppSpec::default()
    }
}

#[test]
fn every_container_knows_all_endpoints() {
    let (mut web, mut side) = (container("web"), container("side"));
    web.endpoints = vec![endpoint("http", 80, Some(0)), endpoint("only-inside", 81, None)];
    web.common.env = [("B".to_owned(), "own".to_owned())].into();
    side.endpoints = vec![endpoint("admin", 82, Some(0))];
    let (whole, all) = orders(&spec("container", vec![web, side]), &[31_000, 31_001]);
    for order in &all {
        let get = |name: &str| order.env.get(name).map(String::as_str);
        assert_eq!(get("ENDPOINT_HTTP"), Some("80"));
        assert_eq!(
            (get("EP_HOST_HTTP"), get("EP_CONTAINER_HTTP")),
            (Some("31000"), Some("80"))
        );
        assert_eq!(
            (get("ENDPOINT_ONLY_INSIDE"), get("EP_HOST_ONLY_INSIDE")),
            (Some("81"), None)
        );
        assert_eq!(get("EP_HOST_ADMIN"), Some("31001"));
        assert_eq!(get("MESOS_EXECUTOR_ID"), Some("instance-a_p.77"));
        assert_eq!(get("MARATHON_APP_ID"), Some("/a/p"));
        assert_eq!(order.name, "p.a");
        assert_eq!(
            order.network,
            TaskNetwork::Container {
                name: "dcos".to_owned()
            }
        );
    }
    let names: Vec<_> = all
        .iter()
        .map(|order| order.env["MARATHON_CONTAINER_ID"].clone())
        .collect();
    assert_eq!(names, ["web", "side"]);
    assert_eq!((all[0].env["B"].as_str(), all[1].env["B"].as_str()), ("own", "pod"));
    assert_eq!(
        (all[0].host_ports.clone(), all[1].host_ports.clone()),
        (vec![31_000], vec![31_001])
    );
    assert_eq!(whole.host_ports, [31_000, 31_001]);
    assert_eq!(whole.task.as_str(), "a_p.instance-77");
    let numbers: Vec<u16> = all[0].ports.iter().map(|port| port.number).collect();
    assert_eq!(numbers, [31_000, 81], "a host port where there is one");
}

#[test]
fn in_the_host_network_an_endpoint_is_its_host_port() {
    let mut web = container("web");
    web.endpoints = vec![endpoint("http", 0, Some(0)), endpoint("fixed", 0, Some(8080))];
    web.health_check = Some(PodCheckSpec {
        http: Some(("fixed".to_owned(), None, None)),
        ..PodCheckSpec::default()
    });
    let (_, all) = orders(&spec("host", vec![web]), &[31_000, 8080]);
    let env = &all[0].env;
    assert_eq!(
        (env["ENDPOINT_HTTP"].as_str(), env["EP_HOST_FIXED"].as_str()),
        ("31000", "8080")
    );
    assert!(!env.contains_key("EP_CONTAINER_HTTP"));
    assert!(matches!(
        all[0].checks.health[0].probe,
        Probe::Http {
            at: CheckAddress::LoopbackV4,
            port: 8080,
            ..
        }
    ));
}

#[test]
fn volumes_are_the_instances_or_the_nodes() {
    let mut web = container("web");
    let mount = |volume: &str, path: &str, read_only| PodMountSpec {
        volume: volume.to_owned(),
        path: path.to_owned(),
        read_only,
    };
    web.mounts = vec![mount("own", "a", None), mount("node", "b", Some(true))];
    let (_, all) = orders(&spec("host", vec![web]), &[]);
    let shared: Vec<&str> = all[0]
        .pod
        .iter()
        .flat_map(|part| &part.mounts)
        .map(|one| one.volume.as_str())
        .collect();
    assert_eq!(shared, ["own"]);
    assert_eq!(
        all[0].container.volumes,
        [Volume {
            container_path: "b".to_owned(),
            host_path: "/srv".to_owned(),
            mode: VolumeMode::ReadOnly,
        }]
    );
}

#[test]
fn words_follow_the_entrypoint_or_take_its_place() {
    let mut appended = container("appended");
    appended.common.container.image = Some("image".to_owned());
    appended.common.cmd = None;
    appended.common.args = Some(vec!["one".to_owned(), "two".to_owned()]);
    let mut overridden = appended.clone();
    overridden.name = "overridden".to_owned();
    overridden.override_entrypoint = Some(true);
    let mut own = container("own");
    own.common.cmd = None;
    own.common.container.image = Some("image".to_owned());
    let (_, all) = orders(&spec("host", vec![appended, overridden, own]), &[]);
    let argv = |words: &[&str]| Command::Argv(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(all[0].command, argv(&["one", "two"]));
    assert_eq!(all[1].command, argv(&["two"]));
    assert_eq!(all[1].container.parameters, [Parameter::Entrypoint("one".to_owned())]);
    assert_eq!(all[2].command, argv(&[]));
}
