//! Headers at their edges: both families, UDP's two zeros, extension headers, hops, a backend that is its own client.

use lb_common::{Reason, backend_flags};

use super::build::{ACK, Frame, SYN, TCP, UDP, at};
use super::node::Node;

const LOCAL: u8 = backend_flags::LOCAL;

#[test]
fn tcp_over_ipv6_goes_to_the_backend_and_back() {
    let mut node = Node::new();
    let (client, vip, backend) = (at("2001:db8::9", 40_000), at("fd01:c::5", 80), at("fd00::7", 8080));
    let index = node.backend(backend, TCP, LOCAL);
    node.vip(vip, TCP, &[index], &[]);
    node.load();
    let run = node.enters(&Frame::tcp(client, vip, SYN).build(), Reason::LocalBackend);
    assert_eq!(run.frame, Frame::tcp(client, backend, SYN).build());
    let mut answer = Frame::tcp(backend, client, SYN | ACK);
    answer.options = vec![1, 1, 1, 2, 4, 0x05, 0xa0, 0];
    let mut seen = Frame::tcp(vip, client, SYN | ACK);
    // 1500 less 60 of headers, 50 of the tunnel, 10 to spare; at an odd place.
    seen.options = vec![1, 1, 1, 2, 4, 0x05, 0x64, 0];
    assert_eq!(node.leaves(&answer.build(), Reason::Restored).frame, seen.build());
}

#[test]
fn udp_of_both_families_goes_to_the_backend_and_back() {
    for [client, vip, backend] in [
        [at("192.0.2.9", 40_000), at("198.18.2.3", 53), at("10.0.0.5", 5353)],
        [at("2001:db8::9", 40_000), at("fd01:c::5", 53), at("fd00::7", 5353)],
    ] {
        let mut node = Node::new();
        let index = node.backend(backend, UDP, LOCAL);
        node.vip(vip, UDP, &[index], &[]);
        node.load();
        for _ in 0..3 {
            let run = node.enters(&Frame::udp(client, vip).build(), Reason::LocalBackend);
            assert_eq!(run.frame, Frame::udp(client, backend).build());
            let run = node.leaves(&Frame::udp(backend, client).build(), Reason::Restored);
            assert_eq!(run.frame, Frame::udp(vip, client).build());
        }
    }
}

#[test]
fn no_udp_checksum_stays_none_and_a_sum_of_zero_is_written_as_ones() {
    let (client, vip, backend) = (at("192.0.2.9", 40_000), at("198.18.2.3", 53), at("10.0.0.5", 5353));
    let mut node = Node::new();
    let index = node.backend(backend, UDP, LOCAL);
    node.vip(vip, UDP, &[index], &[]);
    node.load();
    let unsummed = |frame: Frame| Frame { summed: false, ..frame }.build();
    let run = node.enters(&unsummed(Frame::udp(client, vip)), Reason::LocalBackend);
    assert_eq!(run.frame, unsummed(Frame::udp(client, backend)));
    let run = node.leaves(&unsummed(Frame::udp(backend, client)), Reason::Restored);
    assert_eq!(run.frame, unsummed(Frame::udp(vip, client)));
    // The word that makes the sum of what comes out zero.
    let zeroed = |mut out: Frame| {
        out.payload = vec![0; 2];
        let built = out.build();
        let sum = [built[40], built[41]];
        out.payload = sum.to_vec();
        assert_eq!(out.build()[40..42], [0xff, 0xff]);
        out
    };
    let out = zeroed(Frame::udp(client, backend));
    let entering = Frame { to: vip, ..out.clone() };
    assert_eq!(node.enters(&entering.build(), Reason::LocalBackend).frame, out.build());
    let out = zeroed(Frame::udp(vip, client));
    let leaving = Frame {
        from: backend,
        ..out.clone()
    };
    assert_eq!(node.leaves(&leaving.build(), Reason::Restored).frame, out.build());
}

#[test]
fn extension_headers_are_walked_as_far_as_is_sensible() {
    let mut node = Node::new();
    let (client, vip, backend) = (at("2001:db8::9", 40_000), at("fd01:c::5", 80), at("fd00::7", 8080));
    let index = node.backend(backend, TCP, LOCAL);
    node.vip(vip, TCP, &[index], &[]);
    node.load();
    let padding = [0, 0, 1, 4, 0, 0, 0, 0];
    for count in 1..=7 {
        let mut frame = Frame::tcp(client, vip, SYN);
        frame.extensions = vec![(0, padding); 1];
        frame.extensions.extend(vec![(60, padding); count - 1]);
        if count == 7 {
            let run = node.enters(&frame.build(), Reason::TooDeep);
            assert_eq!(run.frame, frame.build());
        } else {
            let run = node.enters(&frame.build(), Reason::LocalBackend);
            assert_eq!(
                run.frame,
                Frame { to: backend, ..frame }.build(),
                "{count} extension headers"
            );
        }
    }
    // A routing header that is used up is like any other; one that is not means another destination.
    for (left, reason) in [(0, Reason::LocalBackend), (1, Reason::TooDeep)] {
        let mut frame = Frame::tcp(client, vip, SYN);
        frame.extensions = vec![(43, [0, 0, 4, left, 0, 0, 0, 0])];
        node.enters(&frame.build(), reason);
    }
}

#[test]
fn past_the_stack_a_packet_takes_a_hop_and_new_link_addresses() {
    for [client, vip, backend] in [
        [at("192.0.2.9", 40_000), at("198.18.2.3", 80), at("10.0.0.5", 8080)],
        [at("2001:db8::9", 40_000), at("fd01:c::5", 80), at("fd00::7", 8080)],
    ] {
        let mut node = Node::new();
        let index = node.backend(backend, TCP, LOCAL);
        node.vip(vip, TCP, &[index], &[]);
        node.tables.backends[0].ifindex = node.kernel.uplink;
        node.tables.backends[0].mac = [2, 0xbb, 0, 0, 0, 1];
        node.tables.backends[0].mtu = 1000;
        node.load();
        let frame = Frame::tcp(client, vip, SYN);
        let out = Frame {
            to: backend,
            hops: 63,
            macs: [2, 0xbb, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1],
            ..frame.clone()
        };
        let run = node.enters(&frame.build(), Reason::LocalRedirected);
        assert_eq!((run.action, run.frame), (4, out.build()));
        // What is too long for the interface is the stack's to tell, to the byte.
        let headers = if backend.0.is_ipv4() { 40 } else { 60 };
        for (len, reason) in [(1000, Reason::LocalRedirected), (1001, Reason::LocalBackend)] {
            let long = Frame {
                payload: vec![7; len - headers],
                ..frame.clone()
            };
            node.enters(&long.build(), reason);
        }
        // The stack tells the sender that the last hop is used up.
        let last = Frame { hops: 1, ..frame };
        let run = node.enters(&last.build(), Reason::LocalBackend);
        assert_eq!(run.frame, Frame { to: backend, ..last }.build());
    }
}

#[test]
fn a_backend_may_be_its_own_client() {
    let (vip, backend) = (at("198.18.2.3", 80), at("10.0.0.5", 8080));
    let client = at("10.0.0.5", 40_000);
    let mut node = Node::new();
    let index = node.backend(backend, TCP, LOCAL);
    node.vip(vip, TCP, &[index], &[]);
    node.load();
    let run = node.enters(&Frame::tcp(client, vip, SYN).build(), Reason::LocalBackend);
    assert_eq!(run.frame, Frame::tcp(client, backend, SYN).build());
    let run = node.leaves(&Frame::tcp(backend, client, SYN | ACK).build(), Reason::Restored);
    assert_eq!(run.frame, Frame::tcp(vip, client, SYN | ACK).build());
}
