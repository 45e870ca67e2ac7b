//! Packets in parts: where the first one went, the others go.

use lb_common::{ENCAP_LEN, FragmentValue, Reason, Tag, backend_flags, flow_hash};

use super::Model;
use super::flows::PartKey;
use super::parse::{Network, Packet, Part};
use super::tables::Owner;
use super::tunnel::Wrapping;
use super::write::{address, past_stack};

pub(super) fn key(network: &Network, id: u32) -> PartKey {
    PartKey {
        family: network.family,
        src: network.from,
        dst: network.to,
        id,
        protocol: if network.family == 4 { network.protocol } else { 0 },
        answer: false,
    }
}

impl Model {
    /// Remembers where a first part goes.
    pub(super) fn noted(&mut self, packet: &Packet, vip: u16, owner: &Owner) {
        let network = packet.network;
        if let Part::First(id) = network.part {
            let hash = flow_hash(&network.from, packet.source, packet.dest, network.protocol);
            self.flows.parts.insert(key(&network, id), value(owner, vip, hash));
        }
    }

    /// A part without ports that came in by the uplink.
    pub(super) fn later(&self, frame: &mut Vec<u8>, network: &Network) -> Reason {
        let Some((first, owner)) = self.first(network) else {
            if self.tables.in_range(network.family, &network.to) {
                return Reason::Fragment;
            }
            return if self.is_for_us(network) {
                self.translated_later(frame, network)
            } else {
                Reason::NotVip
            };
        };
        if owner.is(backend_flags::LOCAL) {
            let past = past_stack(network, &owner);
            address(frame, network, &owner.entry.addr, past);
            if !past {
                return Reason::LocalBackend;
            }
            frame.copy_within(..6, 6);
            frame[..6].copy_from_slice(&owner.entry.mac);
            return Reason::LocalRedirected;
        }
        if owner.is(backend_flags::BARE) {
            return self.translated_later(frame, network);
        }
        let wrapping = Wrapping {
            hash: first.hash.into(),
            tag: owner.tag(),
            alternate: Tag(0),
            redirect: false,
        };
        self.wrapped(frame, network, &owner, &wrapping)
    }

    /// One that came through the tunnel; `network` is that of the packet inside.
    pub(super) fn later_inside(&self, frame: &mut Vec<u8>, network: &Network) -> Reason {
        let Some((_, owner)) = self.first(network) else {
            return Reason::Fragment;
        };
        // Where the first part was sent on to another node, nobody remembers it.
        if !owner.is(backend_flags::LOCAL) {
            return Reason::Fragment;
        }
        let outer = frame[..12].to_vec();
        frame.drain(..ENCAP_LEN);
        let past = past_stack(network, &owner);
        address(frame, network, &owner.entry.addr, past);
        if past {
            frame[..6].copy_from_slice(&owner.entry.mac);
            frame[6..12].copy_from_slice(&outer[..6]);
            Reason::TunnelDeliveredRedirected
        } else {
            frame[..12].copy_from_slice(&outer);
            Reason::TunnelDelivered
        }
    }

    pub(super) fn first(&self, network: &Network) -> Option<(FragmentValue, Owner)> {
        let Part::Later(Some(id)) = network.part else {
            return None;
        };
        let first = *self.flows.parts.get(&key(network, id))?;
        let owner = self.tables.live(first.backend)?;
        (owner.entry.generation == first.generation).then_some((first, owner))
    }
}

/// What is remembered of a first part; 14 bits of the hash make the tunnel's source port.
pub(super) fn value(owner: &Owner, vip: u16, hash: u32) -> FragmentValue {
    FragmentValue {
        backend: owner.index,
        generation: owner.entry.generation,
        vip,
        hash: u16::try_from(hash % 0x4000).unwrap_or_default(),
    }
}
