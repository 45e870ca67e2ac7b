//! The plane against a real kernel: nodes in fresh network namespaces, joined by a veth pair that stands for the fabric.

#![allow(
    clippy::expect_used,
    reason = "a test fails by panicking, and its functions share the lab's"
)]

#[path = "namespaces/lab.rs"]
mod lab;

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use lab::{Lab, Node};
use overlay::Op;

const A: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CONTAINER_A: Ipv4Addr = Ipv4Addr::new(9, 0, 0, 2);
const CONTAINER_B: Ipv4Addr = Ipv4Addr::new(9, 0, 1, 2);
const BOTH: [(&str, Ipv4Addr, &str); 2] = [("a", A, "9.0.0.0/24"), ("b", B, "9.0.1.0/24")];

/// Sends one datagram and its answer; returns the sender's address as the receiver saw it.
fn exchange(lab: &Lab, from: &Node, to: (&Node, Ipv4Addr)) -> Ipv4Addr {
    let server = lab.inside(to.0, || UdpSocket::bind((to.1, 0)).expect("bind the server"));
    let client = lab.inside(from, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind the client")
    });
    let patience = Some(Duration::from_secs(10));
    server.set_read_timeout(patience).expect("timeout");
    client.set_read_timeout(patience).expect("timeout");
    client
        .send_to(b"ping", server.local_addr().expect("bound"))
        .expect("send");
    let mut buffer = [0; 16];
    let (_, sender) = server.recv_from(&mut buffer).unwrap_or_else(|error| {
        panic!("nothing arrived: {error}\n{}\n{}", lab.state(from), lab.state(to.0));
    });
    server.send_to(b"pong", sender).expect("answer");
    let (_, answerer) = client.recv_from(&mut buffer).unwrap_or_else(|error| {
        panic!("no answer: {error}\n{}\n{}", lab.state(from), lab.state(to.0));
    });
    assert_eq!(
        answerer,
        server.local_addr().expect("bound"),
        "the answer bears the address that was asked"
    );
    match sender.ip() {
        std::net::IpAddr::V4(addr) => addr,
        other => panic!("not IPv4: {other}"),
    }
}

#[test]
fn containers_and_hosts_reach_each_other_through_the_tunnel() {
    lab::run(|lab| {
        let (a, b) = lab.two_nodes(A, B);
        lab.reconcile(&a, &BOTH);
        lab.reconcile(&b, &BOTH);
        let container_a = lab.container(&a, CONTAINER_A);
        let container_b = lab.container(&b, CONTAINER_B);
        assert_eq!(exchange(lab, &container_a, (&container_b, CONTAINER_B)), CONTAINER_A);
        assert_eq!(
            exchange(lab, &container_a, (&b, B)),
            CONTAINER_A,
            "the container's address is kept towards a host"
        );
        assert_eq!(
            exchange(lab, &a, (&container_b, CONTAINER_B)),
            Ipv4Addr::new(9, 0, 0, 1)
        );
        let way = lab.ip(&a, "route get 10.77.0.2 from 9.0.0.2 iif rv0");
        assert!(
            way.contains("dev vtep1024"),
            "container to host goes through the tunnel: {way}"
        );
    });
}

#[test]
fn addresses_that_nobody_has_do_not_leak_to_the_default_route() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        lab.ip(&a, "route add default via 10.77.0.2");
        let client = lab.inside(&a, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind"));
        let vip = (Ipv4Addr::new(11, 1, 2, 3), 80);
        let unknown = (Ipv4Addr::new(9, 0, 200, 2), 80);
        client
            .send_to(b"x", vip)
            .expect("without the plane the default route takes it");
        client
            .send_to(b"x", unknown)
            .expect("without the plane the default route takes it");
        lab.reconcile(&a, &[]);
        client
            .send_to(b"x", vip)
            .expect_err("a virtual address is refused even on a node that knows nobody");
        lab.reconcile(&a, &BOTH);
        client.send_to(b"x", vip).expect_err("a virtual address is refused");
        client
            .send_to(b"x", unknown)
            .expect_err("an overlay address that nobody has is refused");
        lab.inside(&a, || {
            UdpSocket::bind(("198.51.100.1", 0)).expect("the service address is there")
        });
    });
}

#[test]
fn answers_with_a_virtual_address_as_source_are_let_in() {
    lab::run(|lab| {
        let (a, b) = lab.two_nodes(A, B);
        lab.reconcile(&a, &BOTH);
        lab.reconcile(&b, &BOTH);
        let container = lab.container(&a, CONTAINER_A);
        lab.ip(&b, "addr add 11.1.2.3/32 dev lo");
        let backend = lab.inside(&b, || UdpSocket::bind(("11.1.2.3", 0)).expect("bind the backend"));
        for (node, addr, way) in [(&a, A, "uplink"), (&container, CONTAINER_A, "tunnel")] {
            let client = lab.inside(node, || UdpSocket::bind((addr, 0)).expect("bind the client"));
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            backend
                .send_to(b"answer", client.local_addr().expect("bound"))
                .expect("send");
            let outcome = client.recv_from(&mut [0; 16]);
            let (_, from) = outcome.unwrap_or_else(|error| panic!("by the {way}: {error}\n{}", lab.state(&a)));
            assert_eq!(from, backend.local_addr().expect("bound"), "by the {way}");
        }
    });
}

#[test]
fn a_second_pass_finds_nothing_to_do() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        lab.reconcile(&a, &BOTH);
        let plan = lab.plan(&a, &BOTH);
        assert!(plan.is_empty(), "{plan:?}\n{}", lab.state(&a));
    });
}

#[test]
fn what_others_delete_is_repaired() {
    lab::run(|lab| {
        let (a, b) = lab.two_nodes(A, B);
        lab.reconcile(&a, &BOTH);
        lab.reconcile(&b, &BOTH);
        let container_a = lab.container(&a, CONTAINER_A);
        let container_b = lab.container(&b, CONTAINER_B);
        for damage in [
            "ip link del vtep1024",
            "ip link set vtep1024 down",
            "ip link set vtep1024 mtu 1000",
            "ip link set vtep1024 address 02:00:00:00:00:07",
            "ip addr del 44.128.0.1/20 dev vtep1024",
            "ip addr del 9.0.0.1/32 dev vtep1024",
            "ip addr del 198.51.100.1/32 dev lo",
            "ip route del 9.0.1.0/24",
            "ip route del unreachable 11.0.0.0/8 metric 1381105664",
            "ip route flush table 42",
            "ip rule del from 9.0.0.0/8 lookup 42",
            "ip neigh del 44.128.0.2 dev vtep1024",
            "ip neigh replace 44.128.0.2 lladdr 02:00:00:00:00:09 dev vtep1024 nud permanent",
            "ip route replace 9.0.1.0/24 dev lo",
            "ip link set lo down",
            "bridge fdb del 70:b3:d5:80:00:02 dev vtep1024 dst 10.77.0.2 self",
            "bridge fdb replace 70:b3:d5:80:00:02 dev vtep1024 dst 10.77.0.99 self permanent",
            "sysctl -q net.ipv4.ip_forward=0",
            "sysctl -q net.ipv4.conf.all.rp_filter=1",
            "sysctl -q net.ipv4.conf.vtep1024.rp_filter=1",
        ] {
            let (program, arguments) = damage.split_once(' ').expect("a command");
            lab.command(&a, program, arguments);
            assert!(!lab.plan(&a, &BOTH).is_empty(), "`{damage}` goes unnoticed");
            lab.reconcile(&a, &BOTH);
            let rest = lab.plan(&a, &BOTH);
            assert!(rest.is_empty(), "after `{damage}`: {rest:?}\n{}", lab.state(&a));
            assert_eq!(
                exchange(lab, &container_a, (&container_b, CONTAINER_B)),
                CONTAINER_A,
                "after `{damage}`"
            );
        }
    });
}

#[test]
fn a_foreign_device_of_our_name_is_made_anew() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        lab.ip(&a, "link add vtep1024 type vxlan id 7 dstport 4789 local 10.77.0.1");
        let plan = lab.plan(&a, &BOTH);
        assert_eq!(
            plan.adds
                .iter()
                .filter(|op| matches!(op, Op::RemoveDevice(_) | Op::AddDevice(..)))
                .count(),
            2
        );
        lab.reconcile(&a, &BOTH);
        assert!(lab.plan(&a, &BOTH).is_empty());
        assert!(
            lab.ip(&a, "-d link show vtep1024")
                .contains("vxlan id 1024 local 10.77.0.1")
        );
    });
}

#[test]
fn a_peer_that_leaves_is_removed_and_others_objects_stay() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        lab.ip(&a, "route add 172.20.0.0/16 via 10.77.0.2");
        lab.ip(&a, "rule add from 172.20.0.0/16 lookup 99 priority 4000");
        lab.ip(&a, "addr add 192.0.2.9/32 dev lo");
        lab.reconcile(&a, &BOTH);
        lab.reconcile(&a, &BOTH[..1]);
        let state = lab.state(&a);
        for gone in ["9.0.1.0/24", "44.128.0.2", "70:b3:d5:80:00:02", "via 44.128"] {
            assert!(!state.contains(gone), "{gone} is still there:\n{state}");
        }
        for kept in [
            "172.20.0.0/16 via 10.77.0.2",
            "from 172.20.0.0/16 lookup 99",
            "192.0.2.9/32",
            "9.0.0.1/32",
        ] {
            assert!(state.contains(kept), "{kept} is gone:\n{state}");
        }
        assert!(lab.plan(&a, &BOTH[..1]).is_empty());
    });
}

#[test]
fn a_node_without_subnet_is_left_clean() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        lab.reconcile(&a, &BOTH);
        lab.reconcile(&a, &[]);
        assert!(
            lab.ip(&a, "link show").contains("vtep1024"),
            "an unknown node keeps its tunnel"
        );
        lab.reconcile(&a, &[("a", A, "")]);
        let state = lab.state(&a);
        for gone in ["vtep1024", "9.0.", "lookup 42"] {
            assert!(!state.contains(gone), "{gone} is still there:\n{state}");
        }
        assert!(state.contains("unreachable 11.0.0.0/8"), "{state}");
    });
}

#[test]
fn warming_resolves_the_peers_neighbour() {
    lab::run(|lab| {
        let (a, _b) = lab.two_nodes(A, B);
        let before = lab.ip(&a, "neigh show 10.77.0.2");
        assert!(!before.contains("lladdr"), "{before}");
        lab.warm(&a, B);
        // Forever resolved already: `ip` shows the entry as soon as the answer is in.
        lab.until(
            || lab.ip(&a, "neigh show 10.77.0.2").contains("lladdr"),
            || lab.state(&a),
        );
        lab.warm(&a, B);
    });
}

#[test]
fn warming_resolves_an_ipv6_backend_and_the_router_before_one() {
    lab::run(|lab| {
        let (a, b) = lab.two_nodes(A, B);
        lab.ip(&a, "addr add fd77::1/64 dev eth0 nodad");
        lab.ip(&b, "addr add fd77::2/64 dev eth0 nodad");
        lab.ip(&b, "addr add fd77::3/64 dev eth0 nodad");
        lab.ip(&a, "route add fd78::/64 via fd77::3");
        for (backend, hop) in [("fd77::2", "fd77::2"), ("fd78::7", "fd77::3")] {
            let show = format!("neigh show {hop}");
            let before = lab.ip(&a, &show);
            assert!(!before.contains("lladdr"), "{before}");
            lab.warm(&a, backend.parse::<Ipv6Addr>().expect("an address"));
            lab.until(|| lab.ip(&a, &show).contains("lladdr"), || lab.state(&a));
        }
    });
}

const NUMBERED: [(&str, Ipv4Addr, &str); 2] = [("a", A, "9.0.1.0/24"), ("b", B, "9.0.2.0/24")];
const DCOS_A: Ipv4Addr = Ipv4Addr::new(9, 0, 1, 2);
const DCOS_B: Ipv4Addr = Ipv4Addr::new(9, 0, 2, 2);
const BLUE_A: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const BLUE_B: Ipv4Addr = Ipv4Addr::new(10, 64, 1, 2);

/// Sends a datagram that must not arrive: the sender is told so, and what arrives first is the next allowed one.
fn refused(lab: &Lab, from: &Node, to: (&Node, Ipv4Addr), allowed: &Node) {
    let server = lab.inside(to.0, || UdpSocket::bind((to.1, 0)).expect("bind the server"));
    let address = server.local_addr().expect("bound");
    let client = lab.inside(from, || {
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind the client");
        client.connect(address).expect("connect");
        client
    });
    let patience = Some(Duration::from_secs(10));
    server.set_read_timeout(patience).expect("timeout");
    client.set_read_timeout(patience).expect("timeout");
    client.send(b"forbidden").expect("the first word goes out");
    let told = client.recv(&mut [0; 16]).expect_err("nobody answers");
    assert_eq!(
        told.raw_os_error(),
        Some(113),
        "no route to host, at once: {told}\n{}",
        lab.state(from)
    );
    let friend = lab.inside(allowed, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind"));
    friend.send_to(b"allowed", address).expect("send");
    let mut buffer = [0; 16];
    let (length, _) = server.recv_from(&mut buffer).expect("the allowed one arrives");
    assert_eq!(&buffer[..length], b"allowed");
}

#[test]
fn networks_are_apart_unless_they_are_peers_and_leave_nothing_behind() {
    lab::run(|lab| {
        let (a, b) = lab.two_nodes(A, B);
        let both = |networks: &str| {
            lab.reconcile_with(&a, &NUMBERED, networks);
            lab.reconcile_with(&b, &NUMBERED, networks);
        };
        both("");
        let before = lab.fixed(&a);
        both("blue,4097,10.64.0.0/16,24,");
        let dcos_a = lab.container_by(&a, "rv0", DCOS_A);
        let blue_a = lab.container_by(&a, "rv1", BLUE_A);
        let dcos_b = lab.container_by(&b, "rv0", DCOS_B);
        let blue_b = lab.container_by(&b, "rv1", BLUE_B);
        assert_eq!(exchange(lab, &blue_a, (&blue_b, BLUE_B)), BLUE_A);
        assert_eq!(exchange(lab, &dcos_a, (&dcos_b, DCOS_B)), DCOS_A);
        assert_eq!(exchange(lab, &blue_a, (&b, B)), BLUE_A, "a node is no stranger");
        assert_eq!(exchange(lab, &a, (&blue_b, BLUE_B)), Ipv4Addr::new(10, 64, 0, 1));
        refused(lab, &dcos_a, (&blue_a, BLUE_A), &a);
        refused(lab, &dcos_a, (&blue_b, BLUE_B), &blue_a);
        refused(lab, &blue_a, (&dcos_a, DCOS_A), &a);
        refused(lab, &blue_a, (&dcos_b, DCOS_B), &dcos_a);
        both("blue,4097,10.64.0.0/16,24,dcos");
        assert_eq!(exchange(lab, &dcos_a, (&blue_b, BLUE_B)), DCOS_A);
        assert_eq!(exchange(lab, &blue_a, (&dcos_b, DCOS_B)), BLUE_A);
        assert_eq!(exchange(lab, &blue_b, (&dcos_b, DCOS_B)), BLUE_B);
        for link in ["rv0", "rv1"] {
            lab.ip(&a, &format!("link del {link}"));
        }
        both("");
        assert_eq!(lab.fixed(&a), before);
    });
}
