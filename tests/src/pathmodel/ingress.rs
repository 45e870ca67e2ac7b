//! A frame that comes in by the uplink.

use lb_common::{ENCAP_LEN, Reason, TUNNEL_VNI, VipEntry, backend_flags, vip_flags};

use super::cookies::Came;
use super::errors::is_icmp;
use super::flows::Key;
use super::parse::{ACK, ETHERNET, NoPacket, Packet, Part, RST, SYN, UDP, ipv4, ipv6, word};
use super::tables::Owner;
use super::tunnel::Wrapping;
use super::write::{destination, past_stack};
use super::{Model, Outcome};

/// Outer headers of a tunnel packet with the inner link header.
const OUTER: usize = 64;

impl Model {
    /// Decides about one frame, and remembers.
    pub fn ingress(&mut self, frame: &[u8]) -> Outcome {
        self.flows.touched.clear();
        let mut out = frame.to_vec();
        let reason = self.sorted(&mut out);
        Outcome { reason, frame: out }
    }

    fn sorted(&mut self, frame: &mut Vec<u8>) -> Reason {
        let network = match word(frame, 12) {
            None => return Reason::Truncated,
            Some(0x0800) => ipv4(frame, ETHERNET).ok_or(Reason::Truncated),
            Some(0x86dd) => ipv6(frame, ETHERNET),
            Some(_) => return Reason::NotIp,
        };
        let network = match network {
            Ok(network) => network,
            Err(reason) => return reason,
        };
        let ours = self.tables.in_range(network.family, &network.to);
        if let Part::Later(_) = network.part {
            return self.later(frame, &network);
        }
        if network.part == Part::Whole
            && network.family == 4
            && network.protocol == UDP
            && self.is_tunnel(frame, &network.to)
        {
            return self.received(frame);
        }
        if is_icmp(&network) {
            let other = if ours { Reason::VipProtocol } else { Reason::NotVip };
            return self.error(frame, &network).unwrap_or(other);
        }
        let own = self.tables.node.own;
        if network.family == 4 && network.from == own && own != lb_common::Ip::default() {
            return Reason::OwnSource;
        }
        let packet = match network.packet(frame) {
            Ok(packet) => packet,
            Err(NoPacket::Truncated) => return Reason::Truncated,
            Err(NoPacket::Protocol) if ours => return Reason::VipProtocol,
            Err(NoPacket::Protocol) => return Reason::NotVip,
        };
        let vip = self
            .tables
            .vip(network.family, network.to, packet.dest, network.protocol);
        let Some(entry) = vip else {
            return if ours {
                Reason::UnknownVip
            } else if self.is_for_our_ports(&packet) {
                self.translated(frame, &packet)
            } else {
                Reason::NotVip
            };
        };
        let Ok(id) = u16::try_from(entry.id) else {
            return Reason::UnknownVip;
        };
        self.for_vip(frame, &packet, &entry, id)
    }

    /// A packet for a VIP.
    fn for_vip(&mut self, frame: &mut Vec<u8>, packet: &Packet, entry: &VipEntry, id: u16) -> Reason {
        let key = key(packet, id);
        if let Some((owner, elsewhere)) = self.would_get(packet, entry)
            && let Some(reason) = self.asked(frame, packet, &key, &owner, Came::Plain, elsewhere)
        {
            return reason;
        }
        let resets = entry.flags & vip_flags::RESET != 0 && packet.flags & (SYN | RST | ACK) == ACK;
        if resets && self.is_cut_off(&key) {
            return self.reset(frame, packet);
        }
        let (owner, alternate) = match self.known(packet, &key) {
            Some((owner, true)) => (owner, self.instead(packet, entry, &owner)),
            Some((owner, false)) => (owner, owner.tag()),
            None => match self.choose(packet, entry, &key) {
                Ok(chosen) => chosen,
                Err(Reason::NoBackend) if resets => return self.reset(frame, packet),
                Err(reason) => return reason,
            },
        };
        self.noted(packet, id, &owner);
        if owner.is(backend_flags::LOCAL) {
            return Self::delivered(frame, packet, &owner);
        }
        if owner.is(backend_flags::BARE) {
            return self.translated(frame, packet);
        }
        let wrapping = Wrapping {
            hash: Self::hash(packet, entry),
            tag: owner.tag(),
            alternate,
            redirect: false,
        };
        match self.wrapped(frame, &packet.network, &owner, &wrapping) {
            Reason::TooBig => {
                let encap = u16::try_from(ENCAP_LEN).unwrap_or(u16::MAX);
                self.too_big(frame, packet, self.tables.node.underlay_mtu.saturating_sub(encap))
            }
            other => other,
        }
    }

    /// Whether an IPv4 frame is from the other end of our own tunnel.
    fn is_tunnel(&self, frame: &[u8], to: &lb_common::Ip) -> bool {
        let node = &self.tables.node;
        let vni = |frame: &[u8]| u32::from_be_bytes([0, frame[46], frame[47], frame[48]]);
        frame.len() >= OUTER
            && *to == node.own
            && frame[ETHERNET] == 0x45
            && word(frame, 36) == Some(node.tunnel_port.get())
            && vni(frame) == TUNNEL_VNI
    }

    /// To a backend of this node.
    fn delivered(frame: &mut [u8], packet: &Packet, owner: &Owner) -> Reason {
        let past = past_stack(&packet.network, owner);
        destination(frame, packet, &owner.entry.addr, owner.entry.port, past);
        if past {
            frame.copy_within(..6, 6);
            frame[..6].copy_from_slice(&owner.entry.mac);
            Reason::LocalRedirected
        } else {
            Reason::LocalBackend
        }
    }
}

/// The key of a packet's flow at a VIP.
pub(super) fn key(packet: &Packet, vip: u16) -> Key {
    Key {
        family: packet.network.family,
        client: packet.network.from,
        port: packet.source,
        vip,
    }
}
