//! The running name server of a node.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use model::Generation;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::forward::Forwarder;
use crate::handler::Shared;
use crate::stream::{Places, listen_tcp};
use crate::worker::Workers;
use crate::{BindError, Config, Counters, ForwardCounters, UpstreamStatus, Zones, bind};

/// Answers on all its addresses until [`Server::shutdown`], from the zones published last. Dropping it ends it at once.
pub struct Server {
    shared: Arc<Shared>,
    workers: Workers,
    listeners: JoinSet<()>,
    addrs: Vec<SocketAddr>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.addrs)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Opens UDP and TCP on every address of the settings and starts to answer. Runs inside a tokio runtime.
    ///
    /// Until the first [`Server::publish`] it has no zones of its own and passes nothing on (SERVFAIL to all), so that
    /// no question about the cluster can leak to an upstream server.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        config.check()?;
        let mut sockets = Vec::new();
        for addr in &config.listen {
            sockets.push(bind::open(*addr, config.threads())?);
        }
        let shared = Arc::new(Shared::new(config)?);
        let places = Places::new();
        let mut listeners = JoinSet::new();
        let mut addrs = Vec::new();
        let mut udp = Vec::new();
        for opened in sockets {
            addrs.push(opened.addr);
            udp.extend(opened.udp);
            listeners.spawn(listen_tcp(Arc::clone(&shared), opened.tcp, Arc::clone(&places)));
        }
        let workers = Workers::start(&shared, udp, &Handle::current()).map_err(BindError::Thread)?;
        Ok(Self {
            shared,
            workers,
            listeners,
            addrs,
        })
    }

    /// The addresses in use, in the order of [`Config::listen`], chosen ports filled in.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Answers from `zones` from now on: one atomic swap.
    pub fn publish(&self, zones: Zones) {
        self.shared.zones.store(Arc::new(zones));
    }

    /// The generation of the zones published last.
    pub fn generation(&self) -> Generation {
        self.shared.zones.load().generation()
    }

    /// Answers given so far.
    pub fn counters(&self) -> Counters {
        self.shared.counts.read()
    }

    /// What happened to forwarded questions so far.
    pub fn forward_counters(&self) -> ForwardCounters {
        self.shared
            .forwarder
            .as_ref()
            .map(Forwarder::counters)
            .unwrap_or_default()
    }

    /// The upstream servers as they look from here, by rule.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.shared
            .forwarder
            .as_ref()
            .map(Forwarder::upstreams)
            .unwrap_or_default()
    }

    /// Stops to answer and closes all sockets; waits until that is done.
    pub async fn shutdown(mut self) {
        self.listeners.shutdown().await;
        let ended = tokio::task::spawn_blocking(move || self.workers.stop()).await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the name server did not end cleanly");
        }
    }
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;
