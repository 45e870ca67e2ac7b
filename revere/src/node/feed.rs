//! The task stream without a node around it, for `revere record`.

use tokio::task::JoinHandle;

use super::NodeError;
use super::config::{Config, checked_max_record, wrong};
use super::masters::{Masters, Source};
use crate::mesos::client::{ApiError, Client, Subscription};

/// A source that can be subscribed to.
#[derive(Debug)]
pub struct Feed {
    client: Client,
    masters: Masters,
    watcher: Option<JoinHandle<()>>,
    max_record: usize,
    turn: usize,
}

impl Feed {
    /// Checks the settings; asks nobody yet. Runs inside a tokio runtime.
    pub fn open(config: &Config) -> Result<Self, NodeError> {
        let source = Source::new(config)?;
        if let Source::Agent(_) = source {
            return Err(wrong("source", "agent", "only a master's stream can be recorded"));
        }
        let client = Client::new(&config.access()).map_err(NodeError::Tls)?;
        let (masters, watcher) = source.masters(config.scheme(), &client);
        Ok(Self {
            client,
            masters,
            watcher: watcher.map(tokio::spawn),
            max_record: checked_max_record(config.max_record_mb)?,
            turn: 0,
        })
    }

    /// Largest record, in bytes.
    pub fn max_record(&self) -> usize {
        self.max_record
    }

    /// Begins the stream of the leader; waits until one is known.
    pub async fn subscribe(&mut self) -> Result<Subscription, ApiError> {
        // The sender of an unchanging list is gone, but then the list is not empty.
        let known = self
            .masters
            .wait_for(|known| !known.is_empty())
            .await
            .map(|known| known.clone());
        let Ok(known) = known else {
            return std::future::pending().await;
        };
        let master = &known[self.turn % known.len()];
        self.turn += 1;
        self.client.subscribe(master).await
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}
