//! What one task's change costs, by cluster size: in the fold, and in the zones. `cargo bench -p dns --bench zone`.
//!
//! Writes D11 to `target/figures/dns-zone.json`. Every change is measured from the event to the new zones, as the node does
//! it while a reader still holds the version before. The control is the same zones made anew.

#![allow(clippy::print_stdout, reason = "a bench tells its figures")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Ipv4Net, NodeView, PortMapping, PortScope, Protocol, ServiceTable,
    StateSnapshot, Task, TaskEvent, TaskId, TaskPort, TaskState, TaskStatus, VipRange,
};

/// Changes measured at each size.
const CHANGES: u32 = 2_000;
/// Tasks behind one name and one VIP.
const INSTANCES: u32 = 10;
const AGENTS: u32 = 200;
/// Full rebuilds measured at each size.
const REBUILDS: u32 = 3;

fn main() {
    let mut json = String::from("[\n");
    for tasks in [1_000, 10_000, 100_000] {
        let took = measure(tasks);
        println!(
            "{tasks:>7} tasks, {} names: fold {:.4} ms, zones {:.4} ms, both p99 {:.4} ms max {:.4} ms; anew {:.1} ms",
            took.names, took.fold, took.zones, took.p99, took.max, took.rebuild
        );
        if json.len() > 2 {
            json.push_str(",\n");
        }
        let rows = [
            ("", took.p99),
            (".fold", took.fold),
            (".zone", took.zones),
            (".max", took.max),
        ];
        let rows = rows.map(|(what, value)| {
            format!(
                r#"{{"id":"D11.{tasks}{what}","value":{value:.4},"unit":"ms","n":{CHANGES},"control":{:.1}}}"#,
                took.rebuild
            )
        });
        // Writing to a String cannot fail.
        let _ = write!(json, "  {}", rows.join(",\n  "));
    }
    json.push_str("\n]\n");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/figures");
    std::fs::create_dir_all(folder).expect("the folder of figures");
    std::fs::write(format!("{folder}/dns-zone.json"), json).expect("the figures' file");
}

/// Milliseconds.
struct Took {
    names: usize,
    fold: f64,
    zones: f64,
    p99: f64,
    max: f64,
    rebuild: f64,
}

fn measure(tasks: u32) -> Took {
    let config = dns::Config::default();
    let view = NodeView {
        ip: [10, 0, 0, 1].into(),
        agent: None,
    };
    let mut table = ServiceTable::new(VipRange::default());
    table.apply(TaskEvent::Snapshot(state(tasks)));
    let mut names = dns::Names::new(config.clone());
    let mut served = names.update(&table.snapshot(), &view);
    let (mut folds, mut updates, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let event = event(tasks, change);
        let began = Instant::now();
        assert!(table.apply(event), "every event changes something");
        let folded = began.elapsed();
        let zones = names.update(&table.snapshot(), &view);
        let both = began.elapsed();
        assert_ne!(zones.generation(), served.generation());
        // The version before goes only now, as that of a server does.
        served = zones;
        folds.push(folded);
        updates.push(both - folded);
        sums.push(both);
    }
    let began = Instant::now();
    for _ in 0..REBUILDS {
        let anew = dns::desired(&table.snapshot(), &view, &config);
        assert_eq!(anew.len(), served.len());
    }
    let rebuild = milliseconds(began.elapsed()) / f64::from(REBUILDS);
    let at = |list: &mut Vec<Duration>, part: usize| {
        list.sort_unstable();
        milliseconds(list[(list.len() - 1) * part / 100])
    };
    Took {
        names: served.len(),
        fold: at(&mut folds, 50),
        zones: at(&mut updates, 50),
        p99: at(&mut sums, 99),
        max: at(&mut sums, 100),
        rebuild,
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// In turn: a task turns unhealthy, healthy again, ends, and a new one with another address takes its place.
fn event(tasks: u32, change: u32) -> TaskEvent {
    let number = (change / 4).wrapping_mul(7_919) % tasks;
    match change % 4 {
        0 => update(number, TaskState::Running, Some(false)),
        1 => update(number, TaskState::Running, Some(true)),
        2 => update(number, TaskState::Finished, None),
        _ => TaskEvent::TaskAdded(task(number, change + 1)),
    }
}

fn update(number: u32, state: TaskState, healthy: Option<bool>) -> TaskEvent {
    TaskEvent::TaskUpdated {
        framework: framework(),
        task: task(number, 0).id,
        status: TaskStatus {
            healthy,
            ..status(state)
        },
        mappings: Vec::new(),
    }
}

fn status(state: TaskState) -> TaskStatus {
    TaskStatus {
        state,
        reason: None,
        healthy: None,
        addresses: Vec::new(),
        message: None,
        checks: Default::default(),
        timestamp_ms: 0,
    }
}

fn framework() -> FrameworkId {
    FrameworkId::new("bench-0000")
}

fn agent(number: u32) -> AgentInfo {
    let [_, _, high, low] = number.to_be_bytes();
    AgentInfo {
        id: AgentId::new(format!("bench-S{number}")),
        hostname: format!("10.0.{high}.{low}"),
        ip: Some(Ipv4Addr::new(10, 0, high, low)),
        port: Some(5051),
        subnet: Ipv4Net::new(Ipv4Addr::new(9, low, 0, 0), 16).ok(),
        networks: Default::default(),
        attributes: BTreeMap::new(),
    }
}

fn task(number: u32, version: u32) -> Task {
    let [_, _, high, low] = (number + version % 2).to_be_bytes();
    let service = number / INSTANCES;
    let on = number % AGENTS;
    let [.., block] = on.to_be_bytes();
    let port = u16::try_from(31_000 + number % 1_000).expect("a port");
    Task {
        id: TaskId::new(format!("service-{service}.instance-{number}._app.1")),
        name: format!("service-{service}"),
        framework: framework(),
        agent: AgentId::new(format!("bench-S{on}")),
        status: TaskStatus {
            addresses: vec![Ipv4Addr::new(9, block, high, low).into()],
            ..status(TaskState::Running)
        },
        has_health_check: false,
        has_discovery: true,
        ports: vec![TaskPort {
            number: port,
            name: Some("http".to_owned()),
            protocol: Protocol::Tcp,
            scope: PortScope::Host,
            labels: vec![("VIP_0".to_owned(), format!("/service-{service}:80"))],
        }],
        mappings: vec![PortMapping {
            host_port: port,
            container_port: 8080,
            protocol: Protocol::Tcp,
        }],
        host_ports: vec![port],
        labels: BTreeMap::new(),
    }
}

fn state(tasks: u32) -> StateSnapshot {
    StateSnapshot {
        agents: (0..AGENTS).map(agent).collect(),
        recovered_agents: Vec::new(),
        frameworks: vec![FrameworkInfo {
            id: framework(),
            name: "marathon".to_owned(),
            ip: None,
            port: None,
        }],
        tasks: (0..tasks).map(|number| task(number, 0)).collect(),
    }
}
