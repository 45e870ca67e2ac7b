//! Launch orders by network mode.

use model::{CheckAddress, Probe, Scheme};

use crate::{AppSpec, HealthCheckSpec, InstanceId, PortSpec, ReadinessCheckSpec, ServicePorts, Timestamp};

use super::*;

fn order(spec: AppSpec, host_ports: &[u16]) -> LaunchSpec {
    let version = Timestamp(1_627_389_296_789);
    let mut service_ports = ServicePorts::new((10_000, 20_000));
    let app = App::from_spec(version, &spec, "marathon", "dcos", &mut service_ports).expect("valid");
    let id = InstanceId::new_for(&app.id, "u-u");
    super::spec(&app, &id.task(), host_ports, &FrameworkId::new("f"), &Config::default())
}

fn base(id: &str) -> AppSpec {
    AppSpec {
        id: id.to_owned(),
        cmd: Some("serve".to_owned()),
        ..AppSpec::default()
    }
}

fn vip_port(port: i64) -> PortSpec {
    let labels = BTreeMap::from([("VIP_0".to_owned(), "/my-service:5555".to_owned())]);
    PortSpec {
        port,
        name: Some("my-vip".to_owned()),
        labels,
        ..PortSpec::default()
    }
}

#[test]
fn the_named_vip_example() {
    let spec = AppSpec {
        cpus: Some(0.1),
        mem: Some(32.0),
        env: BTreeMap::from([("PORTS".to_owned(), "mine".to_owned())]),
        labels: BTreeMap::from([("my.team".to_owned(), "x".to_owned())]),
        port_definitions: Some(vec![vip_port(5555)]),
        ..base("/my-service")
    };
    let order = order(spec, &[31_007]);
    assert_eq!(order.task.as_str(), "my-service.instance-u-u._app.1");
    assert_eq!(order.name, "my-service");
    let port = &order.ports[0];
    assert_eq!(
        (port.number, port.scope, port.protocol),
        (31_007, PortScope::Host, Protocol::Tcp)
    );
    assert_eq!(port.labels, [("VIP_0".to_owned(), "/my-service:5555".to_owned())]);
    assert!(order.mappings.is_empty());
    let within = Duration::from_secs(10);
    assert_eq!(
        order.ready,
        ReadyRule::WhenListening {
            ports: vec![31_007],
            within
        }
    );
    assert_eq!(
        order.kill,
        KillPolicy {
            drain: Duration::from_secs(1),
            grace: Duration::from_secs(3)
        }
    );
    for (key, value) in [
        ("MESOS_TASK_ID", "my-service.instance-u-u._app.1"),
        ("MARATHON_APP_ID", "/my-service"),
        ("MARATHON_APP_VERSION", "2021-07-27T12:34:56.789Z"),
        ("MARATHON_APP_RESOURCE_CPUS", "0.1"),
        ("MARATHON_APP_RESOURCE_MEM", "32.0"),
        ("MARATHON_APP_LABELS", "MY_TEAM"),
        ("MARATHON_APP_LABEL_MY_TEAM", "x"),
        ("PORT", "31007"),
        ("PORT0", "31007"),
        ("PORT_5555", "31007"),
        ("PORT_MY_VIP", "31007"),
        ("PORTS", "mine"),
    ] {
        assert_eq!(order.env.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(!order.env.contains_key("HOST"), "the agent adds it");
}

#[test]
fn bridge_mode_maps_host_ports() {
    let mut udp = vip_port(53);
    udp.protocol = Some("udp,tcp".to_owned());
    let spec = AppSpec {
        networks: vec![("container/bridge".to_owned(), None)],
        port_mappings: Some(vec![PortSpec::default(), udp]),
        ..base("/a/b/c")
    };
    let order = order(spec, &[31_001, 31_002]);
    assert_eq!(order.name, "c.b.a");
    assert_eq!(
        order.network,
        TaskNetwork::Container {
            name: "bridge".to_owned()
        }
    );
    let mappings: Vec<(u16, u16, Protocol)> = order
        .mappings
        .iter()
        .map(|one| (one.host_port, one.container_port, one.protocol))
        .collect();
    assert_eq!(
        mappings,
        [
            (31_001, 31_001, Protocol::Tcp),
            (31_002, 53, Protocol::Udp),
            (31_002, 53, Protocol::Tcp)
        ],
        "container port 0 is the host port"
    );
    assert!(order.ports.iter().all(|port| port.scope == PortScope::Host));
    assert!(matches!(order.ready, ReadyRule::WhenListening { ports, .. } if ports == [53]));
}

#[test]
fn container_mode_has_host_ports_only_where_asked() {
    let mut mapped = vip_port(9090);
    mapped.host_port = Some(0);
    mapped.name = None;
    let spec = AppSpec {
        networks: vec![("container".to_owned(), None)],
        port_mappings: Some(vec![vip_port(8080), mapped]),
        task_kill_grace_period_seconds: Some(7.5),
        ..base("/a")
    };
    let order = order(spec, &[31_005]);
    assert_eq!(
        order.network,
        TaskNetwork::Container {
            name: "dcos".to_owned()
        }
    );
    let ports: Vec<(u16, PortScope)> = order.ports.iter().map(|port| (port.number, port.scope)).collect();
    assert_eq!(ports, [(8080, PortScope::Container), (31_005, PortScope::Host)]);
    assert_eq!(order.mappings.len(), 1);
    assert_eq!(order.env.get("PORTS").map(String::as_str), Some("8080,31005"));
    assert!(matches!(order.ready, ReadyRule::WhenListening { ports, .. } if ports == [8080, 9090]));
    assert_eq!(order.kill.grace, Duration::from_millis(7_500));
}

#[test]
fn a_task_without_vip_is_ready_at_start_and_ends_at_once() {
    let order = order(
        AppSpec {
            port_definitions: Some(Vec::new()),
            ..base("/a")
        },
        &[],
    );
    assert_eq!(order.ready, ReadyRule::AtStart);
    assert_eq!(order.kill.drain, Duration::ZERO);
    assert!(!order.env.contains_key("PORT"));
}

fn checked(protocol: &str) -> HealthCheckSpec {
    HealthCheckSpec {
        protocol: Some(protocol.to_owned()),
        port_index: (protocol != "COMMAND").then_some(0),
        command: (protocol == "COMMAND").then(|| "test -f up".to_owned()),
        interval_seconds: Some(3),
        delay_seconds: Some(40),
        ..HealthCheckSpec::default()
    }
}

#[test]
fn checks_ask_the_port_that_the_task_got() {
    let mut spec = AppSpec {
        port_definitions: Some(vec![vip_port(0)]),
        health_checks: vec![
            HealthCheckSpec {
                path: Some("/up".to_owned()),
                ..checked("HTTPS")
            },
            checked("MESOS_TCP"),
            HealthCheckSpec {
                port: Some(99),
                port_index: None,
                ..checked("TCP")
            },
        ],
        readiness_checks: vec![ReadinessCheckSpec {
            port_name: Some("my-vip".to_owned()),
            ..ReadinessCheckSpec::default()
        }],
        ..base("/a")
    };
    let host = order(spec.clone(), &[31_007]).checks;
    let wanted = Probe::Http {
        scheme: Scheme::Https,
        at: CheckAddress::Task,
        port: 31_007,
        path: "/up".to_owned(),
        ignore_1xx: false,
    };
    assert_eq!(host.health[0].probe, wanted);
    let tcp = |at, port| Probe::Tcp { at, port };
    assert_eq!(host.health[1].probe, tcp(CheckAddress::LoopbackV4, 31_007));
    assert_eq!(host.health[2].probe, tcp(CheckAddress::Task, 99));
    let delays: Vec<u64> = host.health.iter().map(|check| check.delay.as_secs()).collect();
    assert_eq!(delays, [3, 40, 3], "only Mesos' kinds have a delay of their own");
    assert_eq!(host.readiness[0].port, 31_007);

    spec.port_definitions = None;
    spec.networks = vec![("container/bridge".to_owned(), None)];
    spec.port_mappings = Some(vec![vip_port(8_080)]);
    let inside = order(spec, &[31_007]).checks;
    assert_eq!(inside.health[1].probe, tcp(CheckAddress::LoopbackV4, 8_080));
    assert_eq!(inside.readiness[0].port, 8_080);
}

#[test]
fn a_command_check_is_a_shell_command() {
    let spec = AppSpec {
        health_checks: vec![checked("COMMAND")],
        ..base("/a")
    };
    let checks = order(spec, &[31_007]).checks;
    let wanted = Probe::Command(model::Command::Shell("test -f up".to_owned()));
    assert_eq!(
        (&checks.health[0].probe, checks.health[0].delay.as_secs()),
        (&wanted, 40)
    );
}
