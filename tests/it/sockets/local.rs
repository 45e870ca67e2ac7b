//! Clients of this node that the socket hooks do not see: their packets are given to a backend at their interface.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use lb_userspace::Reason;
use model::Protocol;

use super::connect::listener;
use super::datagram::exchange;
use super::elsewhere::Elsewhere;
use super::lab::{Lab, UNKNOWN, Vip, until, vip4, vip6};

/// More than a receive window, so that packets are as long as the device lets them be.
const BULK: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(20);

/// A node with such a client, whose interface came after the load balancer.
fn lab() -> (Lab, Elsewhere) {
    let mut lab = Lab::configured(|config| config.local_interfaces = vec!["rv*".to_owned()]);
    let client = Elsewhere::start("rv0");
    client.ask_vips(&lab, "rv0");
    lab.set(&[]);
    (lab, client)
}

fn offload(client: &Elsewhere, state: &str) {
    client.offload(&format!("tx {state} tso {state} gso {state}"));
}

fn bytes() -> Vec<u8> {
    (0..BULK).map(|i| u8::try_from(i * 31 % 251).expect("small")).collect()
}

/// Much in both directions over one connection.
fn bulk(client: &Elsewhere, vip: SocketAddr, listener: &TcpListener) {
    let server = listener.try_clone().expect("a socket");
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("the client");
        let mut got = vec![0; BULK];
        stream.read_exact(&mut got).expect("all of it");
        assert!(got == bytes(), "what was sent");
        stream.write_all(&got).expect("sent back");
    });
    let peer = client.run(move || {
        let mut stream = TcpStream::connect_timeout(&vip, DEADLINE).expect("the VIP answers");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all(&bytes()).expect("sent");
        let mut got = vec![0; BULK];
        stream.read_exact(&mut got).expect("all of it");
        assert!(got == bytes(), "what came back");
        stream.peer_addr().expect("connected")
    });
    serving.join().expect("the server ends well");
    assert_eq!(peer, vip);
}

#[test]
fn tcp_of_both_families_with_long_packets_and_with_finished_checksums() {
    let (mut lab, client) = lab();
    for vip in [vip4(), vip6()] {
        let (listener, at) = listener(vip, 1);
        lab.set(&[Vip::new(vip, Protocol::Tcp, &[(at, 1)])]);
        for state in ["on", "off"] {
            offload(&client, state);
            let before = [Reason::LocalBalanced, Reason::LocalRestored].map(|reason| lab.count(reason));
            bulk(&client, vip, &listener);
            let after = [Reason::LocalBalanced, Reason::LocalRestored].map(|reason| lab.count(reason));
            assert!(after[0] > before[0] && after[1] > before[1], "{vip} {state}");
        }
    }
    let zero = [Reason::SocketBalanced, Reason::LocalFailed, Reason::LocalRefused];
    assert_eq!(zero.map(|reason| lab.count(reason)), [0, 0, 0]);
}

#[test]
fn datagrams_go_there_and_back_and_keep_their_backend() {
    let (mut lab, client) = lab();
    for (vip, any) in [(vip4(), "0.0.0.0:0"), (vip6(), "[::]:0")] {
        let servers: Vec<_> = (11..15)
            .map(|n| {
                let (listener, at) = listener(vip, n);
                drop(listener);
                let server = UdpSocket::bind(at).expect("a port");
                server.set_nonblocking(true).expect("a socket");
                server
            })
            .collect();
        let backends: Vec<_> = servers
            .iter()
            .map(|server| (server.local_addr().expect("bound"), 1))
            .collect();
        lab.set(&[Vip::new(vip, Protocol::Udp, &backends)]);
        for state in ["on", "off"] {
            offload(&client, state);
            let mut used = [false; 4];
            for _ in 0..16 {
                let socket = client.run(move || UdpSocket::bind(any).expect("a port"));
                let mut own = None;
                for _ in 0..3 {
                    let send = |bytes: &[u8]| socket.send_to(bytes, vip).map(|_| ()).expect("sent");
                    let (at, from) = exchange(&socket, servers.iter(), send);
                    assert_eq!(from, vip);
                    assert_eq!(*own.get_or_insert(at), at, "one flow, one backend");
                    used[at] = true;
                }
            }
            assert!(used.iter().filter(|used| **used).count() > 1, "{used:?}");
        }
    }
    assert_eq!(lab.count(Reason::SocketBalanced), 0);
}

#[test]
fn limits_hold_and_what_is_no_vip_is_left_to_the_stack() {
    let (mut lab, client) = lab();
    let (_listener, at) = listener(vip4(), 1);
    let mut vip = Vip::new(vip4(), Protocol::Tcp, &[(at, 1)]);
    vip.options.allow = ["10.99.0.0/30".parse().expect("a range")].into();
    lab.set(&[vip.clone()]);
    let connect = || TcpStream::connect_timeout(&vip4(), Duration::from_millis(300)).is_ok();
    assert!(client.run(connect));
    vip.options.allow = ["10.98.0.0/16".parse().expect("a range")].into();
    lab.set(&[vip]);
    assert!(!client.run(connect), "10.99.0.2 is not allowed");
    let refused = lab.count(Reason::LocalRefused);
    assert!(refused > 0);
    client.run(|| TcpStream::connect_timeout(&(UNKNOWN, 80).into(), Duration::from_millis(300)).expect_err("no VIP"));
    assert!(lab.count(Reason::LocalRefused) > refused);
    let direct = client.run(move || TcpStream::connect_timeout(&at, DEADLINE).map(|stream| stream.peer_addr()));
    // The client has no route there: its own stack says so, nothing was turned.
    assert!(direct.is_err());
}

#[test]
fn a_new_interface_is_found_and_the_pins_of_one_that_went_are_removed() {
    let (mut lab, client) = lab();
    let pins = |lab: &Lab| {
        let links = std::fs::read_dir(lab.pins().join("links")).expect("links");
        let names = links
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("local-")).count()
    };
    assert_eq!(pins(&lab), 2);
    drop(client);
    until("the interface is gone", || {
        nix::net::if_::if_nametoindex("rv0").is_err()
    });
    lab.set(&[]);
    assert_eq!(pins(&lab), 0);
    lab.reopen();
}
