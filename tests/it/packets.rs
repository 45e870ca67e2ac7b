//! Packets through the loaded programs by BPF_PROG_TEST_RUN: exact bytes out, one reason each.

mod client;
mod frame;
mod fuzz;
mod golden;
mod guards;
mod hooks;
mod lab;
mod migrate;
mod moved;
mod names;
mod sizes;

use frame::{ACK, SYN, Spec, UDP, addr, assert_sums, ethernet, ipv4, port};
use lab::{CLIENT, LOCAL, Lab, OWN, PEER, PEER_MAC, REMOTE, STRANGER, VIP, config, snapshot};
use lb_userspace::{Hook, Lb, Reason, desired, observe, plan};
use model::NodeView;
use std::net::Ipv4Addr;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// The uplink of the lab is a veth, on which tunnel packets leave by redirect.
const XDP_REDIRECT: u32 = 4;
const IP: usize = 14;
const INNER_IP: usize = 64;

fn syn() -> Spec {
    Spec::new(CLIENT, VIP, SYN)
}

/// A tunnel packet as a peer's XDP makes it.
fn tunnelled(from: Ipv4Addr, backend: (Ipv4Addr, u16), alternate: [u8; 6], inner: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(50_000_u16.to_be_bytes());
    body.extend(64_000_u16.to_be_bytes());
    body.extend(u16::try_from(8 + 8 + inner.len()).expect("short").to_be_bytes());
    body.extend([0, 0, 8, 0, 0, 0, 0xff, 0xff, 0xfe, 2]);
    let mut inner = inner.to_vec();
    inner[..6].copy_from_slice(&alternate);
    inner[6..10].copy_from_slice(&backend.0.octets());
    inner[10..12].copy_from_slice(&backend.1.to_be_bytes());
    body.extend(inner);
    ethernet(&ipv4(from, OWN, UDP, 0x4000, &[], &body))
}

/// No second choice.
const NOBODY: [u8; 6] = [0; 6];

#[test]
fn the_verifier_takes_every_program() {
    let mut lab = Lab::new();
    let uplink = lab.uplink;
    lab.lb
        .explain(&[0; 64], uplink)
        .expect("the explaining program is loaded");
    let stats = lab.lb.verifier_stats().expect("the kernel tells");
    for program in &stats {
        println!(
            "{}: {} instructions verified, {} bytes",
            program.name, program.verified_instructions, program.size
        );
    }
    assert_eq!(stats.len(), 17, "{stats:?}");
    assert!(
        stats.iter().all(|program| program.verified_instructions < 30_000),
        "{stats:?}"
    );
}

#[test]
fn what_is_not_for_a_vip_passes_unchanged() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let plain = Spec::new(CLIENT, (OWN, 22), SYN).build();
    let (reason, run) = lab.xdp(&plain);
    assert_eq!((reason, run.action, run.frame), (Reason::NotVip, XDP_PASS, plain));
    let mut arp = vec![0; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    let (reason, run) = lab.xdp(&arp);
    assert_eq!((reason, run.action, run.frame), (Reason::NotIp, XDP_PASS, arp));
}

#[test]
fn a_local_backend_gets_the_packet_with_right_checksums() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let frame = syn().build();
    let (reason, run) = lab.xdp(&frame);
    assert_eq!((reason, run.action), (Reason::LocalBackend, XDP_PASS));
    let expected = Spec::new(CLIENT, LOCAL, SYN).build();
    assert_eq!(run.frame, expected, "only destination and checksums change");
}

#[test]
fn ipv4_options_do_not_hide_the_port() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    for words in 1..=10 {
        let mut spec = syn();
        spec.ip_options = vec![1; words * 4];
        let (reason, run) = lab.xdp(&spec.build());
        assert_eq!(
            (reason, run.action),
            (Reason::LocalBackend, XDP_PASS),
            "{words} words of options"
        );
        assert_sums(&run.frame, IP);
        assert_eq!(addr(&run.frame, IP + 16), LOCAL.0);
        assert_eq!(port(&run.frame, IP + 20 + words * 4 + 2), LOCAL.1);
    }
}

#[test]
fn a_remote_backend_gets_it_through_the_tunnel() {
    let lab = Lab::with(&[(REMOTE, 1)]);
    let frame = syn().build();
    let (reason, run) = lab.xdp(&frame);
    assert_eq!((reason, run.action), (Reason::TunnelRedirected, XDP_REDIRECT));
    let out = run.frame;
    assert_eq!(out.len(), frame.len() + 50);
    assert_eq!(out[..6], PEER_MAC, "next hop");
    assert_eq!(frame::checksum(&out[IP..IP + 20]), 0, "outer checksum");
    assert_eq!((addr(&out, IP + 12), addr(&out, IP + 16)), (OWN, PEER));
    assert_eq!(out[IP + 6..IP + 8], [0x40, 0], "outer packets are not fragmented");
    assert!(port(&out, 34) >= 49_152, "source port from the flow's hash");
    assert_eq!(port(&out, 36), 64_000);
    assert_eq!(usize::from(port(&out, 38)), out.len() - 34);
    assert_eq!(out[40..42], [0, 0], "no UDP checksum");
    assert_eq!(out[42..50], [8, 0, 0, 0, 0xff, 0xff, 0xfe, 2]);
    assert_eq!(out[50..56], out[56..62], "who opens a flow is sure");
    assert_eq!(out[56..60], REMOTE.0.octets());
    assert_eq!(port(&out, 60), REMOTE.1);
    assert_eq!(out[INNER_IP..], frame[IP..], "the client's packet is whole inside");
    let (_, again) = lab.xdp(&frame);
    assert_eq!(again.frame, out, "one flow, one path");
}

#[test]
fn only_what_fits_goes_through_the_tunnel() {
    let lab = Lab::with(&[(REMOTE, 1)]);
    let mut spec = syn();
    spec.flags = ACK;
    spec.payload = vec![0; 1500 - 50 - 40];
    assert_eq!(lab.xdp(&spec.build()).0, Reason::TunnelRedirected, "exactly fits");
    spec.payload.push(0);
    let (reason, run) = lab.xdp(&spec.build());
    assert_eq!((reason, run.action), (Reason::ReplyRedirected, XDP_REDIRECT));
    assert_eq!(addr(&run.frame, IP + 16), CLIENT.0, "the client is told");
}

#[test]
fn an_unknown_next_hop_is_counted() {
    let lab = Lab::with(&[((STRANGER, 80), 1)]);
    let (reason, run) = lab.xdp(&syn().build());
    assert_eq!((reason, run.action), (Reason::NoNeighbour, XDP_DROP));
}

#[test]
fn a_tunnel_packet_is_unwrapped_for_its_backend() {
    let lab = Lab::with(&[(LOCAL, 1), (REMOTE, 1)]);
    let frame = tunnelled(PEER, LOCAL, NOBODY, &syn().build());
    let (reason, run) = lab.xdp(&frame);
    assert_eq!((reason, run.action), (Reason::TunnelDelivered, XDP_PASS));
    assert_eq!(run.frame[..14], frame[..14], "addressed to this node's link");
    assert_eq!(run.frame[14..], Spec::new(CLIENT, LOCAL, SYN).build()[14..]);
}

#[test]
fn forged_tunnel_packets_are_dropped_each_for_its_reason() {
    let lab = Lab::with(&[(LOCAL, 1), (REMOTE, 1)]);
    let inner = syn().build();
    let not_vip = Spec::new(CLIENT, (OWN, 22), SYN).build();
    let mut other_version = tunnelled(PEER, LOCAL, NOBODY, &inner);
    other_version[49] = 1;
    let mut fragment = syn();
    fragment.fragment = 0x2001;
    for (frame, expected) in [
        (tunnelled(STRANGER, LOCAL, NOBODY, &inner), Reason::TunnelNotPeer),
        (other_version, Reason::TunnelMalformed),
        (tunnelled(PEER, LOCAL, NOBODY, &fragment.build()), Reason::Fragment),
        (tunnelled(PEER, LOCAL, NOBODY, &inner[..40]), Reason::TunnelMalformed),
        (tunnelled(PEER, LOCAL, NOBODY, &not_vip), Reason::TunnelNotVip),
        (tunnelled(PEER, REMOTE, NOBODY, &inner), Reason::TunnelNotLocal),
        (tunnelled(PEER, (OWN, 22), NOBODY, &inner), Reason::TunnelNotLocal),
    ] {
        let (reason, run) = lab.xdp(&frame);
        assert_eq!((reason, run.action), (expected, XDP_DROP));
    }
    let mut overlay = tunnelled(PEER, LOCAL, NOBODY, &inner);
    overlay[46..49].copy_from_slice(&[0, 4, 0]);
    assert_eq!(
        lab.xdp(&overlay).0,
        Reason::NotVip,
        "the overlay's own packets go to its device"
    );
}

#[test]
fn the_answer_bears_the_vip_and_a_segment_size_that_fits() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let mut answer = Spec::new(LOCAL, CLIENT, SYN | ACK);
    answer.payload.clear();
    assert_eq!(lab.egress(&answer.build()).0, Reason::NotBalanced, "no flow yet");
    assert_eq!(lab.xdp(&syn().build()).0, Reason::LocalBackend);
    for (options, mss_at) in [
        (vec![2, 4, 0x05, 0xb4], 2),
        (vec![1, 2, 4, 0x05, 0xb4, 1, 1, 0], 3),
        (vec![3, 3, 7, 2, 4, 0x05, 0xb4, 0], 5),
    ] {
        answer.tcp_options = options;
        let (reason, run) = lab.egress(&answer.build());
        assert_eq!(reason, Reason::Restored);
        assert_sums(&run.frame, IP);
        assert_eq!((addr(&run.frame, IP + 12), port(&run.frame, IP + 20)), VIP);
        assert_eq!((addr(&run.frame, IP + 16), port(&run.frame, IP + 22)), CLIENT);
        assert_eq!(port(&run.frame, IP + 40 + mss_at), 1400);
    }
    answer.tcp_options = vec![2, 4, 0x02, 0x18];
    assert_eq!(
        port(&lab.egress(&answer.build()).1.frame, IP + 42),
        536,
        "a smaller one stays"
    );
}

#[test]
fn unknown_vips_and_protocols_go_to_the_stack() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let unknown = Spec::new(CLIENT, (VIP.0, 1), SYN).build();
    let (reason, run) = lab.xdp(&unknown);
    assert_eq!((reason, run.action, run.frame), (Reason::UnknownVip, XDP_PASS, unknown));
    for protocol in [frame::ICMP, 47, 132] {
        let other = ethernet(&ipv4(CLIENT.0, VIP.0, protocol, 0, &[], &[0; 20]));
        let (reason, run) = lab.xdp(&other);
        assert_eq!((reason, run.action, run.frame), (Reason::VipProtocol, XDP_PASS, other));
    }
}

#[test]
fn fragments_whose_first_part_was_not_seen_are_counted_and_dropped() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    for fragment in [0x2001, 0x0010] {
        let mut spec = syn();
        spec.fragment = fragment;
        let (reason, run) = lab.xdp(&spec.build());
        assert_eq!((reason, run.action), (Reason::Fragment, XDP_DROP), "{fragment:#x}");
    }
}

#[test]
fn flows_stay_and_new_ones_follow_the_table() {
    let mut lab = Lab::with(&[(LOCAL, 1)]);
    assert_eq!(lab.xdp(&syn().build()).0, Reason::LocalBackend);
    lab.set(&[(LOCAL, 0), (REMOTE, 1)]);
    let data = Spec::new(CLIENT, VIP, ACK).build();
    assert_eq!(
        lab.xdp(&data).0,
        Reason::LocalBackend,
        "a draining backend keeps its flows"
    );
    assert_eq!(
        lab.xdp(&syn().build()).0,
        Reason::TunnelRedirected,
        "and gets no new ones"
    );
    lab.set(&[(LOCAL, 0)]);
    let other = Spec::new((CLIENT.0, 40_001), VIP, SYN).build();
    let (reason, run) = lab.xdp(&other);
    assert_eq!((reason, run.action), (Reason::NoBackend, XDP_DROP));
    lab.set(&[]);
    assert_eq!(lab.xdp(&syn().build()).0, Reason::UnknownVip);
}

#[test]
fn flows_of_a_removed_backend_do_not_follow_its_index() {
    let mut lab = Lab::with(&[(LOCAL, 1)]);
    assert_eq!(lab.xdp(&syn().build()).0, Reason::LocalBackend);
    lab.set(&[(REMOTE, 1)]);
    let data = Spec::new(CLIENT, VIP, ACK).build();
    assert_eq!(lab.xdp(&data).0, Reason::TunnelRedirected);
}

#[test]
fn every_truncation_ends_with_one_reason() {
    let lab = Lab::with(&[(LOCAL, 1), (REMOTE, 1)]);
    let mut with_options = syn();
    with_options.ip_options = vec![1; 8];
    let frames = [
        syn().build(),
        with_options.build(),
        tunnelled(PEER, LOCAL, NOBODY, &syn().build()),
        tunnelled(PEER, LOCAL, NOBODY, &with_options.build()),
    ];
    let mut packets = 0;
    let before: u64 = xdp_total(&lab);
    for frame in &frames {
        // The kernel runs no frame shorter than an Ethernet header.
        for len in 14..frame.len() {
            let (reason, run) = lab.xdp(&frame[..len]);
            assert_eq!(reason, Reason::Truncated, "{len} of {} bytes", frame.len());
            assert_eq!((run.action, run.frame.as_slice()), (XDP_PASS, &frame[..len]));
            // The kernel makes no IPv4 skb without a whole header.
            if len >= 34 {
                assert_eq!(lab.egress(&frame[..len]).0, Reason::NotBalanced);
            }
            packets += 1;
        }
    }
    assert_eq!(xdp_total(&lab) - before, packets, "reasons add up to packets in");
}

#[test]
fn lying_length_fields_never_misbehave() {
    let lab = Lab::with(&[(LOCAL, 1)]);
    let good = syn().build();
    for at in [IP, IP + 2, IP + 3, IP + 9, IP + 32] {
        for value in 0..=255 {
            let mut frame = good.clone();
            frame[at] = value;
            let (_, run) = lab.xdp(&frame);
            assert!([XDP_PASS, XDP_DROP].contains(&run.action));
            assert_eq!(run.frame.len(), frame.len());
        }
    }
}

fn xdp_total(lab: &Lab) -> u64 {
    lab.counters()
        .iter()
        .filter(|(reason, _)| reason.hook() == Hook::Xdp)
        .map(|(_, n)| n)
        .sum()
}

#[test]
fn a_new_daemon_goes_on_with_what_the_old_one_left() {
    let lab = Lab::with(&[(LOCAL, 1), (REMOTE, 1)]);
    let first = lab.xdp(&syn().build());
    let before = xdp_total(&lab);
    let Lab { lb, uplink, folder } = lab;
    drop(lb);
    let (lb, opened) = Lb::open(config(folder.path())).expect("opens again");
    assert_eq!(
        (opened.attached.as_slice(), opened.adopted.len()),
        ([].as_slice(), 11),
        "{opened:?}"
    );
    let mut lab = Lab { lb, uplink, folder };
    assert_eq!(xdp_total(&lab), before, "counters go on");
    let wanted = desired(
        &snapshot(&[(LOCAL, 1), (REMOTE, 1)]),
        &NodeView { ip: OWN, agent: None },
    );
    let found = observe(&mut lab.lb).expect("maps can be read");
    assert_eq!(plan(&wanted, &found).adds, vec![], "nothing to do");
    assert_eq!(lab.xdp(&syn().build()).0, first.0, "the flow is where it was");
}

#[test]
fn tracing_changes_no_packet() {
    let mut lab = Lab::with(&[(LOCAL, 1)]);
    let plain = lab.xdp(&syn().build()).1.frame;
    let mut traced = config(lab.folder.path());
    traced.trace = true;
    let (lb, opened) = Lb::open(traced).expect("opens with tracing");
    assert!(
        !opened.warnings.iter().any(|text| text.contains("cannot be traced")),
        "{opened:?}"
    );
    lab.lb = lb;
    assert_eq!(lab.xdp(&syn().build()).1.frame, plain);
    lab.lb.drain_trace();
}
