//! Definitions by table: defaults, and each rule's fault at its path.

use std::collections::BTreeMap;

use crate::{NetworkMode, PortSpec};

use super::*;

fn base() -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        ..AppSpec::default()
    }
}

fn check(spec: &AppSpec) -> Result<App, Vec<Fault>> {
    App::from_spec(
        Timestamp(5),
        spec,
        "marathon",
        "dcos",
        &mut ServicePorts::new((10_000, 20_000)),
    )
}

fn port(port: i64) -> PortSpec {
    PortSpec {
        port,
        ..PortSpec::default()
    }
}

fn labelled(key: &str, value: &str) -> PortSpec {
    PortSpec {
        labels: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..PortSpec::default()
    }
}

#[test]
fn defaults_are_marathons() {
    let app = check(&base()).expect("valid");
    assert_eq!(
        app.resources,
        Resources {
            cpus_milli: 1_000,
            mem_mb: 128,
            disk_mb: 0
        }
    );
    assert_eq!(
        (app.instances, &app.network, app.kill_youngest_first),
        (1, &NetworkMode::Host, true)
    );
    assert_eq!(app.backoff.initial, Duration::from_secs(1));
    assert_eq!(app.backoff.max, Duration::from_secs(300));
    assert_eq!(app.ports.len(), 1, "one default port");
    assert_eq!((app.ports[0].port, app.ports[0].service_port), (10_000, 10_000));
    assert_eq!(app.ports[0].name.as_deref(), Some("default"));
}

#[test]
fn fractions_are_kept_to_thousandths_of_a_cpu_and_whole_mebibytes() {
    let app = check(&AppSpec {
        cpus: Some(0.1),
        mem: Some(32.5),
        disk: Some(0.2),
        ..base()
    })
    .expect("valid");
    assert_eq!(
        app.resources,
        Resources {
            cpus_milli: 100,
            mem_mb: 33,
            disk_mb: 1
        }
    );
}

/// One thing made wrong, and where the fault is told.
type Case = (&'static str, fn(&mut AppSpec));

fn name(text: &str) -> PortSpec {
    PortSpec {
        name: Some(text.to_owned()),
        ..PortSpec::default()
    }
}

fn network(spec: &mut AppSpec, mode: &str, name: Option<&str>) {
    spec.networks = vec![(mode.to_owned(), name.map(str::to_owned))];
}

fn constraint(spec: &mut AppSpec, words: &[&str]) {
    spec.constraints = vec![words.iter().map(|word| (*word).to_owned()).collect()];
}

fn refused_at_their_paths(cases: &[Case]) {
    for (path, spoil) in cases {
        let mut spec = base();
        spoil(&mut spec);
        let faults = check(&spec).expect_err(path);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, [*path], "{faults:?}");
    }
}

#[test]
fn wrong_values_are_refused_at_their_paths() {
    refused_at_their_paths(&[
        ("/id", |spec| spec.id = "/A".to_owned()),
        ("/", |spec| spec.cmd = None),
        ("/", |spec| spec.args = Some(vec!["x".to_owned()])),
        ("/args", |spec| (spec.cmd, spec.args) = (None, Some(Vec::new()))),
        ("/cpus", |spec| spec.cpus = Some(0.0)),
        ("/cpus", |spec| spec.cpus = Some(f64::NAN)),
        ("/cpus", |spec| spec.cpus = Some(1e9)),
        ("/mem", |spec| spec.mem = Some(1e300)),
        ("/mem", |spec| spec.mem = Some(-1.0)),
        ("/disk", |spec| spec.disk = Some(f64::INFINITY)),
        ("/instances", |spec| spec.instances = Some(-1)),
        ("/backoffSeconds", |spec| spec.backoff_seconds = Some(-1.0)),
        ("/backoffFactor", |spec| spec.backoff_factor = Some(0.5)),
        ("/killSelection", |spec| spec.kill_selection = Some("ANY".to_owned())),
        ("/upgradeStrategy/minimumHealthCapacity", |spec| {
            spec.upgrade_strategy = Some((2.0, 0.0))
        }),
        ("/taskKillGracePeriodSeconds", |spec| {
            spec.task_kill_grace_period_seconds = Some(-1.0)
        }),
        ("/healthChecks", |spec| {
            spec.unsupported = vec!["healthChecks".to_owned()]
        }),
        ("/container/docker", |spec| {
            spec.unsupported = vec!["/container/docker".to_owned()]
        }),
    ]);
}

#[test]
fn what_no_program_can_receive_is_refused() {
    refused_at_their_paths(&[
        ("/cmd", |spec| spec.cmd = Some("a\0b".to_owned())),
        ("/args(1)", |spec| {
            (spec.cmd, spec.args) = (None, Some(vec!["a".to_owned(), "\0".to_owned()]));
        }),
        ("/env(A)", |spec| spec.env = [("A".to_owned(), "\0".to_owned())].into()),
        ("/env(A=B)", |spec| {
            spec.env = [("A=B".to_owned(), String::new())].into()
        }),
        ("/env()", |spec| spec.env = [(String::new(), String::new())].into()),
        ("/user", |spec| spec.user = Some("a:b".to_owned())),
        ("/id", |spec| spec.id = "a".repeat(300)),
    ]);
    let nobody = AppSpec {
        user: Some(String::new()),
        ..base()
    };
    assert_eq!(check(&nobody).expect("valid").user, None, "an empty user is none");
}

#[test]
fn wrong_host_ports_are_refused_at_their_paths() {
    refused_at_their_paths(&[
        ("/portDefinitions(0)/port", |spec| {
            spec.port_definitions = Some(vec![port(70_000)])
        }),
        ("/portDefinitions(1)/port", |spec| {
            spec.port_definitions = Some(vec![port(80), port(80)])
        }),
        ("/portDefinitions(1)/name", |spec| {
            spec.port_definitions = Some(vec![name("a"), name("a")])
        }),
        ("/portDefinitions(0)/name", |spec| {
            spec.port_definitions = Some(vec![name("A_b")])
        }),
        ("/portDefinitions(0)/labels(VIP_0)", |spec| {
            spec.port_definitions = Some(vec![labelled("VIP_0", "/no-port")]);
        }),
        ("/portDefinitions(0)/protocol", |spec| {
            let mut sctp = port(0);
            sctp.protocol = Some("sctp".to_owned());
            spec.port_definitions = Some(vec![sctp]);
        }),
        ("/container/portMappings", |spec| spec.port_mappings = Some(Vec::new())),
    ]);
}

#[test]
fn wrong_networks_and_constraints_are_refused_at_their_paths() {
    refused_at_their_paths(&[
        ("/container/portMappings(0)/containerPort", |spec| {
            network(spec, "container", None);
            spec.port_mappings = Some(vec![port(0)]);
        }),
        ("/container/portMappings(0)/hostPort", |spec| {
            network(spec, "container", None);
            let mut mapping = port(80);
            mapping.host_port = Some(-1);
            spec.port_mappings = Some(vec![mapping]);
        }),
        ("/portDefinitions", |spec| {
            network(spec, "container", None);
            spec.port_definitions = Some(Vec::new());
        }),
        ("/requirePorts", |spec| {
            network(spec, "container", None);
            spec.require_ports = true;
        }),
        ("/networks(0)/mode", |spec| network(spec, "ipvlan", None)),
        ("/networks(0)/name", |spec| network(spec, "host", Some("x"))),
        ("/networks(0)/name", |spec| network(spec, "container", Some("a/b"))),
        ("/networks(0)/name", |spec| network(spec, "container", Some("ot/her"))),
        ("/constraints(0)", |spec| constraint(spec, &["hostname"])),
        ("/constraints(0)", |spec| constraint(spec, &["hostname", "LIKE"])),
        ("/constraints(0)", |spec| {
            constraint(spec, &["hostname", "UNLIKE", "a("])
        }),
        ("/constraints(0)", |spec| {
            constraint(spec, &["hostname", "LIKE", "(a{1000}){1000}"]);
        }),
        ("/constraints(0)", |spec| constraint(spec, &["@rack", "UNIQUE"])),
        ("/constraints", |spec| {
            spec.constraints = vec![vec!["hostname".to_owned(), "UNIQUE".to_owned()]; 10_000];
        }),
        ("/acceptedResourceRoles", |spec| spec.accepted_roles = Some(Vec::new())),
        ("/dependencies(0)", |spec| {
            spec.dependencies = vec!["../../x".to_owned()]
        }),
        ("/constraints(0)", |spec| constraint(spec, &["rack", "MAX_PER"])),
        ("/constraints(0)", |spec| constraint(spec, &["hostname", "UNIQUE", "x"])),
        ("/constraints(0)", |spec| constraint(spec, &["rack", "NEAR", "x"])),
    ]);
}

#[test]
fn all_faults_are_told_at_once() {
    let spec = AppSpec {
        id: "/A".to_owned(),
        cpus: Some(0.0),
        instances: Some(-3),
        unsupported: vec!["fetch".to_owned()],
        port_definitions: Some(vec![port(-1), labelled("vip_x", "/:80")]),
        ..base()
    };
    let faults = check(&spec).expect_err("five faults");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    let all = [
        "/fetch",
        "/id",
        "/cpus",
        "/instances",
        "/portDefinitions(0)/port",
        "/portDefinitions(1)/labels(vip_x)",
    ];
    assert_eq!(paths, all);
    assert_eq!(
        faults[0].errors,
        ["fetch is not carried out by this version of Revere; remove it"]
    );
}
