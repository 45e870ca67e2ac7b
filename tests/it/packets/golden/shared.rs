//! One backend behind two VIPs, one client port: answers do not say through which VIP they were asked for.

use lb_common::{Reason, backend_flags};

use super::build::{ACK, Frame, Peer, RST, SYN, TCP, at};
use super::node::Node;

const FLAGS: u8 = backend_flags::LOCAL | backend_flags::SHARED;

fn pairs() -> [[Peer; 5]; 2] {
    [
        [
            at("192.0.2.9", 40_000),
            at("198.18.2.3", 80),
            at("198.18.2.4", 80),
            at("10.0.0.5", 8080),
            at("10.0.0.6", 8080),
        ],
        [
            at("2001:db8::9", 40_000),
            at("fd01:c::5", 80),
            at("fd01:c::6", 80),
            at("fd00::7", 8080),
            at("fd00::8", 8080),
        ],
    ]
}

#[test]
fn the_second_vip_takes_another_backend_and_each_answer_its_own_vip() {
    for [client, one, two, first, second] in pairs() {
        let mut node = Node::new();
        node.backend(first, TCP, FLAGS);
        node.backend(second, TCP, FLAGS);
        node.vip(one, TCP, &[0], &[]);
        node.vip(two, TCP, &[0, 1, 0], &[]);
        node.load();
        let run = node.enters(&Frame::tcp(client, one, SYN).build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame::tcp(client, first, SYN).build());
        let run = node.enters(&Frame::tcp(client, two, SYN).build(), Reason::LocalBackend);
        assert_eq!(
            run.frame,
            Frame::tcp(client, second, SYN).build(),
            "the first one is taken"
        );
        for (backend, vip) in [(first, one), (second, two)] {
            let run = node.leaves(&Frame::tcp(backend, client, SYN | ACK).build(), Reason::Restored);
            assert_eq!(run.frame, Frame::tcp(vip, client, SYN | ACK).build());
        }
    }
}

#[test]
fn with_no_other_backend_it_is_dropped_until_the_first_flow_is_over() {
    for [client, one, two, first, _] in pairs() {
        let mut node = Node::new();
        node.backend(first, TCP, FLAGS);
        node.vip(one, TCP, &[0], &[]);
        node.vip(two, TCP, &[0], &[]);
        node.load();
        node.enters(&Frame::tcp(client, one, SYN).build(), Reason::LocalBackend);
        node.enters(&Frame::tcp(client, one, ACK).build(), Reason::LocalBackend);
        let again = Frame::tcp(client, two, SYN).build();
        assert_eq!(node.enters(&again, Reason::TupleConflict).action, 1);
        node.enters(&Frame::tcp(client, one, RST).build(), Reason::LocalBackend);
        node.enters(&again, Reason::LocalBackend);
        let run = node.leaves(&Frame::tcp(first, client, SYN | ACK).build(), Reason::Restored);
        assert_eq!(
            run.frame,
            Frame::tcp(two, client, SYN | ACK).build(),
            "not the VIP of the flow that is over"
        );
    }
}
