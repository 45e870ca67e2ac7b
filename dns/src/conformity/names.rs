//! Sections 1.3, 2.2, 2.5, 5.2 and 5.3: every form of a name.

use std::net::{IpAddr, Ipv4Addr};

use model::{
    FrameworkId, FrameworkInfo, PortScope, Protocol, RejectReason, ServiceTable, Task, TaskEvent, TaskState, VipRange,
};

use super::{Row, better, same};
use crate::fixture::{cluster, port, state, task, view, web};
use crate::{Config, IpSource, Lookup, Zones};

fn config() -> Config {
    Config {
        masters: vec![([10, 0, 0, 9], 5050).into(), ([10, 0, 0, 8], 5050).into()],
        crypto_id: Some("yn6tkfq".to_owned()),
        records: vec![
            "registry.component.thisdcos.directory CNAME leader.mesos"
                .parse()
                .expect("a record"),
        ],
        public_addrs: vec![Ipv4Addr::new(192, 0, 2, 7).into()],
        ..Config::default()
    }
}

fn zones(tasks: Vec<Task>) -> Zones {
    crate::desired(&cluster(tasks), &view(), &config())
}

fn show(zones: &Zones, name: &str) -> String {
    match zones.lookup(name) {
        Lookup::NotOurs => "?".to_owned(),
        Lookup::NoName(_) => "-".to_owned(),
        Lookup::Name(found) => {
            let addrs = found.addrs.iter().map(ToString::to_string);
            let srvs = found.srvs.iter().map(|srv| format!("{}:{}", srv.target, srv.port));
            let others = found.cname.into_iter().chain(found.ptr).map(str::to_owned);
            addrs.chain(srvs).chain(others).collect::<Vec<_>>().join(" ")
        }
    }
}

fn check(zones: &Zones, table: &[(&str, &str)]) {
    for (name, wanted) in table {
        assert_eq!(show(zones, name), *wanted, "{name}");
    }
}

fn vip(label: &str) -> Zones {
    let mut task = web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
    task.ports[0].labels[0].1 = format!("{label}:80");
    zones(vec![task])
}

/// A task of a group on the host with one resource port and no DiscoveryInfo; its canonical name has `iffe9`.
fn plain() -> Task {
    let mut task = task("test", "myapp.mygroup", 2);
    task.host_ports = vec![31005];
    task
}

/// The same container task as `web`, by hand: a mapped port `http` and one without mapping.
fn container() -> Task {
    let mut task = web("test", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
    let mut admin = port(9090, "Admin.Port", None);
    admin.scope = PortScope::Container;
    task.ports.push(admin);
    task
}

/// What docs/names.md tells users to ask for, about the app of `examples/blue.json`.
#[test]
fn the_names_of_the_guide_are_there() {
    const GUIDE: &str = include_str!("../../../docs/names.md");
    let mut task = task("shop_cart-v1.instance-1", "cart-v1.shop", 0);
    task.has_discovery = true;
    task.ports = vec![port(31000, "http", Some("/cart-v1:9000"))];
    task.ports[0].labels.push(("VIP_1".to_owned(), "/cart:9000".to_owned()));
    task.host_ports = vec![31000];
    let canonical = format!("cart-v1-shop-{}-s0", model::task_hash("shop_cart-v1.instance-1"));
    let mut all = state(vec![task]);
    all.agents[0].port = Some(5051);
    let mut table = ServiceTable::new(VipRange::default());
    table.apply(TaskEvent::Snapshot(all));
    let zones = crate::desired(&table.snapshot(), &view(), &config());
    for name in [
        "cart.marathon.l4lb.thisdcos.directory",
        "cart-v1-shop.marathon.mesos",
        "_cart-v1-shop._tcp.marathon.mesos",
        "_http._cart-v1-shop._tcp.marathon.mesos",
        "cart-v1-shop.marathon.slave.mesos",
        "cart-v1-shop.marathon.autoip.dcos.thisdcos.directory",
        "leader.mesos",
        "master.mesos",
        "slave.mesos",
        "_leader._tcp.mesos",
        "_slave._tcp.mesos",
        "thisnode.thisdcos.directory",
    ] {
        assert!(GUIDE.contains(&format!("`{name}`")), "the guide does not name {name}");
        let shown = show(&zones, name);
        assert!(!["", "-", "?"].contains(&shown.as_str()), "{name}: {shown}");
    }
    assert_eq!(show(&zones, &format!("{canonical}.marathon.mesos")), "10.0.0.1");
    assert_eq!(
        show(&zones, "cart-v1-shop.marathon.agentip.dcos.thisdcos.directory"),
        "10.0.0.1"
    );
}

pub(super) const ROWS: &[Row] = &[
    same("1.3", "<label>.<framework>.l4lb.thisdcos.directory, cleaned", || {
        for (label, name) in [
            ("/mygroup/myapp", "mygroupmyapp"),
            ("/api.hello-world", "api.hello-world"),
            ("/UPPER_case.Name", "upper-case.name"),
            ("dev/confluent-kafka", "devconfluent-kafka"),
            ("Foo.Bar_baz", "foo.bar-baz"),
        ] {
            let zones = vip(label);
            assert!(
                show(&zones, &format!("{name}.marathon.l4lb.thisdcos.directory")).starts_with("11."),
                "{label}"
            );
        }
    }),
    better(
        "1.3",
        "labels with nothing usable, or pieces that clean to nothing",
        "makes a name with an empty label",
        || {
            assert!(show(&vip("a.-.b"), "a.b.marathon.l4lb.thisdcos.directory").starts_with("11."));
            assert_eq!(
                vip("/").lookup("marathon.l4lb.thisdcos.directory"),
                vip("/").lookup("x.marathon.l4lb.thisdcos.directory")
            );
        },
    ),
    better("1.3", "/foo and foo", "are two VIPs with one name", || {
        let mut task = web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
        task.ports[0].labels = vec![("VIP_0".into(), "/foo:80".into()), ("VIP_1".into(), "foo:80".into())];
        assert_eq!(cluster(vec![task]).services.len(), 1);
    }),
    better(
        "1.3",
        "names that clean to the same",
        "one service, and the clash is counted",
        || {
            let mut tasks = vec![
                web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 1),
                web("u", 1, Ipv4Addr::new(9, 0, 2, 2), 2),
            ];
            tasks[0].ports[0].labels[0].1 = "/a/b:80".into();
            tasks[1].ports[0].labels[0].1 = "/ab:80".into();
            let mut table = ServiceTable::new(VipRange::default());
            table.apply(TaskEvent::Snapshot(state(tasks)));
            assert_eq!(table.snapshot().services.len(), 1);
            assert_eq!(
                table.rejected().iter().map(|r| r.reason).collect::<Vec<_>>(),
                [RejectReason::NameClash]
            );
        },
    ),
    better("1.3", "labels over 63 characters", "end in a hash", || {
        let (a, b) = (format!("{}a", "x".repeat(63)), format!("{}b", "x".repeat(63)));
        assert_ne!(model::label(&a), model::label(&b));
        let zones = vip(&a);
        assert!(
            show(
                &zones,
                &format!("{}.marathon.l4lb.thisdcos.directory", model::label(&a))
            )
            .starts_with("11.")
        );
        assert_eq!(
            show(&zones, &format!("{}.marathon.l4lb.thisdcos.directory", "x".repeat(63))),
            "-"
        );
    }),
    same(
        "2.2",
        "dclb, thisdcos.global, <crypto id>.dcos.directory and mesos.thisdcos.directory are the same zones",
        || {
            let zones = zones(vec![container()]);
            let vip = show(&zones, "my-service.marathon.l4lb.thisdcos.directory");
            for zone in [
                "dclb.thisdcos.directory",
                "dclb.thisdcos.global",
                "l4lb.thisdcos.global",
                "l4lb.yn6tkfq.dcos.directory",
                "dclb.yn6tkfq.dcos.directory",
            ] {
                assert_eq!(show(&zones, &format!("my-service.marathon.{zone}")), vip, "{zone}");
            }
            check(
                &zones,
                &[
                    ("leader.mesos.thisdcos.directory", "10.0.0.9"),
                    ("leader.mesos.yn6tkfq.dcos.directory", "10.0.0.9"),
                    ("mesos.thisdcos.directory", ""),
                    ("x.l4lb.another.dcos.directory", "?"),
                    ("leader.mesos.local", "?"),
                ],
            );
        },
    ),
    same("2.5", "agentip, containerip and autoip: on the host", || {
        check(
            &zones(vec![plain()]),
            &[
                ("myapp-mygroup.marathon.agentip.dcos.thisdcos.directory", "10.0.0.3"),
                ("myapp-mygroup.marathon.containerip.dcos.thisdcos.directory", "-"),
                ("myapp-mygroup.marathon.autoip.dcos.thisdcos.directory", "10.0.0.3"),
            ],
        )
    }),
    same(
        "2.5",
        "agentip, containerip and autoip: mapped, and in the overlay without mapping",
        || {
            check(
                &zones(vec![container()]),
                &[
                    ("my-service.marathon.agentip.dcos.thisdcos.directory", "10.0.0.1"),
                    ("my-service.marathon.containerip.dcos.thisdcos.directory", "9.0.1.2"),
                    ("my-service.marathon.autoip.dcos.thisdcos.directory", "10.0.0.1"),
                ],
            );
            let mut task = container();
            task.mappings.clear();
            task.ports.remove(0);
            task.status.addresses.push("fd00::7".parse().expect("an address"));
            check(
                &zones(vec![task]),
                &[("my-service.marathon.autoip.dcos.thisdcos.directory", "9.0.1.2 fd00::7")],
            );
        },
    ),
    same("2.5", "dots in a framework's name are dashes there", || {
        let mut task = plain();
        task.framework = FrameworkId::new("g");
        check(
            &zones(vec![task]),
            &[
                ("myapp-mygroup.devteam-kafka.autoip.dcos.thisdcos.directory", "10.0.0.3"),
                ("myapp-mygroup.devteam.kafka.mesos", "10.0.0.3"),
            ],
        );
    }),
    better("2.5", "health in names", "only those that are ready", || {
        let mut task = container();
        task.status.healthy = Some(false);
        check(
            &zones(vec![task]),
            &[
                ("my-service.marathon.autoip.dcos.thisdcos.directory", "-"),
                ("my-service.marathon.mesos", "-"),
            ],
        );
    }),
    better(
        "2.5",
        "an address that a later update tells",
        "names follow every update",
        || {
            let mut table = ServiceTable::new(VipRange::default());
            table.apply(TaskEvent::Snapshot(state(vec![container()])));
            let mut status = container().status;
            status.addresses = vec![Ipv4Addr::new(9, 0, 1, 9).into()];
            let (framework, task) = (container().framework, container().id);
            table.apply(TaskEvent::TaskUpdated {
                framework,
                task,
                status,
                mappings: Vec::new(),
            });
            let zones = crate::desired(&table.snapshot(), &view(), &config());
            check(
                &zones,
                &[("my-service.marathon.containerip.dcos.thisdcos.directory", "9.0.1.9")],
            );
        },
    ),
    same(
        "2.5",
        "leader, master, thisnode, spartan, localhost, zk, component",
        || {
            check(
                &zones(vec![]),
                &[
                    ("leader.dcos.thisdcos.directory", "10.0.0.9"),
                    ("master.dcos.thisdcos.directory", "10.0.0.8 10.0.0.9"),
                    ("thisnode.thisdcos.directory", "10.0.0.1"),
                    ("public.thisnode.thisdcos.directory", "192.0.2.7"),
                    ("ready.spartan", "127.0.0.1"),
                    ("ns.spartan", "10.0.0.1"),
                    ("localhost", "127.0.0.1 ::1"),
                    ("zk-1.zk", "10.0.0.9"),
                    ("zk-2.zk", "10.0.0.8"),
                    ("zk-5.zk", "10.0.0.9"),
                    ("zk-6.zk", "-"),
                    ("registry.component.thisdcos.directory", "leader.mesos"),
                ],
            )
        },
    ),
    better(
        "2.4",
        "reverse names",
        "PTR for addresses of VIPs and of single tasks",
        || {
            let mut shared = container();
            shared.id = model::TaskId::new("other");
            let vip = cluster(vec![container()]).services.keys().next().expect("one VIP").addr;
            let name = crate::reverse::reverse_name(vip);
            let canonical = format!("my-service-{}-s0.marathon.mesos", model::task_hash("test"));
            check(
                &zones(vec![container()]),
                &[
                    (&name, "my-service.marathon.l4lb.thisdcos.directory"),
                    ("2.1.0.9.in-addr.arpa", &canonical),
                    ("1.0.0.10.in-addr.arpa", "?"),
                    ("9.1.0.9.in-addr.arpa", "-"),
                ],
            );
            let both = zones(vec![container(), shared]);
            check(&both, &[("2.1.0.9.in-addr.arpa", "")]);
            assert_eq!(both.counts().ambiguous, 1);
        },
    ),
    same("5.2", "task, hash and agent make the canonical name", || {
        check(
            &zones(vec![plain()]),
            &[
                ("myapp-mygroup-iffe9-s2.marathon.mesos", "10.0.0.3"),
                ("myapp-mygroup-iffe9-s2.marathon.slave.mesos", "10.0.0.3"),
            ],
        )
    }),
    better(
        "5.2",
        "a canonical name of a long task name",
        "names nobody can resolve",
        || {
            let mut task = plain();
            task.name = "x".repeat(63);
            let name = format!("{}-iffe9-s2", "x".repeat(54));
            check(&zones(vec![task]), &[(&format!("{name}.marathon.mesos"), "10.0.0.3")]);
        },
    ),
    better("5.2", "the RFC 952 form of names", "`enforceRFC952`", || {
        assert_eq!(
            show(&zones(vec![task("t", "0start", 0)]), "0start.marathon.mesos"),
            "10.0.0.1"
        );
    }),
    same(
        "5.3",
        "<fw>.D and _framework._tcp.<fw>.D, when the scheduler's address is known",
        || {
            let mut snapshot = cluster(vec![]);
            let info = |port| FrameworkInfo {
                id: FrameworkId::new("f"),
                name: "marathon".into(),
                ip: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))),
                port,
            };
            snapshot.frameworks.insert(FrameworkId::new("f"), info(Some(8080)));
            check(
                &crate::desired(&snapshot, &view(), &config()),
                &[
                    ("marathon.mesos", "10.0.0.9"),
                    ("_framework._tcp.marathon.mesos", "marathon.mesos:8080"),
                ],
            );
        },
    ),
    better("5.3", "port 0 in SRV", "port 0", || {
        let mut snapshot = cluster(vec![]);
        let mut info = snapshot.frameworks.get(&FrameworkId::new("f")).cloned().expect("there");
        (info.ip, info.port) = (Some(Ipv4Addr::LOCALHOST.into()), Some(0));
        snapshot.frameworks.insert(info.id.clone(), info);
        check(
            &crate::desired(&snapshot, &view(), &config()),
            &[("_framework._tcp.marathon.mesos", "-")],
        );
    }),
    same("5.3", "slave.D and _slave._tcp.D", || {
        let mut all = state(vec![]);
        all.agents[0].port = Some(5051);
        let mut table = ServiceTable::new(VipRange::default());
        table.apply(TaskEvent::Snapshot(all));
        check(
            &crate::desired(&table.snapshot(), &view(), &config()),
            &[
                ("slave.mesos", "10.0.0.1 10.0.0.2 10.0.0.3"),
                ("_slave._tcp.mesos", "slave.mesos:5051"),
            ],
        );
    }),
    same(
        "5.3",
        "leader.D, _leader._tcp.D, _leader._udp.D, master.D, master<i>.D",
        || {
            check(
                &zones(vec![]),
                &[
                    ("leader.mesos", "10.0.0.9"),
                    ("_leader._tcp.mesos", "leader.mesos:5050"),
                    ("_leader._udp.mesos", "leader.mesos:5050"),
                    ("master.mesos", "10.0.0.8 10.0.0.9"),
                    ("master0.mesos", "10.0.0.9"),
                    ("master1.mesos", "10.0.0.8"),
                    ("master2.mesos", "-"),
                ],
            )
        },
    ),
    same(
        "5.3",
        "<task>.<fw>.D and its .slave form; SRV of host ports, for tcp and udp alike",
        || {
            let target = "myapp-mygroup-iffe9-s2.marathon.slave.mesos:31005";
            check(
                &zones(vec![plain()]),
                &[
                    ("myapp-mygroup.marathon.mesos", "10.0.0.3"),
                    ("myapp-mygroup.marathon.slave.mesos", "10.0.0.3"),
                    ("_myapp-mygroup._tcp.marathon.slave.mesos", target),
                    ("_myapp-mygroup._udp.marathon.slave.mesos", target),
                    ("_myapp-mygroup._tcp.marathon.mesos", target),
                    ("_myapp-mygroup._udp.marathon.mesos", target),
                ],
            );
        },
    ),
    same("5.3", "SRV of DiscoveryInfo ports, by task and by port name", || {
        let mut task = plain();
        task.has_discovery = true;
        let mut dns = port(31006, "dns", None);
        dns.protocol = Protocol::Udp;
        task.ports = vec![port(31005, "Admin.Port", None), dns];
        let at = "myapp-mygroup-iffe9-s2.marathon.mesos";
        check(
            &zones(vec![task]),
            &[
                ("_myapp-mygroup._tcp.marathon.mesos", &format!("{at}:31005")),
                ("_admin-port._myapp-mygroup._tcp.marathon.mesos", &format!("{at}:31005")),
                ("_myapp-mygroup._udp.marathon.mesos", &format!("{at}:31006")),
                ("_dns._myapp-mygroup._udp.marathon.mesos", &format!("{at}:31006")),
            ],
        );
    }),
    better(
        "5.3",
        "SRV of a mapped port",
        "paired the task's address with the agent's port",
        || {
            let hash = model::task_hash("test");
            let at = format!("my-service-{hash}-s0.marathon.mesos");
            check(
                &zones(vec![container()]),
                &[
                    ("_http._my-service._tcp.marathon.mesos", &format!("{at}:8080")),
                    ("_admin-port._my-service._tcp.marathon.mesos", &format!("{at}:9090")),
                ],
            );
            let bridged = web("test", 0, Ipv4Addr::new(172, 17, 0, 2), 31000);
            let at = format!("my-service-{hash}-s0.marathon.slave.mesos:31000");
            check(&zones(vec![bridged]), &[("_http._my-service._tcp.marathon.mesos", &at)]);
        },
    ),
    better("5.3", "raw discovery names", "also under their raw names", || {
        let zones = zones(vec![task("t", "Disc.Two_x", 0)]);
        check(
            &zones,
            &[
                ("disc-two-x.marathon.mesos", "10.0.0.1"),
                ("disc.two_x.marathon.mesos", "-"),
            ],
        );
    }),
    same("5.3", "IPv6 addresses of tasks are AAAA", || {
        let mut task = container();
        task.status.addresses.push("fd00::7".parse().expect("an address"));
        check(&zones(vec![task]), &[("my-service.marathon.mesos", "9.0.1.2 fd00::7")]);
    }),
    same(
        "5.3",
        "sources of a task's addresses, the first that has any used whole",
        || {
            let by = |sources: &[IpSource]| {
                let mut other = container();
                other.id = model::TaskId::new("other");
                let config = Config {
                    ip_sources: sources.to_vec(),
                    ..config()
                };
                let zones = crate::desired(&cluster(vec![other, plain()]), &view(), &config);
                [
                    show(&zones, "my-service.marathon.mesos"),
                    show(&zones, "myapp-mygroup.marathon.mesos"),
                ]
            };
            assert_eq!(by(&[IpSource::Netinfo, IpSource::Host]), ["9.0.1.2", "10.0.0.3"]);
            assert_eq!(by(&[IpSource::Host, IpSource::Netinfo]), ["10.0.0.1", "10.0.0.3"]);
            // Without any source that knows, the names by agent stay.
            assert_eq!(by(&[IpSource::Netinfo]), ["9.0.1.2", "-"]);
        },
    ),
    better(
        "5.3",
        "a task name that cleans to nothing",
        "a name that is nothing once cleaned",
        || {
            let mut odd = plain();
            odd.name = "///".to_owned();
            check(&zones(vec![odd]), &[(".marathon.mesos", "-"), ("marathon.mesos", "-")]);
        },
    ),
    better("5.3", "draining tasks", "only those that are ready", || {
        let mut task = plain();
        task.status.state = TaskState::Killing;
        check(&zones(vec![task]), &[("myapp-mygroup.marathon.mesos", "-")]);
    }),
];
