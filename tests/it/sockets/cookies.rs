//! SYN cookies for a task with a network namespace of its own: its listener is asked in there.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use lb_userspace::{CookieCount, SynCookies};
use model::Protocol;

use super::elsewhere::Elsewhere;
use super::lab::{Lab, Vip, ip, until, vip4};

const DEADLINE: Duration = Duration::from_secs(20);
/// The task's own address, behind an interface of this node.
const TASK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 2));

fn count(lab: &Lab, what: CookieCount) -> u64 {
    let counts = lab.lb.cookie_counts().expect("counts can be read");
    counts.into_iter().find(|(of, _)| *of == what).expect("all are told").1
}

/// A connection through the VIP that brings back what it is sent.
fn echoes(client: &Elsewhere, listener: &TcpListener) {
    let listener = listener.try_clone().expect("a descriptor");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client comes");
        let mut said = [0; 5];
        stream.read_exact(&mut said).expect("it says something");
        stream.write_all(&said).expect("it listens");
    });
    client.run(|| {
        let mut stream = TcpStream::connect_timeout(&vip4(), DEADLINE).expect("the VIP answers");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.write_all(b"hello").expect("sent");
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).expect("an echo");
        assert_eq!(&heard, b"hello");
    });
    server.join().expect("served");
}

#[test]
fn a_task_in_a_namespace_of_its_own_is_asked_for_cookies_in_there() {
    let mut wired = None;
    let mut lab = Lab::configured(|config| {
        let client = Elsewhere::start("up0");
        let task = Elsewhere::on("rv0", "10.88.0");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a switch of this network namespace");
        config.uplinks = vec!["up0".to_owned()];
        config.syn_cookies = SynCookies::Always;
        wired = Some((client, task));
    });
    let (client, task) = wired.expect("made before the load balancer opened");
    client.ask_vips(&lab, "up0");
    task.leave_hooks(&lab);
    for end in [&client, &task] {
        // As a wire has them: finished checksums, no packets that are cut later; and a veth takes redirected packets so.
        end.offload("tx off tso off gso off gro on");
    }
    let setting = |value: &'static str| {
        task.run(move || std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", value).expect("the task's own setting"));
    };
    let listener = task.run(|| {
        ip("route add default via 10.88.0.1");
        TcpListener::bind((TASK, 0)).expect("a port")
    });
    let backend: SocketAddr = listener.local_addr().expect("bound");
    lab.set(&[Vip::new(vip4(), Protocol::Tcp, &[(backend, 1)])]);
    lab.lb.tell_listeners(true).expect("the kernel lists sockets");

    // Each SYN is answered with a cookie, by the setting of the task's namespace and not of the node's.
    setting("2");
    echoes(&client, &listener);
    let (sent, accepted) = (count(&lab, CookieCount::Sent), count(&lab, CookieCount::Accepted));
    assert!(sent >= 1 && accepted >= 1, "{sent} sent, {accepted} accepted");
    // With room in its queue the listener wants the SYN itself.
    setting("1");
    echoes(&client, &listener);
    assert_eq!(count(&lab, CookieCount::Sent), sent);
    assert!(count(&lab, CookieCount::NotNeeded) >= 1);
    // Nobody listens there any more.
    drop(listener);
    client.run(|| TcpStream::connect_timeout(&vip4(), DEADLINE).expect_err("nobody is there"));
    until("it was asked in vain", || count(&lab, CookieCount::NotPossible) > 0);
}
