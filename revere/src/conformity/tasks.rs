//! Section 4.4: what the fields of a task in the stream mean.

use std::sync::Arc;

use model::{ServiceTable, Snapshot, Task, TaskEvent, TaskState, VipRange};
use serde_json::{Value, json};

use super::{Row, better, same};
use crate::mesos::decode::{Message, decode};

/// A cluster of one agent that hears records.
struct Stream {
    table: ServiceTable,
    /// Parts that were left out while decoding.
    left_out: usize,
}

impl Stream {
    fn new(hostname: &str) -> Self {
        let mut stream = Self {
            table: ServiceTable::new(VipRange::default()),
            left_out: 0,
        };
        stream.hear(&json!({"type": "SUBSCRIBED", "subscribed": {"get_state": {
            "get_agents": {"agents": [{"agent_info": {"id": {"value": "A-S0"}, "hostname": hostname}}]},
            "get_frameworks": {"frameworks": [{"framework_info": {"id": {"value": "F"}, "name": "marathon"}}]},
            "get_tasks": {"tasks": []}}}}));
        stream
    }

    fn hear(&mut self, record: &Value) {
        let decoded = decode(record.to_string().as_bytes()).expect("a record");
        self.left_out += decoded.rejects.len();
        match decoded.message {
            Message::Subscribed(state, _) => drop(self.table.apply(TaskEvent::Snapshot(state))),
            Message::Event(event) => drop(self.table.apply(event)),
            other => panic!("{other:?}"),
        }
    }

    fn update(&mut self, status: &Value) {
        let mut whole = json!({"task_id": {"value": "t"}, "state": "TASK_RUNNING", "timestamp": 9.0});
        merge(&mut whole, status);
        let state = whole["state"].clone();
        self.hear(&json!({"type": "TASK_UPDATED", "task_updated": {"framework_id": {"value": "F"}, "state": state, "status": whole}}));
    }

    fn task(&self) -> Arc<Task> {
        let snapshot = self.table.snapshot();
        Arc::clone(snapshot.tasks.values().next().expect("one task"))
    }
}

fn merge(whole: &mut Value, part: &Value) {
    let (Some(whole), Some(part)) = (whole.as_object_mut(), part.as_object()) else {
        panic!("objects only")
    };
    whole.extend(part.clone());
}

fn status(address: &str) -> Value {
    json!({"task_id": {"value": "t"}, "state": "TASK_RUNNING", "timestamp": 5.0,
        "container_status": {"network_infos": [{"ip_addresses": [{"ip_address": address}]}]}})
}

/// A running task with a port `web` that has a VIP, and these fields on top.
fn with(fields: &Value) -> Stream {
    let mut task = json!({"name": "plain", "task_id": {"value": "t"}, "framework_id": {"value": "F"},
        "agent_id": {"value": "A-S0"}, "state": "TASK_RUNNING", "statuses": [status("9.0.1.2")],
        "discovery": {"name": "found", "ports": {"ports": [port(8080, &[("VIP_0", "/web:80")])]}}});
    merge(&mut task, fields);
    let mut stream = Stream::new("10.0.0.1");
    stream.hear(&json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
    stream
}

fn port(number: u16, labels: &[(&str, &str)]) -> Value {
    let labels: Vec<Value> = labels
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value}))
        .collect();
    json!({"number": number, "name": "web", "protocol": "tcp", "labels": {"labels": labels}})
}

fn ports(all: &[Value]) -> Value {
    json!({"discovery": {"name": "found", "ports": {"ports": all}}})
}

/// All backends, as `address:port*weight`.
fn backends(stream: &Stream) -> Vec<String> {
    let snapshot: Snapshot = stream.table.snapshot();
    let all = snapshot.services.values().flat_map(|service| service.backends.to_vec());
    all.map(|one| format!("{}:{}*{}", one.addr, one.port, one.weight))
        .collect()
}

const ROWS: &[Row<fn()>] = &[
    same("4.4", "the name is that of the DiscoveryInfo, else the task's", || {
        assert_eq!(with(&json!({})).task().name, "found");
        assert_eq!(with(&json!({"discovery": null})).task().name, "plain");
        assert_eq!(with(&json!({"discovery": {"name": ""}})).task().name, "plain");
    }),
    same(
        "4.4",
        "the newest status by its time counts, its addresses in their order",
        || {
            let mut old = status("9.0.1.9");
            old["timestamp"] = json!(1.0);
            let mut new = status("9.0.1.3");
            new["container_status"]["network_infos"] = json!([{"ip_addresses": [{"ip_address": "9.0.1.3"}]},
            {"ip_addresses": [{"ip_address": "fd00::3"}, {"ip_address": "9.0.1.4"}]}]);
            for order in [json!([old, new]), json!([new, old])] {
                let task = with(&json!({"statuses": order})).task();
                let addrs: Vec<String> = task.status.addresses.iter().map(ToString::to_string).collect();
                assert_eq!(addrs, ["9.0.1.3", "fd00::3", "9.0.1.4"]);
            }
        },
    ),
    better(
        "4.4",
        "a task without statuses",
        "loses itself, with a reason and a counter",
        || {
            let task = with(&json!({"statuses": []})).task();
            assert_eq!(
                (task.status.state, task.ports.len()),
                (TaskState::Running, 1),
                "its ports stay known"
            );
        },
    ),
    same("4.4", "which states run, which end, and which prepare", || {
        for state in TaskState::ALL {
            let mut stream = with(&json!({}));
            stream.update(&json!({"state": state.as_str()}));
            let here = stream.table.snapshot().tasks.len();
            assert_eq!(here == 0, state.is_terminal(), "{state:?}");
            let serves = matches!(state, TaskState::Running | TaskState::Killing);
            assert_eq!(!backends(&stream).is_empty(), serves, "{state:?}");
        }
    }),
    same(
        "4.4",
        "healthy: the status's word, else not while a check is declared, else yes",
        || {
            let mut told = status("9.0.1.2");
            told["healthy"] = json!(true);
            let check = json!({"type": "COMMAND"});
            assert_eq!(backends(&with(&json!({}))), ["9.0.1.2:8080*1"]);
            assert_eq!(backends(&with(&json!({"health_check": check}))), ["9.0.1.2:8080*0"]);
            assert_eq!(
                backends(&with(&json!({"health_check": check, "statuses": [told]}))),
                ["9.0.1.2:8080*1"]
            );
            told["healthy"] = json!(false);
            assert_eq!(backends(&with(&json!({"statuses": [told]}))), ["9.0.1.2:8080*0"]);
        },
    ),
    same(
        "4.4",
        "port mappings: the container's, else the status's; Docker's own",
        || {
            let mapping = json!([{"host_port": 31000, "container_port": 8080, "protocol": "tcp"}]);
            let mut bridged = status("172.17.0.2");
            let mesos = json!({"type": "MESOS", "network_infos": [{"port_mappings": mapping}]});
            let docker = json!({"type": "DOCKER", "docker": {"port_mappings": mapping}});
            for container in [mesos, docker] {
                let fields = json!({"container": container, "statuses": [bridged]});
                assert_eq!(backends(&with(&fields)), ["10.0.0.1:31000*1"], "{container}");
            }
            bridged["container_status"]["network_infos"][0]["port_mappings"] = mapping;
            let fields = json!({"container": {"type": "MESOS"}, "statuses": [bridged]});
            assert_eq!(backends(&with(&fields)), ["10.0.0.1:31000*1"]);
        },
    ),
    same(
        "4.4",
        "network-scope: host makes the number a host port; container, or none, does not",
        || {
            let scoped = |scope: &str| port(8080, &[("VIP_0", "/web:80"), ("network-scope", scope)]);
            assert_eq!(backends(&with(&ports(&[scoped("host")]))), ["10.0.0.1:8080*1"]);
            assert_eq!(backends(&with(&ports(&[scoped("container")]))), ["9.0.1.2:8080*1"]);
        },
    ),
    better(
        "4.4",
        "another scope, two scopes, no protocol, another protocol",
        "a malformed port or label loses all ports of the task",
        || {
            let good = port(8080, &[("VIP_0", "/web:80")]);
            let mut odd = port(81, &[]);
            odd["protocol"] = json!("sctp");
            for bad in [
                port(81, &[("network-scope", "galaxy")]),
                port(81, &[("network-scope", "host"), ("network-scope", "host")]),
                odd,
            ] {
                let stream = with(&ports(&[bad, good.clone()]));
                assert_eq!(
                    (backends(&stream), stream.left_out),
                    (vec!["9.0.1.2:8080*1".to_owned()], 1)
                );
            }
            let mut none = good;
            none["protocol"] = Value::Null;
            assert_eq!(
                backends(&with(&ports(&[none]))),
                ["9.0.1.2:8080*1"],
                "TCP, as Mesos's default"
            );
        },
    ),
    same("4.4", "number 0 is no port", || {
        let stream = with(&ports(&[port(0, &[("VIP_0", "/web:80")])]));
        assert!(stream.task().ports.is_empty() && backends(&stream).is_empty());
    }),
    same("4.4", "a port told twice is one backend with the VIPs of both", || {
        let both = [
            port(8080, &[("VIP_0", "/web:80")]),
            port(8080, &[("VIP_1", "/web:80"), ("VIP_2", "/more:81")]),
        ];
        assert_eq!(backends(&with(&ports(&both))), ["9.0.1.2:8080*1"; 2]);
    }),
    better(
        "4.4",
        "a field that disappears in a later status",
        "a field that disappears from a status stays for ever (dcos-net)",
        || {
            let mut told = status("9.0.1.2");
            told["healthy"] = json!(false);
            let mut stream = with(&json!({"statuses": [told]}));
            stream.update(&json!({"container_status": told["container_status"]}));
            assert_eq!(stream.task().status.healthy, None);
        },
    ),
    same(
        "4.4",
        "later statuses carry no name and no ports; the first stay",
        || {
            let mut stream = with(&json!({}));
            stream.update(&json!({"container_status": status("9.0.1.2")["container_status"]}));
            assert_eq!((stream.task().name.as_str(), stream.task().ports.len()), ("found", 1));
            assert_eq!(backends(&stream), ["9.0.1.2:8080*1"]);
        },
    ),
    same("4.1", "a task whose agent is not known yet waits", || {
        let mut stream = Stream::new("10.0.0.1");
        let task = json!({"name": "web", "task_id": {"value": "t"}, "framework_id": {"value": "F"},
            "agent_id": {"value": "A-S1"}, "state": "TASK_RUNNING", "statuses": [status("9.0.2.2")],
            "discovery": {"name": "web", "ports": {"ports": [port(8080, &[("VIP_0", "/web:80")])]}}});
        stream.hear(&json!({"type": "TASK_ADDED", "task_added": {"task": task}}));
        assert!(backends(&stream).is_empty());
        stream.hear(&json!({"type": "AGENT_ADDED", "agent_added": {"agent": {
            "agent_info": {"id": {"value": "A-S1"}, "hostname": "10.0.0.2"}}}}));
        assert_eq!(backends(&stream), ["9.0.2.2:8080*1"]);
    }),
];

#[test]
fn task_fields_mean_what_they_meant() {
    for row in ROWS {
        (row.begin())();
    }
}
