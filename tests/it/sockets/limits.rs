//! What a VIP asks of its clients: sources, rates, sessions.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;

use lb_userspace::Reason;
use model::Protocol;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

use super::connect::listener;
use super::lab::{Lab, OWN, Vip, add_address, vip4, vip6};

/// Connects from a given address.
fn from(source: SocketAddr, to: SocketAddr) -> nix::Result<()> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let client = socket(family, SockType::Stream, SockFlag::empty(), None)?;
    bind(client.as_raw_fd(), &SockaddrStorage::from(source))?;
    connect(client.as_raw_fd(), &SockaddrStorage::from(to))
}

#[test]
fn only_allowed_sources_connect_and_an_unbound_socket_counts_as_its_node() {
    let mut lab = Lab::new();
    let (_four, at4) = listener(vip4(), 1);
    let (_six, at6) = listener(vip6(), 1);
    add_address("10.9.1.1".parse().expect("an address"));
    add_address("fd09:1::1".parse().expect("an address"));
    let allow = |ranges: &[&str]| ranges.iter().map(|range| range.parse().expect("a range")).collect();
    let mut four = Vip::new(vip4(), Protocol::Tcp, &[(at4, 1)]);
    four.options.allow = allow(&["10.9.1.0/24"]);
    let mut six = Vip::new(vip6(), Protocol::Tcp, &[(at6, 1)]);
    six.options.allow = allow(&["fd09:1::/64"]);
    lab.set(&[four.clone(), six]);
    let source = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert_eq!(from(source("10.9.1.1:0"), vip4()), Ok(()));
    assert_eq!(from(source("10.9.0.1:0"), vip4()), Err(nix::Error::EPERM));
    assert_eq!(from(source("[fd09:1::1]:0"), vip6()), Ok(()));
    assert_eq!(from(source("[fd09::1]:0"), vip6()), Err(nix::Error::EPERM));
    let refused = TcpStream::connect(vip4()).expect_err("this node is not allowed");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(lab.count(Reason::SocketSourceRefused), 3);
    four.options.allow = BTreeSet::from([format!("{OWN}/32").parse().expect("a range")]);
    lab.set(&[four]);
    TcpStream::connect(vip4()).expect("now it is");
}

#[test]
fn calls_above_the_rate_are_refused_and_open_sockets_stay() {
    let mut lab = Lab::new();
    let (_listener, at) = listener(vip4(), 1);
    let mut vip = Vip::new(vip4(), Protocol::Tcp, &[(at, 1)]);
    // So slow that no token comes back while the test runs.
    vip.options.max_rate = 1;
    lab.set(&[vip.clone()]);
    let results: Vec<_> = (0..200).map(|_| TcpStream::connect(vip4())).collect();
    let taken = results.iter().filter(|result| result.is_ok()).count();
    assert!((1..100).contains(&taken), "{taken}");
    for error in results.iter().filter_map(|result| result.as_ref().err()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(lab.count(Reason::SocketLimited), 200 - taken as u64);
    assert_eq!(lab.open_sockets(at, Protocol::Tcp), taken as u64);
}

#[test]
fn a_session_keeps_to_its_backend() {
    let mut lab = Lab::new();
    let servers: Vec<_> = (1..=16).map(|n| listener(vip4(), n)).collect();
    let backends: Vec<_> = servers.iter().map(|(_, at)| (*at, 1)).collect();
    let mut vip = Vip::new(vip4(), Protocol::Tcp, &backends);
    let spread = |lab: &Lab| {
        let open = backends.iter().map(|(at, _)| lab.open_sockets(*at, Protocol::Tcp));
        open.filter(|n| *n > 0).count()
    };
    lab.set(&[vip.clone()]);
    let held: Vec<_> = (0..50).map(|_| TcpStream::connect(vip4()).expect("connects")).collect();
    assert!(spread(&lab) > 8, "without affinity");
    drop(held);
    vip.options.affinity = true;
    lab.set(&[vip]);
    let held: Vec<_> = (0..50).map(|_| TcpStream::connect(vip4()).expect("connects")).collect();
    assert_eq!(spread(&lab), 1, "one network namespace, one backend");
    drop(held);
    // Other namespaces are other clients; their calls fail for want of a route, after the choice.
    let udp: Vec<_> = (0..12)
        .map(|_| thread::spawn(elsewhere))
        .map(|run| run.join().expect("a socket"))
        .collect();
    assert!(spread(&lab) > 3, "twelve namespaces: {}", spread(&lab));
    drop(udp);
    assert_eq!(spread(&lab), 0);
}

/// A socket in a network namespace of its own that tried to connect.
fn elsewhere() -> std::os::fd::OwnedFd {
    unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
    let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).expect("a socket");
    assert!(connect(client.as_raw_fd(), &SockaddrStorage::from(vip4())).is_err());
    client
}

#[test]
fn datagrams_are_limited_too() {
    let mut lab = Lab::new();
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut vip = Vip::new(vip4(), Protocol::Udp, &[(server.local_addr().expect("bound"), 1)]);
    vip.options.max_rate = 1;
    lab.set(&[vip]);
    let sockets: Vec<_> = (0..100)
        .map(|_| UdpSocket::bind("0.0.0.0:0").expect("a port"))
        .collect();
    let taken: Vec<_> = sockets
        .iter()
        .filter(|socket| socket.send_to(b"x", vip4()).is_ok())
        .collect();
    assert!((1..50).contains(&taken.len()));
    // Whoever was let in stays in.
    assert!(taken.iter().all(|socket| socket.send_to(b"x", vip4()).is_ok()));
}
