//! Types, nulls, old forms, and what is refused.

use serde_json::{Value, json};

use super::*;

const NAMED_VIP: &str = include_str!("../../../../../examples/named-vip.json");
const BLUE: &str = include_str!("../../../../../examples/blue.json");

const POD: &str = include_str!("../../../../../examples/pod.json");
const JOB: &str = include_str!("../../../../../examples/nightly-job.json");

fn read(text: &str) -> Result<AppSpec, Vec<Fault>> {
    app(&serde_json::from_str(text).expect("JSON"))
}

#[test]
fn the_example_is_read_whole() {
    let spec = read(NAMED_VIP).expect("valid");
    assert_eq!(
        (spec.id.as_str(), spec.instances, spec.cpus),
        ("/my-service", Some(3), Some(0.1))
    );
    let ports = spec.port_definitions.expect("ports");
    assert_eq!((ports[0].port, ports[0].name.as_deref()), (5555, Some("my-vip")));
    assert_eq!(
        ports[0].labels.get("VIP_0").map(String::as_str),
        Some("/my-service:5555")
    );
    assert!(spec.unsupported.is_empty());
}

#[test]
fn what_is_not_carried_out_is_named() {
    assert_eq!(read(BLUE).expect("types are right").unsupported, ["healthChecks"]);
    let docker = json!({"id": "/a", "container": {"type": "DOCKER", "docker": {"image": "x"}, "volumes": [{}]},
        "env": {"A": {"secret": "s"}}, "gpus": 1, "unreachableStrategy": "disabled"});
    let named = app(&docker).expect("types are right").unsupported;
    for wanted in [
        "gpus",
        "unreachableStrategy",
        "env(A)/secret",
        "container/docker",
        "container/volumes",
    ] {
        assert!(named.iter().any(|name| name == wanted), "{wanted} in {named:?}");
    }
}

#[test]
fn nulls_and_defaults_and_unknown_fields_are_absent() {
    let sent = json!({"id": "/a", "cmd": "x", "upgradeStrategy": null, "storeUrls": [], "healthChecks": [], "gpus": 0,
        "acceptedResourceRoles": null, "portDefinitions": null, "container": null, "constraints": null,
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}, "nonsense": {"x": 1}});
    let spec = app(&sent).expect("valid");
    let bare = app(&json!({"id": "/a", "cmd": "x"})).expect("valid");
    assert_eq!(spec, bare);
    assert_eq!(spec.port_definitions, None);
}

#[test]
fn every_wrong_type_is_told_at_once() {
    let sent = json!({"id": 1, "cmd": [], "args": "x", "cpus": "1", "mem": {}, "instances": 1.5, "labels": {"a": 1},
        "env": {"A": 1}, "networks": {}, "portDefinitions": [{"port": "80", "labels": []}, 5],
        "requirePorts": "yes", "constraints": [["a", 1]], "container": {"portMappings": [{"containerPort": "x"}]},
        "upgradeStrategy": 1, "ports": ["a"]});
    let faults = app(&sent).expect_err("refused");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for wanted in [
        "/id",
        "/cmd",
        "/args",
        "/cpus",
        "/mem",
        "/instances",
        "/labels(a)",
        "/env(A)",
        "/networks",
        "/portDefinitions(0)/port",
        "/portDefinitions(0)/labels",
        "/portDefinitions(1)",
        "/requirePorts",
        "/constraints",
        "/container/portMappings(0)/containerPort",
        "/upgradeStrategy",
        "/ports",
    ] {
        assert!(paths.contains(&wanted), "{wanted} in {paths:?}");
    }
    assert_eq!(paths.len(), 17, "{paths:?}");
    assert!(
        faults.iter().all(|fault| fault.errors[0].starts_with("must be ")),
        "{faults:?}"
    );
}

#[test]
fn old_ports_become_definitions() {
    let spec = app(&json!({"id": "/a", "cmd": "x", "ports": [80, 0]})).expect("valid");
    let ports: Vec<i64> = spec
        .port_definitions
        .expect("ports")
        .iter()
        .map(|port| port.port)
        .collect();
    assert_eq!(ports, [80, 0]);
    assert!(app(&json!({"id": "/a", "ports": [80], "portDefinitions": []})).is_err());
    assert!(app(&Value::Null).is_err());
}

#[test]
fn an_update_of_instances_alone_has_a_whole_number() {
    assert_eq!(scale(&json!({"instances": 5, "id": "/a", "cmd": null})), Ok(5));
    assert_eq!(scale(&json!({})).expect_err("refused")[0].path, "/instances");
    assert_eq!(
        scale(&json!({"instances": "5"})).expect_err("refused")[0].path,
        "/instances"
    );
}

#[test]
fn a_field_that_is_not_carried_out_still_has_a_type() {
    let sent = json!({"id": "/a", "cmd": "x", "healthChecks": false, "dependencies": 0, "secrets": [], "tty": "no"});
    let faults = app(&sent).expect_err("refused");
    let told: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.path, fault.errors[0]))
        .collect();
    let wanted = [
        "/dependencies must be a list of strings, not 0",
        "/healthChecks must be a list, not a boolean",
        "/secrets must be an object, not a list",
        "/tty must be a boolean, not a string",
    ];
    assert_eq!(told, wanted);
}

#[test]
fn pods_and_jobs_are_told_what_they_are() {
    for (text, path, word) in [(POD, "/containers", "pod"), (JOB, "/run", "job")] {
        let faults = read(text).expect_err("refused");
        assert_eq!((faults.len(), faults[0].path.as_str()), (1, path));
        assert!(faults[0].errors[0].contains(word), "{faults:?}");
    }
}

#[test]
fn a_wrong_number_is_shown() {
    let faults = scale(&json!({"instances": 1.5})).expect_err("refused");
    assert_eq!(faults[0].errors, ["must be a whole number, not 1.5"]);
}
