//! What a client's own kernel makes of the answers that the uplink program gives itself.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lb_userspace::{CookieCount, Reason, SynCookies, apply, desired, observe, plan};
use model::NodeView;
use nix::sched::{CloneFlags, unshare};

use crate::packets::frame::UDP;
use crate::packets::fuzz::kernel::set_cookies;
use crate::packets::golden::node::Node;
use crate::packets::hooks::offload_off;
use crate::packets::lab::{CLIENT, LOCAL, Lab, OWN, REMOTE, VIP, VIP_NET, ip, snapshot};

/// Ends a test that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `client` in a network namespace of its own at the far end of the wire; it starts when it is told to.
fn at_the_far_end<T: Send + 'static>(client: impl FnOnce() -> T + Send + 'static) -> (Sender<()>, JoinHandle<T>) {
    let (entered, enter) = channel();
    let (begin, begins) = channel::<()>();
    let (wired, wire) = channel::<()>();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root");
        entered.send(nix::unistd::gettid()).expect("the test waits");
        wire.recv().expect("the test goes on");
        ip("link set wire0 up");
        ip(&format!("addr add {}/24 dev wire0", CLIENT.0));
        ip(&format!("route add {VIP_NET} via {OWN}"));
        offload_off("wire0");
        begins.recv().expect("the test begins");
        client()
    });
    let thread_id = enter.recv_timeout(DEADLINE).expect("a namespace");
    ip(&format!("link set wire0 netns {thread_id}"));
    offload_off("up0");
    wired.send(()).expect("the client waits");
    (begin, thread)
}

#[test]
fn a_client_learns_the_size_that_fits() {
    let [vip, remote] = [VIP, REMOTE].map(|(addr, port)| (IpAddr::V4(addr), port));
    let mut node = Node::new();
    node.backend(remote, UDP, 0);
    node.vip(vip, UDP, &[0], &[]);
    node.load();
    let (begin, client) = at_the_far_end(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
        socket.connect(vip).expect("a route");
        let until = Instant::now() + DEADLINE;
        // 28 bytes of headers: 1450 fit once wrapped, 1451 do not.
        while Instant::now() < until {
            // The kernel may report here what it was told; the next try goes on.
            let _ = socket.send(&[0; 1423]);
            let route = Command::new("ip").args(["route", "get", &vip.0.to_string()]).output();
            let route = String::from_utf8(route.expect("iproute2 is installed").stdout).expect("plain text");
            if route.contains("mtu") {
                return route;
            }
        }
        "nothing was told".to_owned()
    });
    begin.send(()).expect("the client waits");
    let route = client.join().expect("the client ends well");
    assert!(route.contains("mtu 1450"), "{route}");
}

/// Sources that never answer, ports they use, and as many half-open connections as the listener takes.
const SILENT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 60);
const ROOM: usize = 8;

#[test]
fn a_listener_without_room_is_reached_by_a_cookie_that_the_uplink_sent() {
    let mut lab = Lab::configured(|config| config.syn_cookies = SynCookies::Always);
    lab.set(&[(LOCAL, 1)]);
    std::fs::write("/proc/sys/net/core/somaxconn", ROOM.to_string()).expect("a setting of the namespace");
    set_cookies(1);
    // What goes to the silent ones is for a link address that nobody has.
    ip(&format!(
        "neigh replace {SILENT} lladdr 02:00:00:00:00:63 dev up0 nud permanent"
    ));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, LOCAL.1)).expect("the backend's port is free");
    lab.lb.tell_listeners(true).expect("the kernel lists sockets");
    let (flooded, flood) = channel();
    let (full, fills) = channel::<()>();
    let (begin, client) = at_the_far_end(move || {
        ip(&format!("addr add {SILENT}/24 dev wire0"));
        ip(&format!("route replace {VIP_NET} via {OWN} src {SILENT}"));
        let silent = || {
            // One more than there is room for; each gives up by itself.
            let each = (0..=ROOM).map(|_| {
                std::thread::spawn(|| {
                    TcpStream::connect_timeout(&SocketAddr::from(VIP), Duration::from_secs(1)).is_ok()
                })
            });
            let each: Vec<_> = each.collect();
            each.into_iter()
                .map(|one| one.join().expect("it ends"))
                .filter(|ok| *ok)
                .count()
        };
        flooded.send(silent()).expect("the test waits");
        fills.recv().expect("the test goes on");
        ip(&format!("route replace {VIP_NET} via {OWN} src {}", CLIENT.0));
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(VIP), DEADLINE).expect("the VIP answers");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all(b"hello").expect("it is open");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("the backend answers");
        answer
    });
    begin.send(()).expect("the client waits");
    // Kernels differ in whether the last of them finds room; the answer that brings a cookie reaches it.
    let got_in = flood.recv_timeout(DEADLINE).expect("the flood ends");
    assert!(got_in <= 1, "{got_in} heard an answer");
    let counts = |lab: &Lab| [CookieCount::Sent, CookieCount::Accepted].map(|what| count(lab, what));
    let (before, redirected) = (counts(&lab), lab.counters()[&Reason::CookieRedirected]);
    full.send(()).expect("the client waits");
    let mut stream = accepted(&listener, CLIENT.0);
    let mut question = [0; 5];
    stream.read_exact(&mut question).expect("the client asks");
    stream.write_all(&question).expect("the client reads");
    assert_eq!(&client.join().expect("the client ends well"), b"hello");
    assert_eq!(counts(&lab), before.map(|count| count + 1), "by a cookie");
    assert_eq!(lab.counters()[&Reason::CookieRedirected], redirected + 1);
}

/// The connection of this client; others are let go.
fn accepted(listener: &TcpListener, client: Ipv4Addr) -> TcpStream {
    listener.set_nonblocking(true).expect("a listener");
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        match listener.accept() {
            Ok((stream, from)) if from.ip() == client => {
                stream.set_nonblocking(false).expect("a stream");
                return stream;
            }
            Ok(_) => {}
            Err(_) => std::thread::yield_now(),
        }
    }
    panic!("{client} never came");
}

fn count(lab: &Lab, what: CookieCount) -> u64 {
    let counts = lab.lb.cookie_counts().expect("counts can be read");
    counts.into_iter().find(|(of, _)| *of == what).expect("all are told").1
}

#[test]
fn a_client_is_reset_at_once() {
    let mut lab = Lab::with(&[(LOCAL, 1)]);
    reset(&mut lab, 1);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, LOCAL.1)).expect("the backend's port is free");
    let (done, served) = channel();
    let (went, goes) = channel::<()>();
    let (begin, client) = at_the_far_end(move || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from(VIP), DEADLINE).expect("the VIP answers");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let mut byte = [7];
        stream.read_exact(&mut byte).expect("the backend greets");
        done.send(()).expect("the test waits");
        goes.recv().expect("the backend goes");
        stream
            .write_all(&byte)
            .expect("the connection is there as far as anybody here knows");
        // The backend neither closes nor sends anything: only a reset ends this.
        stream.read(&mut byte).map_err(|error| error.kind())
    });
    begin.send(()).expect("the client waits");
    let (mut stream, _) = listener.accept().expect("the client");
    stream.write_all(&[7]).expect("the client reads");
    served.recv_timeout(DEADLINE).expect("the connection works");
    reset(&mut lab, 0);
    went.send(()).expect("the client waits");
    assert_eq!(
        client.join().expect("the client ends well"),
        Err(ErrorKind::ConnectionReset)
    );
    assert!(lab.counters()[&Reason::ReplyRedirected] > 0);
    drop(stream);
}

/// The VIP resets, and its backend has this weight.
fn reset(lab: &mut Lab, weight: u16) {
    let mut picture = snapshot(&[(LOCAL, weight)]);
    let (address, service) = picture
        .services
        .iter()
        .next()
        .map(|(a, s)| (*a, s.as_ref().clone()))
        .expect("a VIP");
    let options = model::ServiceOptions {
        reset: true,
        ..service.options.clone()
    };
    picture
        .services
        .insert(address, std::sync::Arc::new(model::Service { options, ..service }));
    let wanted = desired(&picture, &NodeView { ip: OWN, agent: None });
    let found = observe(&mut lab.lb).expect("maps can be read");
    let report = apply(&mut lab.lb, &plan(&wanted, &found));
    assert!(report.failed.is_empty(), "{report:?}");
}
