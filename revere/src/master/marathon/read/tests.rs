//! Types, nulls, old forms, and what is refused.

use serde_json::{Value, json};

use super::*;

const NAMED_VIP: &str = include_str!("../../../../../examples/named-vip.json");
const DATABASE: &str = include_str!("../../../../../examples/database-with-volume.json");
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
fn an_app_with_a_volume_is_read_and_shown_with_the_same_meaning() {
    let mut ports = scheduler::ServicePorts::new((10_000, 20_000));
    let mut check = |spec: &AppSpec| {
        let now = scheduler::Timestamp(1);
        scheduler::App::from_spec(now, spec, "marathon", "dcos", &mut ports).expect("valid")
    };
    let first = check(&read(DATABASE).expect("read"));
    let shown = super::super::write::definition(&first);
    assert_eq!(
        shown["container"]["volumes"],
        json!([{"containerPath": "pgdata", "mode": "RW", "persistent": {"type": "root", "size": 100, "constraints": []}}])
    );
    assert_eq!(
        shown["residency"],
        json!({"relaunchEscalationTimeoutSeconds": 3600, "taskLostBehavior": "WAIT_FOREVER"})
    );
    assert_eq!(shown["unreachableStrategy"], "disabled");
    assert_eq!(
        shown["upgradeStrategy"],
        json!({"minimumHealthCapacity": 0.0, "maximumOverCapacity": 0.0})
    );
    assert_eq!(check(&app(&shown).expect("read")), first);
}

#[test]
fn secrets_are_read_and_shown_by_name_alone() {
    let sent = json!({"id": "/a", "cmd": "x", "env": {"PASSWORD": {"secret": "pw"}, "PLAIN": "p"},
        "secrets": {"pw": {"source": "team/db"}},
        "container": {"volumes": [{"containerPath": "pw.txt", "secret": "pw"}]}});
    let mut ports = scheduler::ServicePorts::new((10_000, 20_000));
    let mut check = |spec: &AppSpec| {
        let now = scheduler::Timestamp(1);
        scheduler::App::from_spec(now, spec, "marathon", "dcos", &mut ports).expect("valid")
    };
    let first = check(&app(&sent).expect("read"));
    let shown = super::super::write::definition(&first);
    for field in ["env", "secrets"] {
        assert_eq!(shown[field], sent[field]);
    }
    assert_eq!(shown["container"]["volumes"], sent["container"]["volumes"]);
    let again = check(&app(&shown).expect("read"));
    assert_eq!(again.container, first.container);
    let wrong = json!({"id": "/a", "cmd": "x", "env": {"A": {"secret": 1}}, "secrets": {"x": "y", "z": {"source": 2}}});
    let faults = app(&wrong).expect_err("refused");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["/env(A)/secret", "/secrets(x)", "/secrets(z)/source"]);
}

#[test]
fn persistent_volumes_of_wrong_types_are_told_at_their_place() {
    let sent = json!({"id": "/a", "cmd": "x", "residency": {"taskLostBehavior": 1}, "container": {"volumes": [
        {"containerPath": "a", "persistent": {"size": "1", "type": 2, "maxSize": 1.5}}, {"persistent": 3}]}});
    let faults = app(&sent).expect_err("refused");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for wanted in [
        "/container/volumes(0)/persistent/size",
        "/container/volumes(0)/persistent/type",
        "/container/volumes(0)/persistent/maxSize",
        "/container/volumes(1)/persistent",
        "/residency/taskLostBehavior",
    ] {
        assert!(paths.contains(&wanted), "{wanted} in {paths:?}");
    }
}

#[test]
fn what_is_not_carried_out_is_named() {
    assert!(read(BLUE).expect("types are right").unsupported.is_empty());
    let docker = json!({"id": "/a", "container": {"type": "DOCKER", "docker": {"image": "x", "credential": {"principal": "p"}},
            "volumes": [{"containerPath": "p", "external": {"name": "v"}}], "linuxInfo": {"effectiveCapabilities": []}},
        "gpus": 1});
    let named = app(&docker).expect("types are right").unsupported;
    for wanted in [
        "gpus",
        "container/docker/credential",
        "container/volumes(0)/external",
        "container/linuxInfo/effectiveCapabilities",
    ] {
        assert!(named.iter().any(|name| name == wanted), "{wanted} in {named:?}");
    }
}

#[test]
fn nulls_and_defaults_and_unknown_fields_are_absent() {
    let sent = json!({"id": "/a", "cmd": "x", "upgradeStrategy": null, "storeUrls": [], "healthChecks": [], "gpus": 0,
        "acceptedResourceRoles": null, "portDefinitions": null, "container": null, "constraints": null,
        "unreachableStrategy": null, "readinessChecks": null, "nonsense": {"x": 1}});
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
    let sent = json!({"id": "/a", "cmd": "x", "residency": false, "dependencies": 0, "secrets": [], "tty": "no"});
    let faults = app(&sent).expect_err("refused");
    let told: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.path, fault.errors[0]))
        .collect();
    let wanted = [
        "/dependencies must be a list of strings, not 0",
        "/tty must be a boolean, not a string",
        "/residency must be an object, not a boolean",
        "/secrets must be an object, not a list",
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

fn checked(definition: &serde_json::Value) -> scheduler::App {
    let spec = app(definition).expect("types are right");
    let mut ports = scheduler::ServicePorts::new((10_000, 20_000));
    scheduler::App::from_spec(scheduler::Timestamp(5), &spec, "marathon", "dcos", &mut ports).expect("valid")
}

#[test]
fn checks_read_back_with_the_same_meaning() {
    let network = |protocol: &str| {
        json!({"protocol": protocol, "portIndex": 0, "gracePeriodSeconds": 1, "intervalSeconds": 2,
            "timeoutSeconds": 3, "maxConsecutiveFailures": 0})
    };
    let mut http = network("HTTP");
    http["path"] = json!("/up?x=1");
    http["ignoreHttp1xx"] = json!(true);
    let mut native = network("MESOS_HTTPS");
    native["ipProtocol"] = json!("IPv6");
    native["delaySeconds"] = json!(0);
    let sent = json!({"id": "/a", "cmd": "x", "portDefinitions": [{"port": 0, "name": "http-api"}],
        "healthChecks": [http, network("HTTPS"), network("TCP"), native, {"protocol": "TCP", "port": 7}],
        "readinessChecks": [{"path": "/r", "httpStatusCodesForReady": [200, 204], "preserveLastResponse": true}],
        "unreachableStrategy": {"inactiveAfterSeconds": 7, "expungeAfterSeconds": 70}});
    let command = json!({"id": "/a", "cmd": "x", "unreachableStrategy": "disabled",
        "healthChecks": [{"protocol": "COMMAND", "command": {"value": "test -f up"}}]});
    for sent in [sent, command] {
        let first = checked(&sent);
        let shown = super::super::write::definition(&first);
        assert_eq!(checked(&shown), first, "{shown}");
        assert_eq!(shown["unreachableStrategy"], sent["unreachableStrategy"]);
        assert_eq!(
            shown["healthChecks"].as_array().map(Vec::len),
            Some(first.health_checks.len())
        );
        assert_eq!(
            shown["healthChecks"][0]["protocol"],
            sent["healthChecks"][0]["protocol"]
        );
    }
}

#[test]
fn wrong_types_in_checks_are_told_at_their_paths() {
    let sent = json!({"id": "/a", "cmd": "x", "unreachableStrategy": "enabled",
        "healthChecks": [{"portIndex": "0", "command": "true", "ignoreHttp1xx": 1}, 5],
        "readinessChecks": [{"httpStatusCodesForReady": ["200"], "intervalSeconds": 1.5}]});
    let faults = app(&sent).expect_err("refused");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for wanted in [
        "/unreachableStrategy",
        "/healthChecks(0)/portIndex",
        "/healthChecks(0)/command",
        "/healthChecks(0)/ignoreHttp1xx",
        "/healthChecks(1)",
        "/readinessChecks(0)/httpStatusCodesForReady",
        "/readinessChecks(0)/intervalSeconds",
    ] {
        assert!(paths.contains(&wanted), "{wanted} in {faults:?}");
    }
}

#[test]
fn containers_are_read_whole() {
    let sent = json!({"id": "/a", "container": {"type": "DOCKER",
        "docker": {"image": "r:5000/a:1", "forcePullImage": true, "privileged": true, "network": "BRIDGE",
            "parameters": [{"key": "hostname", "value": "h"}], "pullConfig": {"secret": "s"},
            "portMappings": [{"containerPort": 80, "hostPort": 0}]},
        "volumes": [{"containerPath": "/d", "hostPath": "/srv", "mode": "RO"}],
        "linuxInfo": {"seccomp": {"unconfined": true}, "ipcInfo": {"mode": "PRIVATE", "shmSize": 8}}},
        "uris": ["http://a.example/x.tgz"]});
    let spec = app(&sent).expect("valid");
    let container = spec.container;
    assert_eq!(container.kind.as_deref(), Some("DOCKER"));
    assert_eq!(container.image.as_deref(), Some("r:5000/a:1"));
    assert!(container.force_pull && container.privileged && container.seccomp_unconfined);
    assert_eq!(container.parameters, [("hostname".to_owned(), "h".to_owned())]);
    assert_eq!(container.pull_secret.as_deref(), Some("s"));
    assert_eq!(container.volumes[0].mode.as_deref(), Some("RO"));
    assert_eq!(
        (container.ipc_mode.as_deref(), container.shm_size),
        (Some("PRIVATE"), Some(8))
    );
    assert_eq!(spec.networks, [("container/bridge".to_owned(), None)]);
    assert_eq!(spec.port_mappings.expect("old mappings")[0].port, 80);
    assert_eq!(spec.fetch[0].uri, "http://a.example/x.tgz");
    assert!(spec.unsupported.is_empty(), "{:?}", spec.unsupported);
}

#[test]
fn wrong_types_in_containers_have_their_paths() {
    let sent = json!({"id": "/a", "cmd": "x", "container": {"type": 1, "docker": {"image": 5, "privileged": "no",
        "parameters": [{"key": 1}], "pullConfig": "s", "network": "NONE"}, "volumes": [{"containerPath": 1}],
        "linuxInfo": {"seccomp": [], "ipcInfo": {"shmSize": "8"}}},
        "fetch": [{"uri": 1, "extract": "yes"}], "uris": "http://x"});
    let faults = app(&sent).expect_err("refused");
    let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
    for wanted in [
        "/container/type",
        "/container/docker/image",
        "/container/docker/privileged",
        "/container/docker/parameters(0)/key",
        "/container/docker/pullConfig",
        "/container/docker/network",
        "/container/volumes(0)/containerPath",
        "/container/linuxInfo/seccomp",
        "/container/linuxInfo/ipcInfo/shmSize",
        "/fetch(0)/uri",
        "/fetch(0)/extract",
        "/uris",
    ] {
        assert!(paths.contains(&wanted), "{wanted} in {paths:?}");
    }
}

#[test]
fn containers_read_back_with_the_same_meaning() {
    let sent = json!({"id": "/a", "args": ["-f"], "container": {"type": "DOCKER",
        "docker": {"image": "a@sha256:1", "forcePullImage": true, "privileged": true,
            "parameters": [{"key": "cap-drop", "value": "ALL"}], "pullConfig": {"secret": "s"}},
        "volumes": [{"containerPath": "/d", "hostPath": "/srv", "mode": "RO"}],
        "linuxInfo": {"ipcInfo": {"mode": "PRIVATE", "shmSize": 8}}},
        "fetch": [{"uri": "file:///x", "extract": false, "executable": true, "cache": true, "destPath": "y"}]});
    for network in ["host", "container/bridge"] {
        let mut sent = sent.clone();
        sent["networks"] = json!([{"mode": network}]);
        let check = |definition: &Value| {
            let spec = app(definition).expect("valid");
            let mut ports = scheduler::ServicePorts::new((10_000, 20_000));
            scheduler::App::from_spec(scheduler::Timestamp(5), &spec, "marathon", "dcos", &mut ports).expect("valid")
        };
        let first = check(&sent);
        let written = crate::master::marathon::write::definition(&first);
        let again = check(&written);
        assert_eq!(
            (&again.container, &again.fetch, &again.command),
            (&first.container, &first.fetch, &first.command)
        );
        assert_eq!(again.network, first.network);
        assert_eq!(written["fetch"][0]["destPath"], "y");
    }
}
