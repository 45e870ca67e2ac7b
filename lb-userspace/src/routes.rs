//! What the kernel's routes, neighbours and links say of an address of this node, one question at a time.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// A netlink socket for one question at a time; in the network namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Questions {
    socket: Socket,
    sequence: AtomicU32,
}

/// Where a sequence number stands in `struct nlmsghdr`.
const SEQUENCE: Range<usize> = 8..12;

impl Questions {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: AtomicU32::new(0),
        })
    }

    /// Sends a message, whose sequence number it sets, and gives the answer to it. One to an earlier question that nobody waited
    /// for is passed over.
    pub(crate) fn ask(&self, mut request: Vec<u8>) -> io::Result<Vec<u8>> {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed).to_ne_bytes();
        let place = request
            .get_mut(SEQUENCE)
            .ok_or_else(|| strange("a question too short"))?;
        place.copy_from_slice(&sequence);
        self.socket.send(&request, 0)?;
        loop {
            let (answer, _) = self.socket.recv_from_full()?;
            if answer.get(SEQUENCE) == Some(&sequence[..]) {
                return Ok(answer);
            }
        }
    }
}

/// Asks the kernel for routes, neighbours and links.
#[derive(Debug)]
pub(crate) struct Routes {
    questions: Questions,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Longest packet it takes, in bytes from the IP header on.
    pub(crate) mtu: u16,
    /// The number of the network namespace that its other end is in, where that is another one.
    pub(crate) far_namespace: Option<i32>,
}

impl Routes {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            questions: Questions::open(NETLINK_ROUTE)?,
        })
    }

    /// The interface on whose link an address is, by the routes; `None`: behind a router, or nowhere.
    pub(crate) fn link_to(&self, addr: IpAddr) -> io::Result<Option<u32>> {
        let mut request = RouteMessage::default();
        let (family, bits, to) = match addr {
            IpAddr::V4(addr) => (AddressFamily::Inet, 32, RouteAddress::Inet(addr)),
            IpAddr::V6(addr) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(addr)),
        };
        request.header.address_family = family;
        request.header.destination_prefix_length = bits;
        request.attributes = vec![RouteAttribute::Destination(to)];
        let RouteNetlinkMessage::NewRoute(route) = self.ask(RouteNetlinkMessage::GetRoute(request))? else {
            return Err(strange("no route in the answer"));
        };
        let far = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_));
        if route.header.kind != RouteType::Unicast || route.attributes.iter().any(far) {
            return Ok(None);
        }
        Ok(route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        }))
    }

    /// Its link address there, if somebody has written it down for good: one that was only learnt may be another tomorrow.
    pub(crate) fn neighbour(&self, ifindex: u32, addr: IpAddr) -> io::Result<Option<[u8; 6]>> {
        let mut request = NeighbourMessage::default();
        let (family, to) = match addr {
            IpAddr::V4(addr) => (AddressFamily::Inet, NeighbourAddress::Inet(addr)),
            IpAddr::V6(addr) => (AddressFamily::Inet6, NeighbourAddress::Inet6(addr)),
        };
        request.header.family = family;
        request.header.ifindex = ifindex;
        request.attributes = vec![NeighbourAttribute::Destination(to)];
        let answer = self.ask(RouteNetlinkMessage::GetNeighbour(request))?;
        let RouteNetlinkMessage::NewNeighbour(found) = answer else {
            return Err(strange("no neighbour in the answer"));
        };
        if found.header.state != NeighbourState::Permanent {
            return Ok(None);
        }
        Ok(found.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
            _ => None,
        }))
    }

    pub(crate) fn link(&self, ifindex: u32) -> io::Result<Link> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        let RouteNetlinkMessage::NewLink(found) = self.ask(RouteNetlinkMessage::GetLink(request))? else {
            return Err(strange("no link in the answer"));
        };
        let mut link = Link {
            up: found.header.flags.contains(LinkFlags::Up),
            mtu: 0,
            far_namespace: None,
        };
        for attribute in &found.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => link.mtu = u16::try_from(*mtu).unwrap_or(u16::MAX),
                LinkAttribute::LinkNetNsId(number) => link.far_namespace = Some(*number),
                _ => {}
            }
        }
        Ok(link)
    }

    fn ask(&self, request: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let answer = self.questions.ask(bytes)?;
        let answer = NetlinkMessage::deserialize(&answer).map_err(|error| strange(&error.to_string()))?;
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => Ok(message),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(strange("an answer that is no message")),
        }
    }
}

/// What the kernel told of an address. That it does not tell is no error: links and containers come and go.
pub(crate) fn told<T>(addr: IpAddr, answer: io::Result<Option<T>>) -> Option<T> {
    answer.unwrap_or_else(|error| {
        tracing::debug!(%addr, %error, "the kernel does not tell where this address is");
        None
    })
}

pub(crate) fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel answered oddly: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one() {
        let routes = Routes::open().expect("a socket");
        let loopback = routes.link(1).expect("lo");
        let mut request = LinkMessage::default();
        request.header.index = 1;
        let mut early = NetlinkMessage::from(RouteNetlinkMessage::GetLink(request));
        early.header.flags = NLM_F_REQUEST;
        early.header.sequence_number = u32::MAX;
        early.finalize();
        let mut bytes = vec![0; early.buffer_len()];
        early.serialize(&mut bytes);
        routes.questions.socket.send(&bytes, 0).expect("asked");
        assert!(routes.link(u32::MAX >> 1).is_err(), "the answer is the one about lo");
        assert_eq!(routes.link(1).expect("lo"), loopback);
    }
}
