//! Zones changed piece by piece against zones made anew, and who has a name that several claim.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use model::{
    AgentId, AgentInfo, FrameworkId, FrameworkInfo, Ipv4Net, ServiceTable, Task, TaskEvent, TaskId, TaskState, VipRange,
};
use proptest::prelude::*;

use super::*;
use crate::fixture::{cluster, task, view, web};
use crate::zones::Lookup;

fn agent(n: u8, port: u16) -> AgentInfo {
    AgentInfo {
        id: AgentId::new(format!("c-S{n}")),
        hostname: format!("10.0.0.{n}"),
        ip: Some(Ipv4Addr::new(10, 0, 0, n)),
        port: Some(port),
        subnet: Ipv4Net::new(Ipv4Addr::new(9, 0, n, 0), 24).ok(),
        networks: Default::default(),
        attributes: BTreeMap::new(),
    }
}

fn framework(id: &str, name: &str) -> TaskEvent {
    TaskEvent::FrameworkAdded(FrameworkInfo {
        id: FrameworkId::new(id),
        name: name.to_owned(),
        ip: Some(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9))),
        port: Some(8080),
    })
}

/// Few names, addresses and agents, so that tasks meet in all of them; one name is too long for DNS under every zone.
fn tasks() -> impl Strategy<Value = Task> {
    let names = prop::sample::select(vec!["web", "Web", "a.b", "slave", "leader", "///", "kafka"]);
    let frameworks = prop::sample::select(vec!["f", "g"]);
    let policy = prop::sample::select(vec!["", "running", "starting", "last"]);
    let state = prop::sample::select(TaskState::ALL.to_vec());
    let place = (0u8..8, 0usize..3, 0u8..3, 0u16..3);
    (place, names, frameworks, policy, state, any::<Option<bool>>()).prop_map(
        |((id, agent, addr, port), name, framework, policy, state, healthy)| {
            let id = format!("t{id}");
            let mut task = match port {
                0 => task(&id, name, agent),
                port => web(&id, agent, Ipv4Addr::new(9, 0, 1, addr), 31000 + port),
            };
            name.clone_into(&mut task.name);
            task.framework = FrameworkId::new(framework);
            task.labels.insert("REVERE_DNS".to_owned(), policy.to_owned());
            task.status.state = state;
            task.status.healthy = healthy;
            if let Some(port) = task.ports.first_mut() {
                port.labels[0].1 = format!("/{name}:80");
            }
            task
        },
    )
}

fn event() -> impl Strategy<Value = TaskEvent> {
    prop_oneof![
        8 => tasks().prop_map(TaskEvent::TaskAdded),
        1 => (0u8..3, 5051u16..5053).prop_map(|(n, port)| TaskEvent::AgentAdded(agent(n, port))),
        1 => (0u8..3).prop_map(|n| TaskEvent::AgentRemoved(agent(n, 0).id)),
        1 => prop::sample::select(vec!["marathon", "slave", "Dev/Team.Kafka", "leader"]).prop_map(|name| framework("f", name)),
        1 => Just(framework("g", "other")),
        1 => (0u8..8).prop_map(|n| TaskEvent::LocalExit(TaskId::new(format!("t{n}")))),
        1 => Just(TaskEvent::HoldExpired),
    ]
}

fn config() -> Config {
    Config {
        masters: vec![([10, 0, 0, 9], 5050).into()],
        records: vec!["kafka.marathon.mesos A 192.0.2.1".parse().expect("a record")],
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens, and whichever versions a slow node never saw.
    #[test]
    fn piece_by_piece_equals_all_at_once(events in prop::collection::vec((event(), any::<bool>()), 1..60)) {
        let mut table = ServiceTable::new(VipRange::default());
        let mut names = Names::new(config());
        table.apply(framework("f", "marathon"));
        table.apply(framework("g", "other"));
        for n in 0..3 {
            table.apply(TaskEvent::AgentAdded(agent(n, 5051)));
        }
        for (event, seen) in events {
            table.apply(event);
            if !seen {
                continue;
            }
            let made = names.update(&table.snapshot(), &view());
            let anew = desired::desired(&table.snapshot(), &view(), &config());
            prop_assert!(made == anew, "{:?}\nis not\n{:?}", list(&made), list(&anew));
        }
        let made = names.update(&Snapshot::default(), &view());
        prop_assert_eq!(list(&made), list(&desired::desired(&Snapshot::default(), &view(), &config())));
    }
}

fn list(zones: &Zones) -> Vec<String> {
    zones.iter().map(|(name, found)| format!("{name} {found:?}")).collect()
}

fn addrs(zones: &Zones, name: &str) -> Vec<String> {
    match zones.lookup(name) {
        Lookup::Name(found) => found.addrs.iter().map(ToString::to_string).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_published_version_never_changes() {
    let mut names = Names::new(config());
    let first = names.update(&cluster(vec![task("a", "web", 0)]), &view());
    let before = list(&first);
    let second = names.update(&cluster(vec![task("a", "web", 1), task("b", "api", 2)]), &view());
    assert_eq!(list(&first), before);
    assert_eq!(addrs(&second, "web.marathon.mesos"), ["10.0.0.2"]);
}

#[test]
fn a_name_belongs_to_the_higher_rank_and_the_conflict_is_counted() {
    let mut tasks = vec![task("a", "kafka", 0), task("b", "web", 0)];
    let mut names = Names::new(config());
    let zones = names.update(&cluster(tasks.clone()), &view());
    assert_eq!(
        addrs(&zones, "kafka.marathon.mesos"),
        ["192.0.2.1"],
        "the operator's word"
    );
    assert_eq!(zones.counts().conflicts, 1);
    assert_eq!(names.conflicts().collect::<Vec<_>>(), ["kafka.marathon.mesos"]);
    // `Web` and `web` clean to one name and share it.
    let mut other = task("c", "Web", 1);
    tasks.push(other.clone());
    let zones = names.update(&cluster(tasks.clone()), &view());
    assert_eq!(addrs(&zones, "web.marathon.mesos"), ["10.0.0.1", "10.0.0.2"]);
    let shared = zones.counts().conflicts - 1;
    assert!(shared >= 1, "the name and its forms by agent and network");
    tasks.pop();
    other.name = "third".to_owned();
    tasks.push(other);
    let zones = names.update(&cluster(tasks), &view());
    assert_eq!(zones.counts().conflicts, 1, "gone with its cause");
}

#[test]
fn a_framework_never_takes_the_masters_names() {
    let mut snapshot = cluster(vec![task("a", "x", 0)]);
    let evil = FrameworkInfo {
        id: FrameworkId::new("e"),
        name: "leader".to_owned(),
        ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66))),
        port: Some(1),
    };
    snapshot.frameworks.insert(evil.id.clone(), evil);
    let mut names = Names::new(config());
    let zones = names.update(&snapshot, &view());
    assert_eq!(addrs(&zones, "leader.mesos"), ["10.0.0.9"]);
    assert_eq!(zones.counts().conflicts, 1);
    names.set_leader(Some(([10, 0, 0, 8], 5050).into()));
    let zones = names.update(&snapshot, &view());
    assert_eq!(addrs(&zones, "leader.mesos"), ["10.0.0.8"]);
    assert_eq!(
        addrs(&zones, "master1.mesos"),
        ["10.0.0.8"],
        "a leader that is not listed comes last"
    );
}

#[test]
fn the_last_ones_stay_only_when_asked() {
    let with = |policy: &str, healthy: &[bool]| {
        let tasks = healthy.iter().zip(0..).map(|(healthy, n)| {
            let mut task = task(&format!("t{n}"), "web", n);
            task.labels.insert("REVERE_DNS".to_owned(), policy.to_owned());
            task.status.healthy = Some(*healthy);
            task
        });
        let zones = Names::new(config()).update(&cluster(tasks.collect()), &view());
        match zones.lookup("web.marathon.mesos") {
            Lookup::Name(found) => found.addrs.len(),
            _ => 0,
        }
    };
    assert_eq!(with("", &[true, false]), 1);
    assert_eq!(with("", &[false, false]), 0);
    assert_eq!(with("last", &[true, false]), 1);
    assert_eq!(with("last", &[false, false]), 2);
    assert_eq!(with("running", &[true, false]), 2);
    assert_eq!(with("nonsense", &[false]), 0);
}
