//! Which networks are made, which are refused, who hears of them, and who keeps one in use.

use std::collections::BTreeMap;

use crate::{AppSpec, Command, Effect, PortSpec, TakenNet};

use super::super::tests::Bench;
use super::*;

fn blue() -> NetworkSpec {
    NetworkSpec {
        name: "blue".to_owned(),
        subnet: "10.64.0.0/16".to_owned(),
        ..NetworkSpec::default()
    }
}

fn create(bench: &mut Bench, spec: NetworkSpec) -> Result<Reply, CommandError> {
    bench.command(Command::CreateNetwork(spec))
}

fn remove(bench: &mut Bench, name: &str) -> Result<Reply, CommandError> {
    bench.command(Command::RemoveNetwork { name: name.to_owned() })
}

fn app(network: &str) -> AppSpec {
    AppSpec {
        id: "/a".to_owned(),
        cmd: Some("x".to_owned()),
        cpus: Some(0.1),
        mem: Some(10.0),
        instances: Some(1),
        networks: vec![("container".to_owned(), Some(network.to_owned()))],
        ..AppSpec::default()
    }
}

fn run(bench: &mut Bench, spec: AppSpec) -> Result<Reply, CommandError> {
    bench.command(Command::CreateApp(Box::new(spec)))
}

fn why(result: Result<Reply, CommandError>) -> NetworkError {
    match result {
        Err(CommandError::Network(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn told(bench: &mut Bench) -> Vec<Vec<String>> {
    let networks = |effect| match effect {
        Effect::Emit(TaskEvent::AgentAdded(info)) => Some(info.networks.iter().map(ToString::to_string).collect()),
        _ => None,
    };
    bench.effects().into_iter().filter_map(networks).collect()
}

#[test]
fn a_network_is_kept_told_to_each_node_and_used_by_apps() {
    let mut bench = Bench::new();
    bench.register(None, Vec::new());
    bench.effects();
    create(&mut bench, blue()).expect("valid");
    let effects = bench.effects();
    let kept = effects.iter().any(|effect| {
        matches!(effect, Effect::Persist(Record::PutNetwork(network)) if network.to_string() == "blue,4097,10.64.0.0/16,24,")
    });
    assert!(kept, "{effects:?}");
    let second = NetworkSpec {
        name: "green".to_owned(),
        subnet: "10.65.0.0/24".to_owned(),
        peers: vec!["blue".to_owned(), "dcos".to_owned()],
        ..NetworkSpec::default()
    };
    create(&mut bench, second).expect("valid");
    let green = "green,4098,10.65.0.0/24,26,blue+dcos";
    assert_eq!(told(&mut bench), [["blue,4097,10.64.0.0/16,24,", green]]);
    run(&mut bench, app("blue")).expect("the network is there");
    let launched = bench.effects().into_iter().find_map(|effect| match effect {
        Effect::Launch { spec, .. } => Some(spec.network),
        _ => None,
    });
    let name = "blue".to_owned();
    assert_eq!(launched, Some(TaskNetwork::Container { name }));
    let views = bench.core.networks();
    let names: Vec<&str> = views.iter().map(|view| view.network.name.as_str()).collect();
    assert_eq!(names, ["dcos", "blue", "green"]);
    assert_eq!((views[1].nodes, views[1].block_addresses), (1, 253));
    assert_eq!(views[1].apps, ["/a"]);
}

#[test]
fn a_network_in_use_stays_and_one_that_is_not_goes() {
    let mut bench = Bench::new();
    bench.register(None, Vec::new());
    create(&mut bench, blue()).expect("valid");
    run(&mut bench, app("blue")).expect("the network is there");
    let launched = bench.effects().into_iter().find_map(|effect| match effect {
        Effect::Launch { agent, spec } => Some((agent, spec.task)),
        _ => None,
    });
    let (agent, task) = launched.expect("it is launched");
    assert_eq!(
        why(remove(&mut bench, "blue")).to_string(),
        "the network blue is in use by /a: remove or change them first"
    );
    let gone = Command::RemoveApp {
        id: "/a".to_owned(),
        force: crate::Force::Yes,
    };
    bench.command(gone).expect("there");
    let users = why(remove(&mut bench, "blue"));
    assert!(users.to_string().contains("the task a."), "{users}");
    bench.tell(&agent, &task, model::TaskState::Killed);
    bench.effects();
    remove(&mut bench, "blue").expect("nobody is left");
    assert_eq!(told(&mut bench), [Vec::<String>::new()]);
    assert!(matches!(why(remove(&mut bench, "blue")), NetworkError::Missing(_)));
    let faults = run(&mut bench, app("blue")).expect_err("gone");
    let CommandError::Invalid(faults) = faults else {
        panic!("{faults:?}")
    };
    assert_eq!(faults[0].path, "/networks(0)/name");
}

#[test]
fn what_is_used_of_each_nodes_block_is_told() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        let at = bench.at();
        bench.core.handle_registration(at, Bench::registration(number));
    }
    // Two blocks, of which the first is nobody's: nodes are counted from 1.
    let small = NetworkSpec {
        subnet: "10.64.0.0/25".to_owned(),
        prefix: Some(26),
        ..blue()
    };
    create(&mut bench, small).expect("valid");
    run(&mut bench, app("blue")).expect("the network is there");
    let (agent, task) = bench
        .effects()
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Launch { agent, spec } => Some((agent, spec.task)),
            _ => None,
        })
        .expect("it is launched");
    let told = |bench: &Bench| {
        let all = bench.core.network_blocks("blue").into_iter();
        let text = |one: BlockUse| {
            let block = one.block.map_or("none".to_owned(), |block| block.to_string());
            format!("{block}: {}", one.tasks)
        };
        all.map(text).collect::<Vec<_>>()
    };
    let blocks = told(&bench);
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|one| one.ends_with(": 0")), "{blocks:?}");
    let block = told(&bench)
        .into_iter()
        .find(|one| !one.starts_with("none"))
        .expect("one has a block");
    let net: Ipv4Net = block
        .split(": ")
        .next()
        .and_then(|text| text.parse().ok())
        .expect("a prefix");
    let address = net.nth(2).expect("a /26 has it");
    bench.tell_at(&agent, &task, model::TaskState::Running, address.into());
    assert_eq!(told(&bench)[0], format!("{net}: 1"), "the fullest first");
    assert!(bench.core.network_blocks("green").is_empty());
    assert_eq!(
        bench
            .core
            .network_blocks("dcos")
            .iter()
            .filter(|one| one.block.is_some())
            .count(),
        3
    );
}

#[test]
fn what_others_have_is_refused_with_a_sentence() {
    let mut bench = Bench::new();
    assert!(matches!(why(create(&mut bench, blue())), NetworkError::NoNodes));
    let mut registration = Bench::registration(1);
    registration.taken = vec![TakenNet {
        net: "10.70.0.0/16".parse().expect("valid"),
        by: "a route by eth1".to_owned(),
    }];
    let at = bench.at();
    bench.core.handle_registration(at, registration);
    let mut vip = app("dcos");
    vip.port_mappings = Some(vec![PortSpec {
        port: 80,
        labels: BTreeMap::from([("VIP_0".to_owned(), "10.71.2.3:80".to_owned())]),
        ..PortSpec::default()
    }]);
    run(&mut bench, vip.clone()).expect("valid");
    create(&mut bench, blue()).expect("valid");
    for (subnet, sentence) in [
        (
            "10.64.3.0/24",
            "10.64.3.0/24 overlaps 10.64.0.0/16 of the network blue; choose another subnet",
        ),
        (
            "8.0.0.0/7",
            "8.0.0.0/7 overlaps 9.0.0.0/8 of the network dcos; choose another subnet",
        ),
        (
            "10.70.128.0/20",
            "10.70.128.0/20 overlaps 10.70.0.0/16, a route by eth1 on node 10.0.0.1; choose another subnet, or change that first",
        ),
        (
            "10.0.0.0/24",
            "10.0.0.0/24 overlaps 10.0.0.1/32, its own address on node 10.0.0.1; choose another subnet, or change that first",
        ),
        (
            "10.71.0.0/16",
            "10.71.0.0/16 holds 10.71.2.3, a virtual address of /a; choose another subnet",
        ),
        (
            "127.1.0.0/16",
            "127.1.0.0/16 overlaps 127.0.0.0/8, which is the loopback block; choose another subnet, such as 10.64.0.0/16",
        ),
        (
            "10.72.0.0/31",
            "10.72.0.0/31 has no room for a node and a task; choose a prefix of at most 30",
        ),
        ("10.72.0.1/16", "the network's subnet: 10.72.0.1/16 has host bits set"),
    ] {
        let spec = NetworkSpec {
            name: "red".to_owned(),
            subnet: subnet.to_owned(),
            ..NetworkSpec::default()
        };
        assert_eq!(why(create(&mut bench, spec)).to_string(), sentence);
    }
    vip.id = "/b".to_owned();
    let mapping = vip.port_mappings.as_mut().and_then(|all| all.first_mut());
    let labels = mapping.map(|mapping| &mut mapping.labels).expect("it has one");
    labels.insert("VIP_0".to_owned(), "10.64.2.3:80".to_owned());
    assert!(
        matches!(run(&mut bench, vip), Err(CommandError::Invalid(_))),
        "a VIP of blue's addresses"
    );
}

#[test]
fn names_identifiers_and_peers_are_checked() {
    let mut bench = Bench::new();
    bench.register(None, Vec::new());
    create(&mut bench, blue()).expect("valid");
    let red = NetworkSpec {
        name: "red".to_owned(),
        subnet: "10.65.0.0/16".to_owned(),
        ..NetworkSpec::default()
    };
    let with = |change: fn(&mut NetworkSpec)| {
        let mut spec = red.clone();
        change(&mut spec);
        spec
    };
    for name in ["", "Red", "host", "a/b", "a,b"] {
        let spec = NetworkSpec {
            name: name.to_owned(),
            ..red.clone()
        };
        assert!(matches!(why(create(&mut bench, spec)), NetworkError::Name(_)), "{name}");
    }
    for (spec, error) in [
        (
            with(|red| red.name = "blue".to_owned()),
            "there is a network blue already",
        ),
        (
            with(|red| red.name = "dcos".to_owned()),
            "there is a network dcos already",
        ),
        (with(|red| red.vni = Some(1024)), "1024 is that of the network dcos"),
        (with(|red| red.vni = Some(4097)), "4097 is that of the network blue"),
        (with(|red| red.vni = Some(1 << 24)), "16777216 is no VXLAN identifier"),
        (with(|red| red.prefix = Some(31)), "cannot have the length 31"),
        (with(|red| red.prefix = Some(8)), "cannot have the length 8"),
        (
            with(|red| red.peers = vec!["pink".to_owned()]),
            "there is no network pink",
        ),
    ] {
        let said = why(create(&mut bench, spec)).to_string();
        assert!(said.contains(error), "{said}");
    }
    create(&mut bench, with(|red| red.peers = vec!["blue".to_owned()])).expect("valid");
    let said = why(remove(&mut bench, "blue")).to_string();
    assert!(said.contains("the network red, its peer"), "{said}");
    assert!(matches!(why(remove(&mut bench, "dcos")), NetworkError::BuiltIn(_)));
    assert!(matches!(why(remove(&mut bench, "bridge")), NetworkError::BuiltIn(_)));
}

#[test]
fn a_node_without_a_block_gets_no_task_of_the_network() {
    let mut bench = Bench::new();
    let first = bench.register_at(1, None, Vec::new()).agent;
    bench.register_at(2, None, Vec::new());
    let spec = NetworkSpec {
        prefix: Some(30),
        subnet: "10.64.0.0/30".to_owned(),
        ..blue()
    };
    create(&mut bench, spec).expect("valid");
    let mut app = app("blue");
    app.instances = Some(2);
    run(&mut bench, app).expect("valid");
    let launches: Vec<model::AgentId> = bench
        .effects()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Launch { agent, .. } => Some(agent),
            _ => None,
        })
        .collect();
    assert_eq!(launches, [first.clone(), first], "there is a block for one node only");
    let views = bench.core.networks();
    assert_eq!((views[1].nodes, views[1].nodes_without), (1, 1));
}

#[test]
fn a_core_that_is_restored_has_its_networks_and_tells_them() {
    let mut bench = Bench::new();
    let agent = bench.register(None, Vec::new()).agent;
    create(&mut bench, blue()).expect("valid");
    bench.effects();
    bench = Bench::restored(bench.stored);
    assert_eq!(bench.core.networks()[1].network.name, "blue");
    let recovered = bench.core.recovered_agents().next().expect("the node is known");
    assert_eq!(recovered.networks[0].name, "blue");
    bench.effects();
    bench.register(Some(&agent), Vec::new());
    assert_eq!(told(&mut bench), [["blue,4097,10.64.0.0/16,24,"]]);
}
