//! The name server alone, with as many tasks as asked for, for measurements: `serve 127.0.0.1:5300 10000`.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns::{Config, Server};
use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, NodeView, ServiceTable, Snapshot, StateSnapshot, Task, TaskEvent,
    TaskId, TaskState, TaskStatus, VipRange,
};

/// Tasks of one name, whose answer is longer than UDP carries.
const BIG: u32 = 200;

/// One agent and `count` tasks `app-00000` and so on, each with an address of its own, and [`BIG`] named `big`.
fn cluster(count: u32) -> Snapshot {
    let agent = Ipv4Addr::new(10, 0, 0, 1);
    let tasks = (0..count + BIG).map(|number| Task {
        id: TaskId::new(format!("app-{number:05}.1")),
        name: if number < count {
            format!("app-{number:05}")
        } else {
            "big".to_owned()
        },
        framework: FrameworkId::new("f"),
        agent: AgentId::new("c-S0"),
        status: TaskStatus {
            state: TaskState::Running,
            reason: None,
            healthy: None,
            addresses: vec![IpAddr::V4(Ipv4Addr::from(0x0900_0000 + number))],
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
    });
    let mut table = ServiceTable::new(VipRange::default());
    table.apply(TaskEvent::Snapshot(StateSnapshot {
        agents: vec![AgentInfo {
            id: AgentId::new("c-S0"),
            hostname: agent.to_string(),
            ip: Some(agent),
            port: None,
            subnet: None,
            networks: Default::default(),
            attributes: BTreeMap::new(),
        }],
        recovered_agents: Vec::new(),
        frameworks: vec![FrameworkInfo {
            id: FrameworkId::new("f"),
            name: "marathon".to_owned(),
            ip: None,
            port: None,
        }],
        tasks: tasks.collect(),
    }));
    table.snapshot()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |what| args.next().ok_or(format!("tell {what}"));
    let addr: SocketAddr = next("the address to listen on")?.parse()?;
    let count = next("the number of tasks")?.parse()?;
    let config = Config {
        listen: vec![addr],
        ..Config::default()
    };
    let server = Server::bind(config.clone()).await?;
    let view = NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    };
    server.publish(dns::desired(&cluster(count), &view, &config));
    std::future::pending::<()>().await;
    Ok(())
}
