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
    snapshot_with(nodes, "")
}

/// The same with networks beside the default one.
pub(crate) fn snapshot_with(nodes: &[(&str, [u8; 4], Option<&str>)], networks: &str) -> Snapshot {
    let networks = Network::split(networks).expect("valid networks");
    let nodes = nodes.iter().map(|(agent, ip, subnet)| {
        let agent = AgentId::new(*agent);
        let node = Node {
            agent: agent.clone(),
            hostname: agent.to_string(),
            ip: Ipv4Addr::from(*ip),
            port: None,
            subnet: subnet.map(net),
            networks: networks.clone().into(),
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

fn devices(wanted: &Desired) -> &BTreeMap<u32, Device> {
    match &wanted.tunnels {
        Tunnels::Exactly(devices) => devices,
        Tunnels::Keep => panic!("no device is wanted, all are kept"),
    }
}

fn device(wanted: &Desired) -> &Device {
    devices(wanted).get(&1024).expect("the default overlay's device")
}

#[test]
fn a_node_that_nobody_knows_has_its_fixed_addresses_and_keeps_its_tunnel() {
    let wanted = desired(&Snapshot::default(), &view(), &config());
    assert_eq!(wanted.tunnels, Tunnels::Keep);
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
    assert!(devices(&wanted).is_empty());
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
            target: Target::Tunnel {
                vni: 1024,
                gateway,
                source,
            },
        })
    };
    let expected = BTreeSet::from([
        Object::Address {
            link: Link::Loopback,
            addr: Ipv4Addr::new(198, 51, 100, 1),
            prefix: 32,
        },
        Object::Address {
            link: Link::Device(1024),
            addr: own,
            prefix: 32,
        },
        Object::Address {
            link: Link::Device(1024),
            addr: Ipv4Addr::new(44, 128, 0, 1),
            prefix: 20,
        },
        Object::Fdb {
            vni: 1024,
            mac,
            node: Ipv4Addr::new(10, 0, 0, 2),
        },
        Object::Neighbour {
            vni: 1024,
            addr: gateway,
            mac,
        },
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
        vni: 1024,
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
    assert!(devices(&wanted).is_empty());
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

const TWO: [(&str, [u8; 4], Option<&str>); 2] = [
    ("a", [10, 0, 0, 1], Some("9.0.1.0/24")),
    ("b", [10, 0, 0, 2], Some("9.0.2.0/24")),
];

fn route_in(table: u32, to: &str, target: Target) -> Object {
    Object::Route(Route {
        table,
        to: net(to),
        metric: 0,
        target,
    })
}

#[test]
fn a_further_network_has_a_device_of_its_own_and_the_same_neighbours() {
    let wanted = desired(&snapshot_with(&TWO, "blue,4097,10.64.0.0/16,24,"), &view(), &config());
    let both: Vec<u32> = devices(&wanted).keys().copied().collect();
    assert_eq!(both, [1024, 4097]);
    assert_eq!(devices(&wanted)[&4097].mac, device(&wanted).mac);
    let (vni, table) = (4097, OWN_TABLES + 4097);
    let (gateway, mac) = (Ipv4Addr::new(44, 128, 0, 3), Mac([0x70, 0xb3, 0xd5, 0x80, 0, 3]));
    let own = Ipv4Addr::new(10, 64, 0, 1);
    let tunnel = |source| Target::Tunnel { vni, gateway, source };
    let node = Ipv4Addr::new(10, 0, 0, 2);
    let before = desired(&snapshot(&TWO), &view(), &config());
    let added: BTreeSet<Object> = wanted.objects.difference(&before.objects).copied().collect();
    let expected = BTreeSet::from([
        Object::Address {
            link: Link::Device(vni),
            addr: own,
            prefix: 32,
        },
        Object::Fdb { vni, mac, node },
        Object::Neighbour {
            vni,
            addr: gateway,
            mac,
        },
        unreachable(net("10.64.0.0/16")),
        route_in(MAIN_TABLE, "10.64.1.0/24", tunnel(Some(own))),
        route_in(table, "10.0.0.2/32", tunnel(None)),
        route_in(table, "9.0.0.0/8", Target::Prohibited),
        route_in(42, "10.64.0.0/16", Target::Prohibited),
        Object::Rule {
            from: net("10.64.0.0/16"),
            table,
            priority: RULE_PRIORITY,
        },
    ]);
    assert_eq!(added, expected);
    assert!(
        before.objects.is_subset(&wanted.objects),
        "the default overlay stays as it is"
    );
}

#[test]
fn networks_are_kept_apart_unless_one_names_the_other() {
    let networks = "blue,4097,10.64.0.0/16,24,dcos;green,4098,10.65.0.0/16,24,;red,4099,10.66.0.0/16,24,green";
    let wanted = desired(&snapshot_with(&TWO, networks), &view(), &config());
    let apart: BTreeSet<(u32, String)> = wanted
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Route(route) if route.target == Target::Prohibited => Some((route.table, route.to.to_string())),
            _ => None,
        })
        .collect();
    let (dcos, blue, green, red) = ("9.0.0.0/8", "10.64.0.0/16", "10.65.0.0/16", "10.66.0.0/16");
    let pairs = [
        (42, green),
        (42, red),
        (OWN_TABLES + 4097, green),
        (OWN_TABLES + 4097, red),
        (OWN_TABLES + 4098, dcos),
        (OWN_TABLES + 4098, blue),
        (OWN_TABLES + 4099, dcos),
        (OWN_TABLES + 4099, blue),
    ];
    let pairs = pairs.map(|(table, to)| (table, to.to_owned()));
    assert_eq!(apart, BTreeSet::from(pairs));
}

#[test]
fn a_network_without_a_block_for_a_node_leads_to_it_all_the_same() {
    // Two blocks for three nodes.
    let nodes = [TWO[0], TWO[1], ("c", [10, 0, 0, 3], Some("9.0.3.0/24"))];
    let wanted = desired(&snapshot_with(&nodes, "blue,4097,10.64.0.0/24,25,"), &view(), &config());
    let table = OWN_TABLES + 4097;
    let routes: Vec<String> = wanted
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Route(Route {
                table: of,
                to,
                target: Target::Tunnel { vni: 4097, .. },
                ..
            }) => Some(format!("{} {to}", *of == table)),
            _ => None,
        })
        .collect();
    assert_eq!(routes, ["false 10.64.0.128/25", "true 10.0.0.2/32", "true 10.0.0.3/32"]);
}
