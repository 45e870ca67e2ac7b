//! What would become of a packet, told decision by decision.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use lb_common::{Decision, FlowState, Origin, Reason, Verdict};
use model::{Protocol, VipAddress};

use crate::{BackendKey, Lb, RunError};

/// The answer: the decision as the program wrote it, with names where it has numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who would send.
    pub from: SocketAddr,
    /// To which VIP.
    pub vip: VipAddress,
    /// The program's own words.
    pub decision: Decision,
    /// Slots of the VIP's table.
    pub slots: u32,
    /// The backend, if one was chosen.
    pub backend: Option<BackendKey>,
    /// Why it ends as it does; `None` for a number that this release does not know.
    pub reason: Option<Reason>,
}

impl Lb {
    /// Runs the explaining twin of the uplink program on the first packet of a connection. Nothing is counted, no flow is
    /// made.
    pub fn explain_first_packet(
        &mut self,
        vip: &VipAddress,
        from: SocketAddr,
        interface: u32,
    ) -> Result<Explanation, RunError> {
        let frame = first_packet(from, vip);
        let (_, decision) = self.explain(&frame, interface)?;
        let record = self.book.vips.get(vip);
        Ok(Explanation {
            from,
            vip: *vip,
            slots: record.map_or(0, |record| record.entry.table.len()),
            backend: self.backend_of(decision.backend),
            reason: Reason::ALL
                .iter()
                .copied()
                .find(|reason| reason.index() == decision.reason),
            decision,
        })
    }
}

impl Explanation {
    /// One sentence per decision, in the order in which they were made.
    pub fn lines(&self) -> Vec<String> {
        let decision = &self.decision;
        let kind = match self.vip.protocol {
            Protocol::Tcp => "TCP SYN",
            Protocol::Udp => "UDP datagram",
        };
        let mut lines = vec![format!("{kind} from {} to {}", self.from, self.vip)];
        if decision.vip == 0 {
            lines.push("no such VIP in the tables of this node".to_owned());
        } else {
            lines.push(format!("VIP number {}, a table of {} slots", decision.vip, self.slots));
        }
        lines.extend(self.origin());
        match (self.backend, decision.vip) {
            (Some(backend), _) => lines.push(format!(
                "backend {backend}, index {}, generation {}",
                decision.backend, decision.generation
            )),
            (None, 0) => {}
            (None, _) => lines.push("no backend was chosen".to_owned()),
        }
        let node = IpAddr::from(decision.node);
        if decision.node != lb_common::Ip::default() {
            lines.push(format!("it is on node {node}: sent there through the tunnel"));
        }
        if decision.ifindex != 0 {
            lines.push(format!("leaves by the interface with index {}", decision.ifindex));
        }
        if self.reason == Some(Reason::SynCookie) {
            lines.push(
                "more SYNs come for this VIP than go to its listeners unasked: the backend's listener is asked for a cookie, \
                 and gets the SYN if it has room for it"
                    .to_owned(),
            );
        }
        match self.reason {
            Some(Reason::NatSent) => lines.push("its node runs no Revere: sent there in this node's name".to_owned()),
            Some(Reason::NoNatAddress) => lines.push(
                "its node runs no Revere, and this node has no IPv6 address to send from: `revere status` says what is missing"
                    .to_owned(),
            ),
            _ => {}
        }
        lines.push(match self.reason {
            Some(reason) => format!("end: {} ({})", reason.as_str(), verdict(reason)),
            None => format!("end: number {}, which this release does not know", decision.reason),
        });
        lines
    }

    fn origin(&self) -> Option<String> {
        let decision = &self.decision;
        let is = |origin: Origin| decision.origin == origin as u8;
        let text = if is(Origin::Flow) {
            format!("the flow is known: {}", state(decision.state))
        } else if is(Origin::Half) {
            "the flow is known: half open".to_owned()
        } else if is(Origin::Table) {
            format!(
                "no flow known: hash {:08x} chooses slot {}",
                decision.hash, decision.slot
            )
        } else if is(Origin::Previous) {
            format!(
                "no flow known: hash {:08x} had this backend before the last change",
                decision.hash
            )
        } else if is(Origin::Tunnel) {
            "the tunnel packet names the backend".to_owned()
        } else if is(Origin::Alternate) {
            "the tunnel packet's second choice".to_owned()
        } else {
            return None;
        };
        Some(text)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

fn verdict(reason: Reason) -> &'static str {
    match reason.verdict() {
        Verdict::Pass => "on to the stack of this node",
        Verdict::Transmit => "sent on without touching the stack",
        Verdict::Drop => "dropped",
    }
}

/// The word for a flow's state.
pub fn state(state: u8) -> &'static str {
    [
        (FlowState::Opening, "opening"),
        (FlowState::Established, "established"),
        (FlowState::Closing, "closing"),
        (FlowState::Closed, "closed"),
        (FlowState::Datagram, "datagram"),
    ]
    .into_iter()
    .find(|(known, _)| *known as u8 == state)
    .map_or("unknown", |(_, word)| word)
}

/// An Ethernet frame with a SYN, or an empty datagram.
fn first_packet(from: SocketAddr, to: &VipAddress) -> Vec<u8> {
    let transport = transport(from.port(), to);
    let len = u16::try_from(transport.len()).unwrap_or(u16::MAX);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let mut pseudo = Vec::new();
    let header = match (from.ip(), to.addr) {
        (IpAddr::V4(from), IpAddr::V4(addr)) => {
            frame.extend([8, 0]);
            let mut header = vec![0x45, 0];
            header.extend((len + 20).to_be_bytes());
            header.extend([0, 1, 0x40, 0, 64, to.protocol.number(), 0, 0]);
            header.extend(from.octets());
            header.extend(addr.octets());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            pseudo.extend_from_slice(&header[12..20]);
            header
        }
        (from, addr) => {
            frame.extend([0x86, 0xdd]);
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(len.to_be_bytes());
            header.extend([to.protocol.number(), 64]);
            for addr in [from, addr] {
                let addr = match addr {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                header.extend(addr.octets());
                pseudo.extend(addr.octets());
            }
            header
        }
    };
    pseudo.extend([0, to.protocol.number()]);
    pseudo.extend(len.to_be_bytes());
    pseudo.extend_from_slice(&transport);
    let sum = checksum(&pseudo).to_be_bytes();
    frame.extend(header);
    let at = frame.len();
    frame.extend(transport);
    let place = match to.protocol {
        Protocol::Tcp => at + 16,
        Protocol::Udp => at + 6,
    };
    frame[place..place + 2].copy_from_slice(&sum);
    frame
}

fn transport(from: u16, to: &VipAddress) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.port.to_be_bytes());
    match to.protocol {
        Protocol::Tcp => {
            // Sequence, acknowledgement, 20 bytes of header, SYN, window; sum and urgent pointer.
            bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Udp => bytes.extend([0, 8, 0, 0]),
    }
    bytes
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let [high, low] = [pair[0], pair.get(1).copied().unwrap_or_default()];
        u32::from(u16::from_be_bytes([high, low]))
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn first_packets_have_right_sums() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (from, addr) in [
                (
                    IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
                    IpAddr::from(Ipv4Addr::new(11, 0, 0, 1)),
                ),
                (
                    IpAddr::from(Ipv6Addr::LOCALHOST),
                    "fd01:c::1".parse().expect("an address"),
                ),
            ] {
                let port = 80;
                let frame = first_packet(SocketAddr::new(from, 40_000), &VipAddress { addr, port, protocol });
                let (at, addresses) = if from.is_ipv4() { (34, 26..34) } else { (54, 22..54) };
                if from.is_ipv4() {
                    assert_eq!(checksum(&frame[14..34]), 0);
                }
                let mut whole = frame[addresses].to_vec();
                whole.extend([0, protocol.number(), 0, u8::try_from(frame.len() - at).expect("short")]);
                whole.extend_from_slice(&frame[at..]);
                assert_eq!(checksum(&whole), 0, "{protocol} {from}");
            }
        }
    }
}
