//! The leading Mesos master, as ZooKeeper tells it.
//!
//! Each master holds an ephemeral node `json.info_<sequence>` below one path; the lowest sequence leads, the content is
//! its `MasterInfo` in JSON.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use zookeeper_client::{Client, Error};

use crate::node::stream::Backoff;

/// Prefix of the masters' nodes.
pub(crate) const INFO: &str = "json.info_";

/// How long ZooKeeper keeps this watcher after it has gone silent.
const SESSION: Duration = Duration::from_secs(10);

/// Longest wait for a connection to one of the servers.
const CONNECT: Duration = Duration::from_secs(5);

/// Between two looks at a path that no master has made yet.
const ABSENT: Duration = Duration::from_secs(1);

/// Masters looked at; more than any cluster has, few enough that a forged directory costs little.
pub(super) const MAX_MASTERS: usize = 16;

/// A `zk://` address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZkAddress {
    /// `host:port`, comma-separated.
    pub(crate) servers: String,
    /// Begins with `/`.
    pub(crate) path: String,
    /// `user:password`.
    pub(crate) login: Option<String>,
}

impl ZkAddress {
    /// `zk://[user:password@]host:port[,host:port...]/path`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("zk://")?;
        let (servers, path) = rest.split_once('/')?;
        let (login, servers) = match servers.rsplit_once('@') {
            Some((login, servers)) => (Some(login.to_owned()), servers),
            None => (None, servers),
        };
        let path = path.trim_end_matches('/');
        let server = |one: &str| {
            let (host, port) = one.rsplit_once(':').unwrap_or((one, "2181"));
            (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| format!("{host}:{port}"))
        };
        let servers: Vec<String> = servers.split(',').map(server).collect::<Option<_>>()?;
        if path.is_empty() || path.split('/').any(|piece| matches!(piece, "" | "." | "..")) {
            return None;
        }
        Some(Self {
            servers: servers.join(","),
            path: format!("/{path}"),
            login,
        })
    }
}

/// Watches the leader for ever and tells it to `masters`. While ZooKeeper is away the last one known stays.
pub(in crate::node) async fn watch(address: ZkAddress, scheme: &'static str, masters: watch::Sender<Vec<String>>) {
    let mut backoff = Backoff::default();
    loop {
        let error = match follow(&address, scheme, &masters, &mut backoff).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let wait = backoff.next();
        tracing::warn!(servers = address.servers, ?wait, "ZooKeeper: {error}; trying again");
        sleep(wait).await;
    }
}

async fn follow(
    address: &ZkAddress,
    scheme: &str,
    masters: &watch::Sender<Vec<String>>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Error> {
    let mut connector = Client::connector()
        .with_session_timeout(SESSION)
        .with_connection_timeout(CONNECT);
    if let Some(login) = &address.login {
        connector = connector.with_auth("digest", login.as_bytes());
    }
    let client = connector.connect(&address.servers).await?;
    loop {
        let (children, watcher) = match client.list_and_watch_children(&address.path).await {
            Err(Error::NoNode) => {
                sleep(ABSENT).await;
                continue;
            }
            other => other?,
        };
        *backoff = Backoff::default();
        tell("ZooKeeper", urls(&client, address, scheme, children).await?, masters);
        let event = watcher.changed().await;
        if event.session_state.is_terminated() {
            return Err(Error::SessionExpired);
        }
    }
}

/// The masters' URLs, the leader's first.
async fn urls(client: &Client, address: &ZkAddress, scheme: &str, children: Vec<String>) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for name in in_order(children) {
        match client.get_data(&format!("{}/{name}", address.path)).await {
            Ok((data, _)) => match location(&data) {
                Some(location) => found.push(format!("{scheme}://{location}")),
                None => tracing::warn!(name, "ZooKeeper: this node holds no MasterInfo and is passed over"),
            },
            // Gone meanwhile; the watch tells of it.
            Err(Error::NoNode) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Nodes of masters by rising sequence.
fn in_order(children: Vec<String>) -> Vec<String> {
    let sequence = |name: &str| name.strip_prefix(INFO)?.parse::<u64>().ok();
    let mut nodes: Vec<(u64, String)> = children
        .into_iter()
        .filter_map(|name| Some((sequence(&name)?, name)))
        .collect();
    nodes.sort_unstable();
    nodes.truncate(MAX_MASTERS);
    nodes.into_iter().map(|(_, name)| name).collect()
}

/// Tells the masters found by `teller`, the leader first.
pub(super) fn tell(teller: &str, urls: Vec<String>, masters: &watch::Sender<Vec<String>>) {
    // No master at all is the gap of an election: the old one's stream ends by itself if it is really gone.
    if urls.is_empty() {
        if !masters.borrow().is_empty() {
            tracing::debug!("{teller}: no master leads at the moment");
        }
        return;
    }
    masters.send_if_modified(|known| {
        let changed = *known != urls;
        if known.first() != urls.first() {
            tracing::info!(leader = urls[0], "{teller}: a master leads");
        }
        *known = urls;
        changed
    });
}

/// `host:port` of a MasterInfo: its address, else its pid, else the packed address of old releases.
pub(crate) fn location(info: &[u8]) -> Option<String> {
    let info: Value = serde_json::from_slice(info).ok()?;
    let address = &info["address"];
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    if let (Some(ip), Some(port)) = (address["ip"].as_str(), port(&address["port"])) {
        return located(ip, port);
    }
    if let Some((ip, port)) = info["pid"]
        .as_str()
        .and_then(|pid| pid.rsplit_once('@')?.1.rsplit_once(':'))
    {
        return located(ip, port.parse().ok()?);
    }
    // The four bytes in network order, read as a little-endian number.
    let packed = u32::try_from(info["ip"].as_u64()?).ok()?;
    located(&Ipv4Addr::from(packed.to_le_bytes()).to_string(), port(&info["port"])?)
}

fn located(host: &str, port: u16) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let address = ZkAddress::parse("zk://me:s3@cret@a:2181,b/mesos/").expect("valid");
        assert_eq!(
            (
                address.servers.as_str(),
                address.path.as_str(),
                address.login.as_deref()
            ),
            ("a:2181,b:2181", "/mesos", Some("me:s3@cret"))
        );
        for bad in [
            "zk://a:2181",
            "zk://a:2181/",
            "zk:///mesos",
            "zk://a:port/m",
            "http://a/m",
            "zk://a,/m",
            "zk://a/m//n",
            "zk://a/../m",
        ] {
            assert_eq!(ZkAddress::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_lowest_sequence_leads() {
        let names = [
            "json.info_0000000012",
            "log_replicas",
            "info_0000000001",
            "json.info_0000000009",
            "json.info_x",
        ];
        assert_eq!(
            in_order(names.map(str::to_owned).to_vec()),
            ["json.info_0000000009", "json.info_0000000012"]
        );
    }

    #[test]
    fn a_master_is_found_in_each_form_of_its_info() {
        let info = |text: &str| location(text.as_bytes());
        let whole = r#"{"address":{"hostname":"m1","ip":"10.0.0.1","port":5050},"hostname":"m1","id":"x","ip":16777226,
            "pid":"master@10.0.0.9:5051","port":5050,"version":"1.11.0"}"#;
        assert_eq!(info(whole).as_deref(), Some("10.0.0.1:5050"));
        assert_eq!(
            info(r#"{"pid":"master@10.0.0.9:5051"}"#).as_deref(),
            Some("10.0.0.9:5051")
        );
        assert_eq!(info(r#"{"ip":16777226,"port":5050}"#).as_deref(), Some("10.0.0.1:5050"));
        assert_eq!(
            info(r#"{"address":{"ip":"fd00::1","port":1}}"#).as_deref(),
            Some("[fd00::1]:1")
        );
        for bad in [
            "",
            "{}",
            r#"{"address":{"ip":"a b","port":1}}"#,
            r#"{"address":{"ip":"10.0.0.1","port":70000}}"#,
        ] {
            assert_eq!(info(bad), None, "{bad}");
        }
    }
}
