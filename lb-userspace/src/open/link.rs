//! What kind of interface an uplink is, asked of the kernel in this network namespace.
//!
//! Not read from /sys: that shows the namespace it was mounted in, which may be another one.

use std::io;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::check::ifindex;

/// Facts about an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    /// Bytes of an IP packet that it carries.
    pub(crate) mtu: u32,
    /// Whether it is one end of a veth pair.
    pub(crate) veth: bool,
}

/// Asks for the facts of the interface of that name.
pub(crate) fn facts(name: &str) -> io::Result<LinkFacts> {
    let index = ifindex(name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut wanted = LinkMessage::default();
    wanted.header.index = index;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(wanted));
    request.header.flags = NLM_F_REQUEST;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    read(&answer)
}

/// Names of all interfaces of this network namespace.
pub(crate) fn names() -> io::Result<Vec<String>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut names = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = answer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::other(format!("the kernel's list of links makes no sense: {error}")))?;
            let len = usize::try_from(message.header.length).unwrap_or(0).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    names.extend(link.attributes.into_iter().find_map(|attribute| match attribute {
                        LinkAttribute::IfName(name) => Some(name),
                        _ => None,
                    }));
                }
                NetlinkPayload::Done(_) => return Ok(names),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
            rest = rest.get(len.max(1)..).unwrap_or_default();
        }
    }
}

fn read(answer: &[u8]) -> io::Result<LinkFacts> {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer)
        .map_err(|error| io::Error::other(format!("the kernel's answer about a link makes no sense: {error}")))?;
    let link = match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => link,
        NetlinkPayload::Error(error) => return Err(error.to_io()),
        other => {
            return Err(io::Error::other(format!(
                "unexpected answer to a link request: {other:?}"
            )));
        }
    };
    let mut facts = LinkFacts { mtu: 0, veth: false };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => facts.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => facts.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            _ => {}
        }
    }
    Ok(facts)
}
