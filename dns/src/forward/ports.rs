//! Random numbers and sockets: what makes a question hard to forge an answer to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::UdpSocket;

/// Lowest port questions are sent from: below it are those of well-known services.
const FIRST: u16 = 10_240;
/// Ports tried before the kernel may choose: a few sockets at most stand in the way.
const TRIES: usize = 16;
/// Where the kernel tells which ports it leaves alone.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Ports that questions may be sent from.
#[derive(Debug)]
pub(crate) struct Ports(Vec<u16>);

impl Ports {
    /// All above [`FIRST`] but `reserved` and the kernel's reserved ones.
    pub(crate) fn new(reserved: &[(u16, u16)]) -> Self {
        let kernel = std::fs::read_to_string(RESERVED).unwrap_or_default();
        Self::without(reserved.iter().copied().chain(ranges(&kernel)).collect())
    }

    fn without(reserved: Vec<(u16, u16)>) -> Self {
        let free = |port: &u16| !reserved.iter().any(|(first, last)| (first..=last).contains(&port));
        Self((FIRST..=u16::MAX).filter(free).collect())
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Which of them a port is.
    #[cfg(test)]
    pub(crate) fn place(&self, port: u16) -> Option<usize> {
        self.0.binary_search(&port).ok()
    }

    /// One of them; `None` when all are reserved.
    fn pick(&self) -> io::Result<Option<u16>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        // 64 bits over at most 55,296 ports: no port is preferred by more than one part in 10^14.
        let at = u64::from_ne_bytes(random()?) % self.0.len() as u64;
        Ok(usize::try_from(at).ok().and_then(|at| self.0.get(at)).copied())
    }

    /// A socket on a random port that hears `server` only.
    pub(crate) async fn open(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let local = |port| match server {
            SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        };
        let mut socket = None;
        for _ in 0..TRIES {
            let Some(port) = self.pick()? else { break };
            match UdpSocket::bind(local(port)).await {
                Ok(bound) => {
                    socket = Some(bound);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        let socket = match socket {
            Some(socket) => socket,
            None => UdpSocket::bind(local(0)).await?,
        };
        socket.connect(server).await?;
        Ok(socket)
    }
}

/// `8080,9148-9150`
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.split(',').filter_map(range).collect()
}

/// Bytes nobody can foretell, from the kernel.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
    // Up to 256 bytes come whole (getrandom(2)).
    if got < N {
        return Err(io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_left_alone() {
        let ports = Ports::without(vec![(31_000, 32_000), (60_000, 60_000)]);
        assert_eq!(ports.count(), 55_296 - 1001 - 1);
        for _ in 0..10_000 {
            let port = ports.pick().expect("random").expect("some are free");
            assert!(port >= FIRST && !(31_000..=32_000).contains(&port) && port != 60_000);
        }
        assert_eq!(Ports::without(vec![(0, u16::MAX)]).pick().expect("random"), None);
        assert_eq!(ranges("8080,9148-9150\n"), [(8080, 8080), (9148, 9150)]);
        assert_eq!(ranges("\n"), []);
    }
}
