//! Where the task stream comes from: masters in a list, the master that ZooKeeper or etcd tells, or this machine's Mesos agent.

mod etcd;
pub(crate) mod zk;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::NodeError;
use super::config::{Config, wrong};
use crate::mesos::client::Client;
use etcd::EtcdAddress;
use zk::ZkAddress;

/// URLs of masters, the likeliest leader first; empty while none is known.
pub(super) type Masters = watch::Receiver<Vec<String>>;

/// What keeps [`Masters`] true.
pub(super) type Watcher = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// `node.source`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// The masters' `SUBSCRIBE` stream: the whole cluster.
    #[default]
    Master,
    /// The agent's `GET_STATE`, asked for again and again: this node's tasks only.
    Agent,
}

/// The checked form.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The leader is found by redirects.
    Listed(Vec<String>),
    /// The leader is told.
    ZooKeeper(ZkAddress),
    /// The leader is told.
    Etcd(EtcdAddress),
    /// No master at all.
    Agent(String),
}

impl Source {
    pub(super) fn new(config: &Config) -> Result<Self, NodeError> {
        if config.source == SourceKind::Agent {
            let url = plain(&config.agent_url).ok_or_else(|| {
                wrong(
                    "agent_url",
                    &config.agent_url,
                    "write http://host:port or https://host:port",
                )
            })?;
            return Ok(Self::Agent(url));
        }
        let given = config.master.join(",");
        if given.is_empty() {
            let want = "it must name at least one master, for example http://10.0.0.1:5050";
            return Err(wrong("master", "", want));
        }
        // The commas inside of a zk:// address look like those between masters.
        if given.starts_with("zk://") {
            let want = "write zk://host:port,host:port/path";
            // The address may hold a password, so it is not repeated.
            let address = ZkAddress::parse(&given).ok_or_else(|| wrong("master", "zk://...", want))?;
            return Ok(Self::ZooKeeper(address));
        }
        if EtcdAddress::is_meant(&given) {
            let want = "write etcd://host:port,host:port/path (etcds:// over TLS), without user and password";
            let address = EtcdAddress::parse(&given).ok_or_else(|| wrong("master", "etcd://...", want))?;
            return Ok(Self::Etcd(address));
        }
        let want = "write http://host:port, https://host:port, zk://host:port,host:port/path or etcd://host:port,host:port/path";
        let urls = config.master.iter();
        let urls: Vec<String> = urls
            .map(|url| plain(url).ok_or_else(|| wrong("master", url, want)))
            .collect::<Result<_, _>>()?;
        if config.run_tasks && urls.iter().any(|url| url.starts_with("https://")) {
            let want = "tasks are run for Revere's own masters, which speak http; set node.run_tasks = false to follow \
                        a Mesos master";
            return Err(wrong("master", &urls.join(","), want));
        }
        Ok(Self::Listed(urls))
    }

    /// Whether anything of it is spoken over TLS for certain.
    pub(super) fn needs_tls(&self) -> bool {
        match self {
            Self::Listed(urls) => urls.iter().any(|url| url.starts_with("https://")),
            Self::ZooKeeper(_) => false,
            Self::Etcd(address) => address.is_secure(),
            Self::Agent(url) => url.starts_with("https://"),
        }
    }

    /// Masters known before anything was asked.
    pub(super) fn listed(&self) -> &[String] {
        match self {
            Self::Listed(urls) => urls,
            Self::ZooKeeper(_) | Self::Etcd(_) | Self::Agent(_) => &[],
        }
    }

    /// For people, without secrets.
    pub(super) fn told(&self) -> Vec<String> {
        match self {
            Self::Listed(urls) => urls.clone(),
            Self::ZooKeeper(address) => vec![format!("zk://{}", address.servers)],
            Self::Etcd(address) => address.servers.clone(),
            Self::Agent(url) => vec![url.clone()],
        }
    }

    /// Machines, as URLs, to which this node's packets go.
    pub(super) fn hosts(&self) -> Vec<String> {
        match self {
            Self::ZooKeeper(address) => address.servers.split(',').map(|one| format!("http://{one}")).collect(),
            _ => self.told(),
        }
    }

    /// The masters as they are known, and what keeps that true.
    pub(super) fn masters(&self, scheme: &'static str, client: &Client) -> (Masters, Option<Watcher>) {
        match self {
            Self::Listed(urls) => (watch::channel(urls.clone()).1, None),
            Self::ZooKeeper(address) => {
                let (sender, masters) = watch::channel(Vec::new());
                (masters, Some(Box::pin(zk::watch(address.clone(), scheme, sender))))
            }
            Self::Etcd(address) => {
                let (sender, masters) = watch::channel(Vec::new());
                let watcher = etcd::watch(address.clone(), client.clone(), scheme, sender);
                (masters, Some(Box::pin(watcher)))
            }
            Self::Agent(_) => (watch::channel(Vec::new()).1, None),
        }
    }
}

/// An address without path, and without its last slash.
fn plain(url: &str) -> Option<String> {
    let uri: hyper::Uri = url.parse().ok()?;
    let good = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.path() == "/"
        && uri.host().is_some_and(|host| !host.is_empty());
    good.then(|| url.trim_end_matches('/').to_owned())
}
