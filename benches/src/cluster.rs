//! A made-up cluster: `services` named VIPs with `instances` tasks each, spread over 100 agents.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, PortScope, Protocol, StateSnapshot, Task, TaskEvent, TaskId,
    TaskPort, TaskState, TaskStatus,
};

const AGENTS: u8 = 100;

/// The state a stream would begin with.
pub fn state(services: u32, instances: u32) -> StateSnapshot {
    let tasks = (0..services).flat_map(|service| (0..instances).map(move |instance| task(service, instance)));
    StateSnapshot {
        agents: (0..AGENTS).map(agent).collect(),
        recovered_agents: Vec::new(),
        frameworks: vec![FrameworkInfo {
            id: framework(),
            name: "marathon".into(),
            ip: None,
            port: None,
        }],
        tasks: tasks.collect(),
    }
}

/// A status update of one task.
pub fn status(service: u32, instance: u32, state: TaskState, healthy: Option<bool>) -> TaskEvent {
    TaskEvent::TaskUpdated {
        framework: framework(),
        task: task_id(service, instance),
        status: TaskStatus {
            state,
            reason: None,
            healthy,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: 2,
        },
        mappings: Vec::new(),
    }
}

fn framework() -> FrameworkId {
    FrameworkId::new("bench-0000")
}

fn task_id(service: u32, instance: u32) -> TaskId {
    TaskId::new(format!("service-{service}.instance-{instance}._app.1"))
}

fn agent_id(n: u8) -> AgentId {
    AgentId::new(format!("bench-S{n}"))
}

fn agent(n: u8) -> AgentInfo {
    let ip = Ipv4Addr::new(10, 0, 0, n);
    AgentInfo {
        id: agent_id(n),
        hostname: ip.to_string(),
        ip: Some(ip),
        port: None,
        subnet: None,
        networks: Default::default(),
        attributes: BTreeMap::new(),
    }
}

fn task(service: u32, instance: u32) -> Task {
    let spread = u8::try_from((service + instance) % u32::from(AGENTS)).unwrap_or(0);
    let number = u16::try_from(31_000 + (service * 7 + instance) % 1_000).unwrap_or(31_000);
    Task {
        id: task_id(service, instance),
        name: format!("service-{service}"),
        framework: framework(),
        agent: agent_id(spread),
        status: TaskStatus {
            state: TaskState::Running,
            reason: None,
            healthy: None,
            addresses: Vec::new(),
            message: None,
            checks: Default::default(),
            timestamp_ms: 1,
        },
        has_health_check: false,
        has_discovery: true,
        ports: vec![TaskPort {
            number,
            name: Some("http".into()),
            protocol: Protocol::Tcp,
            scope: PortScope::Host,
            labels: vec![("VIP_0".into(), format!("/service-{service}:80"))],
        }],
        mappings: Vec::new(),
        host_ports: vec![number],
        labels: BTreeMap::new(),
    }
}
