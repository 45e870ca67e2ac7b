//! The leading Mesos master, as etcd tells it: version 3 by its JSON gateway, version 2 by its own paths.
//!
//! The masters' keys lie at one path or below it; the one created first leads, its value is a `MasterInfo` in JSON.

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::zk::{MAX_MASTERS, location, tell};
use crate::mesos::client::{ApiError, Client};
use crate::node::stream::Backoff;

/// Between two looks. A change of leader ends the old leader's stream, and the next look finds the new one.
const LOOK: Duration = Duration::from_secs(1);

/// Paths of version 2 begin with it.
const V2: &str = "/v2/keys/";

/// An `etcd://` or `etcds://` address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::node) struct EtcdAddress {
    /// URLs without a path.
    pub(in crate::node) servers: Vec<String>,
    /// Begins with `/`.
    path: String,
}

impl EtcdAddress {
    /// Whether it is meant to be one.
    pub(in crate::node) fn is_meant(url: &str) -> bool {
        url.starts_with("etcd://") || url.starts_with("etcds://")
    }

    /// `etcd[s]://host:port[,host:port...]/path`.
    pub(in crate::node) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.strip_prefix("etcds://") {
            Some(rest) => ("https", rest),
            None => ("http", url.strip_prefix("etcd://")?),
        };
        let (servers, path) = rest.split_once('/')?;
        let server = |one: &str| {
            let (host, port) = one.rsplit_once(':').unwrap_or((one, "2379"));
            let good = !host.is_empty() && !host.contains('@') && port.parse::<u16>().is_ok();
            good.then(|| format!("{scheme}://{host}:{port}"))
        };
        let path = format!("/{}", path.trim_end_matches('/'));
        (path != "/" && !path.contains("//") && path.trim_end_matches('/') != V2.trim_end_matches('/')).then_some(())?;
        Some(Self {
            servers: servers.split(',').map(server).collect::<Option<_>>()?,
            path,
        })
    }

    pub(in crate::node) fn is_secure(&self) -> bool {
        self.servers.iter().any(|server| server.starts_with("https:"))
    }
}

/// Looks for the leader for ever and tells it to `masters`. While etcd is away the last one known stays.
pub(in crate::node) async fn watch(
    address: EtcdAddress,
    client: Client,
    scheme: &'static str,
    masters: watch::Sender<Vec<String>>,
) {
    // The masters' token is not etcd's to see.
    let client = client.without_token();
    let mut backoff = Backoff::default();
    let mut turn = 0;
    loop {
        let server = &address.servers[turn % address.servers.len()];
        match infos(&client, server, &address.path).await {
            Ok(infos) => {
                backoff = Backoff::default();
                let found = infos.iter().filter_map(|info| match location(info.as_bytes()) {
                    Some(location) => Some(format!("{scheme}://{location}")),
                    None => {
                        tracing::warn!(server, "etcd: a value is no MasterInfo and is passed over");
                        None
                    }
                });
                tell("etcd", found.collect(), &masters);
                sleep(LOOK).await;
            }
            Err(error) => {
                turn += 1;
                let wait = backoff.next();
                tracing::warn!(server, ?wait, "etcd: {error}; trying the next");
                sleep(wait).await;
            }
        }
    }
}

/// Values of the masters' keys, the one created first in front.
async fn infos(client: &Client, server: &str, path: &str) -> Result<Vec<String>, ApiError> {
    if path.starts_with(V2) {
        return match client.json(&format!("{server}{path}"), None).await {
            Ok(answer) => Ok(of_v2(&answer["node"])),
            // No master has made it yet.
            Err(ApiError::Status(_, hyper::StatusCode::NOT_FOUND, _)) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
    }
    // From the path itself to the last key below it.
    let call = json!({"key": BASE64.encode(path.as_bytes()), "range_end": BASE64.encode(format!("{path}0").as_bytes()),
        "sort_order": "ASCEND", "sort_target": "CREATE", "limit": MAX_MASTERS});
    let answer = client.json(&format!("{server}/v3/kv/range"), Some(&call)).await?;
    Ok(of_v3(&answer, path))
}

fn of_v3(answer: &Value, path: &str) -> Vec<String> {
    let text = |value: &Value| String::from_utf8(BASE64.decode(value.as_str()?.as_bytes()).ok()?).ok();
    let value = |entry: &Value| {
        let rest = text(&entry["key"])?;
        let rest = rest.strip_prefix(path)?;
        // `/mesos-old` is not below `/mesos`.
        (rest.is_empty() || rest.starts_with('/')).then(|| text(&entry["value"]))?
    };
    let entries = answer["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(value).collect()
}

fn of_v2(node: &Value) -> Vec<String> {
    let mut entries: Vec<&Value> = match node["nodes"].as_array() {
        Some(below) => below.iter().collect(),
        None => vec![node],
    };
    entries.sort_by_key(|entry| entry["createdIndex"].as_u64());
    let values = entries.into_iter().filter_map(|entry| entry["value"].as_str());
    values.take(MAX_MASTERS).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "etcd/tests.rs"]
mod tests;
