//! Opens the sockets, and says plainly why when that fails.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::ConfigError;

/// How often a port chosen by the kernel for UDP is tried for TCP before giving up.
const PORT_TRIES: usize = 16;
/// How long a thread without questions waits before it looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(200);
/// Bytes of questions that wait for a thread, some 8,000 of them: what comes in while a thread is not on its CPU.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

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
    /// Certificate and key.
    #[error(transparent)]
    Tls(#[from] crate::TlsError),
    /// A socket that is open cannot be used.
    #[error("name server: can't use an open socket: {0}; raise the limit of open files (LimitNOFILE= in the unit)")]
    Socket(io::Error),
    /// The threads that answer UDP.
    #[error("name server: can't start a thread: {0}; raise the limit of tasks (TasksMax= in the unit)")]
    Thread(io::Error),
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

/// Open sockets of an earlier daemon that another process kept, so that no question in between is lost.
#[derive(Debug, Default)]
pub struct Inherited {
    udp: Vec<UdpSocket>,
    listeners: Vec<std::net::TcpListener>,
}

impl Inherited {
    /// What of `sockets` can be used; the rest is closed.
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        let mut inherited = Self::default();
        for socket in sockets.into_iter().map(Socket::from) {
            match socket.r#type() {
                Ok(Type::DGRAM) => inherited.udp.push(socket.into()),
                Ok(Type::STREAM) => inherited.listeners.push(socket.into()),
                _ => {}
            }
        }
        inherited
    }

    /// All UDP sockets bound to `addr`.
    fn udp(&mut self, addr: SocketAddr) -> Vec<UdpSocket> {
        let bound = |socket: &UdpSocket| socket.local_addr().is_ok_and(|local| local == addr);
        let (found, rest) = std::mem::take(&mut self.udp).into_iter().partition(bound);
        self.udp = rest;
        found
    }

    fn listener(&mut self, addr: SocketAddr) -> Option<std::net::TcpListener> {
        let bound = |socket: &std::net::TcpListener| socket.local_addr().is_ok_and(|local| local == addr);
        let index = self.listeners.iter().position(bound)?;
        Some(self.listeners.swap_remove(index))
    }
}

/// Sockets of one address.
pub(crate) struct Sockets {
    pub(crate) addr: SocketAddr,
    /// One for each thread; the kernel spreads clients over them.
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: std::net::TcpListener,
}

/// Opens `threads` UDP sockets and one for TCP on the same address and port, as far as they are not inherited.
pub(crate) fn open(addr: SocketAddr, threads: usize, inherited: &mut Inherited) -> Result<Sockets, BindError> {
    let udp_error = |source| BindError::new("UDP", addr, source);
    let mut tries = PORT_TRIES;
    loop {
        let mut udp = inherited.udp(addr);
        let mut chosen = addr;
        if udp.is_empty() {
            // Sockets that share a port let in any other program of the same user; one that does not share finds out
            // whether somebody is there.
            let probe = socket(addr, Sharing::No).map_err(udp_error)?;
            chosen = probe.local_addr().map_err(udp_error)?;
        }
        while udp.len() < threads {
            udp.push(socket(chosen, Sharing::Yes).map_err(udp_error)?);
        }
        let tcp = inherited.listener(chosen).map_or_else(|| listen(chosen), Ok);
        match tcp {
            Ok(tcp) => {
                return Ok(Sockets { addr: chosen, udp, tcp });
            }
            // A port that the kernel chose for UDP may be taken for TCP: choose again.
            Err(source) if addr.port() == 0 && source.kind() == io::ErrorKind::AddrInUse && tries > 0 => tries -= 1,
            Err(source) => return Err(BindError::new("TCP", chosen, source)),
        }
    }
}

/// A listener without UDP beside it.
pub(crate) fn open_stream(addr: SocketAddr, inherited: &mut Inherited) -> Result<std::net::TcpListener, BindError> {
    let tcp = inherited.listener(addr).map_or_else(|| listen(addr), Ok);
    tcp.map_err(|source| BindError::new("TCP", addr, source))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Yes,
    No,
}

fn socket(addr: SocketAddr, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(sharing == Sharing::Yes)?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    // What the system allows will do.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of an earlier daemon that linger must not keep a new one from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
