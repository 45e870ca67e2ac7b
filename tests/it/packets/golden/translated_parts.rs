//! Packets in parts whose source is translated: later parts follow the first one to the backend's node and back.

use lb_common::Reason;

use super::bare::{CLIENT_MAC, Ends, bare, ends, macs, source_port};
use super::build::{Frame, UDP};
use super::node::Node;
use super::parts::{datagram, parts};
use crate::packets::lab::PEER_MAC;

/// The client's datagram in parts must arrive at the far backend in this node's name; gives the port it got.
fn sent(node: &mut Node, ends: &Ends, id: u8) -> u16 {
    let [first, later] = parts(&datagram(ends.client, ends.vip), id);
    let run = node.enters(&first, Reason::NatSent);
    let port = source_port(&run.frame);
    let whole = Frame {
        hops: 63,
        macs: macs(PEER_MAC, node.kernel.mac),
        ..datagram(ends.own(port), ends.far)
    };
    let wanted = parts(&whole, id);
    assert_eq!(run.frame, wanted[0]);
    assert_eq!(node.enters(&later, Reason::NatSent).frame, wanted[1]);
    port
}

#[test]
fn a_datagram_in_parts_goes_to_a_backend_without_daemon_and_its_answer_comes_back() {
    for ends in ends() {
        let mut node = bare(&ends, UDP);
        let port = sent(&mut node, &ends, 1);
        assert_eq!(sent(&mut node, &ends, 2), port, "one flow, one port");
        let heard = Frame {
            hops: 63,
            macs: macs(CLIENT_MAC, node.kernel.mac),
            ..datagram(ends.vip, ends.client)
        };
        let said = datagram(ends.far, ends.own(port));
        for id in [1, 7] {
            for (part, wanted) in parts(&said, id).iter().zip(parts(&heard, id)) {
                assert_eq!(node.enters(part, Reason::NatRestored).frame, wanted);
            }
        }
        ends.lose_client();
        let plain = Frame {
            hops: 63,
            ..datagram(ends.vip, ends.client)
        };
        for (part, wanted) in parts(&said, 8).iter().zip(parts(&plain, 8)) {
            assert_eq!(
                node.enters(part, Reason::NatRestoredPass).frame,
                wanted,
                "the stack finds the client"
            );
        }
    }
}

#[test]
fn later_parts_without_their_first_one_go_nowhere_and_those_of_others_to_the_stack() {
    for ends in ends() {
        let mut node = bare(&ends, UDP);
        let [_, later] = parts(&datagram(ends.client, ends.vip), 1);
        node.enters(&later, Reason::Fragment);
        let port = sent(&mut node, &ends, 2);
        let [first, later] = parts(&datagram(ends.far, ends.own(port)), 3);
        assert_eq!(
            node.enters(&later, Reason::NotVip).frame,
            later,
            "its first part was not seen"
        );
        let [other, rest] = parts(&datagram(ends.far, ends.own(port ^ 1)), 4);
        for part in [other, rest] {
            assert_eq!(node.enters(&part, Reason::NotVip).frame, part, "of no flow of ours");
        }
        node.enters(&first, Reason::NatRestored);
        node.enters(&later, Reason::NatRestored);
        // Its flow's backend is another one by now.
        let [_, later] = parts(&datagram(ends.client, ends.vip), 2);
        node.tables.backends[0].generation += 1;
        node.kernel.set_backend(&node.tables, 0);
        node.enters(&later, Reason::Fragment);
        let last = Frame {
            hops: 1,
            ..datagram(ends.client, ends.vip)
        };
        node.tables.backends[0].generation -= 1;
        node.kernel.set_backend(&node.tables, 0);
        let [_, later] = parts(&last, 2);
        node.enters(&later, Reason::NoRoute);
    }
}
