//! The daemon's part in what becomes of connections to a backend of this node that has stopped, and in translated sources.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use aya::maps::{Array, MapData};
use lb_common::Ip;
use lb_userspace::{Config, Lb, OpenError, Reason, apply, desired, observe, plan};
use model::{NodeView, Service, SharedMap, Snapshot, VipAddress};

use crate::packets::frame::{ACK, SYN, Spec};
use crate::packets::fuzz::kernel::open;
use crate::packets::lab::{CLIENT, LOCAL, Lab, OWN, OWN6, PEER, REMOTE, VIP, config, ip, six, snapshot};

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

/// A VIP with a backend at an IPv6 address, on the node that runs no daemon.
fn snapshot6() -> (Snapshot, VipAddress) {
    let mut snapshot = snapshot(&[(REMOTE, 1)]);
    let (_, service) = snapshot.services.iter().next().expect("a VIP");
    let mut service = Service::clone(service);
    service.vip.addr = "fd01:c::3".parse().expect("an address");
    service.backends[0].addr = "fd00:7::2".parse().expect("an address");
    let vip = service.vip;
    let mut services = SharedMap::new();
    services.insert(vip, Arc::new(service));
    snapshot.services = services;
    (snapshot, vip)
}

/// Brings the maps to it after a full look, as the daemon does every ten seconds; what first packets to the VIP then end as.
fn looked(lab: &mut Lab, snapshot: &Snapshot, vip: &VipAddress) -> Option<Reason> {
    let view = NodeView { ip: OWN, agent: None };
    for _ in 0..2 {
        let found = observe(&mut lab.lb).expect("maps can be read");
        let report = apply(&mut lab.lb, &plan(&desired(snapshot, &view), &found));
        assert!(report.failed.is_empty(), "{report:?}");
    }
    let from = "[2001:db8::50]:40000".parse().expect("an address");
    let said = lab.lb.explain_first_packet(vip, from, lab.uplink).expect("explains");
    let last = said.lines().len();
    assert!(said.lines()[last - 2].contains("its node runs no Revere"), "{said}");
    said.reason
}

fn told(lab: &Lab) -> IpAddr {
    let own: Array<MapData, Ip> = open(&lab.folder, "OWN6");
    IpAddr::from(own.get(&0, 0).expect("an address"))
}

#[test]
fn ipv6_leaves_with_an_address_of_the_uplink_or_the_one_that_is_set_and_what_is_missing_is_told() {
    let bare = |config: &mut Config| config.bare_nodes = vec![format!("{PEER}/32").parse().expect("a network")];
    let mut lab = translating(bare);
    six();
    let (snapshot, vip) = snapshot6();
    assert_eq!(looked(&mut lab, &snapshot, &vip), Some(Reason::NoNatAddress));
    let said = lab.lb.nat6_hindered().expect("no address").to_owned();
    assert!(said.contains("up0") && said.contains("nat_address6"), "{said}");
    ip("addr add fd00:7::1/64 dev up0 nodad");
    assert_eq!(looked(&mut lab, &snapshot, &vip), Some(Reason::NatSent));
    assert_eq!((told(&lab), lab.lb.nat6_hindered()), (OWN6.into(), None));
    // Another one that would be chosen before it changes nothing for the flows there are.
    ip("addr add fd00:6::1/64 dev up0 nodad");
    looked(&mut lab, &snapshot, &vip);
    assert_eq!(told(&lab), IpAddr::from(OWN6));
    ip("addr del fd00:7::1/64 dev up0");
    looked(&mut lab, &snapshot, &vip);
    assert_eq!(told(&lab), "fd00:6::1".parse::<IpAddr>().expect("an address"));
    ip("addr del fd00:6::1/64 dev up0");
    assert_eq!(looked(&mut lab, &snapshot, &vip), Some(Reason::NoNatAddress));
    // One that is set may be any interface's, but has to be there.
    let mut again = config(lab.folder.path());
    bare(&mut again);
    again.nat_ports = Some(PORTS);
    again.nat_address6 = Some(OWN6);
    lab.lb = Lb::open(again).expect("opens again").0;
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv6/conf/up0/forwarding").expect("a kernel with IPv6");
    assert_eq!(forwarding.trim(), "1");
    assert_eq!(looked(&mut lab, &snapshot, &vip), Some(Reason::NoNatAddress));
    let said = lab.lb.nat6_hindered().expect("not there").to_owned();
    assert!(said.contains(&OWN6.to_string()), "{said}");
    ip("link set lo up");
    ip("addr add fd00:7::1/128 dev lo");
    assert_eq!(looked(&mut lab, &snapshot, &vip), Some(Reason::NatSent));
    assert_eq!((told(&lab), lab.lb.nat6_hindered()), (OWN6.into(), None));
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
