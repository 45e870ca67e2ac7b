//! A name server with names answered in XDP on `lo`, for `cargo xtask bench dns`: `names ADDRESS:PORT COUNT BPFFS`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use dns::{Config, OwnRecord, Server};
use lb_userspace::names::{Answers, NameMap, Settings, apply, entry, plan};
use model::{NodeView, Snapshot};

/// As many names of one address each as asked for.
fn records(count: u32) -> Result<Vec<OwnRecord>> {
    let one = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        Ok(format!("app-{number:05}.marathon.mesos A 9.0.{high}.{low}").parse()?)
    };
    (0..count).map(one).collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [addr, count, bpffs] = words.as_slice() else {
        bail!("tell the address to listen on, the number of names, and a directory for pins");
    };
    let addr: SocketAddr = addr.parse()?;
    let SocketAddr::V4(four) = addr else {
        bail!("XDP answers IPv4 only");
    };
    let config = Config {
        listen: vec![addr],
        records: records(count.parse()?)?,
        ..Config::default()
    };
    let view = NodeView {
        ip: Ipv4Addr::new(10, 0, 0, 1),
        agent: None,
    };
    let zones = dns::desired(&Snapshot::default(), &view, &config);
    let server = Server::bind(config.clone()).await?;
    server.publish(zones.clone());
    let clients = config.unlimited();
    let clients = clients
        .iter()
        .filter_map(|net| model::Ipv4Net::new(net.network(), net.prefix_len()).ok());
    let mut map = NameMap::open(Settings {
        bpffs: PathBuf::from(bpffs),
        interfaces: vec!["lo".to_owned()],
        servers: vec![four],
        clients: clients.collect(),
        recursion: server.recurses(),
        max_payload: config.max_udp_payload,
    })?;
    let names: Vec<&str> = zones.iter().map(|(name, _)| name).collect();
    let wanted: Answers = names
        .into_iter()
        .flat_map(|name| zones.prepared(name))
        .filter_map(|one| entry(&one.name, one.kind, one.counts, &one.body, one.serial_at))
        .collect();
    let report = apply(&mut map, &plan(&wanted, &Answers::new()));
    ensure!(report.failed.is_none() && report.no_room == 0, "{report:?}");
    map.answer_until(u32::MAX)?;
    writeln!(std::io::stdout(), "{} answers", wanted.len()).context("cannot say so")?;
    std::future::pending().await
}
