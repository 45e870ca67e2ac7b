//! Packets in parts: only the first one has ports, the others follow it.

use crate::{Be16, Be32, Ip};

/// Which way a packet goes: part of the keys, for addresses alone do not say it.
pub mod fragment_ways {
    /// From a client to a VIP.
    pub const REQUEST: u8 = 0;
    /// From a backend to a client.
    pub const ANSWER: u8 = 1;
    /// From a backend to a port of this node that stands in for a client: the value's first two words are the client's and the
    /// VIP's address, as they stand in packets.
    pub const TRANSLATED: u8 = 2;
}

/// Key of `FRAGMENTS4`: what the parts of one packet have in common.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey4 {
    /// Who sends it.
    pub src: Be32,
    /// As the sender wrote it.
    pub dst: Be32,
    /// The sender's number.
    pub id: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// See [`fragment_ways`].
    pub way: u8,
}

/// Key of `FRAGMENTS6`. The protocol is not part of it (RFC 8200, 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FragmentKey6 {
    /// Who sends it.
    pub src: Ip,
    /// As the sender wrote it.
    pub dst: Ip,
    /// The sender's number.
    pub id: Be32,
    /// See [`fragment_ways`].
    pub way: u32,
}

/// Where the first part went.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FragmentValue {
    /// Index of the backend.
    pub backend: u32,
    /// Its generation then.
    pub generation: u32,
    /// [`crate::VipEntry::id`].
    pub vip: u16,
    /// Of the flow's hash what the tunnel's source port is made of.
    pub hash: u16,
}
