//! Placement by table: room, ports, constraints, spread.

use std::net::Ipv4Addr;

use model::Resources;

use crate::{AgentRecord, AppSpec, PortSpec, ServicePorts, Timestamp};

use super::super::node::Link;
use super::*;

fn node(name: &str, cpus_milli: u64, ports: (u16, u16)) -> Node {
    let record = AgentRecord {
        id: AgentId::new(name),
        hostname: format!("{name}.example"),
        ip: Ipv4Addr::LOCALHOST,
        http_port: 5051,
        resources: Resources {
            cpus_milli,
            mem_mb: 1_000,
            disk_mb: 0,
        },
        ports: vec![ports],
        attributes: BTreeMap::from([("rack".to_owned(), name[..1].to_owned())]),
        domain: crate::Domain::default(),
        subnet: None,
        networks: Default::default(),
    };
    Node::new(record, Link::Connected)
}

fn cluster(nodes: impl IntoIterator<Item = Node>) -> Nodes {
    nodes.into_iter().map(|node| (node.record.id.clone(), node)).collect()
}

fn app(spec: AppSpec) -> App {
    let base = AppSpec {
        id: "a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        ..spec
    };
    App::from_spec(
        Timestamp(1),
        &base,
        "marathon",
        "dcos",
        &mut ServicePorts::new((10_000, 20_000)),
    )
    .expect("valid")
}

fn constrained(words: &[&str]) -> App {
    app(AppSpec {
        constraints: vec![words.iter().map(|word| (*word).to_owned()).collect()],
        ..AppSpec::default()
    })
}

/// Places instances one after the other; the agents' names in order, and the refusals of the first that found no place.
fn fill(app: &App, nodes: &Nodes, count: usize) -> (Vec<String>, Option<Refusals>) {
    let mut random = Random::new(1);
    let mut order = Vec::new();
    let mut placer = Placer::new(app, nodes, &BTreeMap::new());
    for _ in 0..count {
        match placer.next(nodes, &mut random) {
            Ok(placement) => order.push(placement.agent.to_string()),
            Err(refusals) => return (order, Some(refusals)),
        }
    }
    (order, None)
}

#[test]
fn instances_spread_over_agents_and_then_by_load() {
    let mut nodes = cluster([
        node("a1", 1_000, (1, 9)),
        node("a2", 1_000, (1, 9)),
        node("b1", 1_000, (1, 9)),
    ]);
    assert_eq!(fill(&app(AppSpec::default()), &nodes, 4).0, ["a1", "a2", "b1", "a1"]);
    if let Some(busy) = nodes.get_mut(&AgentId::new("a1")) {
        busy.used.cpus_milli = 500;
    }
    assert_eq!(fill(&app(AppSpec::default()), &nodes, 3).0, ["a2", "b1", "a1"]);
}

#[test]
fn only_connected_agents_are_asked() {
    let mut away = node("a1", 1_000, (1, 9));
    away.link = Link::Broken;
    let (order, refusals) = fill(&app(AppSpec::default()), &cluster([away]), 1);
    assert!(order.is_empty());
    assert_eq!(refusals.map(|refusals| refusals.processed), Some(0));
}

#[test]
fn refusals_name_the_first_rule_that_failed() {
    let small = node("a1", 50, (1, 9));
    let mut full = node("a2", 1_000, (1, 9));
    full.used.mem_mb = 995;
    let portless = node("a3", 1_000, (9, 8));
    let (_, refusals) = fill(&app(AppSpec::default()), &cluster([small, full, portless]), 1);
    let by_rule = refusals.expect("no room").by_rule;
    assert_eq!(
        by_rule,
        BTreeMap::from([(Refusal::Cpus, 1), (Refusal::Memory, 1), (Refusal::Ports, 1)])
    );
}

#[test]
fn constraints_hold() {
    let nodes = cluster([
        node("a1", 1_000, (1, 9)),
        node("a2", 1_000, (1, 9)),
        node("b1", 1_000, (1, 9)),
    ]);
    for (words, count, order) in [
        (&["hostname", "UNIQUE"][..], 4, &["a1", "a2", "b1"][..]),
        (&["rack", "UNIQUE"], 3, &["a1", "b1"]),
        (&["rack", "CLUSTER", "b"], 2, &["b1", "b1"]),
        (&["rack", "CLUSTER"], 3, &["a1", "a2", "a1"]),
        (&["rack", "GROUP_BY"], 4, &["a1", "b1", "a2", "b1"]),
        (&["rack", "GROUP_BY", "3"], 3, &["a1", "b1"]),
        (&["rack", "MAX_PER", "1"], 3, &["a1", "b1"]),
        (&["hostname", "IS", "a2.example"], 2, &["a2", "a2"]),
        (&["zone", "UNIQUE"], 1, &[]),
        (&["rack", "LIKE", "a|c"], 3, &["a1", "a2", "a1"]),
        (&["rack", "LIKE", "A"], 1, &[]),
        (&["hostname", "LIKE", "a1"], 1, &[]),
        (&["hostname", "UNLIKE", "a.*"], 2, &["b1", "b1"]),
        (&["none", "UNLIKE", "x"], 1, &["a1"]),
        (&["@hostname", "IS", "b1.example"], 1, &["b1"]),
        (&["@region", "UNIQUE"], 1, &[]),
    ] {
        assert_eq!(fill(&constrained(words), &nodes, count).0, order, "{words:?}");
    }
}

#[test]
fn host_ports_are_free_distinct_and_as_required() {
    let mut busy = node("a1", 1_000, (31_000, 31_003));
    busy.used_ports.insert(31_001);
    let nodes = cluster([busy]);
    let ports = |numbers: &[i64], require_ports| {
        let port_definitions = Some(
            numbers
                .iter()
                .map(|port| PortSpec {
                    port: *port,
                    ..PortSpec::default()
                })
                .collect(),
        );
        app(AppSpec {
            port_definitions,
            require_ports,
            ..AppSpec::default()
        })
    };
    let chosen = |app: &App| {
        let mut placer = Placer::new(app, &nodes, &BTreeMap::new());
        placer.next(&nodes, &mut Random::new(7)).map(|p| p.host_ports)
    };
    let mut any = chosen(&ports(&[0, 80, 0], false)).expect("three are free");
    any.sort_unstable();
    assert_eq!(any, [31_000, 31_002, 31_003]);
    assert!(chosen(&ports(&[0, 0, 0, 0], false)).is_err(), "only three are free");
    let exact = chosen(&ports(&[0, 31_002], true)).expect("free");
    assert_eq!(exact[1], 31_002);
    assert_ne!(exact[0], 31_002);
    assert!(chosen(&ports(&[31_001], true)).is_err(), "taken");
    assert!(chosen(&ports(&[80], true)).is_err(), "not offered");
}

#[test]
fn regions_zones_and_roles_are_honoured() {
    let mut far = node("a1", 1_000, (1, 9));
    far.record.domain.region = Some("west".to_owned());
    far.record.domain.zone = Some("w1".to_owned());
    let mut public = node("b1", 1_000, (1, 9));
    public.record.domain.role = "slave_public".to_owned();
    let nodes = cluster([far, public, node("c1", 1_000, (1, 9))]);
    assert_eq!(fill(&constrained(&["@region", "IS", "west"]), &nodes, 1).0, ["a1"]);
    assert_eq!(fill(&constrained(&["@zone", "LIKE", "w."]), &nodes, 1).0, ["a1"]);
    assert_eq!(fill(&app(AppSpec::default()), &nodes, 3).0, ["a1", "c1", "a1"]);
    let with_roles = |roles: &[&str]| {
        app(AppSpec {
            accepted_roles: Some(roles.iter().map(|role| (*role).to_owned()).collect()),
            ..AppSpec::default()
        })
    };
    assert_eq!(fill(&with_roles(&["slave_public"]), &nodes, 2).0, ["b1", "b1"]);
    assert_eq!(
        fill(&with_roles(&["slave_public", "*"]), &nodes, 3).0,
        ["a1", "b1", "c1"]
    );
    let (_, why) = fill(&with_roles(&["other"]), &nodes, 1);
    assert_eq!(why.expect("no room").by_rule, BTreeMap::from([(Refusal::Role, 3)]));
}
