//! Flows: one entry for both ways, under a key that both ways lead to.

use crate::{Be16, Be32, Ip};

/// Key of `FLOWS4` and `HALF4`. The way to the VIP knows the id from the VIP tables; the way back finds the backend by the
/// packet's source, and from it the id ([`crate::BackendEntry::vip`], or `BACKEND_VIPS` when it is shared).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey4 {
    /// The client's address.
    pub client: Be32,
    /// The client's port.
    pub port: Be16,
    /// [`crate::VipEntry::id`], which also says the protocol.
    pub vip: u16,
}

/// Key of `FLOWS6` and `HALF6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey6 {
    /// The client's address.
    pub client: Ip,
    /// The client's port.
    pub port: Be16,
    /// [`crate::VipEntry::id`].
    pub vip: u16,
}

/// How far a flow has come.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowState {
    /// Only a SYN was seen; such entries live in the `HALF` tables.
    Opening = 1,
    /// TCP, and more than a SYN was seen.
    Established = 2,
    /// One side sent a FIN.
    Closing = 3,
    /// Both sides sent a FIN, or one a RST: the next SYN chooses anew.
    Closed = 4,
    /// Not TCP.
    Datagram = 5,
}

/// Bits of [`FlowValue::flags`].
pub mod flow_flags {
    /// The client sent a FIN.
    pub const FIN_CLIENT: u8 = 1;
    /// The backend sent a FIN.
    pub const FIN_BACKEND: u8 = 2;
    /// The flow reached this node through the tunnel.
    pub const TUNNELLED: u8 = 4;
    /// It was found by the previous table, not the current one.
    pub const PREVIOUS: u8 = 8;
    /// Its source is translated; `port` of the value is the translated one.
    pub const TRANSLATED: u8 = 16;
    /// It was silent for so long that its ports may be another connection's by now, which other nodes let in: its backend, on another
    /// node, has to say. Only of TCP.
    pub const DOUBTFUL: u8 = 32;
}

/// Which backend a flow belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowValue {
    /// Index into the backends.
    pub backend: u32,
    /// The backend's generation when the flow was made.
    pub generation: u32,
    /// Last packet, in seconds of the monotonic clock.
    pub seen: u32,
    /// A [`FlowState`].
    pub state: u8,
    /// See [`flow_flags`].
    pub flags: u8,
    /// The reserved source port, with `TRANSLATED`.
    pub port: Be16,
}
