//! `revere replay`: tells what a recorded stream means, or serves it to nodes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::{NodeView, Snapshot, VipRange};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::fold::{Outcome, fold};
use super::serve::{Speed, serve};
use super::{Tape, TapeError};

/// `revere replay`.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// A file of `revere record`.
    pub file: PathBuf,
    /// Only what was said in so many seconds from the start.
    #[arg(long, value_name = "SECONDS")]
    pub until: Option<f64>,
    /// How long what a new state does not confirm is kept, as `node.hold_seconds`.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub hold: u64,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Serve the stream here instead, as a master: `revere node --master http://ADDRESS:PORT`.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// So many times as fast as it was recorded; 0 does not wait at all.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "listen")]
    pub speed: f64,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file.
    #[error(transparent)]
    Tape(#[from] TapeError),
    /// A number.
    #[error("--{0} wants a number of zero or more")]
    Number(&'static str),
    /// The address.
    #[error("cannot listen on {address}: {source}; end what uses it, or choose another address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// Standard output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints, or serves until the process ends.
pub async fn run(args: &ReplayArgs) -> Result<(), ReplayError> {
    let tape = Tape::open(&args.file)?;
    if let Some(address) = args.listen {
        let speed = match args.speed {
            0.0 => Speed::AtOnce,
            factor if factor.is_finite() && factor > 0.0 => Speed::Times(factor),
            _ => return Err(ReplayError::Number("speed")),
        };
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ReplayError::Listen { address, source })?;
        tracing::info!(%address, records = tape.said.len(), "serving the recorded stream");
        return Ok(serve(listener, tape, speed).await?);
    }
    let until = match args.until {
        None => Duration::MAX,
        Some(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| ReplayError::Number("until"))?,
    };
    let told = tell(&tape, Duration::from_secs(args.hold), until);
    let text = if args.json { format!("{told:#}\n") } else { text(&told) };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// The whole outcome as JSON, in a form that does not depend on the order of anything.
pub(super) fn tell(tape: &Tape, hold: Duration, until: Duration) -> Value {
    let mut pictures = Vec::new();
    let watch = |at: Duration, snapshot: &Snapshot| {
        let backends: usize = snapshot.services.values().map(|service| service.backends.len()).sum();
        pictures.push(json!([
            at.as_secs_f64(),
            snapshot.services.len(),
            backends,
            snapshot.tasks.len()
        ]));
    };
    let outcome = fold(tape, VipRange::default(), hold, until, watch);
    let Outcome { snapshot, .. } = &outcome;
    json!({
        "master": tape.header.master,
        "encoding": tape.header.encoding,
        "seconds": tape.length().as_secs_f64(),
        "cut": tape.cut,
        "records": outcome.records,
        "rejects": outcome.rejects,
        "unreadable": outcome.unreadable,
        "left_out": outcome.left_out,
        // Time, services, backends, tasks.
        "pictures": pictures,
        "services": services(snapshot),
        "names": names(snapshot),
    })
}

fn services(snapshot: &Snapshot) -> Vec<Value> {
    let one = |service: &model::Service| {
        let backends = service.backends.iter();
        let backends: Vec<Value> = backends
            .map(|one| json!({"address": one.addr, "port": one.port, "weight": one.weight, "task": one.task.as_str()}))
            .collect();
        json!({
            "vip": service.vip.to_string(),
            "name": service.name.as_ref().map(ToString::to_string),
            "backends": backends,
        })
    };
    snapshot.services.values().map(|service| one(service)).collect()
}

/// Every name that does not depend on which node answers, with its records.
fn names(snapshot: &Snapshot) -> BTreeMap<String, Vec<String>> {
    let view = NodeView {
        ip: Ipv4Addr::UNSPECIFIED,
        agent: None,
    };
    let zones = dns::desired(snapshot, &view, &dns::Config::default());
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, found) in zones.iter() {
        let addrs = found
            .addrs
            .iter()
            .filter(|addr| !addr.is_unspecified() && !addr.is_loopback());
        let mut records: Vec<String> = addrs.map(|addr| format!("A {addr}")).collect();
        records.extend(found.srvs.iter().map(|srv| format!("SRV {}:{}", srv.target, srv.port)));
        if !records.is_empty() {
            out.insert(name.to_owned(), records);
        }
    }
    out
}

fn text(told: &Value) -> String {
    let words = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        pairs
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut out = format!(
        "{} s of {}, {}{}\nrecords   {}\n",
        told["seconds"],
        told["master"].as_str().unwrap_or_default(),
        told["encoding"].as_str().unwrap_or_default(),
        if told["cut"] == true {
            ", cut off at its end"
        } else {
            ""
        },
        words(&told["records"]),
    );
    if told["rejects"].as_object().is_some_and(|rejects| !rejects.is_empty()) {
        out.push_str(&format!("left out  {}\n", words(&told["rejects"])));
    }
    for list in ["unreadable", "left_out"] {
        for line in told[list].as_array().into_iter().flatten() {
            out.push_str(&format!("{list}: {}\n", line.as_str().unwrap_or_default()));
        }
    }
    out.push_str("\n  seconds  services  backends  tasks\n");
    for picture in told["pictures"].as_array().into_iter().flatten() {
        let number = |index: usize| picture[index].as_u64().unwrap_or(0);
        let at = picture[0].as_f64().unwrap_or(0.0);
        out.push_str(&format!("{at:9.3} {:9} {:9} {:6}\n", number(1), number(2), number(3)));
    }
    for service in told["services"].as_array().into_iter().flatten() {
        let name = service["name"].as_str().unwrap_or("-");
        out.push_str(&format!("\n{} {name}\n", service["vip"].as_str().unwrap_or_default()));
        for one in service["backends"].as_array().into_iter().flatten() {
            let draining = if one["weight"] == 0 { " (draining)" } else { "" };
            let (address, task) = (one["address"].as_str(), one["task"].as_str());
            out.push_str(&format!(
                "  {}:{} {}{draining}\n",
                address.unwrap_or_default(),
                one["port"],
                task.unwrap_or_default()
            ));
        }
    }
    out.push('\n');
    for (name, records) in told["names"].as_object().into_iter().flatten() {
        for record in records.as_array().into_iter().flatten() {
            out.push_str(&format!("{name} {}\n", record.as_str().unwrap_or_default()));
        }
    }
    out
}
