//! recvmmsg(2) and sendmmsg(2): many datagrams in one system call, without which the system calls are most of the cost.
#![allow(
    unsafe_code,
    reason = "libc's calls take pointers to the batch's own buffers, which live as long as it"
)]

use std::io;
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

/// Bytes of answers that go through the kernel as one packet; it takes at most 65,507, in at most 64 parts.
const MAX_SEGMENTED: usize = 60_000;

/// What `cmsg_len` says of a [`Control`]: the header and two bytes.
const CONTROL_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<u16>();

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
    /// Where each datagram came from.
    clients: Vec<SocketAddr>,
    /// Whether the kernel takes several answers as one packet.
    segments: bool,
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
            clients: vec![SocketAddr::from(([0; 4], 0)); BATCH],
            segments: true,
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
        *self.clients.get_mut(index)? = from;
        let bytes = self.buffers.get(index)?.get(..length)?;
        let answer = self.answers.get_mut(self.owners.len())?;
        Some((Datagram { bytes, from }, answer))
    }

    /// The buffer given with datagram `index` holds its answer.
    pub(crate) fn answered(&mut self, index: usize) {
        self.owners.push(index);
    }

    /// Sends all answers. Those of one length to one client, as a forwarder with a single socket gets them, go through the
    /// kernel's network code as one packet that it cuts at the end of the way (UDP_SEGMENT).
    pub(crate) fn send(&mut self, socket: &impl AsRawFd) {
        let answers = &self.answers;
        let client = |index: usize| self.clients.get(index).copied();
        let length = |place: usize| answers.get(place).map_or(0, Vec::len);
        let mut order: Vec<usize> = (0..self.owners.len()).collect();
        let key = |place: &usize| (self.owners.get(*place).and_then(|owner| client(*owner)), length(*place));
        if self.segments {
            order.sort_unstable_by_key(key);
        }
        let mut rest = order.as_slice();
        let mut messages = Outgoing::new();
        while let Some(first) = rest.first() {
            let most = (MAX_SEGMENTED / length(*first).max(1)).max(1);
            let same = |place: &&usize| self.segments && key(place) == key(first);
            let count = rest.iter().take(most).take_while(same).count().max(1);
            let (together, others) = rest.split_at(count);
            rest = others;
            let vectors = together
                .iter()
                .filter_map(|place| answers.get(*place))
                .map(|answer| libc::iovec {
                    iov_base: answer.as_ptr().cast_mut().cast(),
                    iov_len: answer.len(),
                });
            let name = self.owners.get(*first).and_then(|owner| self.names.get(*owner));
            messages.add(name, vectors, length(*first));
        }
        if messages.send(socket) == Segmenting::Refused {
            // No such thing in this kernel or on this way: one by one from now on.
            self.segments = false;
            self.send(socket);
        }
    }
}

/// Whether the kernel took answers as one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segmenting {
    Taken,
    Refused,
}

/// Messages that point into a batch, made and sent within one call.
struct Outgoing {
    vectors: [libc::iovec; BATCH],
    used: usize,
    headers: [libc::mmsghdr; BATCH],
    controls: [Control; BATCH],
    count: usize,
}

/// The control message UDP_SEGMENT.
#[repr(C)]
#[derive(Clone, Copy)]
struct Control {
    header: libc::cmsghdr,
    size: u16,
}

impl Outgoing {
    fn new() -> Self {
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let control = Control {
            header: libc::cmsghdr {
                cmsg_len: CONTROL_LEN,
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            size: 0,
        };
        Self {
            vectors: [nothing; BATCH],
            used: 0,
            headers: [empty(); BATCH],
            controls: [control; BATCH],
            count: 0,
        }
    }

    /// Answers of `length` bytes each to one client. The pointers to the tables of this structure are set by `send`, when
    /// it moves no more.
    fn add(
        &mut self,
        name: Option<&libc::sockaddr_storage>,
        answers: impl Iterator<Item = libc::iovec>,
        length: usize,
    ) {
        let (Some(name), Some(header), Some(control)) = (
            name,
            self.headers.get_mut(self.count),
            self.controls.get_mut(self.count),
        ) else {
            return;
        };
        header.msg_hdr.msg_name = std::ptr::from_ref(name).cast_mut().cast();
        // Linux takes a name longer than its family needs.
        header.msg_hdr.msg_namelen = NAME_LEN;
        control.size = u16::try_from(length).unwrap_or(0);
        for (place, answer) in self.vectors.iter_mut().skip(self.used).zip(answers) {
            *place = answer;
            header.msg_hdr.msg_iovlen += 1;
        }
        self.used += header.msg_hdr.msg_iovlen;
        self.count += 1;
    }

    fn send(&mut self, socket: &impl AsRawFd) -> Segmenting {
        let mut vectors = self.vectors.as_mut_slice();
        let tables = self.headers.iter_mut().zip(&mut self.controls).take(self.count);
        for (header, control) in tables {
            let Some((own, rest)) = std::mem::take(&mut vectors).split_at_mut_checked(header.msg_hdr.msg_iovlen) else {
                break;
            };
            vectors = rest;
            header.msg_hdr.msg_iov = own.as_mut_ptr();
            if own.len() > 1 {
                header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
                header.msg_hdr.msg_controllen = size_of::<Control>();
            }
        }
        let mut done = 0;
        while let Some(rest) = self.headers.get_mut(done..self.count).filter(|rest| !rest.is_empty()) {
            let count = u32::try_from(rest.len()).unwrap_or(0);
            // SAFETY: these headers point to names and answers of the batch, and to vectors and controls of this structure,
            // all borrowed until after the call, which changes none of them.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), count, 0) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => {
                    let many = rest.first().is_some_and(|header| header.msg_hdr.msg_iovlen > 1);
                    let code = io::Error::last_os_error().raw_os_error();
                    if many
                        && matches!(
                            code,
                            Some(libc::EINVAL | libc::EIO | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
                        )
                    {
                        return Segmenting::Refused;
                    }
                    // The first of the rest is the one that failed: no route, or a filter. The others may fare better.
                    done += 1;
                }
            }
        }
        Segmenting::Taken
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
