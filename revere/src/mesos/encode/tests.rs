//! What is written reads back the same, and looks as Mesos prints it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::{AgentId, FrameworkId, Protocol, StateSnapshot, TaskEvent, TaskId, TaskState};
use serde_json::json;

use super::super::decode::{Message, decode, decode_protobuf};
use super::super::protobuf;
use super::*;

fn container_task() -> Task {
    let port = |number, scope, labels: &[(&str, &str)]| TaskPort {
        number,
        name: Some("http".to_owned()),
        protocol: Protocol::Tcp,
        scope,
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    Task {
        id: TaskId::new("a_b.instance-1._app.1"),
        name: "b.a".to_owned(),
        framework: FrameworkId::new("F-0000"),
        agent: AgentId::new("F-S0"),
        status: TaskStatus {
            state: TaskState::Running,
            reason: None,
            healthy: Some(true),
            addresses: vec![Ipv4Addr::new(9, 0, 1, 2).into()],
            message: Some("listens".to_owned()),
            checks: Default::default(),
            timestamp_ms: 1_700_000_000_250,
        },
        has_health_check: true,
        has_discovery: true,
        ports: vec![
            port(31000, PortScope::Host, &[("VIP_0", "/a:80")]),
            port(80, PortScope::Container, &[]),
        ],
        mappings: vec![PortMapping {
            host_port: 31000,
            container_port: 80,
            protocol: Protocol::Tcp,
        }],
        host_ports: vec![31000, 31007, 31001],
        labels: BTreeMap::from([("team".to_owned(), "core".to_owned())]),
    }
}

fn sizes() -> Sizes {
    Sizes {
        resources: Resources {
            cpus_milli: 100,
            mem_mb: 32,
            disk_mb: 0,
        },
        network: TaskNetwork::Container {
            name: "dcos".to_owned(),
        },
    }
}

fn record() -> AgentRecord {
    AgentRecord {
        id: AgentId::new("F-S0"),
        hostname: "10.0.0.1".to_owned(),
        ip: Ipv4Addr::new(10, 0, 0, 1),
        http_port: 5051,
        resources: Resources {
            cpus_milli: 4000,
            mem_mb: 1024,
            disk_mb: 10,
        },
        ports: vec![(31000, 32000)],
        attributes: BTreeMap::from([("rack".to_owned(), "r1".to_owned())]),
        domain: scheduler::Domain::default(),
        subnet: "9.0.1.0/24".parse().ok(),
        networks: Default::default(),
    }
}

fn read(json: &Value) -> Message {
    let decoded = decode(json.to_string().as_bytes()).expect("readable");
    assert!(decoded.rejects.is_empty(), "{:?}", decoded.rejects);
    // The other encoding says the same.
    let bytes = protobuf::from_json(&protobuf::EVENT, json);
    assert_eq!(decode_protobuf(&bytes).expect("readable"), decoded);
    decoded.message
}

#[test]
fn a_node_reads_back_what_was_written() {
    let task = container_task();
    let Message::Event(TaskEvent::TaskAdded(read_task)) = read(&task_added(&task, Some(&sizes()))) else {
        panic!("no task added")
    };
    // The wire adds the scope as a label, as Marathon does.
    let mut wanted = task.clone();
    wanted.ports[0]
        .labels
        .push(("network-scope".to_owned(), "host".to_owned()));
    wanted.ports[1]
        .labels
        .push(("network-scope".to_owned(), "container".to_owned()));
    assert_eq!(read_task, wanted);

    let update = task_updated("F-0000", task.id.as_str(), Some("F-S0"), &task.status);
    let Message::Event(TaskEvent::TaskUpdated {
        framework,
        task: id,
        status,
        ..
    }) = read(&update)
    else {
        panic!("no update")
    };
    assert_eq!((framework, id, status), (task.framework, task.id, task.status));

    let Message::Event(TaskEvent::AgentAdded(agent)) = read(&agent_added(&record())) else {
        panic!("no agent")
    };
    assert_eq!(
        (agent.ip, agent.subnet),
        (Some(Ipv4Addr::new(10, 0, 0, 1)), record().subnet)
    );
    assert_eq!(agent.attributes.get("rack").map(String::as_str), Some("r1"));
    let Message::Event(TaskEvent::AgentRemoved(id)) = read(&agent_removed("F-S0")) else {
        panic!("no agent")
    };
    assert_eq!(id, record().id);
}

#[test]
fn an_empty_state_reads_as_one() {
    let state = json!({"get_tasks": lists(vec![("tasks", vec![])]), "get_executors": {}, "get_frameworks": {},
        "get_agents": {}});
    let told = serde_json::from_slice(&subscribed(&state)).expect("JSON");
    let Message::Subscribed(snapshot, period) = read(&told) else {
        panic!("no snapshot")
    };
    assert_eq!((snapshot, period.as_secs()), (StateSnapshot::default(), 15));
    assert!(matches!(read(&heartbeat()), Message::Heartbeat));
}

#[test]
fn shapes_are_those_of_mesos() {
    let json = task(&container_task(), Some(&sizes()));
    assert_eq!(
        json["resources"][0],
        json!({"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}})
    );
    assert_eq!(
        json["resources"][3]["ranges"]["range"][1],
        json!({"begin": 31007, "end": 31007})
    );
    assert_eq!(json["statuses"][0]["timestamp"], 1_700_000_000.25);
    assert_eq!(
        json["container"]["network_infos"][0]["port_mappings"][0]["container_port"],
        80
    );
    assert_eq!(json["labels"], json!({"labels": [{"key": "team", "value": "core"}]}));
    let mut staging = container_task();
    staging.status.state = TaskState::Staging;
    assert_eq!(task(&staging, None)["statuses"], json!([]));
    assert_eq!(
        agent(&record(), &Resources::default(), &[], Default::default())["pid"],
        "slave(1)@10.0.0.1:5051"
    );
}
