//! What others do to the kernel's tables, as the kernel tells it: a hint to look, never a fact to act on.

use std::fmt;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::BoxStream;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{MulticastGroup, new_multicast_connection};

use crate::OpenError;

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Route,
];

type Payload = NetlinkPayload<RouteNetlinkMessage>;

/// Hears of what was taken away. What this plane removes itself is heard too: look and find that all is well.
pub struct Changes {
    messages: BoxStream<'static, Payload>,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    /// Listens in the calling thread's network namespace; the caller spawns the future, as that of [`crate::Overlay::open`].
    pub fn open() -> Result<(Self, BoxFuture<'static, ()>), OpenError> {
        let (connection, _, messages) = new_multicast_connection(&GROUPS).map_err(OpenError::Socket)?;
        let messages = messages.map(|(message, _)| message.payload).boxed();
        Ok((Self { messages }, connection.boxed()))
    }

    /// Waits until something went away that a node may need. Nothing is lost when the wait is given up. `None`: the kernel
    /// tells no more.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            if matters(&self.messages.next().await?) {
                return Some(());
            }
        }
    }

    /// Forgets what was told until now.
    pub fn drain(&mut self) {
        while let Some(Some(_)) = self.messages.next().now_or_never() {}
    }
}

fn matters(payload: &Payload) -> bool {
    let NetlinkPayload::InnerMessage(message) = payload else {
        // The kernel had to leave something out.
        return matches!(payload, NetlinkPayload::Overrun(_));
    };
    match message {
        RouteNetlinkMessage::DelLink(link) | RouteNetlinkMessage::NewLink(link) => is_vxlan(link),
        // A permanent entry that somebody takes bears the mark of a failed one by then.
        RouteNetlinkMessage::DelNeighbour(_)
        | RouteNetlinkMessage::DelAddress(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::DelRule(_) => true,
        _ => false,
    }
}

/// A device of somebody else comes and goes with every container.
fn is_vxlan(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else {
            return false;
        };
        infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Vxlan)))
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteMessage;

    use super::*;

    #[test]
    fn what_goes_away_is_a_hint_and_what_comes_is_none() {
        let inner = |message| matters(&NetlinkPayload::InnerMessage(message));
        assert!(inner(RouteNetlinkMessage::DelRoute(RouteMessage::default())));
        assert!(!inner(RouteNetlinkMessage::NewRoute(RouteMessage::default())));
        let mut link = LinkMessage::default();
        assert!(!inner(RouteNetlinkMessage::DelLink(link.clone())));
        let kind = LinkInfo::Kind(InfoKind::Vxlan);
        link.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
        assert!(inner(RouteNetlinkMessage::DelLink(link)));
    }
}
