//! Translated sources: backends on nodes without the daemon, and what still comes for a backend of this node that stopped.

use aya::maps::{Array, MapData};
use lb_common::{BackendEntry, Be16, Guard, Reason, backend_flags};

use super::build::{ACK, FIN, Frame, Peer, RST, SYN, TCP, UDP, at};
use super::errors::error;
use super::node::Node;
use super::too_big::{long, told};
use crate::packets::frame::checksum;
use crate::packets::fuzz::kernel::open;
use crate::packets::lab::{OWN, PEER, PEER_MAC, ip};

const PORTS: (u16, u16) = (61_000, 61_003);
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 50];

pub(super) fn client() -> Peer {
    at("192.168.7.50", 40_000)
}

pub(super) fn vip() -> Peer {
    at("198.18.2.3", 80)
}

pub(super) fn far() -> Peer {
    (PEER.into(), 31_002)
}

pub(super) fn own(port: u16) -> Peer {
    (OWN.into(), port)
}

/// A node that translates, with a client that it knows the way to.
fn node() -> Node {
    let mut node = Node::new();
    ip("neigh replace 192.168.7.50 lladdr 02:00:00:00:00:32 dev up0 nud permanent");
    node.tables.node.nat_first = Be16::new(PORTS.0);
    node.tables.node.nat_last = Be16::new(PORTS.1);
    node.tables.node.flags = 0;
    node
}

pub(super) fn bare(protocol: u8) -> Node {
    let mut node = node();
    node.backend(far(), protocol, backend_flags::BARE);
    node.vip(vip(), protocol, &[0], &[]);
    node.load();
    node
}

pub(super) fn macs(to: [u8; 6], from: [u8; 6]) -> [u8; 12] {
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&to);
    macs[6..].copy_from_slice(&from);
    macs
}

/// The source port of a frame without IP options.
pub(super) fn source_port(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[34], frame[35]])
}

/// The client's frame must arrive at the far backend in this node's name; gives the port it got.
fn sent(node: &mut Node, frame: &Frame) -> u16 {
    let run = node.enters(&frame.build(), Reason::NatSent);
    let port = source_port(&run.frame);
    assert!((PORTS.0..=PORTS.1).contains(&port), "{port}");
    let wanted = Frame {
        from: own(port),
        to: far(),
        hops: 63,
        macs: macs(PEER_MAC, node.kernel.mac),
        ..frame.clone()
    };
    assert_eq!((run.action, run.frame), (3, wanted.build()));
    port
}

/// The backend's answer must reach the client as if it came from where that sent.
fn answered(node: &mut Node, port: u16, answer: &Frame) {
    let from_backend = Frame {
        from: far(),
        to: own(port),
        ..answer.clone()
    };
    let run = node.enters(&from_backend.build(), Reason::NatRestored);
    let wanted = Frame {
        hops: 63,
        macs: macs(CLIENT_MAC, node.kernel.mac),
        ..answer.clone()
    };
    assert_eq!((run.action, run.frame), (3, wanted.build()));
}

#[test]
fn a_backend_without_daemon_sees_this_node_and_the_client_sees_the_vip() {
    for protocol in [TCP, UDP] {
        let mut node = bare(protocol);
        let asks = |flags| Frame {
            protocol,
            ..Frame::tcp(client(), vip(), if protocol == TCP { flags } else { 0 })
        };
        let answers = |flags| Frame {
            protocol,
            ..Frame::tcp(vip(), client(), if protocol == TCP { flags } else { 0 })
        };
        let port = sent(&mut node, &asks(SYN));
        answered(&mut node, port, &answers(SYN | ACK));
        for flags in [ACK, ACK, FIN | ACK] {
            assert_eq!(sent(&mut node, &asks(flags)), port, "one flow, one port");
            answered(&mut node, port, &answers(flags));
        }
        let unsummed = Frame {
            summed: false,
            ..Frame::udp(client(), vip())
        };
        if protocol == UDP {
            let run = node.enters(&unsummed.build(), Reason::NatSent);
            assert_eq!(run.frame[40..42], [0, 0], "no checksum stays none");
        }
        // A port that no flow has is the stack's to refuse.
        let free = (PORTS.0..=PORTS.1).find(|free| *free != port).expect("several");
        let stray = Frame {
            from: far(),
            to: own(free),
            ..answers(ACK)
        }
        .build();
        assert_eq!(node.enters(&stray, Reason::NotVip).frame, stray);
    }
}

#[test]
fn without_a_route_back_the_stack_finds_the_client() {
    let mut node = bare(TCP);
    let port = sent(&mut node, &Frame::tcp(client(), vip(), SYN));
    ip("neigh del 192.168.7.50 dev up0");
    let answer = Frame::tcp(far(), own(port), SYN | ACK).build();
    let run = node.enters(&answer, Reason::NatRestoredPass);
    let wanted = Frame {
        hops: 63,
        ..Frame::tcp(vip(), client(), SYN | ACK)
    };
    assert_eq!((run.action, run.frame), (2, wanted.build()));
}

#[test]
fn on_a_veth_it_leaves_by_redirect_and_with_no_ports_not_at_all() {
    let mut node = bare(TCP);
    node.tables.node.flags = lb_common::node_flags::REDIRECT;
    node.load();
    let syn = Frame::tcp(client(), vip(), SYN);
    assert_eq!(node.enters(&syn.build(), Reason::NatRedirected).action, 4);
    node.tables.node.nat_first = Be16::new(0);
    node.tables.node.nat_last = Be16::new(0);
    node.load();
    assert_eq!(node.enters(&syn.build(), Reason::NoRoute).frame, syn.build());
}

#[test]
fn packets_at_the_end_of_their_hops_go_nowhere() {
    let mut node = bare(TCP);
    let last = Frame {
        hops: 1,
        ..Frame::tcp(client(), vip(), SYN)
    };
    node.enters(&last.build(), Reason::NoRoute);
}

#[test]
fn all_ports_in_use_is_told_and_an_ended_flow_gives_its_port_back() {
    let mut node = bare(TCP);
    let syn = |port: u16| Frame::tcp((client().0, port), vip(), SYN);
    let mut ports: Vec<u16> = (1..=4).map(|n| sent(&mut node, &syn(n))).collect();
    let second = ports[1];
    ports.sort_unstable();
    assert_eq!(ports, [61_000, 61_001, 61_002, 61_003]);
    node.enters(&syn(5).build(), Reason::NoNatPort);
    assert_eq!(sent(&mut node, &Frame::tcp((client().0, 2), vip(), RST)), second);
    assert_eq!(sent(&mut node, &syn(5)), second);
    // The same client port again: a new flow.
    node.enters(&syn(2).build(), Reason::NoNatPort);
}

/// A backend of this node at 31001, and another of the same VIP on another node.
fn stopped() -> Node {
    let mut node = node();
    node.backend(own(31_001), TCP, backend_flags::LOCAL);
    node.backend(far(), TCP, 0);
    node.vip(vip(), TCP, &[0, 1], &[]);
    node.load();
    node
}

fn guard(node: &Node, port: u16, guard: Guard) {
    let mut guards: Array<MapData, Guard> = open(&node.kernel.folder, "GUARDS");
    guards.set(u32::from(port), guard, 0).expect("a port");
}

#[test]
fn what_still_comes_for_a_backend_that_stopped_is_taken_over() {
    let mut node = stopped();
    let asks = |port: u16, flags| Frame::tcp((client().0, port), own(31_001), flags);
    guard(&node, 31_001, Guard::new(1));
    let syn = asks(1, SYN).build();
    assert_eq!(node.enters(&syn, Reason::NotVip).frame, syn, "it lives");
    guard(&node, 31_001, Guard::new(1).over());
    mark_gone(&mut node);
    for source in 1..=4 {
        let port = sent(&mut node, &asks(source, SYN));
        let answers = |flags| Frame::tcp(own(31_001), (client().0, source), flags);
        answered(&mut node, port, &answers(SYN | ACK));
        assert_eq!(sent(&mut node, &asks(source, ACK)), port);
        answered(&mut node, port, &answers(ACK));
    }
    // Connections that the backend had are the stack's to end.
    let old = asks(9, ACK).build();
    assert_eq!(node.enters(&old, Reason::LatePacket).frame, old);
    // And other ports of this node are nobody's business.
    let other = Frame::tcp(client(), own(31_009), SYN).build();
    assert_eq!(node.enters(&other, Reason::NotVip).frame, other);
}

#[test]
fn nobody_takes_over_where_nobody_is_left_or_the_number_is_anothers() {
    let mut node = stopped();
    guard(&node, 31_001, Guard::new(1).over());
    let syn = Frame::tcp(client(), own(31_001), SYN).build();
    mark_gone(&mut node);
    node.tables.backends[1].flags &= !backend_flags::OPEN;
    let tables = node.tables.clone();
    node.kernel.set_backend(&tables, 1);
    assert_eq!(node.enters(&syn, Reason::LatePacket).frame, syn);
    guard(&node, 31_001, Guard::new(77).over());
    assert_eq!(node.enters(&syn, Reason::LatePacket).frame, syn);
}

/// As the release hook does.
fn mark_gone(node: &mut Node) {
    let entry: &mut BackendEntry = &mut node.tables.backends[0];
    entry.flags = entry.flags & !backend_flags::OPEN | backend_flags::GONE;
    let tables = node.tables.clone();
    node.kernel.set_backend(&tables, 0);
}

#[test]
fn a_backend_that_has_just_stopped_gets_no_new_connections_and_keeps_those_it_has() {
    let mut node = node();
    node.backend(own(31_001), TCP, backend_flags::LOCAL);
    node.vip(vip(), TCP, &[0], &[]);
    node.load();
    let asks = |port: u16, flags| Frame::tcp((client().0, port), vip(), flags).build();
    for flags in [SYN, ACK] {
        node.enters(&asks(1, flags), Reason::LocalBackend);
    }
    mark_gone(&mut node);
    node.enters(&asks(1, ACK), Reason::LocalBackend);
    node.enters(&asks(2, SYN), Reason::BackendGone);
}

#[test]
fn nobody_outside_may_bear_this_nodes_own_address() {
    let mut node = node();
    node.load();
    let forged = Frame::tcp(own(22), at("192.168.7.50", 80), SYN).build();
    node.enters(&forged, Reason::OwnSource);
    let forged = Frame::tcp(own(5000), own(53), SYN).build();
    node.enters(&forged, Reason::OwnSource);
}

/// A frame as the overlay of another node brings it.
fn in_overlay(from: Peer, inner: &Frame) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 4, 0, 0];
    payload.extend(inner.build());
    Frame {
        payload,
        ..Frame::udp(from, own(64_000))
    }
    .build()
}

#[test]
fn what_containers_elsewhere_still_send_is_taken_over_from_inside_the_overlay() {
    let mut node = stopped();
    let container = at("9.0.3.2", 40_000);
    let asks = |flags| Frame::tcp(container, own(31_001), flags);
    let peer = (PEER.into(), 50_000);
    let syn = in_overlay(peer, &asks(SYN));
    guard(&node, 31_001, Guard::new(1));
    assert_eq!(node.enters(&syn, Reason::NotVip).frame, syn, "it lives");
    guard(&node, 31_001, Guard::new(1).over());
    mark_gone(&mut node);
    let mut ports = Vec::new();
    for flags in [SYN, ACK] {
        let run = node.enters(&in_overlay(peer, &asks(flags)), Reason::NatSent);
        ports.push(source_port(&run.frame));
        let wanted = Frame {
            from: own(ports[0]),
            to: far(),
            hops: 63,
            macs: macs(PEER_MAC, node.kernel.mac),
            ..asks(flags)
        };
        assert_eq!(run.frame, wanted.build());
    }
    // The way to a container is the stack's to find.
    let answer = Frame::tcp(far(), own(ports[0]), SYN | ACK).build();
    let run = node.enters(&answer, Reason::NatRestoredPass);
    let wanted = Frame {
        hops: 63,
        ..Frame::tcp(own(31_001), container, SYN | ACK)
    };
    assert_eq!(run.frame, wanted.build());
    // Nobody but the cluster's nodes, and nothing that is for somebody else.
    let forged = in_overlay(at("192.168.7.99", 50_000), &asks(SYN));
    node.enters(&forged, Reason::TunnelNotPeer);
    let other = in_overlay(peer, &Frame::tcp(container, own(31_009), SYN));
    assert_eq!(node.enters(&other, Reason::NotVip).frame, other);
    let late = in_overlay(peer, &Frame::tcp(at("9.0.3.2", 9), own(31_001), ACK));
    assert_eq!(node.enters(&late, Reason::LatePacket).frame, late);
}

/// Of what an error becomes on the way to `to`: one hop less, and the link addresses of that way.
fn forwarded(mut frame: Vec<u8>, to: [u8; 6], node: &Node) -> Vec<u8> {
    frame[..12].copy_from_slice(&macs(to, node.kernel.mac));
    frame[22] -= 1;
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn errors_on_either_side_reach_whoever_sent_what_they_quote() {
    let router = "203.0.113.1".parse().expect("an address");
    for protocol in [TCP, UDP] {
        let mut node = bare(protocol);
        let packet = |from, to, flags| Frame {
            protocol,
            ..Frame::tcp(from, to, if protocol == TCP { flags } else { 0 })
        };
        let port = sent(&mut node, &packet(client(), vip(), SYN));
        // On the way to the backend; also from the backend's own host, which the client knows as the VIP.
        for (from, seen) in [(router, router), (far().0, vip().0)] {
            let told = error(from, OWN.into(), &packet(own(port), far(), ACK));
            let wanted = error(seen, client().0, &packet(client(), vip(), ACK));
            let run = node.enters(&told, Reason::NatRestored);
            assert_eq!(
                run.frame,
                forwarded(wanted, CLIENT_MAC, &node),
                "{protocol} from {from}"
            );
        }
        // On the way to the client, and from the client's host, which the backend knows as this node.
        for (from, seen) in [(router, router), (client().0, OWN.into())] {
            let told = error(from, vip().0, &packet(vip(), client(), ACK));
            let wanted = error(seen, far().0, &packet(far(), own(port), ACK));
            let run = node.enters(&told, Reason::NatRestored);
            assert_eq!(run.frame, forwarded(wanted, PEER_MAC, &node), "{protocol} from {from}");
        }
        // About a flow that is none.
        let stranger = at("192.168.7.51", 40_000);
        let told = error(router, vip().0, &packet(vip(), stranger, ACK));
        assert_eq!(node.enters(&told, Reason::ErrorUnknown).frame, told);
        let free = (PORTS.0..=PORTS.1).find(|free| *free != port).expect("several");
        let told = error(router, OWN.into(), &packet(own(free), far(), ACK));
        assert_eq!(node.enters(&told, Reason::NotVip).frame, told);
    }
}

#[test]
fn who_sends_more_than_the_way_to_the_backend_carries_is_told() {
    let mut node = bare(TCP);
    sent(&mut node, &Frame::tcp(client(), vip(), SYN));
    ip("route add 192.168.7.2/32 dev up0 src 192.168.7.1 mtu lock 1400");
    sent(&mut node, &long_frame(1400));
    let frame = long_frame(1401).build();
    let run = node.enters(&frame, Reason::TooBigReplied);
    assert_eq!((run.action, run.frame), (3, told(&frame, vip().0, client().0, 1400)));
}

fn long_frame(len: usize) -> Frame {
    long(client(), vip(), len)
}
