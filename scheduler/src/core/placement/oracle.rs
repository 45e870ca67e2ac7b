//! The matcher against a slow and simple second one, for many clusters and apps at random.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::{AgentId, Resources};

use crate::core::node::{Link, Node};
use crate::core::nodes::Nodes;
use crate::core::random::Random;
use crate::{AgentRecord, App, AppSpec, Constraint, Domain, Operator, PortSpec, ServicePorts, Timestamp};

use super::{Placer, Refusal};

const RACKS: [&str; 3] = ["r1", "r2", "r3"];

fn pick<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    let index = random.below(u64::try_from(of.len()).expect("few"));
    of[usize::try_from(index).expect("few")]
}

fn nodes(random: &mut Random) -> BTreeMap<AgentId, Node> {
    let mut nodes = BTreeMap::new();
    for number in 0..random.below(8) {
        let id = AgentId::new(format!("s{number}"));
        let mut attributes = BTreeMap::new();
        if random.below(4) > 0 {
            attributes.insert("rack".to_owned(), pick(random, &RACKS).to_owned());
        }
        let record = AgentRecord {
            id: id.clone(),
            hostname: format!("h{number}"),
            ip: Ipv4Addr::LOCALHOST,
            http_port: 1,
            resources: Resources {
                cpus_milli: 100 * random.below(8),
                mem_mb: 10 * random.below(8),
                disk_mb: 0,
            },
            ports: vec![(100, 100 + u16::try_from(random.below(5)).expect("few"))],
            attributes,
            domain: Domain {
                region: None,
                zone: (random.below(2) == 0).then(|| "z".to_owned()),
                role: pick(random, &["*", "*", "public"]).to_owned(),
            },
            subnet: None,
            networks: Default::default(),
        };
        let link = if random.below(8) == 0 {
            Link::Broken
        } else {
            Link::Connected
        };
        nodes.insert(id, Node::new(record, link));
    }
    nodes
}

fn app(random: &mut Random) -> App {
    let mut constraints = Vec::new();
    for _ in 0..random.below(3) {
        let field = pick(random, &["hostname", "rack", "@zone", "none"]);
        let words: &[&str] = match random.below(7) {
            0 => &["UNIQUE"],
            1 => &["CLUSTER"],
            2 => &["CLUSTER", "r1"],
            3 => &["GROUP_BY"],
            4 => &["LIKE", "r[12]|h[0-4]|z"],
            5 => &["UNLIKE", "r2|h1"],
            _ => &["MAX_PER", "2"],
        };
        constraints.push([&[field], words].concat().into_iter().map(str::to_owned).collect());
    }
    let ports = (0..random.below(3)).map(|_| PortSpec::default()).collect();
    let spec = AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        constraints,
        port_definitions: Some(ports),
        accepted_roles: (random.below(3) == 0).then(|| vec!["*".to_owned(), "public".to_owned()]),
        ..AppSpec::default()
    };
    let mut service_ports = ServicePorts::new((10_000, 20_000));
    App::from_spec(Timestamp(1), &spec, "marathon", "dcos", &mut service_ports).expect("valid")
}

/// Whether one more instance on `id` keeps the constraint, counted anew from all instances.
fn keeps(constraint: &Constraint, id: &AgentId, nodes: &BTreeMap<AgentId, Node>, placed: &[AgentId]) -> bool {
    let value_of = |id: &AgentId| nodes[id].field(&constraint.field);
    let Some(value) = value_of(id) else {
        return constraint.operator == Operator::Unlike;
    };
    let count = |value: &str| placed.iter().filter(|id| value_of(id) == Some(value)).count();
    let word = constraint.value.as_deref();
    match constraint.operator {
        Operator::Unique => count(value) == 0,
        Operator::Cluster => match word {
            Some(word) => word == value,
            None => placed.iter().all(|id| value_of(id).is_none()) || count(value) > 0,
        },
        Operator::GroupBy => nodes
            .values()
            .filter(|node| node.link == Link::Connected)
            .filter_map(|node| node.field(&constraint.field))
            .all(|other| count(value) <= count(other)),
        Operator::Like => matches!(value, "r1" | "r2" | "h0" | "h1" | "h2" | "h3" | "h4" | "z"),
        Operator::Unlike => !matches!(value, "r2" | "h1"),
        Operator::MaxPer => count(value) < 2,
        Operator::Is => word == Some(value),
    }
}

/// Every agent that may take one more.
fn candidates<'a>(app: &App, nodes: &'a BTreeMap<AgentId, Node>, placed: &[AgentId]) -> Vec<&'a AgentId> {
    let fits = |(id, node): &(&AgentId, &Node)| {
        let left = node.record.resources.minus(&node.used);
        node.link == Link::Connected
            && !node.away
            && app.accepted_roles.contains(&node.record.domain.role)
            && left.cpus_milli >= 100
            && left.mem_mb >= 10
            && node.free_ports().count() >= app.ports.len()
            && app.constraints.iter().all(|one| keeps(one, id, nodes, placed))
    };
    nodes.iter().filter(fits).map(|(id, _)| id).collect()
}

/// Some agents have something already: their table is as old as that, or of now, or was never made.
fn charge_some(random: &mut Random, nodes: &mut Nodes) {
    let made = random.below(3);
    if made > 0 {
        nodes.refresh();
    }
    for id in nodes.keys().cloned().collect::<Vec<_>>() {
        if random.below(3) == 0
            && let Some(node) = nodes.get_mut(&id)
        {
            node.used.cpus_milli = 100 * random.below(3).min(node.record.resources.cpus_milli / 100);
            node.away = random.below(6) == 0;
        }
    }
    if made > 1 {
        nodes.refresh();
    }
    nodes.check();
}

/// One cluster and one app, filled until it is full.
pub(crate) fn one_case(seed: u64) {
    let mut random = Random::new(seed);
    let mut nodes: Nodes = nodes(&mut random).into_iter().collect();
    let app = app(&mut random);
    charge_some(&mut random, &mut nodes);
    let here = nodes.iter().filter(|(_, node)| node.link == Link::Connected);
    let mut placed: Vec<AgentId> = here.map(|(id, _)| id.clone()).collect();
    placed.retain(|_| random.below(4) == 0);
    let before = placed.iter().map(|id| (id.clone(), 1)).collect();
    let mut placer = Placer::new(&app, &nodes, &before);
    for _ in 0..12 {
        let may = candidates(&app, &nodes, &placed);
        match placer.next(&nodes, &mut random) {
            Ok(place) => {
                let rank = |id: &AgentId| {
                    let same = placed.iter().filter(|one| *one == id).count();
                    (same, nodes[id].used.cpus_milli, id.clone())
                };
                let best = may.iter().min_by_key(|id| rank(id));
                assert_eq!(best, Some(&&place.agent), "seed {seed}: {:?}", app.constraints);
                assert_eq!(place.host_ports.len(), app.ports.len(), "seed {seed}");
                let node = nodes.get_mut(&place.agent).expect("one of them");
                assert!(
                    place.host_ports.iter().all(|port| node.port_is_free(*port)),
                    "seed {seed}"
                );
                node.used = node.used.plus(&app.resources);
                node.used_ports.extend(&place.host_ports);
                placed.push(place.agent);
            }
            Err(refusals) => {
                assert!(
                    may.is_empty(),
                    "seed {seed}: {may:?} could take it, {:?}",
                    app.constraints
                );
                let refused: u32 = Refusal::ALL.iter().filter_map(|rule| refusals.by_rule.get(rule)).sum();
                assert_eq!(refused, refusals.processed, "seed {seed}: each agent is refused once");
                return;
            }
        }
    }
}

#[test]
fn the_matcher_agrees_with_a_slow_one() {
    (0..5_000).for_each(one_case);
}
