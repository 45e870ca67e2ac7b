//! Keeps the underlay neighbours of peers resolved, because XDP's route lookup can't start a resolution itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteType};
use rtnetlink::RouteMessageBuilder;

use crate::Overlay;

/// Why a peer's neighbour could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// There is no way to the peer.
    #[error("there is no route to peer {peer}: {source}")]
    Route {
        /// The peer's underlay address.
        peer: IpAddr,
        /// The cause.
        source: rtnetlink::Error,
    },
    /// The request was refused.
    #[error("asking the kernel to resolve {next_hop} failed: {source}; it needs CAP_NET_ADMIN")]
    Use {
        /// The peer, or the router that leads to it.
        next_hop: IpAddr,
        /// The cause.
        source: rtnetlink::Error,
    },
}

/// Makes the kernel use (and so resolve, or confirm) the neighbour entry of every peer, or of the router before it.
/// Returns what failed; an entry that is fresh costs no packet. Call it every few seconds.
pub async fn warm(overlay: &mut Overlay, peers: &[IpAddr]) -> Vec<WarmError> {
    let mut failed = Vec::new();
    let mut next_hops = BTreeSet::new();
    for &peer in peers {
        match next_hop(overlay, peer).await {
            Ok(hop) => next_hops.extend(hop),
            Err(source) => failed.push(WarmError::Route { peer, source }),
        }
    }
    for (index, next_hop) in next_hops {
        let request = overlay.netlink.neighbours().add(index, next_hop);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        if let Err(source) = request.execute().await {
            failed.push(WarmError::Use { next_hop, source });
        }
    }
    failed
}

/// Interface and next hop towards `peer`.
async fn next_hop(overlay: &Overlay, peer: IpAddr) -> Result<Option<(u32, IpAddr)>, rtnetlink::Error> {
    let question = match peer {
        IpAddr::V4(peer) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(peer, 32)
            .build(),
        IpAddr::V6(peer) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(peer, 128)
            .build(),
    };
    let Some(route) = overlay.netlink.route().get(question).execute().try_next().await? else {
        return Ok(None);
    };
    // An address of this node itself has no neighbour.
    if route.header.kind != RouteType::Unicast {
        return Ok(None);
    }
    let (mut index, mut hop) = (None, peer);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(value) => index = Some(*value),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop = IpAddr::V4(*gateway),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => hop = IpAddr::V6(*gateway),
            _ => {}
        }
    }
    Ok(index.map(|index| (index, hop)))
}
