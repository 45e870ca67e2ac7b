//! UDP through a VIP, connected and not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lb_userspace::Reason;
use model::Protocol;

use super::lab::{Lab, Vip, add_address, host, mapped, until, vip4, vip6};

/// When a datagram counts as dropped.
const AGAIN: Duration = Duration::from_millis(500);

/// Sockets of `n` backends, each on an address of its own.
fn servers(vip: SocketAddr, n: u8) -> Vec<(UdpSocket, SocketAddr)> {
    let all = (1..=n).map(|n| {
        let addr = host(vip, n);
        add_address(addr);
        let server = UdpSocket::bind((addr, 0)).expect("a free port");
        server.set_nonblocking(true).expect("a socket");
        let at = server.local_addr().expect("bound");
        (server, at)
    });
    all.collect()
}

fn even(servers: &[(UdpSocket, SocketAddr)]) -> Vec<(SocketAddr, u16)> {
    servers.iter().map(|(_, at)| (*at, 1)).collect()
}

fn any(vip: SocketAddr) -> UdpSocket {
    let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).expect("a port")
}

/// Sends until a server gets it and its answer comes back; which server, and who the client sees answer. The kernel may
/// drop any datagram when other tests fill its queues, so each has a number and is sent again.
pub(super) fn exchange<'a>(
    client: &UdpSocket,
    servers: impl Iterator<Item = &'a UdpSocket> + Clone,
    send: impl Fn(&[u8]),
) -> (usize, SocketAddr) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_ne_bytes();
    client.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 16];
    let mut last = None;
    let mut done = None;
    let mut sender = None;
    until("an answer", || {
        if last.is_none_or(|last: Instant| last.elapsed() > AGAIN) {
            send(&number);
            last = Some(Instant::now());
        }
        for (i, server) in servers.clone().enumerate() {
            if let Ok((len, from)) = server.recv_from(&mut bytes)
                && bytes[..len] == number
            {
                server.send_to(&number, from).expect("answered");
                done = Some(i);
            }
        }
        if let Ok((len, from)) = client.recv_from(&mut bytes)
            && bytes[..len] == number
        {
            sender = Some(from);
        }
        sender.is_some()
    });
    (done.expect("a server answered"), sender.expect("just set"))
}

/// Sends to the VIP and looks at the answer's sender.
fn ask(client: &UdpSocket, vip: SocketAddr, servers: &[(UdpSocket, SocketAddr)]) -> usize {
    let (one, from) = exchange(client, servers.iter().map(|(server, _)| server), |bytes| {
        client.send_to(bytes, vip).expect("sent");
    });
    assert_eq!(from, vip);
    one
}

#[test]
fn an_unconnected_socket_keeps_its_backend_and_sees_the_vip_answer() {
    let mut lab = Lab::new();
    for vip in [vip4(), vip6()] {
        let servers = servers(vip, 8);
        lab.set(&[Vip::new(vip, Protocol::Udp, &even(&servers))]);
        for wanted in [vip, mapped(vip)] {
            let mut used = [0; 8];
            for _ in 0..64 {
                let client = any(wanted);
                let first = ask(&client, wanted, &servers);
                assert!(
                    (0..20).all(|_| ask(&client, wanted, &servers) == first),
                    "one socket, one backend"
                );
                used[first] += 1;
            }
            assert!(used.iter().all(|n| *n < 32), "sockets are spread: {used:?}");
        }
    }
    assert_eq!(lab.count(Reason::SocketUnknownVip), 0);
}

#[test]
fn a_socket_whose_backend_is_gone_gets_another_and_one_to_two_vips_tells_them_apart() {
    let mut lab = Lab::new();
    let servers = servers(vip4(), 2);
    let other = SocketAddr::new(vip4().ip(), 7777);
    lab.set(&[
        Vip::new(vip4(), Protocol::Udp, &[(servers[0].1, 1)]),
        Vip::new(other, Protocol::Udp, &[(servers[1].1, 1)]),
    ]);
    let client = any(vip4());
    assert_eq!(ask(&client, vip4(), &servers), 0);
    assert_eq!(ask(&client, other, &servers), 1);
    // A drained backend keeps its sockets.
    lab.set(&[Vip::new(vip4(), Protocol::Udp, &[(servers[0].1, 0), (servers[1].1, 1)])]);
    assert_eq!(ask(&client, vip4(), &servers), 0);
    assert_eq!(ask(&any(vip4()), vip4(), &servers), 1, "a new socket");
    lab.set(&[Vip::new(vip4(), Protocol::Udp, &[(servers[1].1, 1)])]);
    assert_eq!(ask(&client, vip4(), &servers), 1);
    lab.set(&[Vip::new(vip4(), Protocol::Udp, &[])]);
    assert!(client.send_to(b"x", vip4()).is_err());
    assert_eq!(lab.count(Reason::SocketNoBackend), 1);
}

#[test]
fn a_connected_socket_sees_the_vip_and_forgets_it_with_the_next_connect() {
    let mut lab = Lab::new();
    for vip in [vip4(), vip6()] {
        let servers = servers(vip, 1);
        let at = servers[0].1;
        lab.set(&[Vip::new(vip, Protocol::Udp, &even(&servers))]);
        for wanted in [vip, mapped(vip)] {
            let client = any(wanted);
            client.connect(wanted).expect("connects");
            let talk = || {
                let all = servers.iter().map(|(server, _)| server);
                let send = |bytes: &[u8]| client.send(bytes).map(|_| ()).expect("sent");
                exchange(&client, all, send).1
            };
            assert_eq!(talk(), wanted);
            assert_eq!(client.peer_addr().expect("connected"), wanted);
            assert_eq!(lab.open_sockets(at, Protocol::Udp), 1);
            client.connect(wanted).expect("connects again");
            assert_eq!(lab.open_sockets(at, Protocol::Udp), 1, "counted once");
            let direct = if wanted == vip { at } else { mapped(at) };
            client.connect(direct).expect("connects past the VIP");
            assert_eq!(client.peer_addr().expect("connected"), direct);
            lab.all_closed(at, Protocol::Udp);
            assert_eq!(talk(), direct);
        }
    }
}
