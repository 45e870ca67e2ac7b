//! O1 and O2: bytes and packets a second between tasks on two nodes, beside the kernel's VXLAN and a bridge between the same two namespaces.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use super::super::Outcome;
use super::super::stale::quantile;
use crate::figures::Figure;
use crate::lab::net::in_network;
use crate::lab::{Cluster, Daemon, PATIENCE, underlay, wait_for};
use crate::shell;

/// The two nodes.
const NODES: [u8; 2] = [2, 3];
/// Addresses at the ends of the kernel's way.
const PEERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 201, 0, 1), Ipv4Addr::new(10, 201, 0, 2)];
/// Each way in turn, so often: what else the machine does meets all of them.
const ROUNDS: u32 = 5;
/// Longest measurement of one way.
const SPAN: Duration = Duration::from_secs(2);
/// What is written at once.
const PART: usize = 128 << 10;
/// With Ethernet's, IPv4's and UDP's headers and the checksum 64 bytes.
const SMALL: [u8; 18] = [0; 18];
/// Room for what the receiver has not read yet.
const BUFFER: usize = 64 << 20;
/// A receiver looks so often whether it is over.
const LOOK: Duration = Duration::from_millis(100);

/// Two ends of a way.
#[derive(Clone, Copy, Debug)]
struct Way {
    from: u32,
    to: u32,
    addr: Ipv4Addr,
}

/// Of one kind of measurement, round by round.
#[derive(Debug, Default)]
struct Rounds {
    ours: Vec<f64>,
    kernel: Vec<f64>,
    /// The kernel's once more: what the same way differs from itself.
    again: Vec<f64>,
}

pub(super) fn run(cluster: &Cluster, outcome: &mut Outcome) -> Result<()> {
    eprintln!("overlay: bytes and packets a second");
    let ours = tasks(cluster)?;
    let (kernel, mut holders) = by_kernel(cluster)?;
    let (mut bytes, mut packets) = (Rounds::default(), Rounds::default());
    for _ in 0..ROUNDS {
        bytes.one(ours, kernel, megabits)?;
        packets.one(ours, kernel, per_second)?;
    }
    holders.iter_mut().try_for_each(Daemon::kill)?;
    for node in NODES {
        inside(cluster.node(node).pid, "ip link del o1x; ip link del o1b")?;
    }
    cluster.cli(&["app", "remove", "/o1"])?;
    let ratio = bytes.tell("O1", "kernel's VXLAN and bridge, Mbit/s", outcome);
    outcome.check(ratio >= 1.0, || {
        format!("O1: {ratio:.2} times the kernel's way, wanted 1")
    });
    let ratio = packets.tell("O2", "kernel's VXLAN and bridge, packets/s", outcome);
    outcome.check(ratio >= 2.0, || {
        format!("O2: {ratio:.2} times the kernel's way, wanted 2")
    });
    Ok(())
}

impl Rounds {
    fn one(&mut self, ours: Way, kernel: Way, measure: fn(Way) -> Result<f64>) -> Result<()> {
        self.kernel.push(measure(kernel)?);
        self.ours.push(measure(ours)?);
        self.again.push(measure(kernel)?);
        Ok(())
    }

    /// How many times the kernel's it is.
    fn tell(&self, id: &str, peer: &str, outcome: &mut Outcome) -> f64 {
        let [ours, kernel, again] = [&self.ours, &self.kernel, &self.again].map(|all| quantile(all, 0.5));
        let ratio = ours / kernel.max(1.0);
        eprintln!("{id}: {ours:.0}, the kernel's way {kernel:.0} and again {again:.0}");
        let figure = Figure::new(id, ratio, "x", u64::from(ROUNDS), again / kernel.max(1.0));
        outcome.figures.push(figure.beside(peer, kernel));
        ratio
    }
}

/// A task on each of the two nodes, in the overlay.
fn tasks(cluster: &Cluster) -> Result<Way> {
    let app = json!({"id": "/o1", "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 16, "instances": NODES.len(),
        "networks": [{"mode": "container", "name": "dcos"}],
        "constraints": [["hostname", "UNIQUE"], ["hostname", "UNLIKE", underlay(1)]]});
    let file = cluster.lab.dir.join("o1.json");
    std::fs::write(&file, app.to_string())?;
    cluster.cli(&["app", "add", file.to_str().context("a plain path")?])?;
    let tasks = cluster.running("/o1", NODES.len())?;
    let pid = |node: u8| {
        let task = tasks.iter().find(|task| task.node == node);
        task.and_then(|task| task.pid)
            .with_context(|| format!("no task on node{node}"))
    };
    let (from, to) = (pid(NODES[0])?, pid(NODES[1])?);
    let said = inside(to, "ip -4 -o addr show scope global")?;
    let addr = said.split_whitespace().skip_while(|word| *word != "inet").nth(1);
    let addr = addr.and_then(|addr| addr.split('/').next());
    let addr = addr
        .with_context(|| format!("the task has no address: {said}"))?
        .parse()?;
    Ok(Way { from, to, addr })
}

/// Two namespaces on bridges that a VXLAN device joins.
fn by_kernel(cluster: &Cluster) -> Result<(Way, Vec<Daemon>)> {
    let mut holders = Vec::new();
    let mut pids = Vec::new();
    for ((own, other), addr) in NODES.into_iter().zip(NODES.into_iter().rev()).zip(PEERS) {
        let place = cluster.node(own);
        let holder = place.spawn("o1", &["unshare", "--net", "sleep", "100000"], &[])?;
        let pid = holder.pid().context("the holder ended at once")?;
        let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let apart = wait_for(PATIENCE, || (network(pid)? != network(place.pid)?).then_some(()));
        apart.context("the holder has no network of its own")?;
        inside(
            place.pid,
            &format!(
                "ip link add o1x type vxlan id 7777 dstport 4788 local {} remote {} && ip link add o1b type bridge && \
                 ip link set o1x mtu 1450 master o1b up && ip link set o1b up && \
                 ip link add o1v type veth peer name o1e netns {pid} && ip link set o1v mtu 1450 master o1b up",
                underlay(own),
                underlay(other)
            ),
        )?;
        inside(
            pid,
            &format!("ip link set o1e mtu 1450 up && ip addr add {addr}/24 dev o1e"),
        )?;
        holders.push(holder);
        pids.push(pid);
    }
    let (from, to, addr) = (pids[0], pids[1], PEERS[1]);
    Ok((Way { from, to, addr }, holders))
}

/// A line of shell in the network of a process, and everything else of this one's.
fn inside(pid: u32, line: &str) -> Result<String> {
    shell::capture(Command::new("nsenter").args(["-t", &pid.to_string(), "-n", "sh", "-c", line]))
}

/// Megabits a second of one TCP connection.
fn megabits(way: Way) -> Result<f64> {
    let listener = in_network(way.to, move || Ok(TcpListener::bind((way.addr, 0))?))?;
    let to = listener.local_addr()?;
    let receiver = std::thread::spawn(move || -> Result<f64> {
        let (mut stream, _) = listener.accept()?;
        let (began, mut part, mut bytes) = (Instant::now(), vec![0; PART], 0.0);
        loop {
            let read = stream.read(&mut part)?;
            if read == 0 {
                return Ok(bytes * 8.0 / 1e6 / began.elapsed().as_secs_f64());
            }
            bytes += f64::from(u32::try_from(read)?);
        }
    });
    in_network(way.from, move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        let (began, part) = (Instant::now(), vec![0; PART]);
        while began.elapsed() < SPAN {
            stream.write_all(&part)?;
        }
        Ok(())
    })?;
    receiver.join().ok().context("the receiver ended early")?
}

/// Small packets a second that arrive.
fn per_second(way: Way) -> Result<f64> {
    let socket = in_network(way.to, move || {
        let socket = UdpSocket::bind((way.addr, 0))?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(socket)
    })?;
    let to = SocketAddr::new(IpAddr::V4(way.addr), socket.local_addr()?.port());
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let receiver = std::thread::spawn(move || {
        let (mut part, mut count) = ([0; 64], 0_u32);
        loop {
            match socket.recv(&mut part) {
                Ok(_) => count += 1,
                // Whatever is still on its way comes within one look.
                Err(_) if told.load(Ordering::Relaxed) => return count,
                Err(_) => {}
            }
        }
    });
    let sent = in_network(way.from, move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(to)?;
        let began = Instant::now();
        while began.elapsed() < SPAN {
            // A full queue is the way's own affair: what arrives is counted.
            drop(socket.send(&SMALL));
        }
        Ok(began.elapsed())
    });
    over.store(true, Ordering::Relaxed);
    let count = receiver.join().ok().context("the receiver ended early")?;
    Ok(f64::from(count) / sent?.as_secs_f64())
}
