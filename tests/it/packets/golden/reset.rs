//! Connections whose backend is gone, at a VIP that resets: the client hears it with its next packet.

use lb_common::{BackendEntry, Reason, backend_flags, vip_flags};

use super::build::{ACK, FIN, Frame, Peer, RST, SYN, TCP, UDP, at};
use super::node::Node;

const LOCAL: u8 = backend_flags::LOCAL;

fn parties() -> [[Peer; 4]; 2] {
    [
        [
            at("192.0.2.9", 40_000),
            at("198.18.2.3", 80),
            at("10.0.0.5", 8080),
            at("10.9.0.6", 8080),
        ],
        [
            at("2001:db8::9", 40_000),
            at("fd01:c::5", 80),
            at("fd00::7", 8080),
            at("fd00:9::8", 8080),
        ],
    ]
}

/// A VIP that resets and has the first backend, with a connection of the client's.
fn connected(client: Peer, vip: Peer, backends: [Peer; 2], flags: u8) -> Node {
    let mut node = Node::new();
    for backend in backends {
        node.backend(backend, TCP, flags | backend_flags::RESET);
    }
    node.vip(vip, TCP, &[0, 0], &[]);
    node.entry(vip, TCP).flags = vip_flags::RESET;
    node.load();
    for tcp in [SYN, ACK] {
        node.enters(&Frame::tcp(client, vip, tcp).build(), given(flags));
    }
    node
}

fn given(flags: u8) -> Reason {
    if flags & LOCAL == 0 {
        Reason::TunnelRedirected
    } else {
        Reason::LocalBackend
    }
}

/// From now on the first backend is like this; flows are kept.
fn becomes(node: &mut Node, change: impl Fn(&mut BackendEntry)) {
    change(&mut node.tables.backends[0]);
    node.kernel.set_backend(&node.tables, 0);
}

/// The builder's packets acknowledge 2: that is the number of the reset, and there is nothing else in it.
fn reset(client: Peer, vip: Peer) -> Vec<u8> {
    let mut frame = Frame::tcp(vip, client, RST);
    frame.payload.clear();
    frame.macs = [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1];
    frame.numbers = [2, 0];
    frame.window = 0;
    frame.build()
}

#[test]
fn a_backend_that_is_gone_or_leaves_resets_what_it_had_here_and_elsewhere() {
    let gone: fn(&mut BackendEntry) = |entry| entry.flags = 0;
    let other: fn(&mut BackendEntry) = |entry| entry.generation += 1;
    let leaves: fn(&mut BackendEntry) = |entry| entry.flags &= !backend_flags::OPEN;
    for [client, vip, first, second] in parties() {
        for flags in [LOCAL, 0] {
            for change in [gone, other, leaves] {
                let mut node = connected(client, vip, [first, second], flags);
                becomes(&mut node, change);
                for tcp in [ACK, ACK | FIN, ACK | 8] {
                    let frame = Frame::tcp(client, vip, tcp).build();
                    // As often as it asks: a reset may be lost on its way.
                    for _ in 0..2 {
                        let run = node.enters(&frame, Reason::ReplyRedirected);
                        assert_eq!((run.action, run.frame), (4, reset(client, vip)));
                    }
                }
            }
        }
    }
}

#[test]
fn options_and_extension_headers_are_not_sent_back() {
    for [client, vip, first, second] in parties() {
        let mut node = connected(client, vip, [first, second], LOCAL);
        becomes(&mut node, |entry| entry.flags = 0);
        node.tables.node.flags = 0;
        node.kernel.set_node(&node.tables);
        let mut frame = Frame::tcp(client, vip, ACK);
        frame.options = vec![1; 12];
        frame.extensions = vec![(60, [0, 0, 1, 4, 0, 0, 0, 0]); 2];
        let run = node.enters(&frame.build(), Reason::ResetReplied);
        assert_eq!((run.action, run.frame), (3, reset(client, vip)));
    }
}

#[test]
fn new_connections_go_on_and_resets_are_not_reset() {
    for [client, vip, first, second] in parties() {
        let mut node = connected(client, vip, [first, second], LOCAL);
        becomes(&mut node, |entry| entry.flags = 0);
        node.kernel.set_slots(0, [1, 1]);
        node.enters(&Frame::tcp(client, vip, RST | ACK).build(), Reason::LocalBackend);
        node.enters(&Frame::tcp(client, vip, ACK).build(), Reason::ReplyRedirected);
        // The same ports for a new connection: its packets are its own from the first one on.
        for tcp in [SYN, ACK, ACK] {
            let run = node.enters(&Frame::tcp(client, vip, tcp).build(), Reason::LocalBackend);
            assert_eq!(run.frame, Frame::tcp(client, second, tcp).build());
        }
    }
}

#[test]
fn without_any_backend_every_connection_is_reset() {
    for [client, vip, first, second] in parties() {
        let mut node = connected(client, vip, [first, second], LOCAL);
        becomes(&mut node, |entry| entry.flags = 0);
        let other = (client.0, 50_000);
        let run = node.enters(&Frame::tcp(other, vip, ACK).build(), Reason::ReplyRedirected);
        assert_eq!(run.frame, reset(other, vip));
        node.enters(&Frame::tcp(other, vip, SYN).build(), Reason::NoBackend);
    }
}

#[test]
fn a_vip_that_does_not_reset_and_datagrams_choose_anew() {
    for [client, vip, first, second] in parties() {
        for protocol in [TCP, UDP] {
            let mut node = Node::new();
            for backend in [first, second] {
                node.backend(backend, protocol, LOCAL | backend_flags::RESET);
            }
            node.vip(vip, protocol, &[0, 0], &[]);
            if protocol == UDP {
                node.entry(vip, protocol).flags = vip_flags::RESET;
            }
            node.load();
            let packet = |tcp| Frame {
                protocol,
                ..Frame::tcp(client, vip, tcp)
            };
            for tcp in [SYN, ACK] {
                node.enters(&packet(tcp).build(), Reason::LocalBackend);
            }
            becomes(&mut node, |entry| entry.flags = 0);
            node.kernel.set_slots(0, [1, 1]);
            let run = node.enters(&packet(ACK).build(), Reason::LocalBackend);
            assert_eq!(
                run.frame,
                Frame {
                    to: second,
                    ..packet(ACK)
                }
                .build()
            );
        }
    }
}
