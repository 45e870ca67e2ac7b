//! Sections 1.1 to 1.5: which labels make which VIPs, where they listen, who is behind them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{
    FrameworkId, PortScope, RejectReason, ServiceTable, Snapshot, Task, TaskEvent, TaskState, Vip6Range, VipRange,
};

use super::{Row, better, same};
use crate::fixture::{state, task, web};

/// The picture of these tasks, with IPv6 addresses of names too, and the reasons of what is left out.
fn table(tasks: Vec<Task>) -> (Snapshot, Vec<RejectReason>) {
    let mut table = ServiceTable::with_ipv6(VipRange::default(), Vip6Range::default());
    table.apply(TaskEvent::Snapshot(state(tasks)));
    let reasons = table.rejected().into_iter().map(|rejected| rejected.reason).collect();
    (table.snapshot(), reasons)
}

/// `name-or-address:port/protocol -> backend*weight ...`, one line for each service.
fn lines(tasks: Vec<Task>) -> Vec<String> {
    let (snapshot, _) = table(tasks);
    let line = |service: &model::Service| {
        let name = service
            .name
            .as_ref()
            .map_or(service.vip.addr.to_string(), |name| name.fragment());
        let backends = service
            .backends
            .iter()
            .map(|b| format!("{}:{}*{}", b.addr, b.port, b.weight));
        let backends: Vec<String> = backends.collect();
        format!(
            "{name}:{}/{} -> {}",
            service.vip.port,
            service.vip.protocol,
            backends.join(" ")
        )
    };
    snapshot.services.values().map(|service| line(service)).collect()
}

/// A task on the host of agent 10.0.0.1 whose one port has these labels.
fn labelled(labels: &[(&str, &str)]) -> Task {
    let mut task = web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
    task.mappings.clear();
    let pairs = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    task.ports[0].labels = pairs.collect();
    task
}

fn vips(values: &[&str]) -> Vec<String> {
    let labels: Vec<_> = values.iter().map(|value| ("VIP_0", *value)).collect();
    let lines = lines(vec![labelled(&labels)]);
    lines
        .into_iter()
        .map(|line| line.split("/tcp").next().unwrap_or_default().to_owned())
        .collect()
}

fn behind(task: Task) -> Vec<String> {
    let lines = lines(vec![task]);
    lines
        .into_iter()
        .map(|line| line.split("-> ").last().unwrap_or_default().to_owned())
        .collect()
}

fn address(name: &str) -> IpAddr {
    let (snapshot, _) = table(vec![labelled(&[("VIP_0", &format!("{name}:80"))])]);
    snapshot.services.keys().next().expect("one VIP").addr
}

fn offset(name: &str) -> u32 {
    match address(name) {
        IpAddr::V4(addr) => u32::from(addr) - u32::from(Ipv4Addr::new(11, 0, 0, 0)),
        IpAddr::V6(_) => panic!("not IPv6"),
    }
}

/// Two names with one home in 11.0.0.0/8, found by trying; the first sorts first.
fn colliding() -> (String, String) {
    let mut homes = std::collections::BTreeMap::new();
    for n in 0..100_000u32 {
        let name = format!("n{n:05}");
        let home = model::phash2(format!("{name}.marathon").as_bytes()) % 16_777_215;
        if let Some(first) = homes.insert(home, name.clone()) {
            return (first, name);
        }
    }
    panic!("no two of 100,000 names meet, which is all but impossible");
}

fn port_task(labels: &[(&str, &str)]) -> Task {
    let mut task = task("t", "web", 0);
    task.host_ports = vec![31000, 31001];
    task.labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    task
}

pub(super) const ROWS: &[Row] = &[
    same("1.1", "a port label counts when its key begins with VIP or vip", || {
        for (key, counts) in [
            ("VIP_0", true),
            ("vip", true),
            ("VIPER", true),
            ("Vip_0", false),
            ("MYVIP", false),
        ] {
            assert_eq!(
                lines(vec![labelled(&[(key, "/a:80")])]).len(),
                usize::from(counts),
                "{key}"
            );
        }
    }),
    same("1.1", "one port may carry several VIPs", || {
        assert_eq!(
            lines(vec![labelled(&[("VIP_0", "/a:80"), ("VIP_1", "/b:81")])]).len(),
            2
        );
    }),
    same(
        "1.1",
        "task label VIP_PORT<n>, in any case, makes the n-th host port a backend",
        || {
            let lines = lines(vec![port_task(&[
                ("VIP_PORT0", "tcp:///a:80"),
                ("vip_port1", "udp://1.2.3.4:53"),
            ])]);
            assert_eq!(
                lines,
                [
                    "1.2.3.4:53/udp -> 10.0.0.1:31001*1",
                    "a.marathon:80/tcp -> 10.0.0.1:31000*1"
                ]
            );
        },
    ),
    better(
        "1.1",
        "an index out of range costs only itself",
        "loses itself, with a reason and a counter",
        || {
            let (snapshot, reasons) = table(vec![port_task(&[
                ("VIP_PORT7", "tcp:///a:80"),
                ("VIP_PORT0", "tcp:///b:80"),
            ])]);
            assert_eq!(
                (snapshot.services.len(), reasons),
                (1, vec![RejectReason::VipPortLabel])
            );
            let (_, reasons) = table(vec![port_task(&[("VIP_PORT0", "/a:80")])]);
            assert_eq!(reasons, [RejectReason::VipPortLabel], "counted, not skipped silently");
        },
    ),
    same("1.2", "the value is split at its last colon", || {
        assert_eq!(vips(&["/a:b:80"]), ["ab.marathon:80"])
    }),
    same(
        "1.2",
        "a leading + is accepted; a missing, zero, negative or spaced port drops that VIP only",
        || {
            assert_eq!(
                vips(&["/a:+80", "/b", "/c:0", "/d:-1", "/e: 80", "/f:0x50"]),
                ["a.marathon:80"]
            );
        },
    ),
    better("1.2", "a port over 65535", "VIP port over 65535 accepted", || {
        let (snapshot, reasons) = table(vec![labelled(&[("VIP_0", "/a:70000")])]);
        assert_eq!((snapshot.services.len(), reasons), (0, vec![RejectReason::VipLabel]));
    }),
    same("1.2", "an address is an IP VIP, IPv6 without brackets", || {
        assert_eq!(vips(&["1.2.3.4:80"]), ["1.2.3.4:80"]);
        let mut task = labelled(&[("VIP_0", "fd01:c::5:8080")]);
        task.ports[0].scope = PortScope::Container;
        task.status.addresses = vec!["fd00::7".parse().expect("an address")];
        assert_eq!(lines(vec![task]), ["fd01:c::5:8080/tcp -> fd00::7:31000*1"]);
    }),
    better(
        "1.2",
        "a bracketed IPv6 address",
        "becomes the named VIP `fd01c5`",
        || {
            let mut task = labelled(&[("VIP_0", "[fd01:c::5]:8080")]);
            task.ports[0].scope = PortScope::Container;
            task.status.addresses = vec!["fd00::7".parse().expect("an address")];
            assert_eq!(lines(vec![task]), ["fd01:c::5:8080/tcp -> fd00::7:31000*1"]);
        },
    ),
    better(
        "1.2",
        "addresses no service can have",
        "a VIP on a loopback, multicast or link-local address",
        || {
            assert!(vips(&["127.0.0.1:80", "0.0.0.0:80", "224.0.0.1:80"]).is_empty());
        },
    ),
    same("1.2", "anything else is a name, with or without a slash", || {
        assert_eq!(vips(&["a:80", "300.1.2.3:81"]).len(), 2);
    }),
    same("1.2", "protocol, name and port make a VIP", || {
        let mut task = labelled(&[("VIP_0", "/a:53"), ("VIP_1", "/a:54")]);
        let mut udp = task.ports[0].clone();
        udp.protocol = model::Protocol::Udp;
        task.ports.push(udp);
        assert_eq!(lines(vec![task]).len(), 4);
    }),
    same(
        "1.4",
        "IPv4: phash2 of label.framework into 11.0.0.0/8, modulus 16777215",
        || {
            // Computed with the modulus of DC/OS's configuration from the hash that is checked against the original elsewhere.
            for name in ["web", "my-service", "api.hello-world"] {
                assert_eq!(
                    offset(name),
                    model::phash2(format!("{name}.marathon").as_bytes()) % 16_777_215
                );
            }
        },
    ),
    same(
        "1.4",
        "IPv6: SHA-1 into fd01:c::/64; a name with backends of both families has both addresses",
        || {
            let mut task = labelled(&[("VIP_0", "/web:80")]);
            task.ports[0].scope = PortScope::Container;
            task.status.addresses.push("fd00::7".parse().expect("an address"));
            let (snapshot, _) = table(vec![task]);
            let addrs: Vec<IpAddr> = snapshot.services.keys().map(|vip| vip.addr).collect();
            let [IpAddr::V4(_), IpAddr::V6(v6)] = addrs[..] else {
                panic!("{addrs:?}")
            };
            assert_eq!(
                v6.segments()[..4],
                Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0).segments()[..4]
            );
        },
    ),
    better(
        "1.4",
        "names that meet at one address",
        "by order of arrival on each node",
        || {
            let (first, second) = colliding();
            let one = |id: &str, name: &str| {
                let mut task = labelled(&[("VIP_0", &format!("/{name}:80"))]);
                task.id = model::TaskId::new(id);
                task
            };
            let home = offset(&first);
            assert_eq!(offset(&second), home);
            let mut all = Vec::new();
            for order in [[&first, &second], [&second, &first]] {
                let mut table = ServiceTable::new(VipRange::default());
                table.apply(TaskEvent::Snapshot(state(Vec::new())));
                for name in order {
                    table.apply(TaskEvent::TaskAdded(one(name, name)));
                }
                let named = table.snapshot();
                all.push(
                    named
                        .named_services()
                        .map(|(name, s)| (name.label.clone(), s.vip.addr))
                        .collect::<Vec<_>>(),
                );
            }
            assert_eq!(all[0], all[1]);
            assert_eq!(
                all[0].iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(),
                [first, second]
            );
        },
    ),
    same("1.4", "one address for all ports and protocols of a name", || {
        let (snapshot, _) = table(vec![labelled(&[("VIP_0", "/a:80"), ("VIP_1", "/a:81")])]);
        let addrs: Vec<IpAddr> = snapshot.services.keys().map(|vip| vip.addr).collect();
        assert_eq!(addrs[0], addrs[1]);
    }),
    same("1.5", "who is a backend, and with which weight", || {
        for (state, healthy, check, weight) in [
            (TaskState::Running, None, false, "*1"),
            (TaskState::Running, Some(true), true, "*1"),
            (TaskState::Running, Some(false), true, "*0"),
            (TaskState::Running, None, true, "*0"),
            (TaskState::Killing, None, false, "*0"),
            (TaskState::Staging, None, false, ""),
            (TaskState::Starting, None, false, ""),
            (TaskState::Unreachable, None, false, ""),
            (TaskState::Unknown, None, false, ""),
            (TaskState::Failed, None, false, ""),
        ] {
            let mut task = labelled(&[("VIP_0", "/a:80")]);
            (task.status.state, task.status.healthy, task.has_health_check) = (state, healthy, check);
            let behind = behind(task).concat();
            assert!(
                behind.ends_with(weight) && behind.is_empty() == weight.is_empty(),
                "{state:?} {healthy:?}: {behind}"
            );
        }
    }),
    same("1.5", "a host port is reached at the agent", || {
        assert_eq!(behind(labelled(&[("VIP_0", "/a:80")])), ["10.0.0.1:31000*1"]);
        // A bridge that only its own node has a route to.
        let mut bridged = web("t", 0, Ipv4Addr::new(172, 17, 0, 2), 31000);
        assert_eq!(behind(bridged.clone()), ["10.0.0.1:31000*1"]);
        bridged.ports[0].scope = PortScope::Container;
        bridged.ports[0].number = 8080;
        assert_eq!(
            behind(bridged),
            ["10.0.0.1:31000*1"],
            "told as a container port with a mapping"
        );
    }),
    better(
        "1.5",
        "a mapped port of a task in the overlay",
        "straight to the container",
        || {
            assert_eq!(
                behind(web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)),
                ["9.0.1.2:8080*1"]
            );
        },
    ),
    same(
        "1.5",
        "a container port is reached at every address of the task that fits",
        || {
            let mut task = labelled(&[("VIP_0", "/a:80"), ("VIP_1", "1.2.3.4:80")]);
            task.ports[0].scope = PortScope::Container;
            task.status.addresses.push("fd00::7".parse().expect("an address"));
            assert_eq!(
                lines(vec![task]),
                [
                    "1.2.3.4:80/tcp -> 9.0.1.2:31000*1",
                    "a.marathon:80/tcp -> 9.0.1.2:31000*1",
                    "a.marathon:80/tcp -> fd00::7:31000*1",
                ]
            );
        },
    ),
    better(
        "1.5",
        "an IP VIP with backends of the other family only",
        "keeps an empty entry",
        || {
            let mut task = labelled(&[("VIP_0", "1.2.3.4:80")]);
            task.ports[0].scope = PortScope::Container;
            task.status.addresses = vec!["fd00::7".parse().expect("an address")];
            let (snapshot, reasons) = table(vec![task]);
            assert_eq!((snapshot.services.len(), reasons), (0, vec![RejectReason::NoAddress]));
        },
    ),
    same(
        "1.5",
        "two frameworks of one name share a service; a VIP without a backend is gone",
        || {
            let mut other = labelled(&[("VIP_0", "/a:80")]);
            other.id = model::TaskId::new("u");
            other.framework = FrameworkId::new("twin");
            let mut all = state(vec![labelled(&[("VIP_0", "/a:80")]), other]);
            let mut twin = all.frameworks[0].clone();
            twin.id = FrameworkId::new("twin");
            all.frameworks.push(twin);
            let mut table = ServiceTable::new(VipRange::default());
            table.apply(TaskEvent::Snapshot(all));
            assert_eq!(
                table.snapshot().services.values().next().expect("one").backends.len(),
                2
            );
            assert!(table.rejected().is_empty(), "written alike, so no clash");
            for id in ["f", "twin"] {
                table.apply(TaskEvent::FrameworkRemoved(FrameworkId::new(id)));
            }
            assert!(table.snapshot().services.is_empty());
        },
    ),
];
