//! Source translation: flows that this node stands in for, because their backend's node could not answer the client itself.

use crate::{Be16, Be32, Ip};

/// One direction of a translated flow: who sends, to what address. Key of `NAT4` (the client's direction) and of
/// `NAT4_BACK` (the backend's).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatKey4 {
    /// Who sends.
    pub source: Be32,
    /// To whom.
    pub dest: Be32,
    /// The sender's port.
    pub source_port: Be16,
    /// The port it sends to.
    pub dest_port: Be16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Always 0.
    pub zero: [u8; 3],
}

impl NatKey4 {
    /// With the padding in order.
    #[inline(always)]
    pub const fn new(source: (Be32, Be16), dest: (Be32, Be16), protocol: u8) -> Self {
        Self {
            source: source.0,
            dest: dest.0,
            source_port: source.1,
            dest_port: dest.1,
            protocol,
            zero: [0; 3],
        }
    }
}

/// The same of IPv6: key of `NAT6` and of `NAT6_BACK`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatKey6 {
    /// Who sends.
    pub source: Ip,
    /// To whom.
    pub dest: Ip,
    /// The sender's port.
    pub source_port: Be16,
    /// The port it sends to.
    pub dest_port: Be16,
    /// IANA protocol number.
    pub protocol: u32,
}

/// Whose the later parts of a backend's answer are, in `NAT6_PARTS`: two addresses, for which [`crate::FragmentValue`] has no room.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatParts6 {
    /// Who gets them.
    pub client: Ip,
    /// Whom it believes them to be from.
    pub server: Ip,
}

/// What stands behind a TCP port of this node's own address, by port: the backend of this node that listens there, and
/// whether it has stopped. Element of `GUARDS`. Zero: nothing of ours.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard(pub u32);

impl Guard {
    const OVER: u32 = 1 << 31;

    /// The backend of a VIP by its number ([`crate::VipEntry::id`]).
    #[inline(always)]
    pub const fn new(vip: u16) -> Self {
        // Widening cast: `From` is not const.
        Self(vip as u32)
    }

    /// The same, with the backend's end told.
    #[inline(always)]
    pub const fn over(self) -> Self {
        Self(self.0 | Self::OVER)
    }

    /// Whether connections that still come for the backend are to be given to another one of its VIP.
    #[inline(always)]
    pub const fn is_over(self) -> bool {
        self.0 & Self::OVER != 0
    }

    /// The VIP's number; 0: there is none.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub const fn vip(self) -> u16 {
        self.0 as u16
    }
}

/// A listening socket of a backend of this node, by socket cookie, in `LISTENERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerEntry {
    /// Index of the backend.
    pub backend: u32,
    /// Its generation.
    pub generation: u32,
    /// Its port, if the node's own address is the backend's: the element of `GUARDS`; else 0.
    pub guard: u32,
}
