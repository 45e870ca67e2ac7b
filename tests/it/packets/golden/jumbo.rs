//! Frames longer than a page lie in several pieces: their headers are rewritten as in any other, and nothing behind is lost.

use lb_common::{ENCAP_LEN, Reason, backend_flags};

use super::build::{Peer, TCP};
use super::node::Node;
use super::too_big::{long, parties, remote, told};
use super::tunnel::{assert_wrapped, wrapped_for};
use crate::packets::lab::{CLIENT, Lab, REMOTE, VIP, ip};

/// From the IP header on; with what the tunnel adds it fills a packet of 9000 bytes.
const LONG: usize = 9000 - ENCAP_LEN;

fn local(vip: Peer, backend: Peer) -> Node {
    let mut node = Node::new();
    node.backend(backend, TCP, backend_flags::LOCAL);
    node.vip(vip, TCP, &[0], &[]);
    node.load();
    node
}

/// A fabric that carries 9000 bytes.
fn wide(node: &mut Node) {
    for end in ["up0", "wire0"] {
        ip(&format!("link set {end} mtu 9000"));
    }
    node.tables.node.underlay_mtu = 9000;
    node.load();
}

#[test]
fn a_backend_here_gets_it_whole_by_itself_and_out_of_the_tunnel() {
    for [client, vip, backend] in parties() {
        let mut node = local(vip, backend);
        let (frame, wanted) = (long(client, vip, LONG).build(), long(client, backend, LONG).build());
        assert_eq!(node.enters(&frame, Reason::LocalBackend).frame, wanted);
        let carried = wrapped_for(backend, &frame);
        assert_eq!(node.enters(&carried, Reason::TunnelDelivered).frame[14..], wanted[14..]);
    }
}

#[test]
fn a_backend_elsewhere_is_sent_what_fits_and_the_sender_is_told_of_the_rest() {
    for [client, vip, backend] in parties() {
        let mut node = remote(vip, backend);
        wide(&mut node);
        let frame = long(client, vip, LONG).build();
        let run = node.enters(&frame, Reason::TunnelRedirected);
        assert_wrapped(&run.frame, [0; 6], backend, &frame);
        let frame = long(client, vip, LONG + 1).build();
        let run = node.enters(&frame, Reason::ReplyRedirected);
        let mtu = u16::try_from(LONG).expect("short");
        assert_eq!(run.frame, told(&frame, vip.0, client.0, mtu));
    }
}

#[test]
fn a_length_beyond_the_last_piece_is_a_lie() {
    for [client, vip, backend] in parties() {
        let mut node = local(vip, backend);
        let mut frame = long(client, vip, LONG).build();
        frame.pop();
        let run = node.enters(&frame, Reason::Truncated);
        assert_eq!(run.frame, frame);
    }
}

#[test]
fn a_fabric_that_changes_its_size_is_heeded_without_a_restart() {
    let mut lab = Lab::with(&[(REMOTE, 1)]);
    let [client, vip] = [CLIENT, VIP].map(|(addr, port)| (addr.into(), port));
    for mtu in [1500, 1400, 9000, 1500] {
        ip(&format!("link set up0 mtu {mtu}"));
        // What the daemon does when the kernel tells that a link changed.
        lab.set(&[(REMOTE, 1)]);
        let fits = mtu - ENCAP_LEN;
        let (reason, _) = lab.xdp(&long(client, vip, fits).build());
        assert_eq!(reason, Reason::TunnelRedirected, "{fits} of {mtu}");
        let frame = long(client, vip, fits + 1).build();
        let (reason, run) = lab.xdp(&frame);
        assert_eq!(reason, Reason::ReplyRedirected, "{mtu}");
        let least = u16::try_from(fits).expect("short");
        assert_eq!(run.frame, told(&frame, vip.0, client.0, least));
    }
}
