//! Sockets whose backend is gone are ended at once, in every network namespace; others are left alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use lb_userspace::{Reason, destroy, namespaces};
use model::Protocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connect::listener;
use super::elsewhere::Elsewhere;
use super::lab::{Lab, Vip, mapped, until, vip4, vip6};

/// Whether the kernel has ended the connection.
fn is_over(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
            true
        }
        Ok(n) => panic!("nobody sent or closed anything: {n}"),
    }
}

/// Gives the server's end, which had better stay open.
fn works(mut client: &TcpStream, listener: &TcpListener) -> TcpStream {
    client.set_nonblocking(false).expect("a socket");
    let (mut server, _) = listener.accept().expect("the client");
    client.write_all(b"x").expect("sent");
    server.read_exact(&mut [0]).expect("received");
    server
}

#[test]
fn a_removed_backend_ends_its_sockets_in_every_namespace_and_no_others() {
    let mut lab = Lab::new();
    let elsewhere = Elsewhere::start("here");
    let tcp = TcpListener::bind("10.99.0.1:0").expect("a port");
    let at = tcp.local_addr().expect("bound");
    let udp = UdpSocket::bind(at).expect("the same port");
    let other = listener(vip6(), 1);
    let vips = |backends: &[(SocketAddr, u16)]| {
        [
            Vip::new(vip4(), Protocol::Tcp, backends),
            Vip::new(vip4(), Protocol::Udp, backends),
            Vip::new(vip6(), Protocol::Tcp, &[(other.1, 1)]),
        ]
    };
    lab.set(&vips(&[(at, 1)]));
    // Another program on the same address and port, not through the VIP: first, to be accepted first.
    let direct = TcpStream::connect(at).expect("direct");
    let _served = works(&direct, &tcp);
    let living = TcpStream::connect(vip6()).expect("the other VIP answers");
    let connect = || TcpStream::connect(vip4()).expect("the VIP answers");
    let wide = TcpStream::connect(mapped(vip4())).expect("the VIP answers");
    let streams = [connect(), wide, elsewhere.run(connect)];
    let (there, here) = (
        elsewhere.run(|| UdpSocket::bind("0.0.0.0:0")),
        UdpSocket::bind("[::]:0"),
    );
    let (there, here) = (there.expect("a port"), here.expect("a port"));
    there.connect(vip4()).expect("connects");
    here.connect(mapped(vip4())).expect("connects");
    assert_eq!(lab.open_sockets(at, Protocol::Tcp), 3);
    assert_eq!(lab.open_sockets(at, Protocol::Udp), 2);
    lab.set(&vips(&[]));
    for stream in &streams {
        until("the end of a connection", || is_over(stream));
    }
    for socket in [&there, &here] {
        socket.set_nonblocking(true).expect("a socket");
        let mut bytes = [0];
        until("the end of a socket", || match socket.recv(&mut bytes) {
            Err(error) => error.kind() == ErrorKind::ConnectionAborted,
            Ok(_) => false,
        });
        assert!(socket.peer_addr().is_err(), "it is free to connect anew");
    }
    assert!(!is_over(&direct), "who named the backend itself");
    assert!(!is_over(&living), "who uses another backend");
    works(&living, &other.0);
    drop(udp);
}

#[test]
fn draining_leaves_connections_alone_unless_the_vip_resets() {
    let mut lab = Lab::new();
    let (quiet, firm, marker) = (listener(vip4(), 1), listener(vip4(), 2), listener(vip6(), 1));
    let second = SocketAddr::new(vip4().ip(), 7777);
    let vips = |weight: u16, marked: &[(SocketAddr, u16)]| {
        let mut resets = Vip::new(second, Protocol::Tcp, &[(firm.1, weight)]);
        resets.options.reset = true;
        let drains = Vip::new(vip4(), Protocol::Tcp, &[(quiet.1, weight)]);
        [drains, resets, Vip::new(vip6(), Protocol::Tcp, marked)]
    };
    lab.set(&vips(1, &[(marker.1, 1)]));
    let drained = TcpStream::connect(vip4()).expect("the VIP answers");
    let reset = TcpStream::connect(second).expect("the VIP answers");
    let last = TcpStream::connect(vip6()).expect("the VIP answers");
    lab.set(&vips(0, &[(marker.1, 1)]));
    until("the reset", || is_over(&reset));
    // What is handed over later is done later: had the drained one been handed over, it would be done.
    lab.set(&vips(0, &[]));
    until("the end of the last", || is_over(&last));
    assert!(!is_over(&drained));
    works(&drained, &quiet.0);
    assert_eq!(lab.count(Reason::SocketBalanced), 3);
}

#[test]
fn last_words_of_a_backend_that_closed_are_read() {
    let mut lab = Lab::new();
    let (server, marker) = (listener(vip4(), 1), listener(vip6(), 1));
    let vips = |backends: &[(SocketAddr, u16)], marked: &[(SocketAddr, u16)]| {
        [
            Vip::new(vip4(), Protocol::Tcp, backends),
            Vip::new(vip6(), Protocol::Tcp, marked),
        ]
    };
    lab.set(&vips(&[(server.1, 1)], &[(marker.1, 1)]));
    let mut client = TcpStream::connect(vip4()).expect("the VIP answers");
    let open = TcpStream::connect(vip4()).expect("the VIP answers");
    let last = TcpStream::connect(vip6()).expect("the VIP answers");
    let mut served = works(&client, &server.0);
    let _served = works(&open, &server.0);
    served.write_all(b"bye").expect("sent");
    drop(served);
    // Until the end has arrived, the backend might have more to say.
    client.peek(&mut [0]).expect("received");
    until("the end of what the server says", || has_closed(&client));
    lab.set(&vips(&[], &[(marker.1, 1)]));
    until("the end of who would wait for ever", || is_over(&open));
    lab.set(&vips(&[], &[]));
    // What is handed over later is done later.
    until("the end of the last", || is_over(&last));
    // Programs that are told of an error by epoll look here before they read.
    assert!(client.take_error().expect("a socket").is_none());
    let mut said = String::new();
    client.read_to_string(&mut said).expect("no error");
    assert_eq!(said, "bye");
}

/// Whether the peer's FIN is here.
fn has_closed(client: &TcpStream) -> bool {
    let mut fds = [PollFd::new(client, PollFlags::RDHUP)];
    poll(&mut fds, Some(&Timespec::default())).expect("a socket") == 1
}

#[test]
fn a_report_tells_what_was_found_and_done() {
    let mut lab = Lab::new();
    let (_listener, at) = listener(vip4(), 1);
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, &[(at, 1)])]);
    let streams: Vec<_> = (0..5).map(|_| TcpStream::connect(vip4()).expect("connects")).collect();
    let direct = TcpStream::connect(at).expect("direct");
    let all: Vec<u64> = lab.lb.sockets().map(|socket| socket.expect("read").0).collect();
    assert_eq!(all.len(), 5);
    let key = lab.key(at, Protocol::Tcp);
    let spaces = namespaces().expect("/proc");
    // Three of the five are asked for.
    let report = destroy(&spaces, &[key], &all[..3].iter().copied().collect());
    assert_eq!((report.destroyed, report.namespaces), (3, spaces.len()), "{report:?}");
    assert!(report.failed.is_empty() && report.pointing == 6, "{report:?}");
    assert_eq!(streams.iter().filter(|stream| is_over(stream)).count(), 3);
    assert!(!is_over(&direct));
    let nobody = destroy(&spaces, &[], &all.into_iter().collect());
    assert_eq!((nobody.destroyed, nobody.pointing), (0, 0));
}
