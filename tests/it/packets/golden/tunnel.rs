//! Between nodes: both families inside, the second choice of a flow that moved, and an end to being sent on.

use lb_common::{Be16, Reason, Tag, backend_flags};

use super::build::{ACK, FIN, Frame, Peer, SYN, TCP, at};
use super::node::{Node, ip};
use crate::packets::lab::{OWN, PEER, PEER_MAC};

const LOCAL: u8 = backend_flags::LOCAL;

pub(super) fn tag(backend: Peer) -> [u8; 6] {
    tag_as(TCP, backend)
}

fn tag_as(protocol: u8, (addr, port): Peer) -> [u8; 6] {
    Tag::new(&ip(addr), Be16::new(port), protocol).to_mac()
}

/// What a peer's program puts in front: 50 bytes and the inner link header.
pub(super) fn wrapped(source_port: u16, alternate: [u8; 6], backend: Peer, inner: &[u8]) -> Vec<u8> {
    wrapped_tag(source_port, alternate, tag(backend), inner)
}

fn wrapped_tag(source_port: u16, alternate: [u8; 6], tag: [u8; 6], inner: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(source_port.to_be_bytes());
    udp.extend(64_000_u16.to_be_bytes());
    udp.extend(u16::try_from(16 + inner.len()).expect("short").to_be_bytes());
    udp.extend([0, 0, 8, 0, 0, 0, 0xff, 0xff, 0xfe, 2]);
    udp.extend(alternate);
    udp.extend(tag);
    udp.extend(&inner[12..]);
    let packet = crate::packets::frame::ipv4(PEER, OWN, 17, 0x4000, &[], &udp);
    crate::packets::frame::ethernet(&packet)
}

/// The same for a backend of this protocol.
pub(super) fn wrapped_for_as(protocol: u8, backend: Peer, inner: &[u8]) -> Vec<u8> {
    wrapped_tag(50_000, [0; 6], tag_as(protocol, backend), inner)
}

/// A peer's packet for a backend, without a second choice.
pub(super) fn wrapped_for(backend: Peer, inner: &[u8]) -> Vec<u8> {
    wrapped(50_000, [0; 6], backend, inner)
}

fn parties() -> [[Peer; 4]; 2] {
    [
        [
            at("192.0.2.9", 40_000),
            at("198.18.2.3", 80),
            at("10.0.0.5", 8080),
            at("10.9.0.5", 8080),
        ],
        [
            at("2001:db8::9", 40_000),
            at("fd01:c::5", 80),
            at("fd00::7", 8080),
            at("fd00:9::7", 8080),
        ],
    ]
}

/// The outer headers of what this node sends to its peer, exactly; and the port that spreads flows.
pub(super) fn assert_wrapped(out: &[u8], alternate: [u8; 6], backend: Peer, inner: &[u8]) {
    assert_wrapped_as(TCP, out, alternate, backend, inner);
}

pub(super) fn assert_wrapped_as(protocol: u8, out: &[u8], alternate: [u8; 6], backend: Peer, inner: &[u8]) {
    let port = u16::from_be_bytes([out[34], out[35]]);
    assert!(port >= 49_152);
    let mut wanted = wrapped_tag(port, alternate, tag_as(protocol, backend), inner);
    // The other way round: from this node to the peer.
    wanted[..6].copy_from_slice(&PEER_MAC);
    wanted[6..12].copy_from_slice(&out[6..12]);
    let (own, peer) = (OWN.octets(), PEER.octets());
    wanted[26..30].copy_from_slice(&own);
    wanted[30..34].copy_from_slice(&peer);
    assert_eq!(out, wanted);
}

#[test]
fn a_packet_for_elsewhere_names_its_backend_and_keeps_its_bytes() {
    for [client, vip, _, remote] in parties() {
        let mut node = Node::new();
        node.backend(remote, TCP, 0);
        node.vip(vip, TCP, &[0], &[]);
        node.load();
        let frame = Frame::tcp(client, vip, SYN).build();
        let run = node.enters(&frame, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, tag(remote), remote, &frame);
    }
}

#[test]
fn from_the_tunnel_to_the_backend() {
    for [client, vip, here, _] in parties() {
        let mut node = Node::new();
        node.backend(here, TCP, LOCAL);
        node.vip(vip, TCP, &[0], &[]);
        node.load();
        let inner = Frame::tcp(client, vip, SYN).build();
        let run = node.enters(&wrapped(50_000, [0; 6], here, &inner), Reason::TunnelDelivered);
        assert_eq!(run.frame, Frame::tcp(client, here, SYN).build());
        let run = node.leaves(&Frame::tcp(here, client, SYN | ACK).build(), Reason::Restored);
        assert_eq!(run.frame, Frame::tcp(vip, client, SYN | ACK).build());
    }
}

#[test]
fn a_stray_of_a_table_that_changed_finds_the_backend_it_had() {
    for [client, vip, here, remote] in parties() {
        let stray = Frame::tcp(client, vip, ACK).build();
        // The table says here, but here nobody knows the flow: it is the one that had the slot before.
        let mut node = Node::new();
        node.backend(here, TCP, LOCAL);
        node.backend(remote, TCP, 0);
        node.vip(vip, TCP, &[0], &[1]);
        node.load();
        // First it may be wrong, then it knows the flow.
        for alternate in [[0; 6], tag(remote)] {
            let run = node.enters(&stray, Reason::TunnelRedirected);
            assert_wrapped(&run.frame, alternate, remote, &stray);
        }
        // The table says elsewhere: that node hears who had it before.
        let mut node = Node::new();
        node.backend(here, TCP, LOCAL);
        node.backend(remote, TCP, 0);
        node.vip(vip, TCP, &[1], &[0]);
        node.load();
        let run = node.enters(&stray, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, tag(here), remote, &stray);
    }
}

#[test]
fn who_does_not_know_a_flow_sends_it_to_the_second_choice_once() {
    for [client, vip, here, remote] in parties() {
        let mut node = Node::new();
        node.backend(here, TCP, LOCAL);
        node.backend(remote, TCP, 0);
        node.vip(vip, TCP, &[0], &[]);
        node.load();
        let inner = Frame::tcp(client, vip, ACK).build();
        let asked = wrapped(50_000, tag(remote), here, &inner);
        let run = node.enters(&asked, Reason::SecondChance);
        assert_wrapped(&run.frame, tag(remote), remote, &inner);
        // From now on without being told.
        let run = node.enters(&wrapped(50_000, [0; 6], here, &inner), Reason::SecondChance);
        assert_wrapped(&run.frame, tag(remote), remote, &inner);
        // What was sent on once stays.
        let last = wrapped(50_000, tag(here), here, &inner);
        let run = node.enters(&last, Reason::TunnelDelivered);
        assert_eq!(run.frame, Frame::tcp(client, here, ACK).build());
    }
}

/// A client's ports come again by another node, which chose a backend here; this node once sent their last flow elsewhere.
#[test]
fn what_was_known_of_a_flow_to_elsewhere_does_not_hold_up_a_new_one() {
    for [client, vip, here, remote] in parties() {
        for opened in [false, true] {
            let mut node = Node::new();
            node.backend(here, TCP, LOCAL);
            node.backend(remote, TCP, 0);
            node.vip(vip, TCP, &[1], &[]);
            node.tables.backends[0].vip = 1;
            node.load();
            let frame = |flags| Frame::tcp(client, vip, flags).build();
            node.enters(&frame(SYN), Reason::TunnelRedirected);
            if opened {
                node.enters(&frame(ACK), Reason::TunnelRedirected);
            }
            for sure in [[0; 6], tag(here)] {
                let run = node.enters(&wrapped(50_000, sure, here, &frame(SYN)), Reason::TunnelDelivered);
                assert_eq!(run.frame, Frame::tcp(client, here, SYN).build());
                let run = node.leaves(&Frame::tcp(here, client, SYN | ACK).build(), Reason::Restored);
                assert_eq!(run.frame, Frame::tcp(vip, client, SYN | ACK).build());
            }
            let run = node.enters(&wrapped(50_000, tag(here), here, &frame(ACK)), Reason::TunnelDelivered);
            assert_eq!(run.frame, Frame::tcp(client, here, ACK).build());
            let run = node.leaves(&Frame::tcp(here, client, ACK).build(), Reason::Restored);
            assert_eq!(run.frame, Frame::tcp(vip, client, ACK).build());
        }
    }
}

/// A sender that is sure knows better than this node, which has the flow from the time when it was asked first.
#[test]
fn who_is_sure_is_believed_in_the_middle_of_a_flow() {
    for [client, vip, here, remote] in parties() {
        let mut node = Node::new();
        node.backend(here, TCP, LOCAL);
        node.backend(remote, TCP, 0);
        node.vip(vip, TCP, &[1], &[]);
        node.tables.backends[0].vip = 1;
        node.load();
        let frame = |flags| Frame::tcp(client, vip, flags).build();
        node.enters(&frame(SYN), Reason::TunnelRedirected);
        node.enters(&frame(ACK), Reason::TunnelRedirected);
        node.enters(&wrapped(50_000, [0; 6], here, &frame(ACK)), Reason::SecondChance);
        node.enters(&wrapped(50_000, tag(here), here, &frame(ACK)), Reason::TunnelDelivered);
        let run = node.leaves(&Frame::tcp(here, client, ACK).build(), Reason::Restored);
        assert_eq!(run.frame, Frame::tcp(vip, client, ACK).build());
    }
}

/// Packets of a client may come by any node: this one need not have seen a flow end, nor the next one with its ports begin.
#[test]
fn a_flow_long_silent_is_its_backends_to_confirm() {
    for [client, vip, here, remote] in parties() {
        let other: Peer = (remote.0, remote.1 + 1);
        let mut node = Node::new();
        node.backend(remote, TCP, 0);
        node.backend(other, TCP, 0);
        node.backend(here, TCP, LOCAL);
        node.vip(vip, TCP, &[0], &[0]);
        let before = node.tables.slots.len() - 1;
        node.load();
        let asks = |node: &mut Node, flags: u8, alternate: Peer| {
            let frame = Frame::tcp(client, vip, flags).build();
            let run = node.enters(&frame, Reason::TunnelRedirected);
            assert_wrapped(&run.frame, tag(alternate), remote, &frame);
        };
        for flags in [SYN, ACK] {
            asks(&mut node, flags, remote);
        }
        node.turn(vip, TCP, 1);
        asks(&mut node, ACK, remote);
        // After a silence the table's backend may have it by now, and stays the second choice.
        node.kernel.silence(11);
        for flags in [ACK, ACK, FIN | ACK, ACK] {
            asks(&mut node, flags, other);
        }
        // Of a backend of this node it would be known here.
        node.turn(vip, TCP, 2);
        asks(&mut node, ACK, remote);
        // A flow that was open when the table changed has the one before.
        node.tables.slots[before] = 1;
        node.kernel.set_slots(u32::try_from(before).expect("small") / 2, [1, 1]);
        asks(&mut node, ACK, other);
        // A new flow with the same ports is beyond doubt.
        node.turn(vip, TCP, 1);
        let syn = Frame::tcp(client, vip, SYN).build();
        let run = node.enters(&syn, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, tag(other), other, &syn);
        let ack = Frame::tcp(client, vip, ACK).build();
        let run = node.enters(&ack, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, tag(other), other, &ack);
    }
}
