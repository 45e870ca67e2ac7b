//! Who is chosen, and the count of open connections that the choice rests on.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use lb_userspace::Reason;
use model::Protocol;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::connect::listener;
use super::lab::{Lab, Vip, until, vip4};

const MANY: usize = 3000;

fn listeners(n: u8) -> Vec<(TcpListener, SocketAddr)> {
    (1..=n).map(|n| listener(vip4(), n)).collect()
}

fn vip(backends: &[(TcpListener, SocketAddr)], weights: &[u16]) -> Vip {
    let backends: Vec<_> = backends
        .iter()
        .zip(weights)
        .map(|((_, at), weight)| (*at, *weight))
        .collect();
    Vip::new(vip4(), Protocol::Tcp, &backends)
}

/// Opens connections and keeps both ends.
fn hold(backends: &[(TcpListener, SocketAddr)], n: usize) -> Vec<(TcpStream, TcpStream)> {
    for (listener, _) in backends {
        listener.set_nonblocking(true).expect("a listener");
    }
    let held = (0..n).map(|_| {
        let client = TcpStream::connect(vip4()).expect("the VIP answers");
        let mut server = None;
        until("an accepted connection", || {
            let accepted = backends.iter().find_map(|(listener, _)| listener.accept().ok());
            server = accepted.map(|(server, _)| server);
            server.is_some()
        });
        (client, server.expect("just accepted"))
    });
    held.collect()
}

fn open(lab: &Lab, backends: &[(TcpListener, SocketAddr)]) -> Vec<u64> {
    let each = backends.iter().map(|(_, at)| lab.open_sockets(*at, Protocol::Tcp));
    each.collect()
}

#[test]
fn open_connections_are_level_and_follow_the_weights() {
    let mut lab = Lab::new();
    let backends = listeners(4);
    lab.set(&[vip(&backends, &[1, 1, 1, 1])]);
    let held = hold(&backends, 200);
    let counts = open(&lab, &backends);
    assert_eq!(counts.iter().sum::<u64>(), 200);
    // Two random choices keep them within a few; one choice would spread by seven or so.
    assert!(counts.iter().all(|n| n.abs_diff(50) <= 5), "{counts:?}");
    // The less loaded are filled up first, and a drained one takes none.
    let mut held = held;
    let first = backends[0].1;
    let mut filled = 0;
    for _ in 0..5 {
        held.retain(|(_, server)| server.local_addr().expect("connected") != first);
        lab.all_closed(first, Protocol::Tcp);
        held.extend(hold(&backends, 40));
        filled += open(&lab, &backends)[0];
    }
    // Half of 200 come to one of two out of four, give or take seven; one choice would bring a quarter.
    assert!(filled >= 75, "{filled}");
    drop(held);
    for (_, at) in &backends {
        lab.all_closed(*at, Protocol::Tcp);
    }
    lab.set(&[vip(&backends, &[0, 1, 3, 1])]);
    let held = hold(&backends, 200);
    let counts = open(&lab, &backends);
    assert_eq!(counts[0], 0, "weight 0 takes none");
    assert!(counts[2].abs_diff(120) <= 8, "three times the others': {counts:?}");
    drop(held);
}

#[test]
fn a_new_backend_starts_slowly() {
    const SLOW_START: u32 = 24;
    let mut lab = Lab::configured(|config| config.slow_start = SLOW_START);
    let backends = listeners(2);
    // Both are new: nobody is held back, as there is nobody else to take it.
    lab.set(&[vip(&backends, &[1, 1])]);
    let counts = {
        let _held = hold(&backends, 100);
        open(&lab, &backends)
    };
    assert!(counts.iter().all(|n| n.abs_diff(50) <= 5), "{counts:?}");
    lab.set(&[vip(&backends[..1], &[1])]);
    // The only way to be older than another is to wait; an eighth of the ramp is enough to see it.
    let opened = Instant::now();
    until("age", || {
        std::thread::park_timeout(Duration::from_millis(50));
        opened.elapsed() > Duration::from_secs(u64::from(SLOW_START) / 8)
    });
    lab.set(&[vip(&backends, &[1, 1])]);
    let _held = hold(&backends, 100);
    let counts = open(&lab, &backends);
    // Its part of the ramp, and what comes to it when all three draws name it: one in eight.
    assert!((1..38).contains(&counts[1]), "{counts:?}");
}

#[test]
fn failed_aborted_and_repeated_connects_are_counted_exactly() {
    let mut lab = Lab::new();
    let (listener, at) = listener(vip4(), 1);
    drop(listener);
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, &[(at, 1)])]);
    // Nobody listens: refused by the backend, after the hook has chosen.
    for _ in 0..MANY {
        assert!(TcpStream::connect(vip4()).is_err());
    }
    lab.all_closed(at, Protocol::Tcp);
    let addr = SockaddrStorage::from(vip4());
    let raw = || socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).expect("a socket");
    // The same socket again and again.
    let again = raw();
    for _ in 0..MANY {
        let _ = connect(again.as_raw_fd(), &addr);
        assert!(lab.open_sockets(at, Protocol::Tcp) <= 1);
    }
    drop(again);
    lab.all_closed(at, Protocol::Tcp);
    // Closed while it is still connecting.
    for _ in 0..MANY {
        let _ = connect(raw().as_raw_fd(), &addr);
    }
    lab.all_closed(at, Protocol::Tcp);
    // Of the repeated ones every other call only fetches the last one's error.
    assert!(lab.count(Reason::SocketBalanced) >= 2 * MANY as u64 + MANY as u64 / 3);
    assert_eq!(lab.lb.sockets().count(), 0, "nothing is remembered of a closed socket");
}

#[test]
fn a_socket_of_the_last_owner_of_an_index_does_not_count_for_the_next() {
    // One index, so that the next backend gets it.
    let mut lab = Lab::configured(|config| config.backends = 1);
    let backends = listeners(2);
    lab.set(&[vip(&backends[..1], &[1])]);
    let old = hold(&backends, 3);
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, &[])]);
    // Indices are used again at once.
    lab.set(&[vip(&backends[1..], &[1])]);
    lab.all_closed(backends[1].1, Protocol::Tcp);
    let new = hold(&backends[1..], 2);
    drop(old);
    assert_eq!(lab.open_sockets(backends[1].1, Protocol::Tcp), 2);
    drop(new);
    lab.all_closed(backends[1].1, Protocol::Tcp);
}
