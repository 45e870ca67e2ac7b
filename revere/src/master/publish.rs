//! Tells ZooKeeper where the leading master is, as Mesos's masters do, for frameworks and agents that look there.
//!
//! It is a sign, no election: who leads is decided elsewhere, and a ZooKeeper that is away changes nothing but the sign.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use zookeeper_client::{Acls, Client, CreateMode, Error, EventType};

use super::lead::Member;
use crate::node::{MASTER_SIGN, ZkAddress};

/// How long ZooKeeper keeps the sign of a master that was killed, unless the next leader removes it.
const SESSION: Duration = Duration::from_secs(10);

/// Longest wait for a connection to one of the servers.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a term's end waits until the sign is removed.
const LET_GO: Duration = Duration::from_secs(1);

/// Between two tries.
const RETRY: Duration = Duration::from_secs(1);

/// What is published, and where.
#[derive(Clone, Debug)]
pub(super) struct Publisher {
    address: ZkAddress,
    cluster: String,
    info: Value,
}

/// A sign that is there.
struct Sign {
    client: Client,
    path: String,
}

impl Publisher {
    pub(super) fn new(address: ZkAddress, cluster: &str, me: &Member) -> Self {
        let mut info = me.info();
        info["revere"]["cluster"] = json!(cluster);
        Self {
            address,
            cluster: cluster.to_owned(),
            info,
        }
    }

    /// Keeps the sign there until the term ends, and removes it then.
    pub(super) async fn run(self, term: CancellationToken) {
        let servers = &self.address.servers;
        while !term.is_cancelled() {
            let why = match self.keep(&term).await {
                Ok(()) => return,
                Err(error) => error,
            };
            tracing::warn!(
                servers,
                "ZooKeeper is not told who leads: {why}; this master leads all the same"
            );
            tokio::select! {
                () = term.cancelled() => {}
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Ends without an error when the term does.
    async fn keep(&self, term: &CancellationToken) -> Result<(), Error> {
        let client = tokio::select! {
            () = term.cancelled() => return Ok(()),
            client = self.connect() => client?,
        };
        let creating = self.create(client);
        tokio::pin!(creating);
        let sign = tokio::select! {
            sign = &mut creating => sign?,
            // It may be there by now, and then has to go.
            () = term.cancelled() => match timeout(LET_GO, creating).await {
                Ok(sign) => sign?,
                Err(_) => return Ok(()),
            },
        };
        let ended = tokio::select! {
            ended = sign.gone() => Some(ended),
            () = term.cancelled() => None,
        };
        match ended {
            Some(why) => Err(why),
            None => {
                // If ZooKeeper does not answer the session ends by itself, or the next leader removes the sign.
                let _ = timeout(LET_GO, sign.client.delete(&sign.path, None)).await;
                Ok(())
            }
        }
    }

    async fn connect(&self) -> Result<Client, Error> {
        let mut connector = Client::connector()
            .with_session_timeout(SESSION)
            .with_connection_timeout(CONNECT)
            .with_fail_eagerly();
        if let Some(login) = &self.address.login {
            connector = connector.with_auth("digest", login.as_bytes());
        }
        connector.connect(&self.address.servers).await
    }

    /// Puts up the sign, then takes down those of masters of this cluster that led before.
    async fn create(&self, client: Client) -> Result<Sign, Error> {
        let rights = match self.address.login {
            // As Mesos's masters do: all may read.
            Some(_) => [Acls::anyone_read().to_vec(), Acls::creator_all().to_vec()].concat(),
            None => Acls::anyone_all().to_vec(),
        };
        let acls = Acls::new(&rights);
        let above = &self.address.path;
        client.mkdir(above, &CreateMode::Persistent.with_acls(acls)).await?;
        let data = self.info.to_string();
        let mode = CreateMode::EphemeralSequential.with_acls(acls);
        let (_, sequence) = client
            .create(&format!("{above}/{MASTER_SIGN}"), data.as_bytes(), &mode)
            .await?;
        let path = format!("{above}/{MASTER_SIGN}{sequence}");
        let sign = Sign { client, path };
        tracing::info!(
            path = sign.path,
            servers = self.address.servers,
            "ZooKeeper is told that this master leads"
        );
        self.replace_older(&sign, above).await?;
        Ok(sign)
    }

    /// One that was killed or cut off stays there until its session ends, and would be found first.
    async fn replace_older(&self, sign: &Sign, above: &str) -> Result<(), Error> {
        for name in sign.client.list_children(above).await? {
            let path = format!("{above}/{name}");
            // Never a later one: whoever put that up leads by now.
            if !name.starts_with(MASTER_SIGN) || path >= sign.path {
                continue;
            }
            let data = match sign.client.get_data(&path).await {
                Ok((data, _)) => data,
                Err(Error::NoNode) => continue,
                Err(error) => return Err(error),
            };
            let info: Value = serde_json::from_slice(&data).unwrap_or_default();
            if info["revere"]["cluster"] == json!(self.cluster) {
                match sign.client.delete(&path, None).await {
                    Ok(()) | Err(Error::NoNode) => {}
                    Err(error) => return Err(error),
                }
            } else {
                tracing::warn!(
                    path,
                    "another master's sign comes before this one's: who looks there finds that one"
                );
            }
        }
        Ok(())
    }
}

impl Sign {
    /// Ends when it is there no more, and says why.
    async fn gone(&self) -> Error {
        loop {
            let (stat, watcher) = match self.client.check_and_watch_stat(&self.path).await {
                Ok(found) => found,
                Err(error) => return error,
            };
            if stat.is_none() {
                return Error::NoNode;
            }
            let event = watcher.changed().await;
            if event.session_state.is_terminated() {
                return Error::SessionExpired;
            }
            if event.event_type == EventType::NodeDeleted {
                return Error::NoNode;
            }
        }
    }
}
