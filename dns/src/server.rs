//! The running name server of a node.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use model::Generation;

use crate::counters::Counts;
use crate::forward::Forwarder;
use crate::handler::{Handler, Shared};
use crate::{BindError, Config, Counters, Zones, bind};

/// A TCP connection that asks nothing for so long is closed, as DC/OS's server did.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers that may wait on one TCP connection for a client that reads slowly.
const TCP_ANSWERS_WAITING: usize = 32;

/// Answers on all its addresses until [`Server::shutdown`], from the zones published last. Dropping it ends it at once.
pub struct Server {
    shared: Arc<Shared>,
    inner: hickory_server::Server<Handler>,
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
            sockets.push(bind::open(*addr).await?);
        }
        let shared = Arc::new(Shared {
            forwarder: Forwarder::new(&config.upstreams)?,
            config,
            zones: ArcSwap::from_pointee(Zones::default()),
            counts: Counts::default(),
            turn: AtomicUsize::new(0),
        });
        let mut inner = hickory_server::Server::new(Handler(Arc::clone(&shared)));
        let mut addrs = Vec::new();
        for (udp, tcp) in sockets {
            addrs.extend(udp.local_addr());
            inner.register_socket(udp);
            inner.register_listener(tcp, TCP_IDLE, TCP_ANSWERS_WAITING);
        }
        Ok(Self { shared, inner, addrs })
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

    /// Stops to listen and waits until that is done.
    pub async fn shutdown(mut self) {
        if let Err(error) = self.inner.shutdown_gracefully().await {
            tracing::warn!(%error, "the name server did not end cleanly");
        }
    }
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;
