//! Checks by table: defaults, and each rule's fault at its path.

use std::time::Duration;

use crate::{App, Fault, PortSpec, ServicePorts, Timestamp};

use super::*;

fn app(change: impl FnOnce(&mut AppSpec)) -> Result<App, Vec<Fault>> {
    let named = |name: &str| PortSpec {
        name: Some(name.to_owned()),
        ..PortSpec::default()
    };
    let mut spec = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        port_definitions: Some(vec![named("web"), named("http-api")]),
        ..AppSpec::default()
    };
    change(&mut spec);
    let mut ports = ServicePorts::new((10_000, 20_000));
    App::from_spec(Timestamp(5), &spec, "marathon", "dcos", &mut ports)
}

fn check(protocol: &str) -> HealthCheckSpec {
    HealthCheckSpec {
        protocol: Some(protocol.to_owned()),
        port_index: (protocol != "COMMAND").then_some(1),
        command: (protocol == "COMMAND").then(|| "true".to_owned()),
        ..HealthCheckSpec::default()
    }
}

fn with(health: &[HealthCheckSpec]) -> Result<App, Vec<Fault>> {
    app(|spec| spec.health_checks = health.to_vec())
}

#[test]
fn the_defaults_are_marathons() {
    let got = app(|spec| {
        spec.port_definitions = None;
        spec.health_checks = vec![HealthCheckSpec::default()];
    });
    let wanted = AppHealthCheck {
        target: CheckTarget::Network {
            protocol: CheckProtocol::Http,
            port: CheckPort::Index(0),
            path: "/".to_owned(),
            family: IpFamily::V4,
            ignore_1xx: false,
        },
        grace: Duration::from_secs(300),
        interval: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
        max_failures: 3,
        delay: Duration::from_secs(15),
    };
    let got = got.expect("valid");
    assert_eq!(got.health_checks, [wanted]);
    assert_eq!(got.unreachable, UnreachableStrategy::default());
    let ready = app(|spec| spec.readiness_checks = vec![ReadinessCheckSpec::default()]).expect("valid");
    let ready = &ready.readiness_checks[0];
    assert_eq!(
        (ready.name.as_str(), ready.port_name.as_str()),
        ("readinessCheck", "http-api")
    );
    assert_eq!((ready.interval.as_secs(), ready.timeout.as_secs()), (30, 10));
    assert_eq!(
        (&ready.ready_codes, ready.keep_response),
        (&BTreeSet::from([200]), false)
    );
}

#[test]
fn every_protocol_is_taken_and_a_path_gets_its_slash() {
    for protocol in [
        "HTTP",
        "HTTPS",
        "TCP",
        "MESOS_HTTP",
        "MESOS_HTTPS",
        "MESOS_TCP",
        "COMMAND",
    ] {
        let got = with(&[check(protocol)]).expect(protocol);
        let name = match &got.health_checks[0].target {
            CheckTarget::Command(_) => "COMMAND",
            CheckTarget::Network { protocol, .. } => protocol.as_str(),
        };
        assert_eq!(name, protocol);
    }
    let got = with(&[HealthCheckSpec {
        path: Some("health?x=1".to_owned()),
        ..check("MESOS_HTTP")
    }]);
    let got = got.expect("valid").health_checks.remove(0);
    assert!(matches!(got.target, CheckTarget::Network { path, .. } if path == "/health?x=1"));
    let never = with(&[HealthCheckSpec {
        max_consecutive_failures: Some(0),
        ..check("HTTP")
    }]);
    assert_eq!(never.expect("valid").health_checks[0].max_failures, 0);
}

type Change = fn(&mut HealthCheckSpec);

#[test]
fn wrong_health_checks_are_refused_at_their_paths() {
    let cases: [(&str, &str, Change); 17] = [
        ("HTTP", "/healthChecks(0)/protocol", |c| {
            c.protocol = Some("ICMP".to_owned())
        }),
        ("HTTP", "/healthChecks(0)/path", |c| c.path = Some("/a b".to_owned())),
        ("HTTP", "/healthChecks(0)/path", |c| {
            c.path = Some("/\r\nHost: x".to_owned())
        }),
        ("HTTP", "/healthChecks(0)/command", |c| {
            c.command = Some("true".to_owned())
        }),
        ("HTTP", "/healthChecks(0)", |c| c.port_index = Some(2)),
        ("HTTP", "/healthChecks(0)", |c| c.port_index = Some(-1)),
        ("HTTP", "/healthChecks(0)", |c| c.port_index = None),
        ("HTTP", "/healthChecks(0)", |c| c.port = Some(80)),
        ("HTTP", "/healthChecks(0)/ipProtocol", |c| {
            c.ip_protocol = Some("IPv6".to_owned())
        }),
        ("MESOS_TCP", "/healthChecks(0)/ipProtocol", |c| {
            c.ip_protocol = Some("v4".to_owned())
        }),
        ("TCP", "/healthChecks(0)/port", |c| {
            (c.port, c.port_index) = (Some(65_536), None)
        }),
        ("TCP", "/healthChecks(0)/intervalSeconds", |c| {
            c.interval_seconds = Some(0)
        }),
        ("TCP", "/healthChecks(0)/timeoutSeconds", |c| {
            c.timeout_seconds = Some(-3)
        }),
        ("TCP", "/healthChecks(0)/gracePeriodSeconds", |c| {
            c.grace_period_seconds = Some(i64::MAX)
        }),
        ("TCP", "/healthChecks(0)/maxConsecutiveFailures", |c| {
            c.max_consecutive_failures = Some(-1)
        }),
        ("COMMAND", "/healthChecks(0)/command", |c| c.command = None),
        ("COMMAND", "/healthChecks(0)/command/value", |c| {
            c.command = Some("a\0b".to_owned())
        }),
    ];
    for (protocol, path, change) in cases {
        let mut wrong = check(protocol);
        change(&mut wrong);
        let faults = with(std::slice::from_ref(&wrong)).expect_err(path);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, [path], "{wrong:?}: {faults:?}");
    }
}

#[test]
fn at_most_one_check_is_mesos_own() {
    assert!(with(&[check("MESOS_TCP"), check("HTTP"), check("TCP")]).is_ok());
    let faults = with(&[check("MESOS_TCP"), check("COMMAND")]).expect_err("two");
    assert_eq!(faults[0].path, "/healthChecks");
    let many = vec![check("TCP"); MOST_CHECKS + 1];
    assert_eq!(with(&many).expect_err("many")[0].path, "/healthChecks");
}

#[test]
fn wrong_readiness_checks_are_refused_at_their_paths() {
    type Change = fn(&mut ReadinessCheckSpec);
    let cases: [(&str, Change); 7] = [
        ("/readinessChecks(0)/protocol", |c| c.protocol = Some("TCP".to_owned())),
        ("/readinessChecks(0)/portName", |c| {
            c.port_name = Some("none".to_owned())
        }),
        ("/readinessChecks(0)/timeoutSeconds", |c| c.timeout_seconds = Some(30)),
        ("/readinessChecks(0)/httpStatusCodesForReady", |c| {
            c.ready_codes = Some(vec![])
        }),
        ("/readinessChecks(0)/httpStatusCodesForReady", |c| {
            c.ready_codes = Some(vec![200, 7])
        }),
        ("/readinessChecks(0)/path", |c| c.path = Some("/ä".to_owned())),
        ("/readinessChecks(0)/name", |c| c.name = Some(String::new())),
    ];
    for (path, change) in cases {
        let mut wrong = ReadinessCheckSpec::default();
        change(&mut wrong);
        let faults = app(|spec| spec.readiness_checks = vec![wrong]).expect_err(path);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, [path], "{faults:?}");
    }
    let two = vec![ReadinessCheckSpec::default(); 2];
    let faults = app(|spec| spec.readiness_checks = two).expect_err("two");
    assert_eq!(faults[0].path, "/readinessChecks");
}

#[test]
fn the_unreachable_strategy_keeps_its_order() {
    let got = |written| app(|spec| spec.unreachable_strategy = Some(written));
    let after = |inactive, expunge| UnreachableSpec::After { inactive, expunge };
    assert_eq!(
        got(UnreachableSpec::Disabled).expect("valid").unreachable,
        UnreachableStrategy::Disabled
    );
    let wanted = UnreachableStrategy::Replace {
        inactive_after: Duration::from_secs(5),
        expunge_after: Duration::from_secs(60),
    };
    assert_eq!(got(after(5, 60)).expect("valid").unreachable, wanted);
    for (written, path) in [
        (after(61, 60), "/unreachableStrategy/inactiveAfterSeconds"),
        (after(0, -1), "/unreachableStrategy/expungeAfterSeconds"),
    ] {
        let faults = got(written).expect_err(path);
        assert!(faults.iter().any(|fault| fault.path == path), "{faults:?}");
    }
}
