//! What the programs tell about single packets: the decision of an explained one, and the flow log.

use crate::{Be16, Ip};

/// Where a backend was found.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// None was.
    None = 0,
    /// The flow was known.
    Flow = 1,
    /// The half-open flow was known.
    Half = 2,
    /// The current table.
    Table = 3,
    /// The previous table.
    Previous = 4,
    /// The tunnel packet named it.
    Tunnel = 5,
    /// The tunnel packet's second choice.
    Alternate = 6,
}

/// What the explaining twin of the uplink program writes for its last packet: element 0 of `DECISION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Index of a [`crate::Reason`].
    pub reason: u32,
    /// [`crate::VipEntry::id`], 0 if none was met.
    pub vip: u32,
    /// The flow's hash.
    pub hash: u32,
    /// The slot looked at, [`u32::MAX`] if none was.
    pub slot: u32,
    /// Index of the backend, [`u32::MAX`] if none was chosen.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
    /// Interface the packet leaves on, 0 if it goes to the stack or nowhere.
    pub ifindex: u32,
    /// An [`Origin`].
    pub origin: u8,
    /// A [`crate::FlowState`], 0 if no flow was known.
    pub state: u8,
    /// Always 0.
    pub zero: u16,
    /// The node it is tunnelled to, zero if it is not.
    pub node: Ip,
}

/// What happened to a flow.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEventKind {
    /// First packet.
    Opened = 1,
    /// More than a SYN was seen.
    Established = 2,
    /// FINs or RST.
    Closed = 3,
    /// A packet for a VIP was dropped.
    Dropped = 4,
    /// A socket was given a backend.
    Connected = 5,
    /// A socket call was refused.
    Refused = 6,
}

/// One line of the flow log, through the ring buffer `EVENTS`; what found no room is counted in `EVENTS_LOST`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowEvent {
    /// `bpf_ktime_get_ns`.
    pub at: u64,
    /// The client; zero for socket calls.
    pub client: Ip,
    /// [`crate::VipEntry::id`].
    pub vip: u32,
    /// Index of the backend, [`u32::MAX`] if none.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
    /// Index of a [`crate::Reason`].
    pub reason: u32,
    /// The client's port.
    pub port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// A [`FlowEventKind`].
    pub kind: u8,
    /// Always 0.
    pub zero: [u8; 12],
}
