//! What the snapshot makes of a node, checked without a kernel.

use super::*;

pub(crate) fn config() -> Config {
    Config::new(Ipv4Addr::new(10, 0, 0, 1))
}

pub(crate) fn net(text: &str) -> Ipv4Net {
    text.parse().expect("a valid prefix")
}

/// A snapshot of nodes: agent id, underlay address, subnet.
pub(crate) fn snapshot(nodes: &[(&str, [u8; 4], Option<&str>)]) -> Snapshot {
    let nodes = nodes.iter().map(|(agent, ip, subnet)| {
        let agent = AgentId::new(*agent);
        let node = Node {
            agent: agent.clone(),
            hostname: agent.to_string(),
            ip: Ipv4Addr::from(*ip),
            port: None,
            subnet: subnet.map(net),
        };
        (agent, node)
    });
    Snapshot {
        nodes: nodes.collect(),
        ..Snapshot::default()
    }
}

pub(crate) fn view() -> NodeView {
    NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    }
}

fn device(wanted: &Desired) -> &Device {
    match &wanted.tunnel {
        Tunnel::Present(device) => device,
        other => panic!("no tunnel but {other:?}"),
    }
}

#[test]
fn a_node_that_nobody_knows_has_its_fixed_addresses_and_keeps_its_tunnel() {
    let wanted = desired(&Snapshot::default(), &view(), &config());
    assert_eq!(wanted.tunnel, Tunnel::Keep);
    let service = Object::Address {
        link: Link::Loopback,
        addr: Ipv4Addr::new(198, 51, 100, 1),
        prefix: 32,
    };
    assert_eq!(
        wanted.objects,
        BTreeSet::from([service, unreachable(net("11.0.0.0/8"))])
    );
    assert!(wanted.sysctls.contains(&Sysctl::Forward));
}

#[test]
fn a_known_node_without_subnet_has_no_tunnel() {
    let wanted = desired(&snapshot(&[("a", [10, 0, 0, 1], None)]), &view(), &config());
    assert_eq!(wanted.tunnel, Tunnel::Absent);
}

#[test]
fn two_nodes_get_the_objects_dcos_would_make() {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.1.0/24")),
        ("c", [10, 0, 0, 3], None),
    ];
    let wanted = desired(&snapshot(&nodes), &view(), &config());
    assert_eq!(device(&wanted).mac.to_string(), "70:b3:d5:80:00:01");
    let (gateway, mac) = (Ipv4Addr::new(44, 128, 0, 2), Mac([0x70, 0xb3, 0xd5, 0x80, 0, 2]));
    let own = Ipv4Addr::new(9, 0, 0, 1);
    let tunnel = |table, to, source| {
        Object::Route(Route {
            table,
            to: net(to),
            metric: 0,
            target: Target::Tunnel { gateway, source },
        })
    };
    let expected = BTreeSet::from([
        Object::Address {
            link: Link::Loopback,
            addr: Ipv4Addr::new(198, 51, 100, 1),
            prefix: 32,
        },
        Object::Address {
            link: Link::Device,
            addr: own,
            prefix: 32,
        },
        Object::Address {
            link: Link::Device,
            addr: Ipv4Addr::new(44, 128, 0, 1),
            prefix: 20,
        },
        Object::Fdb {
            mac,
            node: Ipv4Addr::new(10, 0, 0, 2),
        },
        Object::Neighbour { addr: gateway, mac },
        unreachable(net("9.0.0.0/8")),
        unreachable(net("11.0.0.0/8")),
        tunnel(MAIN_TABLE, "9.0.1.0/24", Some(own)),
        tunnel(42, "10.0.0.2/32", None),
        Object::Rule {
            from: net("9.0.0.0/8"),
            table: 42,
            priority: RULE_PRIORITY,
        },
    ]);
    assert_eq!(wanted.objects, expected);
    assert_eq!(wanted.problems, []);
}

#[test]
fn the_tunnel_address_range_is_used_to_its_end_and_no_further() {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("last", [10, 0, 0, 2], Some("9.15.253.0/24")),
        ("over", [10, 0, 0, 3], Some("9.15.254.0/24")),
    ];
    let wanted = desired(&snapshot(&nodes), &view(), &config());
    assert!(wanted.objects.contains(&Object::Neighbour {
        addr: Ipv4Addr::new(44, 128, 15, 254),
        mac: Mac([0x70, 0xb3, 0xd5, 0x80, 15, 254])
    }));
    assert!(
        matches!(&wanted.problems[..], [Problem::NoRoom { agent, index: 4094, .. }] if agent.to_string() == "over")
    );
}

#[test]
fn nodes_that_cannot_take_part_are_reported() {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b", [10, 0, 0, 2], Some("9.0.0.0/24")),
        ("c", [10, 0, 0, 3], Some("172.16.0.0/24")),
    ];
    let wanted = desired(&snapshot(&nodes), &view(), &config());
    assert!(
        matches!(&wanted.problems[..], [Problem::Taken { .. }, Problem::Outside { .. }]),
        "{:?}",
        wanted.problems
    );
    assert!(!wanted.objects.iter().any(|object| matches!(object, Object::Fdb { .. })));
}

#[test]
fn a_node_whose_own_subnet_is_wrong_gets_no_tunnel() {
    let wanted = desired(
        &snapshot(&[("a", [10, 0, 0, 1], Some("172.16.0.0/24"))]),
        &view(),
        &config(),
    );
    assert_eq!(wanted.tunnel, Tunnel::Absent);
    assert!(matches!(&wanted.problems[..], [Problem::Outside { .. }]));
}

#[test]
fn the_agent_id_tells_a_node_from_its_own_past() {
    let nodes = [
        ("new", [10, 0, 0, 1], Some("9.0.7.0/24")),
        ("old", [10, 0, 0, 1], Some("9.0.0.0/24")),
    ];
    let view = NodeView {
        agent: Some(AgentId::new("old")),
        ..view()
    };
    let wanted = desired(&snapshot(&nodes), &view, &config());
    assert_eq!(device(&wanted).mac.to_string(), "70:b3:d5:80:00:01");
    assert!(
        !wanted.objects.iter().any(|object| matches!(object, Object::Fdb { .. })),
        "a node is no peer of itself"
    );
}

#[test]
fn a_peer_with_two_ids_gets_one_host_route() {
    let nodes = [
        ("a", [10, 0, 0, 1], Some("9.0.0.0/24")),
        ("b1", [10, 0, 0, 2], Some("9.0.1.0/24")),
        ("b2", [10, 0, 0, 2], Some("9.0.2.0/24")),
    ];
    let wanted = desired(&snapshot(&nodes), &view(), &config());
    let hosts = wanted
        .objects
        .iter()
        .filter(|object| matches!(object, Object::Route(Route { table: 42, .. })));
    assert_eq!(hosts.count(), 1);
    let subnets = wanted
        .objects
        .iter()
        .filter(|object| matches!(object, Object::Fdb { .. }));
    assert_eq!(subnets.count(), 2);
}
