//! Between nodes: wrapping and unwrapping.

use std::net::IpAddr;

use lb_common::{
    ENCAP_LEN, Reason, TUNNEL_VERSION, TUNNEL_VNI, Tag, backend_flags, flow_flags, node_flags, outer_source_port,
};

use super::Model;
use super::flows::Key;
use super::ingress::key;
use super::parse::{ETHERNET, Network, Packet, Part, ipv4, ipv6, word};
use super::sums::whole;
use super::tables::{Owner, Route};
use super::write::{destination, octets, past_stack};

/// What the outer headers say of the packet inside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrapping {
    pub(super) hash: u32,
    pub(super) tag: Tag,
    pub(super) alternate: Tag,
    /// Never back out on the interface it came in by, but by redirect.
    pub(super) redirect: bool,
}

impl Model {
    /// Puts the outer headers in front of a packet and sends it to its backend's node.
    pub(super) fn wrapped(&self, frame: &mut Vec<u8>, network: &Network, owner: &Owner, wrapping: &Wrapping) -> Reason {
        let node = &self.tables.node;
        if octets(4, &node.own) == [0; 4] {
            return Reason::NotConfigured;
        }
        let len = network.len() + ENCAP_LEN;
        if len > usize::from(node.underlay_mtu) {
            return Reason::TooBig;
        }
        let (ifindex, to, from) = match self.tables.routes.get(&owner.entry.node) {
            Some(Route::Known { ifindex, to, from }) => (*ifindex, to, from),
            Some(Route::NoNeighbour) => return Reason::NoNeighbour,
            None => return Reason::NoRoute,
        };
        // An inner Ethernet header takes the outer one's place: as many bytes.
        let Ok(total) = u16::try_from(len) else {
            return Reason::TooBig;
        };
        let mut ip = vec![0x45, 0];
        ip.extend(total.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        ip.extend(octets(4, &node.own));
        ip.extend(octets(4, &owner.entry.node));
        let sum = whole(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut out = Vec::with_capacity(frame.len() + ENCAP_LEN);
        out.extend(to);
        out.extend(from);
        out.extend([8, 0]);
        out.extend(ip);
        out.extend(outer_source_port(wrapping.hash).to_be_bytes());
        out.extend(node.tunnel_port.get().to_be_bytes());
        out.extend((total - 20).to_be_bytes());
        out.extend([0, 0, 8, 0, 0, 0]);
        out.extend(&TUNNEL_VNI.to_be_bytes()[1..]);
        out.push(TUNNEL_VERSION);
        out.extend(wrapping.alternate.to_mac());
        out.extend(wrapping.tag.to_mac());
        out.extend(if network.family == 4 { [8, 0] } else { [0x86, 0xdd] });
        out.extend(&frame[ETHERNET..]);
        *frame = out;
        let back = ifindex == self.tables.uplink && node.flags & node_flags::REDIRECT == 0;
        if back && !wrapping.redirect {
            Reason::TunnelSent
        } else {
            Reason::TunnelRedirected
        }
    }

    /// A packet of our tunnel.
    pub(super) fn received(&mut self, frame: &mut Vec<u8>) -> Reason {
        let source = IpAddr::from([frame[26], frame[27], frame[28], frame[29]]);
        if !self.tables.peers.contains(&source.into()) {
            return Reason::TunnelNotPeer;
        }
        let inside = &frame[ENCAP_LEN..];
        let network = match (frame[49] == TUNNEL_VERSION, word(inside, 12)) {
            (true, Some(0x0800)) => ipv4(inside, ETHERNET),
            (true, Some(0x86dd)) => ipv6(inside, ETHERNET).ok(),
            _ => None,
        };
        if let Some(network) = network
            && let Part::Later(_) = network.part
        {
            return self.later_inside(frame, &network);
        }
        let names = inside[..12].to_vec();
        if let Some(network) = network
            && network.protocol == if network.family == 4 { 1 } else { 58 }
        {
            return self.error_inside(frame, &network, mac(&names, 6));
        }
        let Some(packet) = network.and_then(|network| network.packet(inside).ok()) else {
            return Reason::TunnelMalformed;
        };
        let (family, protocol) = (packet.network.family, packet.network.protocol);
        let vip = self.tables.vip(family, packet.network.to, packet.dest, protocol);
        let Some((entry, id)) = vip.and_then(|entry| Some((entry, u16::try_from(entry.id).ok()?))) else {
            return Reason::TunnelNotVip;
        };
        let named = |at: usize| self.tables.named(Tag::from_mac(mac(&names, at), protocol, family));
        let Some(wanted) = named(6).filter(|owner| owner.is(backend_flags::LOCAL)) else {
            return Reason::TunnelNotLocal;
        };
        // Both names the same: the sender is sure, nobody else is to be asked.
        let last = names[..6] == names[6..];
        let alternate = if last || names[..6] == [0; 6] { None } else { named(0) };
        let key = key(&packet, id);
        if let Some(reason) = self.asked_inside(frame, &packet, &key, &wanted, alternate.is_some()) {
            return reason;
        }
        let owner = match self.arrived(&packet, &key, &wanted, alternate, last) {
            Ok(owner) => owner,
            Err(reason) => return reason,
        };
        let is_here = |owner: &Owner| owner.is(backend_flags::LOCAL);
        if is_here(&owner) {
            self.noted(&packet, id, &owner);
        }
        let outer = frame[..12].to_vec();
        frame.drain(..ENCAP_LEN);
        if is_here(&owner) {
            return unwrapped(frame, &outer, &packet, &owner);
        }
        let tag = owner.tag();
        let wrapping = Wrapping {
            hash: Self::hash(&packet, &entry),
            tag,
            alternate: tag,
            redirect: true,
        };
        match self.wrapped(frame, &packet.network, &owner, &wrapping) {
            Reason::TunnelRedirected => Reason::SecondChance,
            other => other,
        }
    }

    /// The owner of a packet from another node that asked for `wanted`; `last`: that node is sure.
    fn arrived(
        &mut self,
        packet: &Packet,
        key: &Key,
        wanted: &Owner,
        alternate: Option<Owner>,
        last: bool,
    ) -> Result<Owner, Reason> {
        let is_here = |owner: &Owner| owner.is(backend_flags::LOCAL);
        let settled = last || packet.is_syn();
        match self.known(packet, key) {
            Some((owner, _)) if is_here(&owner) || !settled => return Ok(owner),
            Some(_) => self.flows.close(key),
            None => {}
        }
        if packet.is_syn() || !packet.is_tcp() {
            if wanted.is(backend_flags::GONE) {
                return Err(Reason::BackendGone);
            }
            if wanted.is(backend_flags::SHARED) && self.conflict(key, wanted.index) {
                return Err(Reason::TupleConflict);
            }
            return Ok(self.opened(packet, key, *wanted, flow_flags::TUNNELLED));
        }
        let previous = if alternate.is_some() { flow_flags::PREVIOUS } else { 0 };
        let owner = alternate.unwrap_or(*wanted);
        self.adopted(packet, key, &owner, flow_flags::TUNNELLED | previous);
        Ok(owner)
    }
}

/// The link address at an offset.
fn mac(bytes: &[u8], at: usize) -> [u8; 6] {
    std::array::from_fn(|byte| bytes[at + byte])
}

/// The packet inside goes to a backend of this node.
fn unwrapped(frame: &mut [u8], outer: &[u8], packet: &Packet, owner: &Owner) -> Reason {
    let past = past_stack(&packet.network, owner);
    destination(frame, packet, &owner.entry.addr, owner.entry.port, past);
    if past {
        frame[..6].copy_from_slice(&owner.entry.mac);
        frame[6..12].copy_from_slice(&outer[..6]);
        Reason::TunnelDeliveredRedirected
    } else {
        // The stack takes only frames for its own link address.
        frame[..12].copy_from_slice(outer);
        Reason::TunnelDelivered
    }
}
