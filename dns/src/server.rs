//! The running name server of a node.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use model::Generation;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::bind::{self, Inherited};
use crate::forward::Forwarder;
use crate::handler::Shared;
use crate::stream::{Places, Speech, listen};
use crate::tls::Certificate;
use crate::worker::Workers;
use crate::{BindError, Config, Counters, ForwardCounters, UpstreamStatus, Zones};

/// Answers on all its addresses until [`Server::shutdown`], from the zones published last. Dropping it ends it at once.
pub struct Server {
    shared: Arc<Shared>,
    workers: Workers,
    listeners: JoinSet<()>,
    addrs: Vec<SocketAddr>,
    stream_addrs: Vec<SocketAddr>,
    /// Second handles, for [`Server::sockets`].
    held: Vec<OwnedFd>,
}

/// All sockets, before anybody listens.
#[derive(Default)]
struct Opened {
    addrs: Vec<SocketAddr>,
    udp: Vec<UdpSocket>,
    streams: Vec<(std::net::TcpListener, Speech)>,
}

impl Opened {
    fn start(self, shared: Arc<Shared>, certificate: Option<Arc<Certificate>>) -> Result<Server, BindError> {
        let lost = |source| BindError::Socket(source);
        let mut held = Vec::new();
        for socket in &self.udp {
            held.push(socket.try_clone().map_err(lost)?.into());
        }
        let places = Places::new();
        let mut listeners = JoinSet::new();
        let mut stream_addrs = Vec::new();
        for (listener, speech) in self.streams {
            held.push(listener.try_clone().map_err(lost)?.into());
            stream_addrs.push(listener.local_addr().map_err(lost)?);
            let listener = TcpListener::from_std(listener).map_err(lost)?;
            listeners.spawn(listen(Arc::clone(&shared), listener, speech, Arc::clone(&places)));
        }
        if let Some(certificate) = certificate {
            listeners.spawn(certificate.watch());
        }
        let workers = Workers::start(&shared, self.udp, &Handle::current()).map_err(BindError::Thread)?;
        Ok(Server {
            shared,
            workers,
            listeners,
            addrs: self.addrs,
            stream_addrs,
            held,
        })
    }
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
        Self::bind_with(config, Inherited::default(), None).await
    }

    /// As [`Server::bind`], with the sockets of an earlier daemon as far as they fit the settings, and zones from the
    /// first answer on.
    #[allow(
        clippy::unused_async,
        reason = "says that it runs inside a tokio runtime, as the listeners need"
    )]
    pub async fn bind_with(config: Config, mut inherited: Inherited, first: Option<Zones>) -> Result<Self, BindError> {
        config.check()?;
        let certificate = config.tls.clone().map(Certificate::open).transpose()?;
        let mut opened = Opened::default();
        for addr in &config.listen {
            let sockets = bind::open(*addr, config.threads(), &mut inherited)?;
            opened.addrs.push(sockets.addr);
            opened.streams.push((sockets.tcp, Speech::Tcp));
            opened.udp.extend(sockets.udp);
        }
        if let Some(certificate) = &certificate {
            let tls = TlsAcceptor::from(certificate.config(&[b"dot"])?);
            let https = TlsAcceptor::from(certificate.config(&[b"h2", b"http/1.1"])?);
            let tls = config.listen_tls.iter().map(|addr| (addr, Speech::Tls(tls.clone())));
            let https = config
                .listen_https
                .iter()
                .map(|addr| (addr, Speech::Https(https.clone())));
            for (addr, speech) in tls.chain(https) {
                opened.streams.push((bind::open_stream(*addr, &mut inherited)?, speech));
            }
        }
        let shared = Arc::new(Shared::new(config)?);
        if let Some(zones) = first {
            shared.zones.store(Arc::new(zones));
        }
        opened.start(shared, certificate)
    }

    /// Second handles of all its sockets, for a process that shall keep them when this one ends.
    pub fn sockets(&self) -> io::Result<Vec<OwnedFd>> {
        self.held.iter().map(OwnedFd::try_clone).collect()
    }

    /// The addresses in use, in the order of [`Config::listen`], chosen ports filled in.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The addresses of TCP, TLS and HTTPS in use, in the order of [`Config::listen`], [`Config::listen_tls`] and
    /// [`Config::listen_https`].
    pub fn stream_addrs(&self) -> &[SocketAddr] {
        &self.stream_addrs
    }

    /// Answers from `zones` from now on: one atomic swap.
    pub fn publish(&self, zones: Zones) {
        self.shared.zones.store(Arc::new(zones));
    }

    /// The generation of the zones published last.
    pub fn generation(&self) -> Generation {
        self.shared.zones.load().generation()
    }

    /// Whether it asks other servers for its own clients: the RA flag of answers to them.
    pub fn recurses(&self) -> bool {
        self.shared.forwarder.is_some()
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

    /// Takes no more questions from UDP, and waits until those taken are answered. The others stay in the sockets, for
    /// whoever has a second handle of them.
    pub async fn finish(&self) {
        self.workers.stop().await;
    }

    /// Stops to answer and closes all sockets; waits until that is done.
    pub async fn shutdown(mut self) {
        self.listeners.shutdown().await;
        self.workers.stop().await;
    }
}

#[cfg(test)]
#[path = "server/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "server/stream_tests.rs"]
mod stream_tests;
