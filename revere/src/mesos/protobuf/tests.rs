//! Against prost, with message types written down from the same `.proto` files: what one writes the other reads. Then
//! malformed bytes.

use prost::Message as _;
use serde_json::json;

use super::*;

/// Messages as prost sees them, with Mesos's required fields as required.
mod peer {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Id {
        #[prost(string, required, tag = "1")]
        pub(super) value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Label {
        #[prost(string, required, tag = "1")]
        pub(super) key: String,
        #[prost(string, optional, tag = "2")]
        pub(super) value: Option<String>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Labels {
        #[prost(message, repeated, tag = "1")]
        pub(super) labels: Vec<Label>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Port {
        #[prost(uint32, required, tag = "1")]
        pub(super) number: u32,
        #[prost(string, optional, tag = "2")]
        pub(super) name: Option<String>,
        #[prost(string, optional, tag = "3")]
        pub(super) protocol: Option<String>,
        #[prost(message, optional, tag = "5")]
        pub(super) labels: Option<Labels>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Ports {
        #[prost(message, repeated, tag = "1")]
        pub(super) ports: Vec<Port>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Discovery {
        #[prost(int32, required, tag = "1")]
        pub(super) visibility: i32,
        #[prost(string, optional, tag = "2")]
        pub(super) name: Option<String>,
        #[prost(message, optional, tag = "6")]
        pub(super) ports: Option<Ports>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Address {
        #[prost(int32, optional, tag = "1")]
        pub(super) protocol: Option<i32>,
        #[prost(string, optional, tag = "2")]
        pub(super) ip_address: Option<String>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct NetworkInfo {
        #[prost(message, repeated, tag = "5")]
        pub(super) ip_addresses: Vec<Address>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ContainerStatus {
        #[prost(message, repeated, tag = "1")]
        pub(super) network_infos: Vec<NetworkInfo>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TaskStatus {
        #[prost(message, required, tag = "1")]
        pub(super) task_id: Id,
        #[prost(int32, required, tag = "2")]
        pub(super) state: i32,
        #[prost(bytes, optional, tag = "11")]
        pub(super) uuid: Option<Vec<u8>>,
        #[prost(double, optional, tag = "6")]
        pub(super) timestamp: Option<f64>,
        #[prost(bool, optional, tag = "8")]
        pub(super) healthy: Option<bool>,
        #[prost(message, optional, tag = "13")]
        pub(super) container_status: Option<ContainerStatus>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Range {
        #[prost(uint64, required, tag = "1")]
        pub(super) begin: u64,
        #[prost(uint64, required, tag = "2")]
        pub(super) end: u64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Ranges {
        #[prost(message, repeated, tag = "1")]
        pub(super) range: Vec<Range>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Resource {
        #[prost(string, required, tag = "1")]
        pub(super) name: String,
        #[prost(int32, required, tag = "2")]
        pub(super) r#type: i32,
        #[prost(message, optional, tag = "4")]
        pub(super) ranges: Option<Ranges>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Task {
        #[prost(string, required, tag = "1")]
        pub(super) name: String,
        #[prost(message, required, tag = "2")]
        pub(super) task_id: Id,
        #[prost(message, required, tag = "3")]
        pub(super) framework_id: Id,
        #[prost(message, required, tag = "5")]
        pub(super) agent_id: Id,
        #[prost(int32, required, tag = "6")]
        pub(super) state: i32,
        #[prost(message, repeated, tag = "7")]
        pub(super) resources: Vec<Resource>,
        #[prost(message, repeated, tag = "8")]
        pub(super) statuses: Vec<TaskStatus>,
        #[prost(message, optional, tag = "12")]
        pub(super) discovery: Option<Discovery>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TaskAdded {
        #[prost(message, required, tag = "1")]
        pub(super) task: Task,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Event {
        #[prost(int32, optional, tag = "1")]
        pub(super) r#type: Option<i32>,
        #[prost(message, optional, tag = "3")]
        pub(super) task_added: Option<TaskAdded>,
        /// No field of Mesos 1.11; what a later one may add.
        #[prost(string, optional, tag = "99")]
        pub(super) later: Option<String>,
    }
}

fn id(text: &str) -> peer::Id {
    peer::Id { value: text.to_owned() }
}

fn peer_event() -> peer::Event {
    let label = peer::Label {
        key: "VIP_0".to_owned(),
        value: Some("/web:80".to_owned()),
    };
    let port = peer::Port {
        number: 31000,
        name: Some("http".to_owned()),
        protocol: Some("tcp".to_owned()),
        labels: Some(peer::Labels { labels: vec![label] }),
    };
    let status = peer::TaskStatus {
        task_id: id("t"),
        state: 1,
        uuid: Some(vec![0xff; 16]),
        timestamp: Some(1.5e9 + 0.25),
        healthy: Some(false),
        container_status: Some(peer::ContainerStatus {
            network_infos: vec![peer::NetworkInfo {
                ip_addresses: vec![peer::Address {
                    protocol: Some(1),
                    ip_address: Some("9.0.1.2".to_owned()),
                }],
            }],
        }),
    };
    let task = peer::Task {
        name: "web".to_owned(),
        task_id: id("t"),
        framework_id: id("F"),
        agent_id: id("A-S0"),
        state: 1,
        resources: vec![peer::Resource {
            name: "ports".to_owned(),
            r#type: 1,
            ranges: Some(peer::Ranges {
                range: vec![peer::Range {
                    begin: 31000,
                    end: 31001,
                }],
            }),
        }],
        statuses: vec![status],
        discovery: Some(peer::Discovery {
            visibility: 1,
            name: Some("web".to_owned()),
            ports: Some(peer::Ports { ports: vec![port] }),
        }),
    };
    peer::Event {
        r#type: Some(2),
        task_added: Some(peer::TaskAdded { task }),
        later: Some("a field of a later release".to_owned()),
    }
}

fn event_json() -> Value {
    json!({"type": "TASK_ADDED", "task_added": {"task": {
        "name": "web", "task_id": {"value": "t"}, "framework_id": {"value": "F"}, "agent_id": {"value": "A-S0"},
        "state": "TASK_RUNNING",
        "resources": [{"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}}],
        "statuses": [{"task_id": {"value": "t"}, "state": "TASK_RUNNING", "timestamp": 1.5e9 + 0.25, "healthy": false,
            "container_status": {"network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": "9.0.1.2"}]}]}}],
        "discovery": {"visibility": "CLUSTER", "name": "web", "ports": {"ports": [
            {"number": 31000, "name": "http", "protocol": "tcp", "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]}}]}},
    }}})
}

fn read_event(bytes: &[u8]) -> (Result<Value, WireError>, usize) {
    let mut rejects = Vec::new();
    let value = to_json(&EVENT, bytes, &mut rejects);
    (value, rejects.len())
}

#[test]
fn what_prost_writes_is_read() {
    assert_eq!(read_event(&peer_event().encode_to_vec()), (Ok(event_json()), 0));
}

#[test]
fn what_is_written_prost_reads() {
    let read = peer::Event::decode(from_json(&EVENT, &event_json()).as_slice()).expect("prost takes it");
    let mut expected = peer_event();
    expected.later = None;
    if let Some(added) = &mut expected.task_added {
        added.task.statuses[0].uuid = None;
    }
    assert_eq!(read, expected);
}

#[test]
fn an_unknown_word_stays_readable_and_odd_text_does_no_harm() {
    let mut event = peer_event();
    event.r#type = Some(77);
    if let Some(added) = &mut event.task_added {
        added.task.state = 42;
    }
    let mut bytes = event.encode_to_vec();
    let at = bytes.windows(3).position(|three| three == b"web").expect("the name");
    bytes[at] = 0xfe;
    let (value, rejects) = read_event(&bytes);
    let value = value.expect("readable");
    assert_eq!((value["type"].as_str(), rejects), (Some("77"), 0));
    assert_eq!(value["task_added"]["task"]["state"], "42");
    assert_eq!(value["task_added"]["task"]["name"], "\u{fffd}eb");
}

/// A message that holds `tasks`, each given as bytes.
fn snapshot(tasks: &[&[u8]]) -> Vec<u8> {
    let wrap = |number: u64, inner: &[u8]| {
        let mut out = Vec::new();
        put_bytes(number << 3 | 2, inner, &mut out);
        out
    };
    let tasks: Vec<u8> = tasks.iter().flat_map(|task| wrap(2, task)).collect();
    let mut event = vec![8, 1];
    event.extend(wrap(2, &wrap(1, &wrap(1, &tasks))));
    event
}

#[test]
fn a_malformed_task_loses_itself_and_a_malformed_list_the_record() {
    let good = from_json(&schema_task(), &event_json()["task_added"]["task"]);
    let (value, rejects) = read_event(&snapshot(&[&good, &[0x0a, 0x05, b'x'], &good]));
    let value = value.expect("readable");
    let tasks = value["subscribed"]["get_state"]["get_tasks"]["tasks"].as_array();
    assert_eq!((tasks.map(Vec::len), rejects), (Some(2), 1));
    // The same damage one level up: half a list must not look like tasks that ended.
    let whole = snapshot(&[&good, &good]);
    let mut cut = whole.clone();
    let end = cut.len() - 1;
    cut.truncate(end);
    assert_eq!(read_event(&cut).0, Err(WireError::Truncated));
    let inner = whole.len() - good.len() - 1;
    let mut broken = whole;
    // The second task's length now says more than there is.
    broken[inner] = 0x7f;
    assert!(read_event(&broken).0.is_err());
}

fn schema_task() -> Message {
    let added = EVENT.fields.iter().find(|field| field.name == "task_added");
    let Some(Field {
        kind: Kind::Nested(added),
        ..
    }) = added
    else {
        panic!("the table has task_added");
    };
    let Kind::Nested(task) = &added.fields[0].kind else {
        panic!("a task is a message");
    };
    Message {
        name: task.name,
        loss: task.loss,
        fields: task.fields,
    }
}

#[test]
fn wrong_wire_types_and_endless_numbers_are_told() {
    // `healthy` as bytes inside a status loses that flag only.
    let mut status = Vec::new();
    put_bytes(8 << 3 | 2, b"yes", &mut status);
    let mut task = Vec::new();
    put_bytes(8 << 3 | 2, &status, &mut task);
    let (value, rejects) = read_event(&snapshot(&[&task]));
    let value = value.expect("readable");
    assert_eq!(
        (
            &value["subscribed"]["get_state"]["get_tasks"]["tasks"][0]["statuses"][0],
            rejects
        ),
        (&json!({}), 1)
    );
    assert_eq!(read_event(&[0x80; 11]).0, Err(WireError::Varint));
    assert_eq!(read_event(&[0x00]).0, Err(WireError::FieldZero));
    assert_eq!(read_event(&[0x0b]).0, Err(WireError::WireType(3)));
    assert_eq!(
        read_event(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).0,
        Err(WireError::Truncated)
    );
    // A list that must be whole, sent as a number.
    assert!(read_event(&[0x08, 0x01, 0x10, 0x05]).0.is_err());
}

#[test]
fn calls_and_answers_go_both_ways() {
    for kind in ["SUBSCRIBE", "GET_STATE", "GET_OPERATIONS"] {
        let call = json!({"type": kind});
        assert_eq!(to_json(&CALL, &from_json(&CALL, &call), &mut Vec::new()), Ok(call));
    }
    assert_eq!(from_json(&CALL, &json!({"type": "SUBSCRIBE"})), [8, 18]);
    let answer = json!({"type": "GET_MASTER", "get_master": {"start_time": 1.5,
        "master_info": {"id": "a", "ip": 16_777_226, "port": 5050, "hostname": "h", "version": "1.11.0"}}});
    assert_eq!(
        to_json(&RESPONSE, &from_json(&RESPONSE, &answer), &mut Vec::new()),
        Ok(answer)
    );
}
