//! R12: megabytes to and from VIPs while something on the way carries less than both ends believe.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::Finding;
use super::bench::{Bench, nodes};
use crate::figures::Figure;
use crate::lab::{Cluster, Place, net, underlay};

/// VIP ports of the service on the nodes' addresses and of that in containers on the overlay.
const PORTS: [u16; 2] = [5800, 5801];
/// Bytes of one transfer.
const BYTES: usize = 10 << 20;
/// A transfer that does not move for so long has stalled.
const STALL: Duration = Duration::from_secs(10);
/// What the fabric carries, and what the way between router and client carries.
const FABRICS: [u16; 3] = [1400, 1500, 9000];
const WAYS: [u16; 4] = [1280, 1400, 1500, 9000];
/// What both ends of the client's own cable carry.
const WIDE: u16 = 9000;
/// Of so many connections some go by each of the three nodes: that one gets none has a chance of one in a billion.
const CONNECTIONS: usize = 54;
const ROUTER: &str = "10.99.0.101";

/// Where the bytes go.
#[derive(Clone, Copy, Debug)]
enum Flow {
    Down,
    Up,
}

pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let (fabrics, ways, times) = match bench.short {
        true => (&FABRICS[1..], &[WAYS[0], WIDE][..], 1),
        false => (&FABRICS[..], &WAYS[..], 21),
    };
    let lab = &bench.cluster.lab;
    let router = lab.join("router", ROUTER)?;
    let far = lab.behind(&router, "far", "192.0.2", WIDE)?;
    for number in nodes() {
        bench
            .cluster
            .node(number)
            .sh(&format!("ip route replace 192.0.2.0/24 via {ROUTER}"))?;
    }
    let mut found = Finding::default();
    let (mut stalled, mut done) = (0, 0);
    for fabric in fabrics {
        resize(&bench.cluster, &router, *fabric)?;
        let services = deployed(bench)?;
        narrow(&router, WIDE)?;
        bench.cluster.until("the far client is served by every node", |_| {
            let whole = |to: &SocketAddr| (0..CONNECTIONS).all(|_| transfer(&far, *to, Flow::Down, 1).is_ok());
            services.iter().all(whole).then_some(())
        })?;
        for way in ways {
            narrow(&router, *way)?;
            let (lost, all) = cell(&far, &services, times, (*fabric, *way));
            stalled += lost;
            done += all;
        }
        for app in ["/bulk", "/bulk-own"] {
            bench.cluster.cli(&["app", "remove", app])?;
        }
    }
    resize(&bench.cluster, &router, 1500)?;
    eprintln!("{stalled} of {done} transfers of {BYTES} bytes stalled");
    found.check(stalled == 0, || format!("{stalled} of {done} transfers stalled"));
    found.figures = vec![Figure::failures("R12", stalled, done, 0)];
    Ok(found)
}

/// All transfers of one pair of sizes; how many stalled, and of how many.
fn cell(far: &Place, services: &[SocketAddr], times: u64, sizes: (u16, u16)) -> (u64, u64) {
    let (mut stalled, mut done) = (0, 0);
    for to in services {
        for flow in [Flow::Down, Flow::Up] {
            for _ in 0..times {
                done += 1;
                if let Err(error) = transfer(far, *to, flow, BYTES) {
                    stalled += 1;
                    eprintln!("fabric {}, way {}, {to}, {flow:?}: {error:#}", sizes.0, sizes.1);
                }
            }
        }
    }
    (stalled, done)
}

/// The same program once with the node's address and once with its own on the overlay.
fn deployed(bench: &Bench) -> Result<Vec<SocketAddr>> {
    let services = [("bulk", PORTS[0]), ("bulk-own", PORTS[1])];
    for (name, port) in services {
        let vip = json!({"VIP_0": format!("/{name}:{port}")});
        let mut app = json!({
            "id": format!("/{name}"), "cmd": "exec revere demo-server --port $PORT0", "cpus": 0.1, "mem": 64, "instances": 3,
            "constraints": [["hostname", "UNIQUE"]],
            "portDefinitions": [{"protocol": "tcp", "port": port, "name": "web", "labels": vip}],
        });
        if name == "bulk-own" {
            app["cmd"] = json!("exec revere demo-server --port 8080");
            app["networks"] = json!([{"mode": "container", "name": "dcos"}]);
            app["container"] =
                json!({"type": "MESOS", "portMappings": [{"containerPort": 8080, "name": "web", "labels": vip}]});
            if let Some(app) = app.as_object_mut() {
                app.remove("portDefinitions");
            }
        }
        bench.deploy(name, &app.to_string())?;
        bench.cluster.running(&format!("/{name}"), 3)?;
    }
    services
        .iter()
        .map(|(name, port)| Ok(SocketAddr::new(bench.address(name)?, *port)))
        .collect()
}

/// What the fabric carries, all its cables; waits until every node's overlay follows.
fn resize(cluster: &Cluster, router: &Place, mtu: u16) -> Result<()> {
    let ends: Vec<&Place> = cluster.lab.nodes.iter().chain([router]).collect();
    // A bridge takes the size of its smallest cable.
    for end in &ends {
        cluster.lab.fabric.sh(&format!("ip link set {} mtu {mtu}", end.name))?;
        end.sh(&format!("ip link set up0 mtu {mtu}"))?;
    }
    cluster
        .lab
        .fabric
        .sh(&format!("ip link set outside mtu {mtu} && ip link set br0 mtu {mtu}"))?;
    for number in nodes() {
        let wanted = format!("mtu {} ", mtu - 50);
        cluster.until(
            &format!("the overlay of node{number} carries {}", mtu - 50),
            |cluster| {
                let said = cluster.node(number).sh("ip -o link show vtep1024").ok()?;
                said.contains(&wanted).then_some(())
            },
        )?;
    }
    Ok(())
}

/// What the router lets through, both ways; neither end's own cable tells.
fn narrow(router: &Place, mtu: u16) -> Result<()> {
    let hops: String = nodes().map(|node| format!(" nexthop via {}", underlay(node))).collect();
    router
        .sh(&format!(
            "sysctl -qw net.ipv4.fib_multipath_hash_policy=1 && ip route replace 11.0.0.0/8 mtu {mtu}{hops} && \
             ip route replace 192.0.2.2/32 dev far0 mtu {mtu}"
        ))
        .map(drop)
}

/// So many bytes one way over a connection of its own.
fn transfer(far: &Place, to: SocketAddr, flow: Flow, bytes: usize) -> Result<()> {
    net::in_network(far.pid, move || {
        let mut stream = TcpStream::connect_timeout(&to, STALL).context("no connection")?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        let (line, length) = match flow {
            Flow::Down => (format!("GET /bytes?n={bytes}"), 0),
            Flow::Up => ("POST /".to_owned(), bytes),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let chunk = vec![b'.'; 64 << 10];
        let mut left = length;
        while left > 0 {
            let part = left.min(chunk.len());
            stream
                .write_all(&chunk[..part])
                .with_context(|| format!("{left} bytes were not taken"))?;
            left -= part;
        }
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said);
        read.with_context(|| format!("{} bytes came", said.len()))?;
        let body = said
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .map_or(0, |at| said.len() - at - 4);
        ensure!(said.starts_with(b"HTTP/1.1 200"), "refused");
        let whole = match flow {
            Flow::Down => body == bytes,
            Flow::Up => said.ends_with(format!("{bytes}\n").as_bytes()),
        };
        ensure!(whole, "{body} bytes came");
        Ok(())
    })
}
