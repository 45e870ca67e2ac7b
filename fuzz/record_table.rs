//! The fold and the zones: any sequence of events leaves a picture that is whole in itself.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use model::{NodeView, ServiceTable, TaskEvent, VipRange};
use revere::mesos::decode::{Message, decode};

/// Texts that mean something; others come out of the bytes.
const WORDS: [&str; 12] = [
    "/web:80", "web:443", "1.2.3.4:53", "[fd01:c::5]:80", "fd01:c::5:80", ":80", "/web:70000", "/a.b/c_d:1", "-", "x", "", "é",
];
const STATES: [&str; 7] = [
    "TASK_STAGING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED", "TASK_UNREACHABLE", "TASK_LOST", "TASK_NEW",
];

/// Takes small numbers out of the bytes; zeros when they are over.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, count: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first % count
    }

    fn word(&mut self) -> String {
        match usize::from(self.below(16)) {
            index @ 0..12 => WORDS[index].to_owned(),
            length => {
                let (text, rest) = self.0.split_at(self.0.len().min(length * 9));
                self.0 = rest;
                String::from_utf8_lossy(text).into_owned()
            }
        }
    }

    fn task(&mut self) -> String {
        let (id, agent, framework) = (self.below(8), self.below(4), self.below(3));
        let state = STATES[usize::from(self.below(7))];
        let label = serde_like(&self.word());
        let (name, scope) = (serde_like(&self.word()), ["host", "container", "odd"][usize::from(self.below(3))]);
        let address = ["9.0.1.2", "fd01:b::7", "10.0.0.1", "nonsense"][usize::from(self.below(4))];
        let port = u32::from(self.below(250)) * 300;
        format!(
            r#"{{"name":{name},"task_id":{{"value":"t{id}"}},"framework_id":{{"value":"F{framework}"}},
            "agent_id":{{"value":"A{agent}"}},"state":"{state}","statuses":[{{"state":"{state}","timestamp":1.0,
            "container_status":{{"network_infos":[{{"ip_addresses":[{{"ip_address":"{address}"}}]}}]}}}}],
            "discovery":{{"name":{name},"ports":{{"ports":[{{"number":{port},"protocol":"tcp","labels":{{"labels":[
            {{"key":"VIP_0","value":{label}}},{{"key":"network-scope","value":"{scope}"}}]}}}}]}}}}}}"#
        )
    }

    fn event(&mut self) -> Option<TaskEvent> {
        let agent = |id: u8| format!(r#"{{"agent_info":{{"id":{{"value":"A{id}"}},"hostname":"10.0.0.{id}"}}}}"#);
        let framework = |id: u8| format!(r#"{{"framework_info":{{"id":{{"value":"F{id}"}},"name":"fw.{id}"}}}}"#);
        let text = match self.below(9) {
            0 => format!(r#"{{"type":"TASK_ADDED","task_added":{{"task":{}}}}}"#, self.task()),
            1 => {
                let (id, framework) = (self.below(8), self.below(3));
                let state = STATES[usize::from(self.below(7))];
                format!(
                    r#"{{"type":"TASK_UPDATED","task_updated":{{"framework_id":{{"value":"F{framework}"}},"state":"{state}",
                    "status":{{"task_id":{{"value":"t{id}"}},"state":"{state}","timestamp":2.0}}}}}}"#
                )
            }
            2 => format!(r#"{{"type":"AGENT_ADDED","agent_added":{{"agent":{}}}}}"#, agent(self.below(4))),
            3 => format!(r#"{{"type":"AGENT_REMOVED","agent_removed":{{"agent_id":{{"value":"A{}"}}}}}}"#, self.below(4)),
            4 => format!(r#"{{"type":"FRAMEWORK_ADDED","framework_added":{{"framework":{}}}}}"#, framework(self.below(3))),
            5 => {
                let id = self.below(3);
                format!(r#"{{"type":"FRAMEWORK_REMOVED","framework_removed":{}}}"#, framework(id))
            }
            6 => {
                let agents: Vec<String> = (0..self.below(4)).map(agent).collect();
                let frameworks: Vec<String> = (0..self.below(4).min(3)).map(framework).collect();
                let tasks: Vec<String> = (0..self.below(4)).map(|_| self.task()).collect();
                format!(
                    r#"{{"type":"SUBSCRIBED","subscribed":{{"get_state":{{"get_agents":{{"agents":[{}]}},
                    "get_frameworks":{{"frameworks":[{}]}},"get_tasks":{{"tasks":[{}]}}}}}}}}"#,
                    agents.join(","), frameworks.join(","), tasks.join(",")
                )
            }
            7 => return Some(TaskEvent::HoldExpired),
            _ => return Some(TaskEvent::LocalExit(model::TaskId::new(format!("t{}", self.below(8))))),
        };
        match decode(text.as_bytes()).expect("well formed").message {
            Message::Subscribed(state, heartbeat) => {
                assert_eq!(heartbeat, Duration::from_secs(15));
                Some(TaskEvent::Snapshot(state))
            }
            Message::Event(event) => Some(event),
            Message::Resumed(_) | Message::Position(_) | Message::Heartbeat | Message::Other(_) => None,
        }
    }
}

/// A JSON string.
fn serde_like(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes(data);
    let mut table = ServiceTable::new(VipRange::default());
    let mut before = table.snapshot();
    while !bytes.0.is_empty() {
        let Some(event) = bytes.event() else { continue };
        let changed = table.apply(event);
        let now = table.snapshot();
        assert_eq!(changed, now.generation != before.generation, "a change is a new generation and nothing else is");
        for service in now.services.values() {
            for backend in &service.backends {
                assert!(now.nodes.contains_key(&backend.agent), "a backend's node is known");
                assert!(now.tasks.iter().any(|(key, _)| key.1 == backend.task), "a backend's task is known");
            }
        }
        before = now;
    }
    let view = NodeView {
        ip: [10, 0, 0, 1].into(),
        agent: None,
    };
    let zones = dns::desired(&before, &view, &dns::Config::default());
    assert!(!zones.is_empty());
    let _ = table.rejected();
});
