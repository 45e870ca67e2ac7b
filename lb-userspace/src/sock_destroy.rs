//! Ends sockets whose backend is gone, by the kernel's socket diagnosis: the program that holds one sees it at once instead
//! of waiting for a time-out. A TCP peer gets a RST; a connected UDP socket fails and can be connected anew.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

use model::Protocol;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::BackendKey;

mod diag;
mod namespaces;
mod worker;

pub use namespaces::namespaces;
pub(crate) use worker::{Doomed, Worker};

/// Why sockets could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// The node's network namespaces could not be listed.
    #[error("could not list the network namespaces of this node from /proc: {0}")]
    Namespaces(io::Error),
    /// No thread for the work could be had.
    #[error("could not start a thread that enters network namespaces: {0}")]
    Thread(io::Error),
    /// One namespace could not be entered.
    #[error("could not enter a network namespace: {0}")]
    Enter(io::Error),
    /// A namespace's sockets could not be listed.
    #[error("could not list the {protocol} sockets of a network namespace: {source}")]
    List {
        /// TCP or UDP.
        protocol: Protocol,
        /// The cause.
        source: io::Error,
    },
    /// A socket could not be ended; a kernel without `CONFIG_INET_DIAG_DESTROY` says that it is not supported.
    #[error("could not end a {protocol} socket to {peer}: {source}")]
    Destroy {
        /// TCP or UDP.
        protocol: Protocol,
        /// Where it points.
        peer: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// What the hooks remember could not be read.
    #[error("could not read which sockets went to a backend: {0}")]
    Remembered(#[from] aya::maps::MapError),
}

/// What was done.
#[derive(Debug, Default)]
pub struct DestroyReport {
    /// Network namespaces that were looked into.
    pub namespaces: usize,
    /// Sockets that point at one of the backends, whoever connected them.
    pub pointing: usize,
    /// Sockets that were ended.
    pub destroyed: usize,
    /// What went wrong; the rest was done all the same.
    pub failed: Vec<DestroyError>,
}

/// Ends the sockets in these namespaces that point at one of the backends and whose cookie is among `cookies`: those
/// that the hooks sent there. A socket that named the backend itself is its own business.
pub fn destroy(namespaces: &[OwnedFd], backends: &[BackendKey], cookies: &BTreeSet<u64>) -> DestroyReport {
    if backends.is_empty() || cookies.is_empty() {
        return DestroyReport::default();
    }
    // A thread that goes into other namespaces must not come back to other work.
    std::thread::scope(|scope| {
        let run = std::thread::Builder::new()
            .name("sock-destroy".to_owned())
            .spawn_scoped(scope, || in_each(namespaces, backends, cookies));
        match run {
            Ok(run) => run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => DestroyReport {
                failed: vec![DestroyError::Thread(error)],
                ..DestroyReport::default()
            },
        }
    })
}

fn in_each(namespaces: &[OwnedFd], backends: &[BackendKey], cookies: &BTreeSet<u64>) -> DestroyReport {
    let mut report = DestroyReport::default();
    for namespace in namespaces {
        let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
        if let Err(error) = entered {
            report.failed.push(DestroyError::Enter(error.into()));
            continue;
        }
        report.namespaces += 1;
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let of_it: BTreeSet<(Ipv6Addr, u16)> = backends
                .iter()
                .filter(|backend| backend.protocol == protocol)
                .map(|backend| (wide(backend.addr), backend.port))
                .collect();
            if !of_it.is_empty() {
                in_one(protocol, &of_it, cookies, &mut report);
            }
        }
    }
    report
}

/// In the namespace this thread is in.
fn in_one(
    protocol: Protocol,
    backends: &BTreeSet<(Ipv6Addr, u16)>,
    cookies: &BTreeSet<u64>,
    report: &mut DestroyReport,
) {
    let found = match diag::list(protocol) {
        Ok(found) => found,
        Err(source) => {
            report.failed.push(DestroyError::List { protocol, source });
            return;
        }
    };
    for socket in found {
        let peer = socket.peer();
        if !backends.contains(&(wide(peer.ip()), peer.port())) {
            continue;
        }
        report.pointing += 1;
        if !cookies.contains(&socket.cookie()) {
            continue;
        }
        match diag::destroy(protocol, &socket) {
            Ok(()) => report.destroyed += 1,
            // It was closed in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(source) => report.failed.push(DestroyError::Destroy { protocol, peer, source }),
        }
    }
}

/// Where TCP sockets of this thread's network namespace listen, with their cookies.
pub(crate) fn listening() -> io::Result<Vec<(SocketAddr, u64)>> {
    let found = diag::listeners()?;
    Ok(found.iter().map(|socket| (socket.local(), socket.cookie())).collect())
}

/// Both families in one, as an IPv6 socket names an IPv4 peer.
fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
