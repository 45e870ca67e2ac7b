//! Packets in parts whose source is translated: later parts follow the first one to the backend's node and back.

use lb_common::Reason;

use super::build::{Frame, UDP};
use super::nat::{CLIENT_MAC, bare, client, far, macs, own, source_port, vip};
use super::node::Node;
use super::parts::{datagram, parts};
use crate::packets::lab::{PEER_MAC, ip};

/// The client's datagram in parts must arrive at the far backend in this node's name; gives the port it got.
fn sent(node: &mut Node, id: u8) -> u16 {
    let [first, later] = parts(&datagram(client(), vip()), id);
    let run = node.enters(&first, Reason::NatSent);
    let port = source_port(&run.frame);
    let whole = Frame {
        hops: 63,
        macs: macs(PEER_MAC, node.kernel.mac),
        ..datagram(own(port), far())
    };
    let wanted = parts(&whole, id);
    assert_eq!(run.frame, wanted[0]);
    assert_eq!(node.enters(&later, Reason::NatSent).frame, wanted[1]);
    port
}

#[test]
fn a_datagram_in_parts_goes_to_a_backend_without_daemon_and_its_answer_comes_back() {
    let mut node = bare(UDP);
    let port = sent(&mut node, 1);
    assert_eq!(sent(&mut node, 2), port, "one flow, one port");
    let heard = Frame {
        hops: 63,
        macs: macs(CLIENT_MAC, node.kernel.mac),
        ..datagram(vip(), client())
    };
    let said = datagram(far(), own(port));
    for id in [1, 7] {
        for (part, wanted) in parts(&said, id).iter().zip(parts(&heard, id)) {
            assert_eq!(node.enters(part, Reason::NatRestored).frame, wanted);
        }
    }
    ip("neigh del 192.168.7.50 dev up0");
    let plain = Frame {
        hops: 63,
        ..datagram(vip(), client())
    };
    for (part, wanted) in parts(&said, 8).iter().zip(parts(&plain, 8)) {
        assert_eq!(
            node.enters(part, Reason::NatRestoredPass).frame,
            wanted,
            "the stack finds the client"
        );
    }
}

#[test]
fn later_parts_without_their_first_one_go_nowhere_and_those_of_others_to_the_stack() {
    let mut node = bare(UDP);
    let [_, later] = parts(&datagram(client(), vip()), 1);
    node.enters(&later, Reason::Fragment);
    let port = sent(&mut node, 2);
    let [first, later] = parts(&datagram(far(), own(port)), 3);
    assert_eq!(
        node.enters(&later, Reason::NotVip).frame,
        later,
        "its first part was not seen"
    );
    let [other, rest] = parts(&datagram(far(), own(port + 1)), 4);
    for part in [other, rest] {
        assert_eq!(node.enters(&part, Reason::NotVip).frame, part, "of no flow of ours");
    }
    node.enters(&first, Reason::NatRestored);
    node.enters(&later, Reason::NatRestored);
    // Its flow's backend is another one by now.
    let [_, later] = parts(&datagram(client(), vip()), 2);
    node.tables.backends[0].generation += 1;
    node.kernel.set_backend(&node.tables, 0);
    node.enters(&later, Reason::Fragment);
    let last = Frame {
        hops: 1,
        ..datagram(client(), vip())
    };
    node.tables.backends[0].generation -= 1;
    node.kernel.set_backend(&node.tables, 0);
    let [_, later] = parts(&last, 2);
    node.enters(&later, Reason::NoRoute);
}
