//! Opens the sockets, and says plainly why when that fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use crate::ConfigError;

/// How often a port chosen by the kernel for UDP is tried for TCP before giving up.
const PORT_TRIES: usize = 16;

/// Why the name server could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another program listens there.
    #[error(
        "name server: {transport} {addr} is in use by another program: stop it (`ss -lnp 'sport = :{}'` names it) or listen elsewhere",
        addr.port()
    )]
    InUse {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Ports below 1024 need a privilege.
    #[error("name server: no privilege to listen on {transport} {addr}: run as root or grant CAP_NET_BIND_SERVICE")]
    NoPrivilege {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address belongs to no interface of this machine.
    #[error("name server: {} is not an address of this machine: add it (`ip addr add {}/32 dev lo`) or listen elsewhere", addr.ip(), addr.ip())]
    NoSuchAddress {
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else the kernel said.
    #[error("name server: can't listen on {transport} {addr}: {source}")]
    Io {
        /// `UDP` or `TCP`.
        transport: &'static str,
        /// The address asked for.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The client side towards the upstream servers could not be set up.
    #[error("name server: can't set up forwarding to the upstream servers: {0}; check the upstreams in the settings")]
    Forward(String),
}

impl BindError {
    fn new(transport: &'static str, addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse {
                transport,
                addr,
                source,
            },
            io::ErrorKind::PermissionDenied => Self::NoPrivilege {
                transport,
                addr,
                source,
            },
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress { addr, source },
            _ => Self::Io {
                transport,
                addr,
                source,
            },
        }
    }
}

/// Opens UDP and TCP on the same address and port.
pub(crate) async fn open(addr: SocketAddr) -> Result<(UdpSocket, TcpListener), BindError> {
    let mut tries = PORT_TRIES;
    loop {
        let udp = UdpSocket::bind(addr)
            .await
            .map_err(|source| BindError::new("UDP", addr, source))?;
        let chosen = udp.local_addr().map_err(|source| BindError::new("UDP", addr, source))?;
        match TcpListener::bind(chosen).await {
            Ok(tcp) => return Ok((udp, tcp)),
            // A port that the kernel chose for UDP may be taken for TCP: choose again.
            Err(source) if addr.port() == 0 && source.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            Err(source) => return Err(BindError::new("TCP", chosen, source)),
        }
    }
}
