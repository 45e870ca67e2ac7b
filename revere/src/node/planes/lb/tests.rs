//! The short cut's picture: dead tasks leave it, and nothing else does.

use std::net::{IpAddr, Ipv4Addr};

use model::{AgentId, Backend, Protocol, VipAddress};

use super::*;

fn backend(task: &str, port: u16) -> Backend {
    let ip = Ipv4Addr::new(10, 0, 0, 1);
    Backend {
        addr: IpAddr::V4(ip),
        port,
        weight: 1,
        agent: AgentId::new("A"),
        agent_ip: ip,
        task: TaskId::new(task),
    }
}

fn snapshot(services: &[(u16, &[(&str, u16)])]) -> Snapshot {
    let services = services.iter().map(|(port, backends)| {
        let vip = VipAddress {
            addr: IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)),
            port: *port,
            protocol: Protocol::Tcp,
        };
        let service = Service {
            vip,
            name: None,
            backends: backends.iter().map(|(task, port)| backend(task, *port)).collect(),
            options: model::ServiceOptions::default(),
        };
        (vip, Arc::new(service))
    });
    Snapshot {
        services: services.collect(),
        ..Snapshot::default()
    }
}

#[test]
fn the_dead_leave_and_nobody_else() {
    let all = snapshot(&[(80, &[("a", 1), ("b", 2)]), (81, &[("a", 3)]), (82, &[("c", 4)])]);
    let left = without(&all, &BTreeSet::from([TaskId::new("a")]));
    assert_eq!(left, snapshot(&[(80, &[("b", 2)]), (82, &[("c", 4)])]));
}

#[test]
fn noted_steps_leave_nothing_to_do() {
    let view = NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    };
    let before = desired(&snapshot(&[(80, &[("a", 1), ("b", 2)]), (81, &[("a", 3)])]), &view);
    let after = desired(&snapshot(&[(80, &[("b", 2)]), (82, &[("c", 4)])]), &view);
    let mut known = Actual::default();
    for wanted in [&before, &after] {
        let steps = plan(wanted, &known);
        assert!(!steps.is_empty());
        known.note(&steps);
        assert!(plan(wanted, &known).is_empty(), "{:?}", plan(wanted, &known));
    }
}
