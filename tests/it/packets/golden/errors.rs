//! ICMP errors from somewhere on the way to the client: they reach the backend whose packet they quote.

use std::net::IpAddr;

use lb_common::{Reason, backend_flags};

use super::build::{ACK, Frame, Peer, SYN, TCP, UDP, at};
use super::node::Node;
use super::tunnel::{assert_wrapped, wrapped_for};
use crate::packets::frame::{checksum, ethernet, ipv4};

const LOCAL: u8 = backend_flags::LOCAL;
/// "Fragmentation needed" and "packet too big", to 1400 bytes.
const TOO_BIG: [[u8; 8]; 2] = [[3, 4, 0, 0, 0, 0, 5, 120], [2, 0, 0, 0, 0, 0, 5, 120]];

/// An error that quotes a packet up to eight bytes of its transport header.
pub(super) fn error(from: IpAddr, to: IpAddr, quoted: &Frame) -> Vec<u8> {
    let quote = &quoted.build()[14..];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut body = [&TOO_BIG[0], &quote[..28]].concat();
            let sum = checksum(&body);
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            ethernet(&ipv4(from, to, 1, 0, &[], &body))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut body = [&TOO_BIG[1], &quote[..48]].concat();
            let len = u8::try_from(body.len()).expect("short");
            let pseudo = [&from.octets()[..], &to.octets(), &[0, 0, 0, len, 0, 0, 0, 58]].concat();
            let sum = checksum(&[pseudo, body.clone()].concat());
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut out = vec![
                2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x86, 0xdd, 0x60, 0, 0, 0, 0, len, 58, 64,
            ];
            out.extend(from.octets());
            out.extend(to.octets());
            out.extend(body);
            out
        }
        _ => panic!("one family"),
    }
}

fn parties() -> [[Peer; 4]; 2] {
    [
        [
            at("192.0.2.9", 40_000),
            at("198.18.2.3", 80),
            at("10.0.0.5", 8080),
            at("203.0.113.1", 0),
        ],
        [
            at("2001:db8::9", 40_000),
            at("fd01:c::5", 80),
            at("fd00::7", 8080),
            at("2001:db8:1::1", 0),
        ],
    ]
}

#[test]
fn too_big_on_the_way_to_the_client_reaches_the_backend() {
    for [client, vip, backend, (router, _)] in parties() {
        for protocol in [TCP, UDP] {
            let mut node = Node::new();
            let index = node.backend(backend, protocol, LOCAL);
            node.vip(vip, protocol, &[index], &[]);
            node.load();
            let packet = |from, to, flags| Frame {
                protocol,
                ..Frame::tcp(from, to, flags)
            };
            node.enters(&packet(client, vip, SYN).build(), Reason::LocalBackend);
            let told = error(router, vip.0, &packet(vip, client, ACK));
            let wanted = error(router, backend.0, &packet(backend, client, ACK));
            let run = node.enters(&told, Reason::ErrorDelivered);
            assert_eq!(run.frame, wanted, "protocol {protocol}");
        }
    }
}

#[test]
fn an_error_for_elsewhere_goes_through_the_tunnel_and_is_turned_there() {
    for [client, vip, backend, (router, _)] in parties() {
        let told = error(router, vip.0, &Frame::tcp(vip, client, ACK));
        let mut node = Node::new();
        let index = node.backend(backend, TCP, 0);
        node.vip(vip, TCP, &[index], &[]);
        node.load();
        let run = node.enters(&told, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, [0; 6], backend, &told);
        let mut node = Node::new();
        let index = node.backend(backend, TCP, LOCAL);
        node.vip(vip, TCP, &[index], &[]);
        node.load();
        let run = node.enters(&wrapped_for(backend, &told), Reason::ErrorDelivered);
        assert_eq!(run.frame, error(router, backend.0, &Frame::tcp(backend, client, ACK)));
    }
}

#[test]
fn errors_about_nothing_of_ours_go_to_the_stack() {
    for [client, vip, backend, (router, _)] in parties() {
        let mut node = Node::new();
        let index = node.backend(backend, TCP, LOCAL);
        node.vip(vip, TCP, &[index], &[]);
        node.load();
        let other = error(router, vip.0, &Frame::tcp((vip.0, 81), client, ACK));
        assert_eq!(node.enters(&other, Reason::VipProtocol).frame, other);
        let lying = error(router, vip.0, &Frame::tcp(backend, client, ACK));
        assert_eq!(node.enters(&lying, Reason::VipProtocol).frame, lying);
        let whole = error(router, vip.0, &Frame::tcp(vip, client, ACK));
        for len in (14 + 40 + 8)..whole.len() {
            // Cut short on the wire, or a quote too short to name the flow.
            let run = node.kernel.run(crate::packets::fuzz::grammar::Way::In, &whole[..len]);
            assert_eq!(run.expect("runs").frame, whole[..len]);
        }
    }
}
