//! Netlink messages of the kernel's socket diagnosis (`linux/inet_diag.h`): listing a namespace's sockets and ending one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::Protocol;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, then the socket's identity.
const REQUEST: usize = 56;
/// `struct inet_diag_sockid`: ports, addresses, interface, cookie.
const IDENTITY: usize = 48;
/// Where it lies in `struct inet_diag_msg`: behind family, state, timer and retransmits.
const IDENTITY_AT: usize = 4;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// All TCP states with a peer that may still send: not TIME_WAIT (6), CLOSE (7), LISTEN (10), NEW_SYN_RECV (12). Nor those in which
/// the peer has closed, CLOSE_WAIT (8), LAST_ACK (9), CLOSING (11): they end by themselves, and who has yet to read its last words must
/// not find an error instead.
const TCP_STATES: u32 = !(1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12) & 0xffff;
/// `TCP_LISTEN`.
const LISTENING: u32 = 1 << 10;
/// A UDP socket that is connected counts as established.
const UDP_STATES: u32 = 1 << 1;

/// A socket as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    family: u8,
    identity: [u8; IDENTITY],
}

impl Named {
    fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.identity[at], self.identity[at + 1]])
    }

    /// Where it points.
    pub(super) fn peer(&self) -> SocketAddr {
        self.address(2, 20)
    }

    /// Where it is bound.
    pub(super) fn local(&self) -> SocketAddr {
        self.address(0, 4)
    }

    fn address(&self, port: usize, at: usize) -> SocketAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.identity[at..at + 16]);
        let addr = if i32::from(self.family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes))
        };
        SocketAddr::new(addr, self.port(port))
    }

    /// The same number as the hooks' `bpf_get_socket_cookie`.
    pub(super) fn cookie(&self) -> u64 {
        let word = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&self.identity[at..at + 4]);
            u64::from(u32::from_ne_bytes(bytes))
        };
        word(40) | word(44) << 32
    }
}

fn request(kind: u16, flags: u16, protocol: Protocol, family: u8, states: u32, identity: &[u8; IDENTITY]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + REQUEST);
    let len = u32::try_from(HEADER + REQUEST).unwrap_or_default();
    out.extend(len.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and sender: one question at a time.
    out.extend([0; 8]);
    out.extend([family, protocol.number(), 0, 0]);
    out.extend(states.to_ne_bytes());
    out.extend(identity);
    out
}

fn ask(request: &[u8]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(request, 0)?;
    Ok(socket)
}

/// All sockets of this thread's namespace that have a peer.
pub(super) fn list(protocol: Protocol) -> io::Result<Vec<Named>> {
    let states = match protocol {
        Protocol::Tcp => TCP_STATES,
        Protocol::Udp => UDP_STATES,
    };
    dump(protocol, states)
}

/// TCP sockets of this thread's namespace that take connections.
pub(super) fn listeners() -> io::Result<Vec<Named>> {
    dump(Protocol::Tcp, LISTENING)
}

fn dump(protocol: Protocol, states: u32) -> io::Result<Vec<Named>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).map_err(io::Error::other)?;
        let message = request(
            SOCK_DIAG_BY_FAMILY,
            NLM_F_DUMP,
            protocol,
            family,
            states,
            &[0; IDENTITY],
        );
        let socket = ask(&message)?;
        loop {
            let (bytes, _) = socket.recv_from_full()?;
            if read(&bytes, &mut found)? == Rest::None {
                break;
            }
        }
    }
    Ok(found)
}

/// Ends one socket.
pub(super) fn destroy(protocol: Protocol, named: &Named) -> io::Result<()> {
    let message = request(SOCK_DESTROY, NLM_F_ACK, protocol, named.family, 0, &named.identity);
    let socket = ask(&message)?;
    let (bytes, _) = socket.recv_from_full()?;
    read(&bytes, &mut Vec::new()).map(drop)
}

/// Whether more datagrams of an answer follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    More,
    None,
}

/// Reads one datagram: any number of messages.
fn read(mut bytes: &[u8], found: &mut Vec<Named>) -> io::Result<Rest> {
    let broken = || io::Error::other("the kernel's answer about sockets makes no sense");
    while !bytes.is_empty() {
        let header = bytes.get(..HEADER).ok_or_else(broken)?;
        let len = usize::try_from(u32::from_ne_bytes([header[0], header[1], header[2], header[3]])).unwrap_or(0);
        let body = bytes.get(HEADER..len).ok_or_else(broken)?;
        match u16::from_ne_bytes([header[4], header[5]]) {
            NLMSG_DONE => return Ok(Rest::None),
            NLMSG_ERROR => {
                let code = body.get(..4).and_then(|code| code.try_into().ok()).ok_or_else(broken)?;
                return match i32::from_ne_bytes(code) {
                    0 => Ok(Rest::None),
                    code => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                };
            }
            SOCK_DIAG_BY_FAMILY => {
                let identity = body.get(IDENTITY_AT..IDENTITY_AT + IDENTITY).ok_or_else(broken)?;
                found.push(Named {
                    family: body[0],
                    identity: identity.try_into().map_err(|_| broken())?,
                });
            }
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Rest::More)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).expect("short");
        let mut out = len.to_ne_bytes().to_vec();
        out.extend(kind.to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out
    }

    #[test]
    fn answers_are_read_and_broken_ones_are_errors() {
        let mut body = vec![2, 1, 0, 0];
        body.extend([0x1f, 0x40, 0, 80, 10, 0, 0, 1]);
        body.extend([0; 12]);
        body.extend([10, 0, 0, 2]);
        body.extend([0; 16]);
        body.extend(7_u32.to_ne_bytes());
        body.extend(1_u32.to_ne_bytes());
        body.extend([0; 20]);
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, &body);
        let mut found = Vec::new();
        assert_eq!(read(&bytes, &mut found).expect("whole"), Rest::More);
        bytes.extend(message(NLMSG_DONE, &[0; 4]));
        assert_eq!(read(&bytes, &mut found).expect("whole"), Rest::None);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].peer(), "10.0.0.2:80".parse().expect("an address"));
        assert_eq!(found[0].cookie(), 1 << 32 | 7);
        let refused = message(NLMSG_ERROR, &(-libc::ENOENT).to_ne_bytes());
        let error = read(&refused, &mut found).expect_err("an error");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(
            read(&message(NLMSG_ERROR, &[0; 4]), &mut found).expect("done"),
            Rest::None
        );
        for len in 1..bytes.len() {
            let cut = read(&bytes[..len], &mut Vec::new());
            assert!(cut.is_err() || len == HEADER + body.len(), "cut at {len}");
        }
    }
}
