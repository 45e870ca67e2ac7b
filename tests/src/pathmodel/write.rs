//! New addresses in a packet.

use std::net::IpAddr;

use lb_common::{Be16, Ip};

use super::parse::{Network, Packet, TCP};
use super::sums::Change;
use super::tables::{Owner, Way};

/// Bytes of an address as its family writes it.
pub(super) fn octets(family: u8, addr: &Ip) -> Vec<u8> {
    let all: Vec<u8> = addr.0.iter().flat_map(|word| word.get().to_be_bytes()).collect();
    match (family, IpAddr::from(*addr)) {
        // What is written into an IPv4 packet is the last word, whatever else is there.
        (4, _) => all[12..].to_vec(),
        _ => all,
    }
}

/// Gives the packet a new destination and, on its way past the stack, one hop less.
pub(super) fn destination(frame: &mut [u8], packet: &Packet, to: &Ip, port: Be16, hop: bool) {
    let network = packet.network;
    let moved = address(frame, &network, to, hop);
    let ports = network.body + 2;
    let new_port = port.get().to_be_bytes();
    let change = moved.bytes(&[frame[ports], frame[ports + 1]], &new_port);
    frame[ports..ports + 2].copy_from_slice(&new_port);
    if network.protocol == TCP {
        patch(frame, network.body + 16, |sum| change.apply(sum));
    } else {
        patch(frame, network.body + 6, |sum| change.apply_udp(sum));
    }
}

/// Whether the packet goes to the backend past the stack.
pub(super) fn past_stack(network: &Network, owner: &Owner) -> bool {
    let entry = &owner.entry;
    entry.ifindex != 0 && network.len() <= usize::from(entry.mtu) && network.hops > 1
}

/// The new destination alone; what that changes in the sum over both addresses.
pub(super) fn address(frame: &mut [u8], network: &Network, to: &Ip, hop: bool) -> Change {
    let new = octets(network.family, to);
    let at = network.at + if network.family == 4 { 16 } else { 24 };
    let old = frame[at..at + new.len()].to_vec();
    let moved = Change::default().bytes(&old, &new);
    frame[at..at + new.len()].copy_from_slice(&new);
    if network.family == 4 {
        let mut change = moved.clone();
        if hop {
            let life = [frame[network.at + 8], frame[network.at + 9]];
            change = change.bytes(&life, &[life[0] - 1, life[1]]);
            frame[network.at + 8] -= 1;
        }
        patch(frame, network.at + 10, |sum| change.apply(sum));
    } else if hop {
        frame[network.at + 7] -= 1;
    }
    moved
}

/// Gives the packet a new source and destination and one hop less; what that changes in the sum over both addresses.
pub(super) fn move_ends(frame: &mut [u8], network: &Network, from: &Ip, to: &Ip) -> Change {
    let moved = address(frame, network, to, true);
    let new = octets(network.family, from);
    let at = network.at + if network.family == 4 { 12 } else { 8 };
    let old = frame[at..at + new.len()].to_vec();
    frame[at..at + new.len()].copy_from_slice(&new);
    if network.family == 4 {
        let change = Change::default().bytes(&old, &new);
        patch(frame, network.at + 10, |sum| change.apply(sum));
    }
    moved.bytes(&old, &new)
}

/// The same with ports.
pub(super) fn ends(frame: &mut [u8], packet: &Packet, from: (Ip, Be16), to: (Ip, Be16)) {
    let network = packet.network;
    let moved = move_ends(frame, &network, &from.0, &to.0);
    let new = [from.1, to.1].map(|port| port.get().to_be_bytes()).concat();
    let change = moved.bytes(&frame[network.body..network.body + 4], &new);
    frame[network.body..network.body + 4].copy_from_slice(&new);
    if network.protocol == TCP {
        patch(frame, network.body + 16, |sum| change.apply(sum));
    } else {
        patch(frame, network.body + 6, |sum| change.apply_udp(sum));
    }
}

/// The link addresses of a way.
pub(super) fn link(frame: &mut [u8], way: &Way) {
    frame[..6].copy_from_slice(&way.to);
    frame[6..12].copy_from_slice(&way.from);
}

/// Changes a field of two bytes.
pub(super) fn patch(frame: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    let new = change(u16::from_be_bytes([frame[at], frame[at + 1]]));
    frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
}
