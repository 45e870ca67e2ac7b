//! Translated sources: backends on nodes without the daemon, in both families.

use lb_common::{Be16, Reason, backend_flags};

use super::build::{ACK, FIN, Frame, Peer, RST, SYN, TCP, UDP, at};
use super::errors::error;
use super::node::Node;
use super::too_big::{long, told};
use crate::packets::frame::checksum;
use crate::packets::lab::{OWN, OWN6, PEER, PEER_MAC, ip, six};

const PORTS: (u16, u16) = (61_000, 61_003);
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 50];

/// Who has to do with a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: Peer,
    pub(super) vip: Peer,
    pub(super) far: Peer,
}

/// One for each family.
pub(super) fn ends() -> [Ends; 2] {
    [
        Ends {
            client: at("192.168.7.50", 40_000),
            vip: at("198.18.2.3", 80),
            far: (PEER.into(), 31_002),
        },
        Ends {
            client: at("2001:db8::50", 40_000),
            vip: at("fd01:c::3", 80),
            far: at("fd00:7::2", 31_002),
        },
    ]
}

impl Ends {
    fn is_four(&self) -> bool {
        self.client.0.is_ipv4()
    }

    /// This node, as backends see it.
    pub(super) fn own(&self, port: u16) -> Peer {
        (if self.is_four() { OWN.into() } else { OWN6.into() }, port)
    }

    /// Somebody on the way.
    fn router(&self) -> std::net::IpAddr {
        let text = if self.is_four() { "203.0.113.1" } else { "2001:db8:1::1" };
        text.parse().expect("an address")
    }

    /// Forgets the way to the client.
    pub(super) fn lose_client(&self) {
        ip(&format!("neigh del {} dev up0", self.client.0));
    }
}

/// A node that translates, with clients and a backend's node that it knows the way to.
pub(super) fn node() -> Node {
    let mut node = Node::new();
    six();
    for route in ["2001:db8::/64", "fd00:7::/64"] {
        ip(&format!("route add {route} dev up0"));
    }
    for client in ["192.168.7.50", "2001:db8::50"] {
        ip(&format!(
            "neigh replace {client} lladdr 02:00:00:00:00:32 dev up0 nud permanent"
        ));
    }
    ip("neigh replace fd00:7::2 lladdr 02:00:00:00:00:02 dev up0 nud permanent");
    node.tables.own6 = super::node::ip(OWN6.into());
    node.tables.node.nat_first = Be16::new(PORTS.0);
    node.tables.node.nat_last = Be16::new(PORTS.1);
    node.tables.node.flags = 0;
    node
}

pub(super) fn bare(ends: &Ends, protocol: u8) -> Node {
    let mut node = node();
    node.backend(ends.far, protocol, backend_flags::BARE);
    node.vip(ends.vip, protocol, &[0], &[]);
    node.load();
    node
}

pub(super) fn macs(to: [u8; 6], from: [u8; 6]) -> [u8; 12] {
    let mut macs = [0; 12];
    macs[..6].copy_from_slice(&to);
    macs[6..].copy_from_slice(&from);
    macs
}

/// The source port of a frame without IP options, of a part in IPv6 too.
pub(super) fn source_port(frame: &[u8]) -> u16 {
    let at = match (frame[12], frame[20]) {
        (8, _) => 34,
        (_, 44) => 62,
        _ => 54,
    };
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// The client's frame must arrive at the far backend in this node's name; gives the port it got.
pub(super) fn sent(node: &mut Node, ends: &Ends, frame: &Frame) -> u16 {
    let run = node.enters(&frame.build(), Reason::NatSent);
    let port = source_port(&run.frame);
    assert!((PORTS.0..=PORTS.1).contains(&port), "{port}");
    let wanted = Frame {
        from: ends.own(port),
        to: ends.far,
        hops: 63,
        macs: macs(PEER_MAC, node.kernel.mac),
        ..frame.clone()
    };
    assert_eq!((run.action, run.frame), (3, wanted.build()));
    port
}

/// The backend's answer must reach the client as if it came from where that sent.
pub(super) fn answered(node: &mut Node, ends: &Ends, port: u16, answer: &Frame) {
    let from_backend = Frame {
        from: ends.far,
        to: ends.own(port),
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
    for (ends, protocol) in ends().into_iter().flat_map(|ends| [(ends, TCP), (ends, UDP)]) {
        let Ends { client, vip, far } = ends;
        let mut node = bare(&ends, protocol);
        let packet = |from, to, flags| Frame {
            protocol,
            ..Frame::tcp(from, to, if protocol == TCP { flags } else { 0 })
        };
        let port = sent(&mut node, &ends, &packet(client, vip, SYN));
        answered(&mut node, &ends, port, &packet(vip, client, SYN | ACK));
        for flags in [ACK, ACK, FIN | ACK] {
            assert_eq!(
                sent(&mut node, &ends, &packet(client, vip, flags)),
                port,
                "one flow, one port"
            );
            answered(&mut node, &ends, port, &packet(vip, client, flags));
        }
        let unsummed = Frame {
            summed: false,
            ..Frame::udp(client, vip)
        };
        if protocol == UDP {
            let run = node.enters(&unsummed.build(), Reason::NatSent);
            let at = if ends.is_four() { 40 } else { 60 };
            assert_eq!(run.frame[at..at + 2], [0, 0], "no checksum stays none");
        }
        // A port that no flow has is the stack's to refuse.
        let free = (PORTS.0..=PORTS.1).find(|free| *free != port).expect("several");
        let stray = packet(far, ends.own(free), ACK).build();
        assert_eq!(node.enters(&stray, Reason::NotVip).frame, stray);
    }
}

#[test]
fn without_a_route_back_the_stack_finds_the_client() {
    for ends in ends() {
        let Ends { client, vip, far } = ends;
        let mut node = bare(&ends, TCP);
        let port = sent(&mut node, &ends, &Frame::tcp(client, vip, SYN));
        ends.lose_client();
        let answer = Frame::tcp(far, ends.own(port), SYN | ACK).build();
        let run = node.enters(&answer, Reason::NatRestoredPass);
        let wanted = Frame {
            hops: 63,
            ..Frame::tcp(vip, client, SYN | ACK)
        };
        assert_eq!((run.action, run.frame), (2, wanted.build()));
    }
}

#[test]
fn on_a_veth_it_leaves_by_redirect_and_with_no_ports_not_at_all() {
    for ends in ends() {
        let mut node = bare(&ends, TCP);
        node.tables.node.flags = lb_common::node_flags::REDIRECT;
        node.load();
        let syn = Frame::tcp(ends.client, ends.vip, SYN);
        assert_eq!(node.enters(&syn.build(), Reason::NatRedirected).action, 4);
        assert_eq!(explained(&mut node, &syn), Reason::NatSent);
        node.tables.node.nat_first = Be16::new(0);
        node.tables.node.nat_last = Be16::new(0);
        node.load();
        assert_eq!(node.enters(&syn.build(), Reason::NoRoute).frame, syn.build());
        assert_eq!(explained(&mut node, &syn), Reason::NoRoute);
    }
}

/// What the explaining twin says.
fn explained(node: &mut Node, frame: &Frame) -> Reason {
    let uplink = node.kernel.uplink;
    let (_, decision) = node.kernel.lb.explain(&frame.build(), uplink).expect("explains");
    let all = Reason::ALL.iter();
    *all.clone()
        .find(|reason| reason.index() == decision.reason)
        .expect("known")
}

#[test]
fn without_an_ipv6_address_of_its_own_a_node_says_so_and_ipv4_does_not_suffer() {
    let [four, ends] = ends();
    let mut node = bare(&ends, TCP);
    let index = node.backend(four.far, TCP, backend_flags::BARE);
    node.vip(four.vip, TCP, &[index], &[]);
    node.tables.own6 = lb_common::Ip::default();
    node.load();
    let syn = Frame::tcp(ends.client, ends.vip, SYN);
    assert_eq!(node.enters(&syn.build(), Reason::NoNatAddress).action, 1);
    assert_eq!(explained(&mut node, &syn), Reason::NoNatAddress);
    sent(&mut node, &four, &Frame::tcp(four.client, four.vip, SYN));
    // What once came to an address of this node is the stack's now.
    let answer = Frame::tcp(ends.far, ends.own(PORTS.0), ACK).build();
    assert_eq!(node.enters(&answer, Reason::NotVip).frame, answer);
}

#[test]
fn packets_at_the_end_of_their_hops_go_nowhere() {
    for ends in ends() {
        let mut node = bare(&ends, TCP);
        let last = |frame: Frame| Frame { hops: 1, ..frame };
        node.enters(&last(Frame::tcp(ends.client, ends.vip, SYN)).build(), Reason::NoRoute);
        let port = sent(&mut node, &ends, &Frame::tcp(ends.client, ends.vip, SYN));
        node.enters(
            &last(Frame::tcp(ends.far, ends.own(port), ACK)).build(),
            Reason::NoRoute,
        );
    }
}

#[test]
fn all_ports_in_use_is_told_and_an_ended_flow_gives_its_port_back() {
    for ends in ends() {
        let mut node = bare(&ends, TCP);
        let packet = |port: u16, flags| Frame::tcp((ends.client.0, port), ends.vip, flags);
        let mut ports: Vec<u16> = (1..=4).map(|n| sent(&mut node, &ends, &packet(n, SYN))).collect();
        let second = ports[1];
        ports.sort_unstable();
        assert_eq!(ports, [61_000, 61_001, 61_002, 61_003]);
        node.enters(&packet(5, SYN).build(), Reason::NoNatPort);
        assert_eq!(sent(&mut node, &ends, &packet(2, RST)), second);
        assert_eq!(sent(&mut node, &ends, &packet(5, SYN)), second);
        // The same client port again: a new flow.
        node.enters(&packet(2, SYN).build(), Reason::NoNatPort);
    }
}

#[test]
fn a_flow_stays_where_it_is_whatever_the_table_says() {
    for ends in ends() {
        let mut node = bare(&ends, TCP);
        let other = (ends.far.0, 31_003);
        node.backend(other, TCP, backend_flags::BARE);
        node.load();
        let port = sent(&mut node, &ends, &Frame::tcp(ends.client, ends.vip, SYN));
        node.kernel.set_slots(0, [1, 1]);
        assert_eq!(sent(&mut node, &ends, &Frame::tcp(ends.client, ends.vip, ACK)), port);
        let moved = Ends { far: other, ..ends };
        sent(&mut node, &moved, &Frame::tcp((ends.client.0, 1), ends.vip, SYN));
    }
}

#[test]
fn options_and_extension_headers_go_along() {
    for ends in ends() {
        let mut node = bare(&ends, TCP);
        let mut syn = Frame::tcp(ends.client, ends.vip, SYN);
        syn.options = vec![1; 8];
        let port = sent(&mut node, &ends, &syn);
        if ends.is_four() {
            continue;
        }
        let behind = |frame: Frame| Frame {
            extensions: vec![(60, [0, 0, 1, 4, 0, 0, 0, 0]); 2],
            ..frame
        };
        let run = node.enters(&behind(Frame::tcp(ends.client, ends.vip, ACK)).build(), Reason::NatSent);
        let wanted = Frame {
            hops: 63,
            macs: macs(PEER_MAC, node.kernel.mac),
            ..behind(Frame::tcp(ends.own(port), ends.far, ACK))
        };
        assert_eq!(run.frame, wanted.build());
        answered(&mut node, &ends, port, &behind(Frame::tcp(ends.vip, ends.client, ACK)));
    }
}

/// Of what an error becomes on the way to `to`: one hop less, and the link addresses of that way.
fn forwarded(mut frame: Vec<u8>, to: [u8; 6], node: &Node) -> Vec<u8> {
    frame[..12].copy_from_slice(&macs(to, node.kernel.mac));
    if frame[12] != 8 {
        frame[21] -= 1;
        return frame;
    }
    frame[22] -= 1;
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn errors_on_either_side_reach_whoever_sent_what_they_quote() {
    for (ends, protocol) in ends().into_iter().flat_map(|ends| [(ends, TCP), (ends, UDP)]) {
        let Ends { client, vip, far } = ends;
        let router = ends.router();
        let mut node = bare(&ends, protocol);
        let packet = |from, to, flags| Frame {
            protocol,
            ..Frame::tcp(from, to, if protocol == TCP { flags } else { 0 })
        };
        let port = sent(&mut node, &ends, &packet(client, vip, SYN));
        let own = ends.own(port);
        // On the way to the backend; also from the backend's own host, which the client knows as the VIP.
        for (from, seen) in [(router, router), (far.0, vip.0)] {
            let told = error(from, own.0, &packet(own, far, ACK));
            let wanted = error(seen, client.0, &packet(client, vip, ACK));
            let run = node.enters(&told, Reason::NatRestored);
            assert_eq!(
                run.frame,
                forwarded(wanted, CLIENT_MAC, &node),
                "{protocol} from {from}"
            );
        }
        // On the way to the client, and from the client's host, which the backend knows as this node.
        for (from, seen) in [(router, router), (client.0, own.0)] {
            let told = error(from, vip.0, &packet(vip, client, ACK));
            let wanted = error(seen, far.0, &packet(far, own, ACK));
            let run = node.enters(&told, Reason::NatRestored);
            assert_eq!(run.frame, forwarded(wanted, PEER_MAC, &node), "{protocol} from {from}");
        }
        // About a flow that is none.
        let stranger = (client.0, 40_001);
        let told = error(router, vip.0, &packet(vip, stranger, ACK));
        assert_eq!(node.enters(&told, Reason::ErrorUnknown).frame, told);
        let free = (PORTS.0..=PORTS.1).find(|free| *free != port).expect("several");
        let told = error(router, own.0, &packet(ends.own(free), far, ACK));
        assert_eq!(node.enters(&told, Reason::NotVip).frame, told);
        // And where the way is not known, the stack finds it.
        ends.lose_client();
        let told = error(router, own.0, &packet(own, far, ACK));
        node.enters(&told, Reason::NatRestoredPass);
    }
}

#[test]
fn who_sends_more_than_the_way_to_the_backend_carries_is_told() {
    for ends in ends() {
        let Ends { client, vip, .. } = ends;
        let mut node = bare(&ends, TCP);
        sent(&mut node, &ends, &Frame::tcp(client, vip, SYN));
        if ends.is_four() {
            ip("route add 192.168.7.2/32 dev up0 src 192.168.7.1 mtu lock 1400");
        } else {
            ip("route add fd00:7::2/128 dev up0 mtu lock 1400");
        }
        sent(&mut node, &ends, &long(client, vip, 1400));
        let frame = long(client, vip, 1401).build();
        let run = node.enters(&frame, Reason::TooBigReplied);
        assert_eq!((run.action, run.frame), (3, told(&frame, vip.0, client.0, 1400)));
    }
}
