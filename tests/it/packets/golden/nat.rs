//! Translated sources: what still comes for a backend of this node that stopped.

use aya::maps::{Array, MapData};
use lb_common::{BackendEntry, Guard, Reason, backend_flags};

use super::bare::{Ends, answered, ends, macs, node, sent, source_port};
use super::build::{ACK, Frame, Peer, SYN, TCP, at};
use super::node::Node;
use crate::packets::fuzz::kernel::open;
use crate::packets::lab::{OWN, PEER, PEER_MAC};

fn client() -> Peer {
    at("192.168.7.50", 40_000)
}

fn vip() -> Peer {
    at("198.18.2.3", 80)
}

fn far() -> Peer {
    (PEER.into(), 31_002)
}

fn own(port: u16) -> Peer {
    (OWN.into(), port)
}

/// Who takes over.
fn taker() -> Ends {
    let [four, _] = ends();
    four
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
        let port = sent(&mut node, &taker(), &asks(source, SYN));
        let answers = |flags| Frame::tcp(own(31_001), (client().0, source), flags);
        answered(&mut node, &taker(), port, &answers(SYN | ACK));
        assert_eq!(sent(&mut node, &taker(), &asks(source, ACK)), port);
        answered(&mut node, &taker(), port, &answers(ACK));
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
