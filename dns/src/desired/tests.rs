//! Tables of names: which exist, with what, and which don't.

use super::*;
use crate::fixture::{cluster, port, task, view, web};
use crate::zones::{Lookup, ZoneCounts};
use model::{FrameworkId, Task, TaskState};

fn zones(tasks: Vec<Task>) -> Zones {
    let config = Config {
        masters: vec![([10, 0, 0, 9], 5050).into(), ([10, 0, 0, 8], 5050).into()],
        ..Config::default()
    };
    desired(&cluster(tasks), &view(), &config)
}

/// Addresses and services of a name as one text; `-` for a name that does not exist, `?` for one that isn't ours.
fn show(zones: &Zones, name: &str) -> String {
    match zones.lookup(name) {
        Lookup::NotOurs => "?".to_owned(),
        Lookup::NoName(_) => "-".to_owned(),
        Lookup::Name(found) => {
            let addrs = found.addrs.iter().map(ToString::to_string);
            let srvs = found.srvs.iter().map(|srv| format!("{}:{}", srv.target, srv.port));
            addrs.chain(srvs).collect::<Vec<_>>().join(" ")
        }
    }
}

fn check(zones: &Zones, table: &[(&str, &str)]) {
    for (name, wanted) in table {
        assert_eq!(show(zones, name), *wanted, "{name}");
    }
}

fn hash(id: &str) -> String {
    model::task_hash(id)
}

#[test]
fn fixed_names() {
    check(
        &zones(vec![]),
        &[
            ("thisnode.thisdcos.directory", "10.0.0.1"),
            ("thisnode.thisdcos.global", "10.0.0.1"),
            ("ready.spartan", "127.0.0.1"),
            ("ns.spartan", "10.0.0.1"),
            ("slave.mesos", "10.0.0.1 10.0.0.2 10.0.0.3"),
            ("leader.mesos", "10.0.0.9"),
            ("master.mesos", "10.0.0.8 10.0.0.9"),
            ("master0.mesos", "10.0.0.9"),
            ("master1.mesos", "10.0.0.8"),
            ("master2.mesos", "-"),
            ("mesos", ""),
            ("l4lb.thisdcos.directory", ""),
            ("thisdcos.directory", ""),
            ("other.thisdcos.directory", "-"),
            ("my-service.marathon.l4lb.thisdcos.directory", "-"),
            ("leader.mesos.local", "?"),
            ("notmesos", "?"),
            ("directory", "?"),
            ("example.com", "?"),
            ("", "?"),
        ],
    );
}

#[test]
fn names_of_a_service_in_containers() {
    let zones = zones(vec![
        web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000),
        web("b", 1, Ipv4Addr::new(9, 0, 2, 2), 31001),
    ]);
    let vip = cluster(vec![web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 1)])
        .services
        .keys()
        .next()
        .expect("one VIP")
        .addr
        .to_string();
    let (a, b) = (
        format!("my-service-{}-s0", hash("a")),
        format!("my-service-{}-s1", hash("b")),
    );
    let mut targets = [format!("{a}.marathon.mesos:8080"), format!("{b}.marathon.mesos:8080")];
    targets.sort();
    let mut on_agents = [
        format!("{a}.marathon.slave.mesos:31000"),
        format!("{b}.marathon.slave.mesos:31001"),
    ];
    on_agents.sort();
    check(
        &zones,
        &[
            ("my-service.marathon.l4lb.thisdcos.directory", &vip),
            ("my-service.marathon.dclb.thisdcos.directory", &vip),
            ("my-service.marathon.l4lb.thisdcos.global", &vip),
            ("my-service.marathon.dclb.thisdcos.global", &vip),
            ("marathon.l4lb.thisdcos.directory", ""),
            ("x.my-service.marathon.l4lb.thisdcos.directory", "-"),
            ("my-service.marathon.mesos", "9.0.1.2 9.0.2.2"),
            ("my-service.marathon.slave.mesos", "10.0.0.1 10.0.0.2"),
            (&format!("{a}.marathon.mesos"), "9.0.1.2"),
            (&format!("{b}.marathon.slave.mesos"), "10.0.0.2"),
            ("_my-service._tcp.marathon.mesos", &targets.join(" ")),
            ("_http._my-service._tcp.marathon.mesos", &targets.join(" ")),
            ("_my-service._udp.marathon.mesos", "-"),
            ("_my-service._tcp.marathon.slave.mesos", &on_agents.join(" ")),
            ("_my-service._udp.marathon.slave.mesos", &on_agents.join(" ")),
            ("_tcp.marathon.mesos", ""),
            ("marathon.mesos", ""),
        ],
    );
}

#[test]
fn names_of_a_task_on_the_host() {
    let mut plain = task("t", "api.group", 2);
    plain.host_ports = vec![31005, 31006];
    plain.framework = FrameworkId::new("g");
    let mut declared = task("d", "Web_1", 1);
    declared.has_discovery = true;
    declared.ports = vec![port(31007, "Admin.Port", None)];
    declared.host_ports = vec![31007];
    let (t, d) = (format!("api-group-{}-s2", hash("t")), format!("web-1-{}-s1", hash("d")));
    let agent = format!("{t}.devteam.kafka.slave.mesos");
    let both = format!("{agent}:31005 {agent}:31006");
    let web = format!("{d}.marathon.mesos:31007");
    check(
        &zones(vec![plain, declared]),
        &[
            ("api-group.devteam.kafka.mesos", "10.0.0.3"),
            ("kafka.mesos", ""),
            ("_api-group._tcp.devteam.kafka.mesos", &both),
            ("_api-group._udp.devteam.kafka.mesos", &both),
            ("web-1.marathon.mesos", "10.0.0.2"),
            ("_web-1._tcp.marathon.mesos", &web),
            ("_admin-port._web-1._tcp.marathon.mesos", &web),
            ("_web-1._udp.marathon.mesos", "-"),
        ],
    );
}

#[test]
fn a_host_port_beside_own_addresses_leads_to_the_agent() {
    let mut task = web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
    task.mappings.clear();
    let target = format!("my-service-{}-s0.marathon.slave.mesos:31000", hash("a"));
    check(&zones(vec![task]), &[("_my-service._tcp.marathon.mesos", &target)]);
}

#[test]
fn only_ready_tasks_have_names() {
    let vip = "my-service.marathon.l4lb.thisdcos.directory";
    let name = "my-service.marathon.mesos";
    let with = |change: fn(&mut Task)| {
        let mut task = web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
        change(&mut task);
        zones(vec![task])
    };
    check(&with(|_| {}), &[(name, "9.0.1.2")]);
    let unhealthy = with(|t| t.status.healthy = Some(false));
    check(&unhealthy, &[(name, "-"), ("_my-service._tcp.marathon.mesos", "-")]);
    // The VIP still has the backend, if only for its old connections.
    assert_ne!(show(&unhealthy, vip), "-");
    check(&with(|t| t.has_health_check = true), &[(name, "-")]);
    check(
        &with(|t| t.status.state = TaskState::Starting),
        &[(name, "-"), (vip, "-")],
    );
    check(&with(|t| t.status.state = TaskState::Killing), &[(name, "-")]);
    check(
        &with(|t| t.status.state = TaskState::Failed),
        &[(name, "-"), (vip, "-")],
    );
}

#[test]
fn odd_names_stay_resolvable() {
    let long = "x".repeat(80);
    let mut tasks = vec![task("l", &long, 0), task("e", "///", 0)];
    tasks[0].host_ports = vec![31000];
    let mut deep = web("v", 0, Ipv4Addr::new(9, 0, 1, 2), 31001);
    deep.ports[0].labels[0].1 = "/a.b.c:80".to_owned();
    tasks.push(deep);
    // Four long labels and the zone make more than 253 characters.
    let mut huge = web("h", 0, Ipv4Addr::new(9, 0, 1, 3), 31002);
    huge.ports[0].labels[0].1 = format!("{}:80", [long.as_str(); 4].join("."));
    tasks.push(huge);
    let zones = zones(tasks);
    let (label, service) = (model::label(&long), model::label_within(&long, 62));
    let canonical = format!("{}-{}-s0", &label[..54], hash("l"));
    assert_eq!((canonical.len(), label.len(), service.len()), (63, 63, 62));
    let target = format!("{canonical}.marathon.slave.mesos:31000");
    check(
        &zones,
        &[
            (&format!("{label}.marathon.mesos"), "10.0.0.1"),
            (&format!("{canonical}.marathon.mesos"), "10.0.0.1"),
            (&format!("_{service}._tcp.marathon.mesos"), &target),
            (".marathon.mesos", "-"),
            ("b.c.marathon.l4lb.thisdcos.directory", ""),
            ("c.marathon.l4lb.thisdcos.directory", ""),
            ("d.c.marathon.l4lb.thisdcos.directory", "-"),
        ],
    );
    let huge = model::vip_frag(&[long.as_str(); 4].join("."));
    assert_ne!(show(&zones, &format!("{huge}.marathon.l4lb.thisdcos.directory")), "-");
    assert_ne!(show(&zones, "a.b.c.marathon.l4lb.thisdcos.directory"), "-");
    assert_eq!(zones.counts(), ZoneCounts::default());
}

#[test]
fn another_domain_and_ttls_are_kept() {
    let config = Config {
        domain: "tasks.example".to_owned(),
        mesos_ttl: 7,
        vip_ttl: 3,
        ..Config::default()
    };
    let snapshot = cluster(vec![web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)]);
    let zones = desired(&snapshot, &view(), &config);
    assert_eq!(zones.generation(), snapshot.generation);
    for (name, apex, ttl) in [
        ("my-service.marathon.tasks.example", "tasks.example", 7),
        (
            "my-service.marathon.l4lb.thisdcos.directory",
            "l4lb.thisdcos.directory",
            3,
        ),
    ] {
        match zones.lookup(name) {
            Lookup::Name(found) => assert_eq!((found.zone.apex.as_str(), found.zone.ttl), (apex, ttl)),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(zones.lookup("my-service.marathon.mesos"), Lookup::NotOurs);
}

#[test]
fn ten_thousand_services_make_their_names() {
    let tasks = (0..10_000u16).map(|i| {
        let [high, low] = i.to_be_bytes();
        let mut task = web(
            &format!("t{i}"),
            usize::from(i % 3),
            Ipv4Addr::new(9, 0, high, low),
            31000,
        );
        task.name = format!("svc-{i}");
        task.ports[0].labels[0].1 = format!("/svc-{i}:80");
        task
    });
    let zones = zones(tasks.collect());
    for i in [0, 4711, 9_999] {
        assert_ne!(show(&zones, &format!("svc-{i}.marathon.l4lb.thisdcos.directory")), "-");
        assert_ne!(show(&zones, &format!("_http._svc-{i}._tcp.marathon.mesos")), "-");
    }
    assert!(zones.len() > 60_000, "{}", zones.len());
}
