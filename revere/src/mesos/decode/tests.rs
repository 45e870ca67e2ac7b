//! Tables of Mesos JSON, good and malformed, and what the model sees of it.

use std::net::IpAddr;

use model::{PortMapping, PortScope, Protocol, TaskPort};
use serde_json::json;

use super::*;

fn decoded(value: &Value) -> Decoded {
    decode(value.to_string().as_bytes()).expect("a record")
}

fn added(task: &Value) -> (Option<Task>, Vec<RejectKind>) {
    let decoded = decoded(&json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
    let kinds = decoded.rejects.iter().map(|reject| reject.kind).collect();
    match decoded.message {
        Message::Event(TaskEvent::TaskAdded(task)) => (Some(task), kinds),
        _ => (None, kinds),
    }
}

fn task_json() -> Value {
    json!({
        "name": "my-service",
        "task_id": {"value": "my-service.1"},
        "framework_id": {"value": "F"},
        "agent_id": {"value": "A-S0"},
        "state": "TASK_RUNNING",
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}, {"begin": 31007, "end": 31007}]}}
        ],
        "statuses": [
            {"task_id": {"value": "my-service.1"}, "state": "TASK_RUNNING", "timestamp": 20.5, "healthy": true, "message": "up",
             "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": "9.0.1.2", "protocol": "IPv4"}]}]}},
            {"task_id": {"value": "my-service.1"}, "state": "TASK_STARTING", "timestamp": 10.0, "healthy": false}
        ],
        "labels": {"labels": [{"key": "a", "value": "b"}, {"key": "empty"}]},
        "health_check": {"type": "TCP"},
        "container": {"type": "MESOS", "network_infos": [{"name": "dcos", "port_mappings": [
            {"host_port": 31000, "container_port": 5555, "protocol": "tcp"}]}]},
        "discovery": {"visibility": "FRAMEWORK", "name": "renamed", "ports": {"ports": [
            {"number": 31000, "name": "web", "protocol": "tcp",
             "labels": {"labels": [{"key": "network-scope", "value": "host"}, {"key": "VIP_0", "value": "/my-service:5555"}]}}
        ]}}
    })
}

/// The task above with its discovery ports replaced.
fn with_ports(ports: &Value) -> (Vec<TaskPort>, Vec<RejectKind>) {
    let mut task = task_json();
    task["discovery"]["ports"]["ports"] = ports.clone();
    let (task, rejects) = added(&task);
    (task.expect("a bad port loses only itself").ports, rejects)
}

#[test]
fn a_whole_task_is_read() {
    let (task, rejects) = added(&task_json());
    let task = task.expect("well formed");
    assert_eq!(rejects, []);
    assert_eq!(
        (task.id.as_str(), task.framework.as_str(), task.agent.as_str()),
        ("my-service.1", "F", "A-S0")
    );
    assert_eq!(task.name, "renamed");
    assert!(task.has_discovery && task.has_health_check);
    assert_eq!(task.host_ports, [31000, 31001, 31007]);
    assert_eq!(task.labels.get("empty").map(String::as_str), Some(""));
    let mapping = PortMapping {
        host_port: 31000,
        container_port: 5555,
        protocol: Protocol::Tcp,
    };
    assert_eq!(task.mappings, [mapping]);
    assert_eq!(task.ports.len(), 1);
    assert_eq!((task.ports[0].number, task.ports[0].scope), (31000, PortScope::Host));
    assert_eq!(
        task.ports[0].labels[1],
        ("VIP_0".to_owned(), "/my-service:5555".to_owned())
    );
    // The newest status counts, wherever it stands in the list.
    assert_eq!(task.status.state, TaskState::Running);
    assert_eq!((task.status.healthy, task.status.timestamp_ms), (Some(true), 20_500));
    assert_eq!(task.status.addresses, ["9.0.1.2".parse::<IpAddr>().expect("address")]);
}

#[test]
fn a_sparse_task_is_read() {
    let (task, rejects) = added(&json!({
        "name": "n", "task_id": {"value": "t"}, "framework_id": {"value": "F"}, "agent_id": {"value": "A"},
        "state": "TASK_STAGING", "discovery": null, "health_check": null, "statuses": null, "labels": null
    }));
    let task = task.expect("nothing needed is missing");
    assert_eq!(rejects, []);
    assert_eq!(
        (task.name.as_str(), task.status.state, task.status.healthy),
        ("n", TaskState::Staging, None)
    );
    assert!(!task.has_discovery && !task.has_health_check);
}

#[test]
fn a_broken_port_loses_only_itself() {
    let good = json!({"number": 31001, "name": "good", "protocol": "udp"});
    let scope = |value: &str| json!({"key": "network-scope", "value": value});
    let broken = [
        json!({"name": "no number"}),
        json!({"number": 70000}),
        json!({"number": -1}),
        json!({"number": "eighty"}),
        json!({"number": 80.5}),
        json!({"number": 80, "protocol": "sctp"}),
        json!({"number": 80, "protocol": 6}),
        json!({"number": 80, "labels": {"labels": [scope("galaxy")]}}),
        json!({"number": 80, "labels": {"labels": [scope("host"), scope("host")]}}),
        json!("not an object"),
    ];
    for bad in broken {
        let (ports, rejects) = with_ports(&json!([bad, good]));
        assert_eq!(ports.len(), 1, "{bad}");
        assert_eq!(ports[0].name.as_deref(), Some("good"), "{bad}");
        assert_eq!(rejects, [RejectKind::Port], "{bad}");
    }
}

#[test]
fn ports_follow_the_rules() {
    let shapes = |value: Value| -> Vec<(u16, Protocol, PortScope)> {
        let (ports, rejects) = with_ports(&value);
        assert_eq!(rejects, []);
        ports
            .iter()
            .map(|port| (port.number, port.protocol, port.scope))
            .collect()
    };
    let container = PortScope::Container;
    assert_eq!(shapes(json!([{"number": 0}])), []);
    assert_eq!(shapes(json!([{"number": 80}])), [(80, Protocol::Tcp, container)]);
    for both in ["tcp,udp", "udp,tcp", "TCP, UDP"] {
        let mut got = shapes(json!([{"number": 53, "protocol": both}]));
        got.sort();
        assert_eq!(
            got,
            [(53, Protocol::Tcp, container), (53, Protocol::Udp, container)],
            "{both}"
        );
    }
    let scoped = json!([{"number": 80, "labels": {"labels": [{"key": "network-scope", "value": "container"}]}}]);
    assert_eq!(shapes(scoped), [(80, Protocol::Tcp, container)]);
}

#[test]
fn a_bad_label_address_or_mapping_loses_only_itself() {
    let mut task = task_json();
    task["labels"]["labels"] = json!([{"value": "no key"}, {"key": "k", "value": 5}, {"key": "a", "value": "b"}]);
    task["statuses"][0]["container_status"]["network_infos"][0]["ip_addresses"] =
        json!([{"ip_address": "9.0.1"}, {"ip_address": "9.0.1.3"}]);
    task["container"]["network_infos"][0]["port_mappings"] =
        json!([{"host_port": 1}, {"host_port": 31000, "container_port": 80}]);
    task["resources"][1]["ranges"]["range"] = json!([{"begin": 1}, {"begin": 31000, "end": 31000}]);
    let (task, rejects) = added(&task);
    let task = task.expect("still there");
    assert_eq!(
        (task.labels.len(), task.status.addresses.len(), task.mappings.len()),
        (1, 1, 1)
    );
    assert_eq!(task.host_ports, [31000]);
    let mut rejects = rejects;
    rejects.sort();
    let (label, address) = (RejectKind::Label, RejectKind::Address);
    assert_eq!(
        rejects,
        [label, label, address, RejectKind::Mapping, RejectKind::Resource]
    );
}

#[test]
fn docker_mappings_and_status_mappings_are_found() {
    let mapping = json!([{"host_port": 31000, "container_port": 80, "protocol": "udp"}]);
    let mut docker = task_json();
    docker["container"] = json!({"type": "DOCKER", "docker": {"port_mappings": mapping}});
    let mut told = task_json();
    told["container"] = json!({"type": "MESOS"});
    told["statuses"][0]["container_status"]["network_infos"][0]["port_mappings"] = mapping;
    for task in [docker, told] {
        let mappings = added(&task).0.expect("task").mappings;
        assert_eq!(mappings.len(), 1);
        assert_eq!((mappings[0].container_port, mappings[0].protocol), (80, Protocol::Udp));
    }
}

#[test]
fn a_task_without_ids_is_lost_alone() {
    for missing in ["task_id", "framework_id", "agent_id"] {
        let mut task = task_json();
        task[missing] = Value::Null;
        assert_eq!(added(&task), (None, vec![RejectKind::Task]), "{missing}");
    }
}

#[test]
fn updates_prefer_the_state_of_the_event() {
    let update = |extra: Value| {
        let mut event = json!({"framework_id": {"value": "F"}, "status": {
            "task_id": {"value": "t"}, "state": "TASK_RUNNING", "timestamp": 1.0, "healthy": false}});
        event
            .as_object_mut()
            .expect("object")
            .extend(extra.as_object().expect("object").clone());
        decoded(&json!({"type": "TASK_UPDATED", "task_updated": event}))
    };
    for (extra, state, rejects) in [
        (json!({"state": "TASK_KILLED"}), TaskState::Killed, 0),
        (json!({}), TaskState::Running, 0),
        (json!({"state": null}), TaskState::Running, 0),
        (json!({"state": "TASK_ON_HOLIDAY"}), TaskState::Unknown, 1),
    ] {
        let decoded = update(extra);
        let Message::Event(TaskEvent::TaskUpdated {
            framework,
            task,
            status,
            ..
        }) = decoded.message
        else {
            panic!("{decoded:?}");
        };
        assert_eq!((framework.as_str(), task.as_str()), ("F", "t"));
        assert_eq!((status.state, status.healthy), (state, Some(false)));
        assert_eq!(decoded.rejects.len(), rejects);
    }
    let lost = decoded(&json!({"type": "TASK_UPDATED", "task_updated": {"status": {"state": "TASK_RUNNING"}}}));
    assert_eq!(lost.rejects[0].kind, RejectKind::Status);
}

#[test]
fn agents_carry_address_subnet_and_attributes() {
    let agent = |hostname: &str, subnet: &str| {
        let value = json!({"type": "AGENT_ADDED", "agent_added": {"agent": {
            "pid": "slave(1)@10.0.0.9:5051",
            "agent_info": {"id": {"value": "A-S0"}, "hostname": hostname, "attributes": [
                {"name": "overlay_subnet", "type": "TEXT", "text": {"value": subnet}},
                {"name": "rack", "type": "SCALAR", "scalar": {"value": 7.0}},
                {"type": "TEXT"}
            ]}
        }}});
        decoded(&value)
    };
    let Decoded { message, rejects } = agent("10.0.0.1", "9.0.1.0/24");
    let Message::Event(TaskEvent::AgentAdded(info)) = message else {
        panic!("{message:?}")
    };
    assert_eq!(info.ip, Some(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(info.subnet.map(|net| net.to_string()).as_deref(), Some("9.0.1.0/24"));
    assert_eq!(info.attributes.get("rack").map(String::as_str), Some("7.0"));
    assert_eq!(rejects.len(), 1);

    let Decoded { message, rejects } = agent("node-1", "nonsense");
    let Message::Event(TaskEvent::AgentAdded(info)) = message else {
        panic!("{message:?}")
    };
    assert_eq!((info.ip, info.subnet), (Some(Ipv4Addr::new(10, 0, 0, 9)), None));
    assert_eq!(rejects.len(), 2);
}

#[test]
fn a_snapshot_is_read_and_its_bad_parts_left_out() {
    let mut bad = task_json();
    bad["task_id"] = json!({});
    let state = json!({
        "get_agents": {"agents": [{"agent_info": {"id": {"value": "A-S0"}, "hostname": "10.0.0.1"}}, {"agent_info": {}}],
                       "recovered_agents": [{"id": {"value": "A-S1"}, "hostname": "10.0.0.2"}]},
        "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"}, "name": "marathon"}}, {}]},
        "get_tasks": {"tasks": [task_json(), bad], "completed_tasks": [task_json()]}
    });
    let decoded =
        decoded(&json!({"type": "SUBSCRIBED", "subscribed": {"get_state": state, "heartbeat_interval_seconds": 5.0}}));
    let Message::Subscribed(snapshot, heartbeat) = decoded.message else {
        panic!("{decoded:?}")
    };
    assert_eq!(heartbeat, Duration::from_secs(5));
    assert_eq!(
        (snapshot.agents.len(), snapshot.frameworks.len(), snapshot.tasks.len()),
        (1, 1, 2)
    );
    assert_eq!(snapshot.recovered_agents, [AgentId::new("A-S1")]);
    let mut kinds: Vec<RejectKind> = decoded.rejects.iter().map(|reject| reject.kind).collect();
    kinds.sort();
    assert_eq!(kinds, [RejectKind::Task, RejectKind::Agent, RejectKind::Framework]);
}

#[test]
fn numbers_and_flags_may_be_text() {
    let mut task = task_json();
    task["resources"][1]["ranges"]["range"] = json!([{"begin": "31000", "end": 31001.0}]);
    task["statuses"][0]["timestamp"] = json!("20.5");
    task["statuses"][0]["healthy"] = json!("false");
    task["container"]["network_infos"][0]["port_mappings"][0]["container_port"] = json!("5555");
    task["discovery"]["ports"]["ports"][0]["number"] = json!("31000");
    let (task, rejects) = added(&task);
    let task = task.expect("well formed");
    assert_eq!(rejects, []);
    assert_eq!(task.host_ports, [31000, 31001]);
    assert_eq!((task.status.healthy, task.status.timestamp_ms), (Some(false), 20_500));
    assert_eq!((task.ports[0].number, task.mappings[0].container_port), (31000, 5555));
    for odd in ["NaN", "inf", "1e999", "soon"] {
        let state = decoded(&json!({"type": "SUBSCRIBED", "subscribed": {"heartbeat_interval_seconds": odd}}));
        let Message::Subscribed(_, heartbeat) = state.message else {
            panic!("{odd}");
        };
        assert_eq!(heartbeat, DEFAULT_HEARTBEAT, "{odd}");
    }
}

#[test]
fn an_unknown_type_is_counted_and_told_in_short() {
    let decoded = decoded(&json!({"type": "N\u{e9}".repeat(10_000)}));
    assert_eq!(decoded.rejects.len(), 1);
    assert_eq!(decoded.rejects[0].kind, RejectKind::Event);
    assert!(decoded.rejects[0].what.chars().count() <= MAX_TOLD);
}

#[test]
fn other_events_pass_and_nonsense_is_an_error() {
    assert_eq!(decoded(&json!({"type": "HEARTBEAT"})).message, Message::Heartbeat);
    assert_eq!(
        decoded(&json!({"type": "NEWER"})).message,
        Message::Other("NEWER".into())
    );
    assert!(matches!(decode(b"{"), Err(DecodeError::Json(_))));
    assert!(matches!(decode(b"{}"), Err(DecodeError::Missing("type"))));
    assert!(matches!(
        decode(br#"{"type":"TASK_ADDED"}"#),
        Err(DecodeError::Missing("task_added"))
    ));
    let removed = decoded(
        &json!({"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info": {"id": {"value": "F"}, "name": "x"}}}),
    );
    assert_eq!(
        removed.message,
        Message::Event(TaskEvent::FrameworkRemoved(FrameworkId::new("F")))
    );
    let gone = decoded(&json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "A"}}}));
    assert_eq!(gone.message, Message::Event(TaskEvent::AgentRemoved(AgentId::new("A"))));
}
