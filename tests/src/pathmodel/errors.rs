//! ICMP errors: each goes to whoever sent the packet that it quotes.

use lb_common::{Be16, ENCAP_LEN, Ip, Reason, Tag, VipEntry, affinity_hash, backend_flags, flow_hash, vip_flags};

use super::Model;
use super::flows::Key;
use super::parse::{Network, Part, TCP, UDP, quoted4, quoted6, word};
use super::sums::Change;
use super::tables::Owner;
use super::tunnel::Wrapping;
use super::write::{octets, patch};

const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Bytes of an ICMP header.
const HEADER: usize = 8;

/// A packet as an error quotes it: as much as must be there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    /// Where its header begins, and where its ports lie.
    pub(super) at: usize,
    pub(super) ports: usize,
    pub(super) protocol: u8,
    pub(super) from: (Ip, Be16),
    pub(super) to: (Ip, Be16),
}

impl Quote {
    /// Without IP options.
    fn is_plain(&self, family: u8) -> bool {
        family == 6 || self.ports == self.at + 20
    }
}

/// New addresses and ports of what is quoted, and new ones of the error itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) from: (Ip, Be16),
    pub(super) to: (Ip, Be16),
    /// Of the error: who tells it.
    pub(super) teller: Ip,
}

/// Whether a packet is ICMP of its family. First parts of IPv4 ones are the stack's.
pub(super) fn is_icmp(network: &Network) -> bool {
    match network.family {
        4 => network.protocol == ICMP && network.part == Part::Whole,
        _ => network.protocol == ICMP6,
    }
}

/// The type of an ICMP packet that is looked at: right behind an IP header without options, and all of its own header there.
fn kind(frame: &[u8], network: &Network) -> Option<u8> {
    let plain = network.body == network.at + if network.family == 4 { 20 } else { 40 };
    frame.get(network.body..network.body + HEADER)?;
    (plain && is_icmp(network)).then_some(frame[network.body])
}

/// What an error quotes; `None`: it is no error, or too little of the packet is there.
fn quote(frame: &[u8], network: &Network) -> Option<Quote> {
    let kind = kind(frame, network)?;
    let quote = if network.family == 4 && [3, 11, 12].contains(&kind) {
        quoted4(frame, network.body + HEADER)
    } else if network.family == 6 && [1, 2, 3, 4].contains(&kind) {
        quoted6(frame, network.body + HEADER)
    } else {
        None
    };
    // About a packet that whoever gets the error sent.
    quote.filter(|quote| quote.from.0 == network.to)
}

impl Model {
    /// What becomes of an ICMP packet that came in by the uplink; `None`: nothing of ours.
    pub(super) fn error(&mut self, frame: &mut Vec<u8>, network: &Network) -> Option<Reason> {
        if self.is_echo(frame, network) {
            return Some(Reason::Echo);
        }
        let quote = quote(frame, network)?;
        let ours = quote.is_plain(network.family) && self.is_for_us(network) && self.is_reserved(quote.from.1);
        if ours {
            return Some(self.turned(frame, network, &quote).unwrap_or(Reason::NotVip));
        }
        let (key, entry) = self.quoted_flow(network.family, &quote)?;
        let Some(owner) = self.quoted_owner(&key, &entry, &quote) else {
            return Some(Reason::ErrorUnknown);
        };
        if owner.is(backend_flags::BARE) {
            if !quote.is_plain(network.family) {
                return Some(Reason::ErrorUnknown);
            }
            let translated = self.turned(frame, network, &quote);
            return Some(translated.unwrap_or(Reason::ErrorUnknown));
        }
        if owner.is(backend_flags::LOCAL) {
            self.delivered_error(frame, network, &quote, &owner);
            return Some(Reason::ErrorDelivered);
        }
        let wrapping = Wrapping {
            hash: hash(&key, &entry, &quote),
            tag: owner.tag(),
            alternate: Tag(0),
            redirect: false,
        };
        Some(self.wrapped(frame, network, &owner, &wrapping))
    }

    /// One that came through the tunnel; `mac` names the backend.
    pub(super) fn error_inside(&self, frame: &mut Vec<u8>, network: &Network, mac: [u8; 6]) -> Reason {
        // Where it lies in the whole frame.
        let network = Network {
            at: network.at + ENCAP_LEN,
            body: network.body + ENCAP_LEN,
            end: network.end + ENCAP_LEN,
            ..*network
        };
        let family = network.family;
        if self.is_echo(frame, &network) {
            return Reason::Echo;
        }
        let Some(quote) = quote(frame, &network) else {
            return Reason::TunnelMalformed;
        };
        if self.quoted_flow(family, &quote).is_none() {
            return Reason::TunnelMalformed;
        }
        let named = self.tables.named(Tag::from_mac(mac, quote.protocol, family));
        let Some(owner) = named.filter(|owner| owner.is(backend_flags::LOCAL)) else {
            return Reason::TunnelNotLocal;
        };
        if owner.is(backend_flags::BARE) {
            return Reason::ErrorUnknown;
        }
        self.delivered_error(frame, &network, &quote, &owner);
        let outer = frame[..12].to_vec();
        frame.drain(..ENCAP_LEN);
        frame[..12].copy_from_slice(&outer);
        Reason::ErrorDelivered
    }

    fn is_echo(&self, frame: &[u8], network: &Network) -> bool {
        let asks = if network.family == 4 { 8 } else { 128 };
        kind(frame, network) == Some(asks) && self.tables.in_range(network.family, &network.to)
    }

    /// The VIP's entry and the flow's key, seen from the client.
    fn quoted_flow(&self, family: u8, quote: &Quote) -> Option<(Key, VipEntry)> {
        if ![TCP, UDP].contains(&quote.protocol) {
            return None;
        }
        let entry = self.tables.vip(family, quote.from.0, quote.from.1, quote.protocol)?;
        let key = Key {
            family,
            client: quote.to.0,
            port: quote.to.1,
            vip: u16::try_from(entry.id).ok()?,
        };
        Some((key, entry))
    }

    fn quoted_owner(&self, key: &Key, entry: &VipEntry, quote: &Quote) -> Option<Owner> {
        let of = |flow: Option<&lb_common::FlowValue>| flow.and_then(|flow| self.tables.owner(flow));
        of(self.flows.flows.get(key))
            .or_else(|| of(self.flows.half.get(key)))
            .or_else(|| self.tables.slot(entry.table, hash(key, entry, quote)))
    }

    /// To a backend of this node, as about a packet of its own.
    fn delivered_error(&self, frame: &mut [u8], network: &Network, quote: &Quote, owner: &Owner) {
        let turn = Turn {
            from: (owner.entry.addr, owner.entry.port),
            to: quote.to,
            teller: network.from,
        };
        turn_error(frame, network, quote, &turn);
    }
}

fn hash(key: &Key, entry: &VipEntry, quote: &Quote) -> u32 {
    if entry.flags & vip_flags::AFFINITY == 0 {
        flow_hash(&key.client, key.port, quote.from.1, quote.protocol)
    } else {
        affinity_hash(&key.client)
    }
}

/// Puts other addresses and ports into a quote and into its error, and all sums right.
pub(super) fn turn_error(frame: &mut [u8], network: &Network, quote: &Quote, turn: &Turn) {
    let family = network.family;
    let addr = |ip: &Ip| octets(family, ip);
    let size = if family == 4 { 4 } else { 16 };
    let place = |at: usize| at + if family == 4 { 12 } else { 8 };
    let put = |frame: &mut [u8], at: usize, new: Vec<u8>, change: Change| {
        let old = frame[at..at + new.len()].to_vec();
        frame[at..at + new.len()].copy_from_slice(&new);
        change.bytes(&old, &new)
    };
    let moved = put(frame, place(quote.at), addr(&turn.from.0), Change::default());
    let moved = put(frame, place(quote.at) + size, addr(&turn.to.0), moved);
    let mut inside = moved.clone();
    if family == 4 {
        let old = [frame[quote.at + 10], frame[quote.at + 11]];
        patch(frame, quote.at + 10, |sum| moved.apply(sum));
        inside = inside.bytes(&old, &[frame[quote.at + 10], frame[quote.at + 11]]);
    }
    let ports = [turn.from.1, turn.to.1].map(|port| port.get().to_be_bytes()).concat();
    let old = frame[quote.ports..quote.ports + 4].to_vec();
    inside = put(frame, quote.ports, ports.clone(), inside);
    if quote.protocol == UDP {
        let sum = [frame[quote.ports + 6], frame[quote.ports + 7]];
        let change = moved.bytes(&old, &ports);
        patch(frame, quote.ports + 6, |sum| change.apply_udp(sum));
        inside = inside.bytes(&sum, &[frame[quote.ports + 6], frame[quote.ports + 7]]);
    }
    let outer = put(frame, place(network.at), addr(&turn.teller), Change::default());
    let outer = put(frame, place(network.at) + size, addr(&turn.from.0), outer);
    if family == 4 {
        patch(frame, network.at + 10, |sum| outer.apply(sum));
        patch(frame, network.body + 2, |sum| inside.apply(sum));
    } else {
        // The sum of ICMPv6 is over its packet's addresses too.
        patch(frame, network.body + 2, |sum| inside.and(&outer).apply(sum));
    }
}

/// The ports at an offset.
pub(super) fn ports(frame: &[u8], at: usize) -> Option<(Be16, Be16)> {
    frame.get(at..at + HEADER)?;
    Some((Be16::new(word(frame, at)?), Be16::new(word(frame, at + 2)?)))
}
