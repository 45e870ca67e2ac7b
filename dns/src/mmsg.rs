//! recvmmsg(2) and sendmmsg(2): many datagrams in one system call, without which the system calls are most of the cost.
#![allow(
    unsafe_code,
    reason = "libc's calls take pointers to the batch's own buffers, which live as long as it"
)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use crate::wire::MAX_MESSAGE;

/// Datagrams in one call. More would only lengthen the wait of the first for the last.
const BATCH: usize = 64;
/// One byte more than is looked at, so that a longer message is seen to be too long.
const ROOM: usize = MAX_MESSAGE + 1;

/// Bytes of an address of any family.
#[allow(clippy::cast_possible_truncation, reason = "a constant of 128")]
const NAME_LEN: u32 = size_of::<libc::sockaddr_storage>() as u32;

/// Buffers for one batch in and one out. The kernel's structures point into the boxes beside them, which never move and
/// never change size.
pub(crate) struct Batch {
    buffers: Box<[[u8; ROOM]]>,
    names: Box<[libc::sockaddr_storage]>,
    /// Point into `buffers` and `names`.
    incoming: Box<[libc::mmsghdr]>,
    /// Keeps what the pointers in `incoming` point to.
    _vectors: Box<[libc::iovec]>,
    answers: Vec<Vec<u8>>,
    /// For each answer, whose it is.
    owners: Vec<usize>,
}

/// A datagram that came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) from: SocketAddr,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut buffers = vec![[0; ROOM]; BATCH].into_boxed_slice();
        let mut names = vec![no_name(); BATCH].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = buffers
            .iter_mut()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: ROOM,
            })
            .collect();
        let incoming = names
            .iter_mut()
            .zip(&mut vectors)
            .map(|(name, vector)| {
                let mut header = empty();
                header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
                header.msg_hdr.msg_namelen = NAME_LEN;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self {
            buffers,
            names,
            incoming,
            _vectors: vectors,
            answers: (0..BATCH).map(|_| Vec::with_capacity(MAX_MESSAGE)).collect(),
            owners: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for a datagram and takes all that are there. 0 when the socket's timeout is over first.
    pub(crate) fn receive(&mut self, socket: &impl AsRawFd) -> io::Result<usize> {
        self.owners.clear();
        let count = u32::try_from(self.incoming.len()).unwrap_or(0);
        // SAFETY: every header points to a buffer, a name and a vector of this batch, all alive and of the sizes told.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.incoming.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        match usize::try_from(got) {
            Ok(got) => Ok(got),
            Err(_) => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Datagram `index` of those received last, with a buffer for its answer. `None` from an address that none can be
    /// sent to.
    pub(crate) fn get(&mut self, index: usize) -> Option<(Datagram<'_>, &mut Vec<u8>)> {
        let header = self.incoming.get_mut(index)?;
        let length = usize::try_from(header.msg_len).unwrap_or(0);
        // The kernel wrote the length it used; the next call may use all again.
        header.msg_hdr.msg_namelen = NAME_LEN;
        let from = address(self.names.get(index)?)?;
        if from.port() == 0 || is_nowhere(from.ip()) {
            return None;
        }
        let bytes = self.buffers.get(index)?.get(..length)?;
        let answer = self.answers.get_mut(self.owners.len())?;
        Some((Datagram { bytes, from }, answer))
    }

    /// The buffer given with datagram `index` holds its answer.
    pub(crate) fn answered(&mut self, index: usize) {
        self.owners.push(index);
    }

    /// Sends all answers; gives how many could not be sent.
    pub(crate) fn send(&mut self, socket: &impl AsRawFd) -> usize {
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut outgoing = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let mut count = 0;
        let places = vectors.iter_mut().zip(&mut outgoing);
        for ((&owner, answer), (vector, header)) in self.owners.iter().zip(&mut self.answers).zip(places) {
            let Some(name) = self.names.get_mut(owner) else { break };
            let vector = vector.write(libc::iovec {
                iov_base: answer.as_mut_ptr().cast(),
                iov_len: answer.len(),
            });
            let header = header.write(empty());
            // Linux takes a name longer than its family needs.
            header.msg_hdr.msg_namelen = NAME_LEN;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let mut failed = 0;
        let mut done = 0;
        while done < count {
            let rest = u32::try_from(count - done).unwrap_or(0);
            // SAFETY: the first `count` headers were written above and point to answers, names and vectors that live on.
            let sent = unsafe {
                let first: *mut libc::mmsghdr = outgoing.as_mut_ptr().cast();
                libc::sendmmsg(socket.as_raw_fd(), first.add(done), rest, 0)
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => {
                    // The first of the rest is the one that failed: no route, or a filter. The others may fare better.
                    failed += 1;
                    done += 1;
                }
            }
        }
        failed
    }
}

fn empty() -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are valid for this plain C structure.
    unsafe { std::mem::zeroed() }
}

fn no_name() -> libc::sockaddr_storage {
    // SAFETY: all zero is valid for this plain C structure: the family "unspecified".
    unsafe { std::mem::zeroed() }
}

/// What the kernel wrote there.
fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, large and aligned enough for all, holds this structure.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let addr = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::from((addr, u16::from_be(name.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let addr = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::from((addr, u16::from_be(name.sin6_port))))
        }
        _ => None,
    }
}

/// Addresses that stand for no host.
fn is_nowhere(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_unspecified() || addr.is_broadcast() || addr.is_multicast(),
        IpAddr::V6(addr) => addr.is_unspecified() || addr.is_multicast(),
    }
}
