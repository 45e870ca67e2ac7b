//! Masters replaced while nodes stream from them: what each node is sent again (S26).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Finding;
use super::bench::{Bench, nodes};
use crate::figures::{Figure, count};
use crate::lab::{Cluster, NODES, net, underlay};

/// Tasks that a snapshot is made of, besides the others.
const TASKS: u32 = 60;
/// The app that has them.
const MANY: &str = "/many";
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What one node has read of its streams.
#[derive(Clone, Debug)]
struct Stream {
    master: String,
    bytes: f64,
    starts: f64,
    resumed: f64,
}

/// What nodes were sent whose master was replaced.
#[derive(Debug, Default)]
struct Sent {
    streams: u64,
    /// Of these, those that began with a snapshot.
    snapshots: u64,
    /// The most that one of them cost, in bytes.
    most: f64,
}

/// S26: one master after the other ends for good and another one of its name takes its place.
pub(super) fn run(bench: &mut Bench) -> Result<Finding> {
    let rounds = if bench.short { 1 } else { 10 };
    let app = json!({"id": MANY, "cmd": "exec sleep 100000", "cpus": 0.01, "mem": 4, "instances": TASKS});
    bench.deploy("many", &app.to_string())?;
    let mut sent = Sent::default();
    let mut snapshot = 0.0_f64;
    for _ in 0..rounds {
        for number in nodes() {
            settled(&bench.cluster, None)?;
            snapshot = snapshot.max(count(snapshot_bytes(&bench.cluster, number)?));
            replace(bench, number, &mut sent)?;
        }
    }
    bench.cluster.cli(&["app", "remove", MANY])?;
    eprintln!("a snapshot has {snapshot} bytes; {sent:?}");
    let mut found = Finding::default();
    found.check(sent.streams > 0, || {
        "no node had its stream from a master that was replaced".to_owned()
    });
    found.check(sent.snapshots == 0, || {
        format!("{} nodes were sent a whole snapshot", sent.snapshots)
    });
    found.figures = vec![
        Figure::new("S26", sent.most / snapshot, "ratio", sent.streams, 1.0),
        Figure::failures("S26.snapshots", sent.snapshots, sent.streams, 0),
    ];
    Ok(found)
}

fn replace(bench: &mut Bench, number: u8, sent: &mut Sent) -> Result<()> {
    let gone = format!("{}:5050", underlay(number));
    let before = bench_streams(&bench.cluster)?;
    bench.cluster.kill_master_of_many(number)?;
    settled(&bench.cluster, Some(&gone))?;
    let after = bench_streams(&bench.cluster)?;
    for (before, after) in before.iter().zip(&after) {
        if before.master != gone {
            continue;
        }
        let starts = after.starts - before.starts;
        let whole = starts - (after.resumed - before.resumed);
        sent.streams += 1;
        sent.snapshots += u64::from(whole > 0.0);
        sent.most = sent.most.max(after.bytes - before.bytes);
        eprintln!("master {gone} ended: {before:?} became {after:?}");
    }
    bench.cluster.start_master_of_many(number)?;
    bench
        .cluster
        .until("the new master follows", |cluster| cluster.leader_told_by(number).ok())?;
    Ok(())
}

/// Waits until every node is registered and has a stream from a master other than `gone`, and a copy is at each master.
fn settled(cluster: &Cluster, gone: Option<&str>) -> Result<()> {
    let wanted = usize::from(NODES) - 1 - usize::from(gone.is_some());
    cluster.until("every node has a stream and masters have copies", |cluster| {
        let status = cluster.json(&["status"]).ok()?;
        let copies = status["copies_age_ms"].as_array()?;
        let copies = copies.iter().filter(|age| age.is_u64()).count();
        let up = |number| {
            let health = health(cluster, number)?;
            let master = health["master"].as_str()?.to_owned();
            let up = health["master_connected"] == true && health["agent_connected"] == true;
            (up && Some(master.as_str()) != gone).then_some(())
        };
        (copies >= wanted && nodes().all(|number| up(number).is_some())).then_some(())
    })
}

fn bench_streams(cluster: &Cluster) -> Result<Vec<Stream>> {
    nodes().map(|number| stream(cluster, number)).collect()
}

fn stream(cluster: &Cluster, number: u8) -> Result<Stream> {
    let health = health(cluster, number).with_context(|| format!("node{number} does not answer"))?;
    let to = (underlay(number).parse::<std::net::IpAddr>()?, 5051).into();
    let (_, text) = net::http(cluster.node(number), to, "GET /metrics", "")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .with_context(|| format!("node{number} has no {name}"))
    };
    Ok(Stream {
        master: health["master"].as_str().unwrap_or_default().to_owned(),
        bytes: value("revere_node_stream_bytes_total")?,
        starts: value("revere_node_stream_starts_total")?,
        resumed: value("revere_node_stream_resumed_total")?,
    })
}

/// What a node says of itself.
pub(super) fn health(cluster: &Cluster, number: u8) -> Option<Value> {
    let to = (underlay(number).parse::<std::net::IpAddr>().ok()?, 5051).into();
    let (_, body) = net::http(cluster.node(number), to, "GET /health", "").ok()?;
    serde_json::from_str(&body).ok()
}

/// How long the first record of a stream is.
fn snapshot_bytes(cluster: &Cluster, number: u8) -> Result<u64> {
    let to = Cluster::master_at(number);
    net::in_network(cluster.node(number).pid, move || {
        let mut stream = TcpStream::connect_timeout(&to, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let call = r#"{"type":"SUBSCRIBE"}"#;
        let head = format!(
            "POST /api/v1 HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Content-Length: {}\r\n\r\n{call}",
            call.len()
        );
        stream.write_all(head.as_bytes())?;
        let mut said = Vec::new();
        let mut part = [0; 4096];
        while said.len() < 4096 {
            let length = stream.read(&mut part)?;
            if length == 0 {
                break;
            }
            said.extend(&part[..length]);
            let text = String::from_utf8_lossy(&said);
            let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
            // A chunk's length, then the record's.
            let lengths = body.split_once("\r\n").and_then(|(_, record)| record.split_once('\n'));
            if let Some(length) = lengths.and_then(|(length, _)| length.parse().ok()) {
                return Ok(length);
            }
        }
        bail!("{to} begins no stream: {}", String::from_utf8_lossy(&said))
    })
}
