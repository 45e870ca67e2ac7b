//! Packets that would not fit the fabric once wrapped: their sender is told, within bounds.

use std::net::IpAddr;

use lb_common::{Reason, TOO_BIG_BURST, node_flags};

use super::build::{ACK, Frame, Peer, TCP, at};
use super::node::Node;
use crate::packets::frame::{checksum, ipv4};

/// Behind which the packet is not quoted.
const QUOTED: [usize; 2] = [512, 1024];

pub(super) fn parties() -> [[Peer; 3]; 2] {
    [
        [at("192.0.2.9", 40_000), at("198.18.2.3", 80), at("10.9.0.5", 8080)],
        [at("2001:db8::9", 40_000), at("fd01:c::5", 80), at("fd00:9::7", 8080)],
    ]
}

pub(super) fn remote(vip: Peer, backend: Peer) -> Node {
    let mut node = Node::new();
    node.backend(backend, TCP, 0);
    node.vip(vip, TCP, &[0], &[]);
    node.load();
    node
}

/// A packet so long from its IP header on.
pub(super) fn long(client: Peer, vip: Peer, len: usize) -> Frame {
    let mut frame = Frame::tcp(client, vip, ACK);
    let headers = if client.0.is_ipv4() { 40 } else { 60 };
    frame.payload = (0..len - headers)
        .map(|n| u8::try_from(n % 251).expect("small"))
        .collect();
    frame
}

/// What its sender must be told, as RFC 792 and RFC 4443 lay it out.
pub(super) fn told(packet: &[u8], from: IpAddr, to: IpAddr, mtu: u16) -> Vec<u8> {
    let mut out = [&packet[6..12], &packet[..6]].concat();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut body = vec![3, 4, 0, 0, 0, 0];
            body.extend(mtu.to_be_bytes());
            body.extend(&packet[14..14 + QUOTED[0]]);
            let sum = checksum(&body);
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut ip = ipv4(from, to, 1, 0x4000, &[], &body);
            ip[1] = 0xc0;
            ip[10..12].fill(0);
            let sum = checksum(&ip[..20]);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            out.extend([8, 0]);
            out.extend(ip);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut body = vec![2, 0, 0, 0, 0, 0];
            body.extend(mtu.to_be_bytes());
            body.extend(&packet[14..14 + QUOTED[1]]);
            let len = u16::try_from(body.len()).expect("short").to_be_bytes();
            let pseudo = [&from.octets()[..], &to.octets(), &[0, 0], &len, &[0, 0, 0, 58]].concat();
            let sum = checksum(&[pseudo, body.clone()].concat());
            body[2..4].copy_from_slice(&sum.to_be_bytes());
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend(len);
            out.extend([58, 64]);
            out.extend(from.octets());
            out.extend(to.octets());
            out.extend(body);
        }
        _ => panic!("one family"),
    }
    out
}

#[test]
fn the_client_is_told_which_size_fits() {
    for [client, vip, backend] in parties() {
        let mut node = remote(vip, backend);
        node.enters(&long(client, vip, 1450).build(), Reason::TunnelRedirected);
        let frame = long(client, vip, 1451).build();
        let run = node.enters(&frame, Reason::ReplyRedirected);
        assert_eq!((run.action, run.frame), (4, told(&frame, vip.0, client.0, 1450)));
        // Where the driver can send on the interface that the packet came in by, that is the way.
        node.tables.node.flags = 0;
        node.load();
        let run = node.enters(&frame, Reason::TooBigReplied);
        assert_eq!((run.action, run.frame), (3, told(&frame, vip.0, client.0, 1450)));
        let uplink = node.kernel.uplink;
        let (run, decision) = node.kernel.lb.explain(&frame, uplink).expect("explains");
        assert_eq!(run.frame, told(&frame, vip.0, client.0, 1450));
        assert_eq!(decision.reason, Reason::TooBigReplied.index());
    }
}

#[test]
fn options_and_extension_headers_are_quoted_with_the_rest() {
    let [[client, vip, backend], [client6, vip6, backend6]] = parties();
    let mut node = remote(vip, backend);
    let mut frame = long(client, vip, 1480);
    frame.options = vec![1; 12];
    let frame = frame.build();
    let run = node.enters(&frame, Reason::ReplyRedirected);
    assert_eq!(run.frame, told(&frame, vip.0, client.0, 1450));
    let mut node = remote(vip6, backend6);
    let mut frame = long(client6, vip6, 1480);
    frame.extensions = vec![(60, [0, 0, 1, 4, 0, 0, 0, 0]); 3];
    let frame = frame.build();
    let run = node.enters(&frame, Reason::ReplyRedirected);
    assert_eq!(run.frame, told(&frame, vip6.0, client6.0, 1450));
}

#[test]
fn the_route_may_know_a_smaller_size_than_the_fabric() {
    for [client, vip, backend] in parties() {
        let mut node = remote(vip, backend);
        // Larger than that of the interface.
        node.tables.node.underlay_mtu = 9000;
        node.load();
        let frame = long(client, vip, 1451).build();
        let run = node.enters(&frame, Reason::ReplyRedirected);
        assert_eq!(run.frame, told(&frame, vip.0, client.0, 1450));
    }
}

#[test]
fn one_sender_is_told_so_often_and_no_oftener() {
    for [client, vip, backend] in parties() {
        let mut node = remote(vip, backend);
        let frame = long(client, vip, 1451).build();
        let mut told = 0;
        // The bucket earns one message in a tenth of a second: the slower the machine, the later it is empty.
        for _ in 0..TOO_BIG_BURST * 100 {
            let run = node
                .kernel
                .run(crate::packets::fuzz::grammar::Way::In, &frame)
                .expect("runs");
            if run.action != 4 {
                assert_eq!(run.action, 1, "dropped");
                break;
            }
            told += 1;
        }
        assert!((TOO_BIG_BURST..TOO_BIG_BURST * 100).contains(&told), "{told}");
        node.kernel.forget_rates();
        node.kernel.load(&node.tables);
        node.enters(&frame, Reason::ReplyRedirected);
    }
}

#[test]
fn nobody_is_told_where_nobody_would_heed_or_many_would_hear() {
    let [[client, vip, backend], [client6, vip6, backend6]] = parties();
    let mut node = remote(vip, backend);
    let mut broadcast = long(client, vip, 1451);
    broadcast.macs[0] |= 1;
    node.enters(&broadcast.build(), Reason::TooBig);
    for odd in ["224.0.0.9", "0.0.0.9", "127.0.0.1", "255.255.255.255"] {
        let frame = long(at(odd, 40_000), vip, 1451).build();
        assert_eq!(node.enters(&frame, Reason::TooBig).action, 1);
    }
    let mut node = remote(vip6, backend6);
    for odd in ["ff02::1", "::"] {
        node.enters(&long(at(odd, 40_000), vip6, 1451).build(), Reason::TooBig);
    }
    // Every IPv6 host may send 1280 bytes whatever it is told.
    node.tables.node.underlay_mtu = 1329;
    node.tables.node.flags = node_flags::REDIRECT;
    node.load();
    node.enters(&long(client6, vip6, 1451).build(), Reason::TooBig);
}
