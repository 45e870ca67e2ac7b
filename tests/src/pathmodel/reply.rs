//! What the node answers itself, back to who sent the packet.

use lb_common::{Reason, node_flags};

use super::Model;
use super::parse::{ETHERNET, Packet, RST, TCP};
use super::sums::whole;
use super::write::octets;

/// Bytes of the packet that a message quotes, and the least MTU that is worth telling.
const QUOTE4: usize = 512;
const QUOTE6: usize = 1024;
const LEAST6: u16 = 1280;

impl Model {
    /// A packet longer than the way carries: "fragmentation needed" or "packet too big" in its place. How often one sender is
    /// told is not known here.
    pub(super) fn too_big(&self, frame: &mut Vec<u8>, packet: &Packet, mtu: u16) -> Reason {
        let quoted = if packet.network.family == 4 { QUOTE4 } else { QUOTE6 };
        let Some(quote) = frame.get(ETHERNET..ETHERNET + quoted) else {
            return Reason::TooBig;
        };
        if frame[0] % 2 == 1 || !is_host(packet.network.family, quote) {
            return Reason::TooBig;
        }
        let out = if packet.network.family == 4 {
            message4(quote, mtu)
        } else if mtu >= LEAST6 {
            message6(quote, mtu)
        } else {
            return Reason::TooBig;
        };
        *frame = [&frame[6..12], &frame[..6], &frame[12..14], &out].concat();
        self.replied(Reason::TooBigReplied)
    }

    /// A reset of the connection, with the number that the client waits for.
    pub(super) fn reset(&self, frame: &mut Vec<u8>, packet: &Packet) -> Reason {
        let body = packet.network.body;
        let mut tcp = [
            &frame[body + 2..body + 4],
            &frame[body..body + 2],
            &frame[body + 8..body + 12],
        ]
        .concat();
        tcp.extend([0, 0, 0, 0, 0x50, RST, 0, 0, 0, 0, 0, 0]);
        let (from, to) = (
            octets(packet.network.family, &packet.network.to),
            octets(packet.network.family, &packet.network.from),
        );
        let sum = whole(&[&from[..], &to, &[0, TCP, 0, 20], &tcp].concat());
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let ip = if packet.network.family == 4 {
            let mut ip = [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0], &from[..], &to].concat();
            let sum = whole(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            ip
        } else {
            [&[0x60, 0, 0, 0, 0, 20, TCP, 64], &from[..], &to].concat()
        };
        *frame = [&frame[6..12], &frame[..6], &frame[12..14], &ip, &tcp].concat();
        self.replied(Reason::ResetReplied)
    }

    fn replied(&self, plain: Reason) -> Reason {
        if self.tables.node.flags & node_flags::REDIRECT == 0 {
            plain
        } else {
            Reason::ReplyRedirected
        }
    }
}

/// Not "this host", loopback, multicast or reserved.
fn is_host(family: u8, packet: &[u8]) -> bool {
    if family == 4 {
        ![0, 127].contains(&packet[12]) && packet[12] < 224
    } else {
        packet[8] != 0xff && packet[8..24] != [0; 16]
    }
}

fn message4(quote: &[u8], mtu: u16) -> Vec<u8> {
    let mut icmp = vec![3, 4, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quote);
    let sum = whole(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let total = u16::try_from(20 + icmp.len()).unwrap_or(u16::MAX);
    let mut ip = vec![0x45, 0xc0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 1, 0, 0]);
    ip.extend(&quote[16..20]);
    ip.extend(&quote[12..16]);
    let sum = whole(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(icmp);
    ip
}

fn message6(quote: &[u8], mtu: u16) -> Vec<u8> {
    let mut icmp = vec![2, 0, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend(quote);
    let len = u16::try_from(icmp.len()).unwrap_or(u16::MAX).to_be_bytes();
    let addresses = [&quote[24..40], &quote[8..24]].concat();
    let pseudo = [&addresses[..], &[0, 0], &len, &[0, 0, 0, 58], &icmp].concat();
    let sum = whole(&pseudo);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    [&[0x60, 0, 0, 0], &len[..], &[58, 64], &addresses, &icmp].concat()
}
