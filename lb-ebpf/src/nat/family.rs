//! What differs between IPv4 and IPv6 where sources are translated.
#![allow(unsafe_code, reason = "map lookups")]

use lb_common::{
    Be16, Be32, FlowValue, FragmentKey4, FragmentKey6, FragmentValue, Ip, NatKey4, NatKey6, NatParts6, Reason,
};

use super::flow::{revere_nat_port, revere_nat_port6, revere_nat_take, revere_nat_take6};
use super::late;
use crate::family::{Family, V4, V6};
use crate::fragment::Parts;
use crate::headers::{Ipv4, Ipv6};
use crate::maps::{NAT_ROOM, NAT4, NAT4_BACK, NAT6, NAT6_BACK, NAT6_PARTS, NAT6_ROOM, Owner};
use crate::packet::Packet;
use crate::parse::{self, Header};

/// An address and a port.
pub(super) type End<'a, F> = (&'a <F as Family>::Addr, Be16);

/// Where the tuples of a packet lie while it is looked at: the stack has no room for them.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Room<T> {
    /// The client's direction.
    pub(super) tuple: T,
    /// The backend's.
    pub(super) back: T,
    /// Another flow that holds a port.
    pub(super) holder: T,
}

/// The two families' translated flows.
pub(super) trait Nat: Parts {
    /// One direction of a flow.
    type Tuple: Copy + 'static;

    /// This CPU's.
    fn room() -> Option<&'static mut Room<Self::Tuple>>;
    fn put_tuple(tuple: &mut Self::Tuple, source: End<Self>, dest: End<Self>, protocol: u8);
    /// Source and destination.
    fn ends(tuple: &Self::Tuple) -> (End<'_, Self>, End<'_, Self>);
    fn protocol(tuple: &Self::Tuple) -> u8;
    /// Puts another port in that the packets are for.
    fn set_port(tuple: &mut Self::Tuple, port: Be16);
    /// The flow whose client's direction this is.
    fn known(tuple: &Self::Tuple) -> Option<&'static mut FlowValue>;
    fn put(tuple: &Self::Tuple, value: &FlowValue) -> bool;
    fn forget(tuple: &Self::Tuple);
    /// From the backend's direction to the client's, if there is one.
    fn asked(back: &Self::Tuple, tuple: &mut Self::Tuple) -> bool;
    fn hold(back: &Self::Tuple, tuple: &Self::Tuple, flags: u32) -> bool;
    /// See `flow`.
    fn free_port(backend: u32) -> u32;
    fn take(port: u32) -> u32;
    /// Whether the packet is a part that has no ports.
    fn is_later(header: &Header<Self::Header>) -> bool;
    /// Notes down whose the later parts of an answer are: client, and whom it believes them to be from.
    fn note_answer(key: &Self::PartKey, client: &Self::Addr, server: &Self::Addr);
    fn answer_of(key: &Self::PartKey) -> Option<(Self::Addr, Self::Addr)>;
    /// Who gets a packet for this node's own address that is of no known flow.
    fn stranger(packet: &Packet<Self>, tuple: &Self::Tuple) -> Result<Owner, Reason>;
}

impl Nat for V4 {
    type Tuple = NatKey4;

    #[inline(always)]
    fn room() -> Option<&'static mut Room<NatKey4>> {
        // SAFETY: this CPU's own value; nothing else runs on it until the packet's end, and nobody holds two.
        NAT_ROOM.get_ptr_mut(0).map(|room| unsafe { &mut *room })
    }

    #[inline(always)]
    fn put_tuple(tuple: &mut NatKey4, source: End<Self>, dest: End<Self>, protocol: u8) {
        *tuple = NatKey4 {
            source: *source.0,
            dest: *dest.0,
            source_port: source.1,
            dest_port: dest.1,
            protocol,
            zero: [0; 3],
        };
    }

    #[inline(always)]
    fn ends(tuple: &NatKey4) -> (End<'_, Self>, End<'_, Self>) {
        ((&tuple.source, tuple.source_port), (&tuple.dest, tuple.dest_port))
    }

    #[inline(always)]
    fn protocol(tuple: &NatKey4) -> u8 {
        tuple.protocol
    }

    #[inline(always)]
    fn set_port(tuple: &mut NatKey4, port: Be16) {
        tuple.dest_port = port;
    }

    #[inline(always)]
    fn known(tuple: &NatKey4) -> Option<&'static mut FlowValue> {
        // SAFETY: the entry stays mapped while the program runs; its fields are plain words.
        NAT4.get_ptr_mut(tuple).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn put(tuple: &NatKey4, value: &FlowValue) -> bool {
        NAT4.insert(tuple, value, 0).is_ok()
    }

    #[inline(always)]
    fn forget(tuple: &NatKey4) {
        // Another CPU may have been faster.
        let _ = NAT4.remove(tuple);
    }

    #[inline(always)]
    fn asked(back: &NatKey4, tuple: &mut NatKey4) -> bool {
        // SAFETY: entries are replaced whole; a copy.
        let found = unsafe { NAT4_BACK.get(back) };
        if let Some(found) = found {
            // SAFETY: an entry of a map and a room of another; told apart, for else a function is called that copies.
            unsafe { core::ptr::copy_nonoverlapping(found, tuple, 1) };
        }
        found.is_some()
    }

    #[inline(always)]
    fn hold(back: &NatKey4, tuple: &NatKey4, flags: u32) -> bool {
        NAT4_BACK.insert(back, tuple, flags.into()).is_ok()
    }

    #[inline(always)]
    fn free_port(backend: u32) -> u32 {
        revere_nat_port(backend)
    }

    #[inline(always)]
    fn take(port: u32) -> u32 {
        revere_nat_take(port)
    }

    #[inline(always)]
    fn is_later(header: &Header<Ipv4>) -> bool {
        // SAFETY: checked by the parser.
        unsafe { (*header.ip).is_later() }
    }

    #[inline(always)]
    fn note_answer(key: &FragmentKey4, client: &Be32, server: &Be32) {
        // Asked for by an address, the later parts have nothing else.
        let value = FragmentValue {
            backend: client.raw(),
            generation: server.raw(),
            vip: 0,
            hash: 0,
        };
        Self::note_first(key, &value);
    }

    #[inline(always)]
    fn answer_of(key: &FragmentKey4) -> Option<(Be32, Be32)> {
        let first = Self::first(key)?;
        Some((Be32::from_raw(first.backend), Be32::from_raw(first.generation)))
    }

    #[inline(always)]
    fn stranger(packet: &Packet<Self>, tuple: &NatKey4) -> Result<Owner, Reason> {
        // Its later parts would find nobody.
        if packet.ip().has_more() {
            return Err(Reason::NotVip);
        }
        late(packet, tuple)
    }
}

impl Nat for V6 {
    type Tuple = NatKey6;

    #[inline(always)]
    fn room() -> Option<&'static mut Room<NatKey6>> {
        // SAFETY: this CPU's own value; nothing else runs on it until the packet's end, and nobody holds two.
        NAT6_ROOM.get_ptr_mut(0).map(|room| unsafe { &mut *room })
    }

    #[inline(always)]
    fn put_tuple(tuple: &mut NatKey6, source: End<Self>, dest: End<Self>, protocol: u8) {
        *tuple = NatKey6 {
            source: *source.0,
            dest: *dest.0,
            source_port: source.1,
            dest_port: dest.1,
            protocol: protocol.into(),
        };
    }

    #[inline(always)]
    fn ends(tuple: &NatKey6) -> (End<'_, Self>, End<'_, Self>) {
        ((&tuple.source, tuple.source_port), (&tuple.dest, tuple.dest_port))
    }

    #[inline(always)]
    fn protocol(tuple: &NatKey6) -> u8 {
        tuple.protocol as u8
    }

    #[inline(always)]
    fn set_port(tuple: &mut NatKey6, port: Be16) {
        tuple.dest_port = port;
    }

    #[inline(always)]
    fn known(tuple: &NatKey6) -> Option<&'static mut FlowValue> {
        // SAFETY: as above.
        NAT6.get_ptr_mut(tuple).map(|value| unsafe { &mut *value })
    }

    #[inline(always)]
    fn put(tuple: &NatKey6, value: &FlowValue) -> bool {
        NAT6.insert(tuple, value, 0).is_ok()
    }

    #[inline(always)]
    fn forget(tuple: &NatKey6) {
        // Another CPU may have been faster.
        let _ = NAT6.remove(tuple);
    }

    #[inline(always)]
    fn asked(back: &NatKey6, tuple: &mut NatKey6) -> bool {
        // SAFETY: as above.
        let found = unsafe { NAT6_BACK.get(back) };
        if let Some(found) = found {
            // SAFETY: an entry of a map and a room of another; told apart, for else a function is called that copies.
            unsafe { core::ptr::copy_nonoverlapping(found, tuple, 1) };
        }
        found.is_some()
    }

    #[inline(always)]
    fn hold(back: &NatKey6, tuple: &NatKey6, flags: u32) -> bool {
        NAT6_BACK.insert(back, tuple, flags.into()).is_ok()
    }

    #[inline(always)]
    fn free_port(backend: u32) -> u32 {
        revere_nat_port6(backend)
    }

    #[inline(always)]
    fn take(port: u32) -> u32 {
        revere_nat_take6(port)
    }

    #[inline(always)]
    fn is_later(header: &Header<Ipv6>) -> bool {
        parse::is_later(header.protocol)
    }

    #[inline(always)]
    fn note_answer(key: &FragmentKey6, client: &Ip, server: &Ip) {
        // Without it the other parts are dropped, and the sender sends all of it again.
        let _ = NAT6_PARTS.insert(
            key,
            NatParts6 {
                client: *client,
                server: *server,
            },
            0,
        );
    }

    #[inline(always)]
    fn answer_of(key: &FragmentKey6) -> Option<(Ip, Ip)> {
        // SAFETY: written whole, and its words are copied.
        unsafe { NAT6_PARTS.get(key) }.map(|parts| (parts.client, parts.server))
    }

    #[inline(always)]
    fn stranger(_packet: &Packet<Self>, _tuple: &NatKey6) -> Result<Owner, Reason> {
        // No backend of this node is reached at its IPv6 address.
        Err(Reason::NotVip)
    }
}
