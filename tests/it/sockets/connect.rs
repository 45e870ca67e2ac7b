//! `connect` to a VIP: both families, mapped addresses, fast open, and what the socket shows as its peer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;

use lb_userspace::Reason;
use model::Protocol;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, sendto, setsockopt, socket, sockopt,
};

use super::lab::{Lab, UNKNOWN, Vip, add_address, host, mapped, vip4, vip6};

/// A listener at the VIP's first backend.
pub(super) fn listener(vip: SocketAddr, n: u8) -> (TcpListener, SocketAddr) {
    let addr = host(vip, n);
    add_address(addr);
    let listener = TcpListener::bind((addr, 0)).expect("a free port");
    let at = listener.local_addr().expect("bound");
    (listener, at)
}

/// Both ends of a connection talk to each other.
fn talk(mut client: &TcpStream, listener: &TcpListener) {
    let (mut server, _) = listener.accept().expect("the client");
    client.write_all(b"there").expect("sent");
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).expect("received");
    server.write_all(b"back!").expect("sent");
    client.read_exact(&mut bytes).expect("received");
    assert_eq!(&bytes, b"back!");
}

#[test]
fn tcp_of_both_families_and_mapped_reaches_the_backend_and_sees_the_vip() {
    let mut lab = Lab::new();
    for vip in [vip4(), vip6()] {
        let (listener, at) = listener(vip, 1);
        lab.set(&[Vip::new(vip, Protocol::Tcp, &[(at, 1)])]);
        for wanted in [vip, mapped(vip)] {
            let client = TcpStream::connect(wanted).expect("the VIP answers");
            talk(&client, &listener);
            assert_eq!(client.peer_addr().expect("connected"), wanted);
            assert_eq!(lab.open_sockets(at, Protocol::Tcp), 1);
            drop(client);
            lab.all_closed(at, Protocol::Tcp);
        }
    }
    assert_eq!(lab.count(Reason::SocketBalanced), 4);
}

#[test]
fn an_ipv6_vip_may_have_an_ipv4_backend_and_an_ipv4_socket_never_gets_an_ipv6_one() {
    let mut lab = Lab::new();
    let (listener4, at4) = listener(vip4(), 1);
    let (_listener6, at6) = listener(vip6(), 1);
    lab.set(&[
        Vip::new(vip6(), Protocol::Tcp, &[(at4, 1)]),
        Vip::new(vip4(), Protocol::Tcp, &[(at6, 1)]),
    ]);
    let client = TcpStream::connect(vip6()).expect("the VIP answers");
    talk(&client, &listener4);
    assert_eq!(client.peer_addr().expect("connected"), vip6());
    let error = TcpStream::connect(vip4()).expect_err("no such way");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

fn stream(vip: SocketAddr) -> TcpStream {
    let family = if vip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let fd = socket(family, SockType::Stream, SockFlag::empty(), None).expect("a socket");
    TcpStream::from(fd)
}

#[test]
fn fast_open_by_sendto_and_by_option_goes_to_the_backend() {
    let mut lab = Lab::new();
    for vip in [vip4(), vip6()] {
        let (listener, at) = listener(vip, 1);
        lab.set(&[Vip::new(vip, Protocol::Tcp, &[(at, 1)])]);
        let addr = SockaddrStorage::from(vip);
        // The second time the kernel has a cookie and sends data with the SYN, if the server gives cookies.
        for _ in 0..2 {
            let mut client = stream(vip);
            const MSG_FASTOPEN: i32 = 0x2000_0000;
            let flags = MsgFlags::from_bits_retain(MSG_FASTOPEN);
            let sent = sendto(client.as_raw_fd(), b"hello", &addr, flags).expect("connects and sends");
            assert_eq!(sent, 5);
            let (mut server, _) = listener.accept().expect("the client");
            let mut bytes = [0; 5];
            server.read_exact(&mut bytes).expect("received");
            assert_eq!(&bytes, b"hello");
            assert_eq!(client.peer_addr().expect("connected"), vip);
            assert_eq!(lab.open_sockets(at, Protocol::Tcp), 1);

            let mut late = stream(vip);
            setsockopt(&late, sockopt::TcpFastOpenConnect, &true).expect("the option");
            connect(late.as_raw_fd(), &addr).expect("put off or done");
            late.write_all(b"there").expect("sent");
            let (mut other, _) = listener.accept().expect("the client");
            other.read_exact(&mut bytes).expect("received");
            assert_eq!(late.peer_addr().expect("connected"), vip);
            assert_eq!(lab.open_sockets(at, Protocol::Tcp), 2);
            server.write_all(b"back!").expect("sent");
            client.read_exact(&mut bytes).expect("received");
            late.flush().expect("sent");
        }
        lab.all_closed(at, Protocol::Tcp);
    }
}

#[test]
fn what_is_in_the_range_but_no_vip_is_refused_and_the_rest_is_left_alone() {
    let lab = Lab::new();
    let (listener, at) = listener(vip4(), 1);
    for addr in [(UNKNOWN, 80).into(), mapped((UNKNOWN, 80).into()), vip6()] {
        let error = TcpStream::connect(addr).expect_err("no VIP");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{addr}");
    }
    let udp = UdpSocket::bind("0.0.0.0:0").expect("a port");
    assert!(udp.send_to(b"x", (UNKNOWN, 80)).is_err());
    assert_eq!(lab.count(Reason::SocketUnknownVip), 4);
    let client = TcpStream::connect(at).expect("direct");
    talk(&client, &listener);
    assert_eq!(client.peer_addr().expect("connected"), at);
    assert_eq!(lab.count(Reason::SocketBalanced), 0);
}

#[test]
fn a_new_daemon_goes_on_counting() {
    let mut lab = Lab::new();
    let (listener, at) = listener(vip4(), 1);
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, &[(at, 1)])]);
    let client = TcpStream::connect(vip4()).expect("the VIP answers");
    lab.reopen();
    lab.set(&[]);
    assert_eq!(lab.open_sockets(at, Protocol::Tcp), 1);
    talk(&client, &listener);
    assert_eq!(client.peer_addr().expect("connected"), vip4());
    drop(client);
    lab.all_closed(at, Protocol::Tcp);
}
