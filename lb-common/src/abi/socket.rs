//! What the socket hooks remember.

use crate::{Be16, Ip};

/// What a socket asked for before the hook changed it, and what it got: by socket cookie, in `SOCKETS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketEntry {
    /// The VIP's address.
    pub addr: Ip,
    /// The VIP's port.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// 1 while the socket counts in `OPEN_SOCKETS[backend]`.
    pub counted: u8,
    /// Index of the backend.
    pub backend: u32,
    /// Its generation then.
    pub generation: u32,
    /// [`crate::VipEntry::id`].
    pub vip: u32,
}

/// An unconnected datagram socket that sent to a VIP: from which VIP does an answer of this backend come? Key of
/// `DATAGRAMS` with a [`SocketEntry`] as value.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    /// The socket's cookie.
    pub cookie: u64,
    /// The backend's address.
    pub addr: Ip,
    /// The backend's port.
    pub port: Be16,
    /// 0 = key by backend (way back); 1 = key by VIP (which backend did this socket use last).
    pub by_vip: u16,
    /// Always 0.
    pub zero: u32,
}
