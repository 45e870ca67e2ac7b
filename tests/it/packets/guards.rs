//! The daemon's part in what becomes of connections to a backend of this node that has stopped, and in translated sources.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use lb_userspace::{Config, Lb, OpenError, Reason};

use crate::packets::frame::{ACK, SYN, Spec};
use crate::packets::lab::{CLIENT, LOCAL, Lab, PEER, REMOTE, VIP, config};

const PORTS: RangeInclusive<u16> = 61_000..=61_999;

fn translating(change: impl FnOnce(&mut Config)) -> Lab {
    Lab::configured(|config| {
        config.nat_ports = Some(PORTS);
        change(config);
    })
}

fn to(at: (Ipv4Addr, u16), flags: u8, from: u16) -> Vec<u8> {
    Spec::new((CLIENT.0, from), at, flags).build()
}

fn later(seconds: u64) -> u64 {
    lb_userspace::monotonic_seconds() + seconds
}

#[test]
fn a_backend_that_leaves_is_stood_in_for_until_nothing_comes_for_it_any_more() {
    let mut lab = translating(|_| {});
    lab.set(&[(LOCAL, 1), (REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NotVip, "it is there itself");
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NatRedirected);
    assert_eq!(lab.xdp(&to(LOCAL, ACK, 2)).0, Reason::LatePacket);
    // A connection holds its stand-in up.
    lab.lb.expire(later(61)).expect("maps can be written");
    assert_eq!(lab.xdp(&to(LOCAL, ACK, 1)).0, Reason::NatRedirected);
    let tables = lab.lb.flow_tables().expect("the tables");
    let now = |seconds| u32::try_from(later(seconds)).expect("not so old");
    tables.sweep(now(100_000)).expect("a sweep");
    assert_eq!(
        lab.xdp(&to(LOCAL, ACK, 1)).0,
        Reason::NatRedirected,
        "live flows are never swept"
    );
    // Its end, seen from one side; and time.
    const RST: u8 = 4;
    assert_eq!(lab.xdp(&to(LOCAL, RST, 1)).0, Reason::NatRedirected);
    tables.sweep(now(100_000)).expect("a sweep");
    lab.lb.expire(later(200)).expect("maps can be written");
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NotVip);
}

#[test]
fn whoever_comes_back_answers_itself() {
    let mut lab = translating(|_| {});
    lab.set(&[(LOCAL, 1), (REMOTE, 1)]);
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NatRedirected);
    lab.set(&[(LOCAL, 1), (REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 2)).0, Reason::NotVip);
    lab.lb.expire(later(1000)).expect("maps can be written");
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(
        lab.xdp(&to(LOCAL, SYN, 3)).0,
        Reason::NatRedirected,
        "its new guard was not taken down"
    );
}

#[test]
fn a_new_daemon_takes_over_the_guards_of_the_last_one() {
    let mut lab = translating(|_| {});
    lab.set(&[(LOCAL, 1), (REMOTE, 1)]);
    lab.set(&[(REMOTE, 1)]);
    let mut again = config(lab.folder.path());
    again.nat_ports = Some(PORTS);
    lab.lb = Lb::open(again).expect("opens again").0;
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NatRedirected);
    lab.lb.expire(later(61)).expect("maps can be written");
    let tables = lab.lb.flow_tables().expect("the tables");
    assert_eq!(lab.xdp(&to(LOCAL, 4, 1)).0, Reason::NatRedirected);
    tables
        .sweep(u32::try_from(later(100_000)).expect("not so old"))
        .expect("a sweep");
    lab.lb.expire(later(200)).expect("maps can be written");
    assert_eq!(lab.xdp(&to(LOCAL, SYN, 1)).0, Reason::NotVip);
}

#[test]
fn packets_for_nodes_without_the_daemon_are_translated_and_a_changed_setting_counts_at_once() {
    let bare = |config: &mut Config| config.bare_nodes = vec![format!("{PEER}/32").parse().expect("a network")];
    let mut lab = translating(bare);
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(VIP, SYN, 1)).0, Reason::NatRedirected);
    let mut again = config(lab.folder.path());
    again.nat_ports = Some(PORTS);
    lab.lb = Lb::open(again).expect("opens again").0;
    lab.set(&[(REMOTE, 1)]);
    assert_eq!(lab.xdp(&to(VIP, SYN, 2)).0, Reason::TunnelRedirected);
}

#[test]
fn ports_that_the_kernel_gives_to_others_are_refused() {
    let folder = crate::packets::lab::enter();
    for (ports, why) in [
        (40_000..=50_000, "ip_local_port_range"),
        (0..=10, "no range"),
        (63_990..=64_010, "tunnel"),
    ] {
        let mut config = config(folder.path());
        config.nat_ports = Some(ports);
        let error = Lb::open(config).map(drop).expect_err("refused");
        assert!(matches!(error, OpenError::NatPorts { .. }), "{error}");
        assert!(error.to_string().contains(why), "{error}");
    }
}
