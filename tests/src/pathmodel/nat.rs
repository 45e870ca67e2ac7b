//! Translated sources: packets for backends on nodes without the daemon go there in this node's name, and their answers come back
//! through here.

use std::collections::BTreeMap;

use lb_common::{Be16, FlowState, FlowValue, Ip, Reason, backend_flags, flow_flags, node_flags};

use super::Model;
use super::errors::{Quote, Turn, turn_error};
use super::flows::{PartKey, followed, met};
use super::ingress::key;
use super::parse::{ETHERNET, Network, Packet, Part, ipv4, ipv6, word};
use super::parts;
use super::sums::Change;
use super::tables::{Owner, Way};
use super::write::{ends, link, move_ends, patch};

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tuple {
    /// 4 or 6.
    pub family: u8,
    /// IANA protocol number.
    pub protocol: u8,
    /// Who sends.
    pub source: (Ip, Be16),
    /// To whom.
    pub dest: (Ip, Be16),
}

/// Translated flows.
#[derive(Clone, Debug, Default)]
pub struct Nat {
    /// By the client's direction.
    pub flows: BTreeMap<Tuple, FlowValue>,
    /// From the backend's direction to the client's.
    pub back: BTreeMap<Tuple, Tuple>,
    /// Whose the later parts of answers are: the client, and whom it believes them to be from.
    pub parts: BTreeMap<PartKey, (Ip, Ip)>,
    /// The port of the packet's flow as the program has it. Which of the free ones it takes is its own affair.
    pub told: Option<Be16>,
}

impl Model {
    /// The direction that a TCP or UDP packet belongs to.
    #[must_use]
    pub fn tuple(frame: &[u8]) -> Option<Tuple> {
        let network = match word(frame, 12)? {
            0x0800 => ipv4(frame, ETHERNET)?,
            0x86dd => ipv6(frame, ETHERNET).ok()?,
            _ => return None,
        };
        match network.part {
            Part::Later(_) => None,
            _ => Some(tuple(&network.packet(frame).ok()?)),
        }
    }

    /// What packets to such a backend leave with, or why they do not.
    fn own(&self, family: u8) -> Result<Ip, Reason> {
        let tables = &self.tables;
        match family {
            _ if tables.node.nat_last.get() == 0 => Err(Reason::NoRoute),
            4 => Ok(Ip::v4(tables.node.own.0[3])),
            _ if tables.own6 == Ip::default() => Err(Reason::NoNatAddress),
            _ => Ok(tables.own6),
        }
    }

    pub(super) fn is_reserved(&self, port: Be16) -> bool {
        let node = &self.tables.node;
        (node.nat_first.get()..=node.nat_last.get()).contains(&port.get())
    }

    /// Whether an address is the one that answers come to.
    pub(super) fn is_for_us(&self, network: &Network) -> bool {
        self.own(network.family) == Ok(network.to)
    }

    /// Whether a packet that is for no VIP may be an answer to a translated one.
    pub(super) fn is_for_our_ports(&self, packet: &Packet) -> bool {
        self.is_for_us(&packet.network) && self.is_reserved(packet.dest)
    }

    /// A packet for a backend on a node without the daemon, or from one.
    pub(super) fn translated(&mut self, frame: &mut Vec<u8>, packet: &Packet) -> Reason {
        let own = match self.own(packet.network.family) {
            Ok(own) => own,
            Err(reason) => return reason,
        };
        if self.is_for_our_ports(packet) {
            return self.answered(frame, packet);
        }
        let asked = tuple(packet);
        let going = self.nat.flows.get(&asked).filter(|flow| !begins_anew(flow, packet));
        let known = going.and_then(|flow| self.tables.owner(flow));
        let Some(owner) = known.or_else(|| self.settled(packet)) else {
            return Reason::NoBackend;
        };
        if packet.network.hops <= 1 {
            return Reason::NoRoute;
        }
        let Some(port) = self.port(packet, &asked, &owner, own) else {
            return Reason::NoNatPort;
        };
        let to = (owner.entry.addr, owner.entry.port);
        let way = match self.tables.way(packet.network.family, &to.0, packet.network.len()) {
            Ok(way) => way,
            Err(Reason::TooBig) => return self.too_big(frame, packet, self.tables.link_mtu),
            Err(reason) => return reason,
        };
        ends(frame, packet, (own, port), to);
        self.leaves(frame, &way, Reason::NatSent)
    }

    /// The backend that the packet's flow at its VIP belongs to, if it is of that kind.
    fn settled(&self, packet: &Packet) -> Option<Owner> {
        let network = &packet.network;
        let entry = self
            .tables
            .vip(network.family, network.to, packet.dest, network.protocol)?;
        let key = key(packet, u16::try_from(entry.id).ok()?);
        let flow = self.flows.flows.get(&key).or_else(|| self.flows.half.get(&key))?;
        self.tables.owner(flow).filter(|owner| owner.is(backend_flags::BARE))
    }

    /// The port of a flow: the one it has, or one that no flow has towards this backend.
    fn port(&mut self, packet: &Packet, asked: &Tuple, owner: &Owner, own: Ip) -> Option<Be16> {
        if let Some(flow) = self.nat.flows.get_mut(asked)
            && (flow.backend, flow.generation) == (owner.index, owner.entry.generation)
            && !begins_anew(flow, packet)
        {
            *flow = followed(*flow, packet.flags, flow_flags::FIN_CLIENT);
            return Some(flow.port);
        }
        let back = |port: Be16| Tuple {
            source: (owner.entry.addr, owner.entry.port),
            dest: (own, port),
            ..*asked
        };
        let is_free = |port: Be16| {
            let holder = self.nat.back.get(&back(port));
            let flow = holder.and_then(|holder| self.nat.flows.get(holder));
            flow.is_none_or(|flow| flow.state == FlowState::Closed as u8 || flow.port != port)
        };
        let node = &self.tables.node;
        let mut free = (node.nat_first.get()..=node.nat_last.get())
            .map(Be16::new)
            .filter(|port| is_free(*port))
            .peekable();
        free.peek()?;
        let told = self.nat.told;
        // Any other is a mistake, which the first free one then shows.
        let port = free.clone().find(|port| Some(*port) == told).or_else(|| free.next())?;
        if let Some(holder) = self.nat.back.insert(back(port), *asked) {
            self.nat.flows.remove(&holder);
        }
        let state = if packet.is_tcp() {
            FlowState::Established
        } else {
            FlowState::Datagram
        };
        let value = FlowValue {
            port,
            ..met(owner, state, flow_flags::TRANSLATED)
        };
        self.nat.flows.insert(*asked, value);
        Some(port)
    }

    /// From a backend to one of our ports: the client's.
    fn answered(&mut self, frame: &mut [u8], packet: &Packet) -> Reason {
        let Some(asked) = self.nat.back.get(&tuple(packet)).copied() else {
            return Reason::NotVip;
        };
        if packet.network.hops <= 1 {
            return Reason::NoRoute;
        }
        if let Some(flow) = self.nat.flows.get_mut(&asked) {
            *flow = followed(*flow, packet.flags, flow_flags::FIN_BACKEND);
        }
        let (client, server) = (asked.source, asked.dest);
        if let Part::First(id) = packet.network.part {
            let key = parts::key(&packet.network, id);
            self.nat.parts.insert(key, (client.0, server.0));
        }
        let way = self.tables.way(packet.network.family, &client.0, packet.network.len());
        ends(frame, packet, server, client);
        self.back_to_client(frame, way)
    }

    /// A part without ports, of a packet whose first part went such a way.
    pub(super) fn translated_later(&self, frame: &mut [u8], network: &Network) -> Reason {
        let own = match self.own(network.family) {
            Ok(own) => own,
            Err(reason) => return reason,
        };
        let other = if network.to == own {
            Reason::NotVip
        } else {
            Reason::Fragment
        };
        let Part::Later(Some(id)) = network.part else {
            return other;
        };
        let way = |to: &Ip| self.tables.way(network.family, to, network.len());
        if let Some((client, server)) = self.nat.parts.get(&parts::key(network, id)) {
            if network.hops <= 1 {
                return Reason::NoRoute;
            }
            move_ends(frame, network, server, client);
            return self.back_to_client(frame, way(client));
        }
        let Some((_, owner)) = self.first(network).filter(|(_, owner)| owner.is(backend_flags::BARE)) else {
            return other;
        };
        if network.hops <= 1 {
            return Reason::NoRoute;
        }
        match way(&owner.entry.addr) {
            Ok(way) => {
                move_ends(frame, network, &own, &owner.entry.addr);
                self.leaves(frame, &way, Reason::NatSent)
            }
            // Nobody is told of a part that is too big.
            Err(reason) => reason,
        }
    }

    /// An error about a packet of a translated flow, back to who sent that. `None`: it quotes no such flow.
    pub(super) fn turned(&self, frame: &mut [u8], network: &Network, quote: &Quote) -> Option<Reason> {
        let own = match self.own(network.family) {
            Ok(own) => own,
            Err(reason) => return Some(reason),
        };
        if network.hops <= 1 {
            return Some(Reason::NoRoute);
        }
        let turned = Tuple {
            family: network.family,
            protocol: quote.protocol,
            source: quote.to,
            dest: quote.from,
        };
        let (from, to) = if quote.from.0 == own && self.is_reserved(quote.from.1) {
            let asked = self.nat.back.get(&turned)?;
            (asked.source, asked.dest)
        } else {
            let flow = self.nat.flows.get(&turned)?;
            let owner = self.tables.owner(flow)?;
            ((owner.entry.addr, owner.entry.port), (own, flow.port))
        };
        // The host that the packet was for is known to its sender by the address it sent to.
        let teller = if network.from == quote.to.0 { to.0 } else { network.from };
        let way = self.tables.way(network.family, &from.0, network.len());
        // The kernel finds no way for what claims to come from a group.
        let from_group = network.family == 6 && std::net::IpAddr::from(network.from).is_multicast();
        let way = if from_group { Err(Reason::NoRoute) } else { way };
        turn_error(frame, network, quote, &Turn { from, to, teller });
        if network.family == 4 {
            let life = [frame[network.at + 8], frame[network.at + 9]];
            let change = Change::default().bytes(&life, &[life[0] - 1, life[1]]);
            patch(frame, network.at + 10, |sum| change.apply(sum));
        }
        frame[network.at + if network.family == 4 { 8 } else { 7 }] -= 1;
        Some(self.back_to_client(frame, way))
    }

    /// On to the client, or to the stack where no way is known.
    fn back_to_client(&self, frame: &mut [u8], way: Result<Way, Reason>) -> Reason {
        match way {
            Ok(way) if way.ifindex == self.tables.uplink => self.leaves(frame, &way, Reason::NatRestored),
            _ => Reason::NatRestoredPass,
        }
    }

    fn leaves(&self, frame: &mut [u8], way: &Way, same: Reason) -> Reason {
        link(frame, way);
        let redirect = self.tables.node.flags & node_flags::REDIRECT != 0;
        if redirect || way.ifindex != self.tables.uplink {
            Reason::NatRedirected
        } else {
            same
        }
    }
}

fn tuple(packet: &Packet) -> Tuple {
    let network = &packet.network;
    Tuple {
        family: network.family,
        protocol: network.protocol,
        source: (network.from, packet.source),
        dest: (network.to, packet.dest),
    }
}

/// Whether a packet opens a flow with the ports of one that is over.
fn begins_anew(flow: &FlowValue, packet: &Packet) -> bool {
    packet.is_syn() && flow.state == FlowState::Closed as u8
}
