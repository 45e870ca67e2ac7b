//! Packets in parts: later parts follow the first one, here, to another node and back.

use lb_common::{Reason, backend_flags};

use super::build::{Frame, Peer, UDP, at};
use super::node::Node;
use super::tunnel::{assert_wrapped_as, wrapped_for_as};
use crate::packets::frame::checksum;

const LOCAL: u8 = backend_flags::LOCAL;
/// Bytes of a packet's body in the first of its parts.
const FIRST: usize = 64;

fn parties() -> [[Peer; 3]; 2] {
    [
        [at("192.0.2.9", 40_000), at("198.18.2.3", 53), at("10.0.0.5", 5353)],
        [at("2001:db8::9", 40_000), at("fd01:c::5", 53), at("fd00::7", 5353)],
    ]
}

pub(super) fn datagram(from: Peer, to: Peer) -> Frame {
    Frame {
        payload: (0..200).collect(),
        ..Frame::udp(from, to)
    }
}

/// A packet in two parts with this number.
pub(super) fn parts(whole: &Frame, id: u8) -> [Vec<u8>; 2] {
    let built = whole.build();
    let four = whole.from.0.is_ipv4();
    let head = if four { 34 } else { 54 };
    let (body, rest) = built[head..].split_at(FIRST);
    let part = |place: usize, more: bool, body: &[u8]| {
        let mut out = built[..head].to_vec();
        if four {
            let word = u16::try_from(place / 8).expect("small") | if more { 0x2000 } else { 0 };
            out[16..18].copy_from_slice(&u16::try_from(20 + body.len()).expect("small").to_be_bytes());
            out[18..20].copy_from_slice(&[0, id]);
            out[20..22].copy_from_slice(&word.to_be_bytes());
            out[24..26].fill(0);
            let sum = checksum(&out[14..34]);
            out[24..26].copy_from_slice(&sum.to_be_bytes());
        } else {
            out[18..20].copy_from_slice(&u16::try_from(8 + body.len()).expect("small").to_be_bytes());
            let next = std::mem::replace(&mut out[20], 44);
            let word = u16::try_from(place).expect("small") | u16::from(more);
            out.extend([next, 0]);
            out.extend(word.to_be_bytes());
            out.extend([0, 0, 0, id]);
        }
        out.extend(body);
        out
    };
    [part(0, true, body), part(FIRST, false, rest)]
}

fn node(vip: Peer, backend: Peer, flags: u8) -> Node {
    let mut node = Node::new();
    node.backend(backend, UDP, flags);
    node.vip(vip, UDP, &[0], &[]);
    node.load();
    node
}

#[test]
fn a_packet_in_parts_reaches_its_backend_and_the_answer_its_client() {
    for [client, vip, backend] in parties() {
        let mut node = node(vip, backend, LOCAL);
        let (asked, given) = (datagram(client, vip), datagram(client, backend));
        for id in [1, 2] {
            for (part, wanted) in parts(&asked, id).iter().zip(parts(&given, id)) {
                assert_eq!(node.enters(part, Reason::LocalBackend).frame, wanted);
            }
        }
        let (said, heard) = (datagram(backend, client), datagram(vip, client));
        for (part, wanted) in parts(&said, 9).iter().zip(parts(&heard, 9)) {
            assert_eq!(node.leaves(part, Reason::Restored).frame, wanted);
        }
    }
}

#[test]
fn past_the_stack_later_parts_take_a_hop_as_well() {
    for [client, vip, backend] in parties() {
        let mut node = node(vip, backend, LOCAL);
        node.tables.backends[0].ifindex = node.kernel.uplink;
        node.tables.backends[0].mac = [2, 0xbb, 0, 0, 0, 1];
        node.tables.backends[0].mtu = 1450;
        node.load();
        let given = Frame {
            hops: 63,
            macs: [2, 0xbb, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1],
            ..datagram(client, backend)
        };
        for (part, wanted) in parts(&datagram(client, vip), 3).iter().zip(parts(&given, 3)) {
            let run = node.enters(part, Reason::LocalRedirected);
            assert_eq!((run.action, run.frame), (4, wanted));
        }
    }
}

#[test]
fn parts_go_through_the_tunnel_by_one_way_and_come_out_of_it() {
    for [client, vip, backend] in parties() {
        let mut here = node(vip, backend, 0);
        let mut there = node(vip, backend, LOCAL);
        let given = parts(&datagram(client, backend), 4);
        let mut ports = Vec::new();
        for (part, wanted) in parts(&datagram(client, vip), 4).iter().zip(&given) {
            let run = here.enters(part, Reason::TunnelRedirected);
            ports.push([run.frame[34], run.frame[35]]);
            assert_wrapped_as(
                UDP,
                &run.frame,
                run.frame[50..56].try_into().expect("six"),
                backend,
                part,
            );
            let run = there.enters(&wrapped_for_as(UDP, backend, part), Reason::TunnelDelivered);
            assert_eq!(run.frame[14..], wanted[14..]);
        }
        assert_eq!(ports[0], ports[1], "the fabric keeps their order");
    }
}

#[test]
fn later_parts_without_their_first_one_are_dropped_each_by_its_number() {
    for [client, vip, backend] in parties() {
        let mut node = node(vip, backend, LOCAL);
        let [first, later] = parts(&datagram(client, vip), 5);
        assert_eq!(node.enters(&later, Reason::Fragment).action, 1);
        node.enters(&first, Reason::LocalBackend);
        node.enters(&later, Reason::LocalBackend);
        let [_, other] = parts(&datagram(client, vip), 6);
        node.enters(&other, Reason::Fragment);
        let stranger = (client.0, 1);
        let [_, answer] = parts(&datagram(backend, stranger), 7);
        assert_eq!(node.leaves(&answer, Reason::NotBalanced).frame, answer);
        node.enters(&wrapped_for_as(UDP, backend, &other), Reason::Fragment);
        // What is for no VIP is none of ours.
        let [_, foreign] = parts(&datagram(client, backend), 8);
        assert_eq!(node.enters(&foreign, Reason::NotVip).frame, foreign);
        // Its backend is gone meanwhile: the parts already there are of no use to another one.
        node.tables.backends[0].generation += 1;
        node.kernel.set_backend(&node.tables, 0);
        node.enters(&later, Reason::Fragment);
    }
}

#[test]
fn an_ipv6_packet_that_is_its_own_only_part_is_like_any_other() {
    let [_, [client, vip, backend]] = parties();
    let mut node = node(vip, backend, LOCAL);
    let mut frame = datagram(client, vip);
    frame.extensions = vec![(44, [0, 0, 0, 0, 0, 0, 0, 1])];
    let run = node.enters(&frame.build(), Reason::LocalBackend);
    assert_eq!(
        run.frame,
        Frame {
            to: backend,
            ..frame.clone()
        }
        .build()
    );
    // The header behind another one is not looked for.
    frame.extensions = vec![(60, [0, 0, 1, 4, 0, 0, 0, 0]), (44, [0, 0, 0, 1, 0, 0, 0, 1])];
    node.enters(&frame.build(), Reason::Fragment);
}
