//! Backends on a node without the daemon, with real sockets: a client's connection goes through this node in its name, and
//! what comes back is given to the client in the VIP's.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lb_userspace::Reason;
use model::Protocol;

use super::datagram::exchange;
use super::elsewhere::Elsewhere;
use super::lab::{Lab, OWN, Vip, ip, until, vip4, vip6};

const DEADLINE: Duration = Duration::from_secs(20);
/// Far more than a window, so that both ends wait for each other.
const BULK: usize = 1 << 20;
const NAT_PORTS: (u16, u16) = (61_000, 61_099);
/// The node without the daemon.
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);
const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd0d, 0, 0, 0, 0, 0, 0, 2);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd0d, 0, 0, 0, 0, 0, 0, 1);

struct Bare {
    lab: Lab,
    client: Elsewhere,
    far: Elsewhere,
}

/// Whether the lab knows the link address of that neighbour.
fn knows(far: IpAddr) -> bool {
    let output = Command::new("ip").args(["neigh", "show", &far.to_string()]).output();
    String::from_utf8_lossy(&output.expect("iproute2 is installed").stdout).contains("lladdr")
}

/// Between the client and the far node, which knows no way to the client.
fn lab() -> Bare {
    let mut wired = None;
    let mut lab = Lab::configured(|config| {
        let client = Elsewhere::on("up0", "10.99.0");
        let far = Elsewhere::on("up1", "10.99.1");
        ip(&format!("addr add {OWN}/32 dev lo"));
        ip(&format!("addr add {OWN6}/64 dev up1 nodad"));
        for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{switch}"), "1").expect("a switch of this network namespace");
        }
        config.uplinks = vec!["up0".to_owned(), "up1".to_owned()];
        config.nat_ports = Some(NAT_PORTS.0..=NAT_PORTS.1);
        config.nat_address6 = Some(OWN6);
        config.bare_nodes = vec![format!("{FAR}/32").parse().expect("a net")];
        wired = Some((client, far));
    });
    let (client, far) = wired.expect("made before the load balancer opened");
    client.ask_vips(&lab, "up0");
    far.leave_hooks(&lab);
    far.run(|| {
        ip(&format!("addr add {FAR6}/64 dev there nodad"));
        ip(&format!("route add {OWN}/32 via 10.99.1.1"));
    });
    for end in [&client, &far] {
        // As a wire has them: finished checksums, no packets that are cut later; and a veth takes redirected packets so.
        end.offload("tx off tso off gso off gro on");
    }
    lab.set(&[]);
    // The daemon keeps the way to such nodes resolved; packets that find none are dropped.
    for (any, far) in [("0.0.0.0:0", IpAddr::from(FAR)), ("[::]:0", FAR6.into())] {
        let socket = UdpSocket::bind(any).expect("a port");
        until("the far node's neighbour entry", || {
            let _ = socket.send_to(b"who?", (far, 9));
            knows(far)
        });
    }
    Bare { lab, client, far }
}

impl Bare {
    fn told(&mut self, vip: SocketAddr, protocol: Protocol, backend: SocketAddr) {
        let mut wanted = Vip::new(vip, protocol, &[(backend, 1)]);
        wanted.node = FAR;
        self.lab.set(&[wanted]);
    }

    fn counts(&self) -> [u64; 2] {
        let sum = |reasons: &[Reason]| reasons.iter().map(|reason| self.lab.count(*reason)).sum();
        [
            sum(&[Reason::NatSent, Reason::NatRedirected]),
            sum(&[Reason::NatRestored, Reason::NatRestoredPass]),
        ]
    }
}

fn of(vip: SocketAddr) -> (IpAddr, IpAddr) {
    match vip {
        SocketAddr::V4(_) => (FAR.into(), OWN.into()),
        SocketAddr::V6(_) => (FAR6.into(), OWN6.into()),
    }
}

fn bytes() -> Vec<u8> {
    (0..BULK).map(|i| u8::try_from(i * 31 % 251).expect("small")).collect()
}

/// Who came must be this node, from a port that it keeps for that.
fn translated(who: SocketAddr, own: IpAddr) {
    assert_eq!(who.ip(), own, "the far node sees this one");
    assert!((NAT_PORTS.0..=NAT_PORTS.1).contains(&who.port()), "{who}");
}

#[test]
fn connections_of_both_families_go_through_and_come_back() {
    let mut bare = lab();
    for vip in [vip4(), vip6()] {
        let (far, own) = of(vip);
        let listener = bare.far.run(move || TcpListener::bind((far, 0)).expect("a port"));
        bare.told(vip, Protocol::Tcp, listener.local_addr().expect("bound"));
        let before = bare.counts();
        let serving = std::thread::spawn(move || {
            let (mut stream, who) = listener.accept().expect("the client");
            let mut got = vec![0; BULK];
            stream.read_exact(&mut got).expect("all of it");
            stream.write_all(&got).expect("sent back");
            who
        });
        let (peer, same) = bare.client.run(move || {
            let mut stream = TcpStream::connect_timeout(&vip, DEADLINE).expect("the VIP answers");
            stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
            stream.write_all(&bytes()).expect("sent");
            let mut got = vec![0; BULK];
            stream.read_exact(&mut got).expect("all of it");
            (stream.peer_addr().expect("connected"), got == bytes())
        });
        translated(serving.join().expect("the server ends well"), own);
        assert!(same, "what came back is what was sent");
        assert_eq!(peer, vip);
        let after = bare.counts();
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
    }
}

#[test]
fn datagrams_and_what_is_said_of_them_come_back() {
    let mut bare = lab();
    for (vip, any) in [(vip4(), "0.0.0.0:0"), (vip6(), "[::]:0")] {
        let (far, _) = of(vip);
        let server = bare.far.run(move || UdpSocket::bind((far, 0)).expect("a port"));
        server.set_nonblocking(true).expect("a socket");
        bare.told(vip, Protocol::Udp, server.local_addr().expect("bound"));
        let client = bare.client.run(move || UdpSocket::bind(any).expect("a port"));
        let send = |bytes: &[u8]| client.send_to(bytes, vip).map(|_| ()).expect("sent");
        let (_, from) = exchange(&client, std::iter::once(&server), send);
        assert_eq!(from, vip);
        // Nobody is there any more: the far node's word of that reaches the client's socket.
        drop(server);
        client.connect(vip).expect("a socket");
        until("the client is refused", || {
            let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
            client.send(b"anybody?").is_err_and(refused)
        });
    }
}
