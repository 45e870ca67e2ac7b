//! Small clusters for tests, made by the real fold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Ipv4Net, NodeView, PortMapping, PortScope, Protocol, ServiceTable,
    Snapshot, StateSnapshot, Task, TaskEvent, TaskId, TaskPort, TaskState, TaskStatus, VipRange,
};

/// The picture of [`state`].
pub(crate) fn cluster(tasks: Vec<Task>) -> Snapshot {
    let mut table = ServiceTable::new(VipRange::default());
    table.apply(TaskEvent::Snapshot(state(tasks)));
    table.snapshot()
}

/// Agents `c-S0` to `c-S2` on 10.0.0.1 to 10.0.0.3, frameworks `marathon` and another, these tasks.
pub(crate) fn state(tasks: Vec<Task>) -> StateSnapshot {
    let agents = (0..3u8).map(|i| AgentInfo {
        id: AgentId::new(format!("c-S{i}")),
        hostname: format!("10.0.0.{}", i + 1),
        ip: Some(Ipv4Addr::new(10, 0, 0, i + 1)),
        port: None,
        subnet: Ipv4Net::new(Ipv4Addr::new(9, 0, i + 1, 0), 24).ok(),
        networks: Default::default(),
        attributes: BTreeMap::new(),
    });
    let framework = |id: &str, name: &str| FrameworkInfo {
        id: FrameworkId::new(id),
        name: name.to_owned(),
        ip: None,
        port: None,
    };
    StateSnapshot {
        agents: agents.collect(),
        recovered_agents: Vec::new(),
        frameworks: vec![framework("f", "marathon"), framework("g", "Dev/Team.Kafka")],
        tasks,
    }
}

/// This node is 10.0.0.1.
pub(crate) fn view() -> NodeView {
    NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    }
}

/// A running task of `marathon` on agent `c-S<agent>` without ports.
pub(crate) fn task(id: &str, name: &str, agent: usize) -> Task {
    Task {
        id: TaskId::new(id),
        name: name.to_owned(),
        framework: FrameworkId::new("f"),
        agent: AgentId::new(format!("c-S{agent}")),
        status: TaskStatus {
            state: TaskState::Running,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: 0,
        },
        has_health_check: false,
        has_discovery: false,
        ports: Vec::new(),
        mappings: Vec::new(),
        host_ports: Vec::new(),
        labels: BTreeMap::new(),
    }
}

/// A container task with its own address, a mapped named port `http` and a VIP.
pub(crate) fn web(id: &str, agent: usize, addr: Ipv4Addr, host_port: u16) -> Task {
    let mut task = task(id, "my-service", agent);
    task.status.addresses = vec![IpAddr::V4(addr)];
    task.has_discovery = true;
    task.ports = vec![port(host_port, "http", Some("/my-service:5555"))];
    task.mappings = vec![PortMapping {
        host_port,
        container_port: 8080,
        protocol: Protocol::Tcp,
    }];
    task.host_ports = vec![host_port];
    task
}

/// A TCP port of the agent's address.
pub(crate) fn port(number: u16, name: &str, vip: Option<&str>) -> TaskPort {
    TaskPort {
        number,
        name: Some(name.to_owned()),
        protocol: Protocol::Tcp,
        scope: PortScope::Host,
        labels: vip
            .map(|vip| ("VIP_0".to_owned(), vip.to_owned()))
            .into_iter()
            .collect(),
    }
}

/// A question with a fixed id, asking for recursion; `payload` adds EDNS.
pub(crate) fn question(name: &str, rtype: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), rtype));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message
}
