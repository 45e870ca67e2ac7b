//! What user space tells the programs, as plain collections.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    BackendEntry, Be16, Endpoint, FlowValue, Ip, NodeConfig, Reason, TableRange, Tag, VipEntry, backend_flags,
};

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// This node's facts.
    pub node: NodeConfig,
    /// VIPs of both families; IPv4 addresses in mapped form stand for IPv4 packets.
    pub vips: BTreeMap<(u8, Endpoint), VipEntry>,
    /// What answers get as source, by VIP id.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Slots to backend indices.
    pub slots: Vec<u32>,
    /// By index.
    pub backends: Vec<BackendEntry>,
    /// VIPs of shared backends.
    pub backend_vips: BTreeMap<u32, [u16; 8]>,
    /// By tag.
    pub tags: BTreeMap<Tag, u32>,
    /// Nodes whose tunnel packets are taken.
    pub peers: BTreeSet<Ip>,
    /// The IPv6 address that translated packets leave with; zero: there is none.
    pub own6: Ip,
    /// How nodes are reached, and whoever else is; what is not here has no route.
    pub routes: BTreeMap<Ip, Route>,
    /// The same in IPv6.
    pub routes6: BTreeMap<Ip, Route>,
    /// Longest packet that each of these ways carries.
    pub link_mtu: u16,
    /// The interface that packets come in by.
    pub uplink: u32,
}

/// The way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The next hop is known.
    Known {
        /// It leaves by this interface.
        ifindex: u32,
        /// The next hop's link address.
        to: [u8; 6],
        /// The interface's own.
        from: [u8; 6],
    },
    /// It is not.
    NoNeighbour,
}

/// A way whose next hop is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) ifindex: u32,
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
}

/// A backend that lives, and its index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) index: u32,
    pub(super) entry: BackendEntry,
}

impl Owner {
    pub(super) fn is(&self, flag: u8) -> bool {
        self.entry.flags & flag != 0
    }

    pub(super) fn tag(&self) -> Tag {
        Tag::new(&self.entry.addr, self.entry.port, self.entry.protocol)
    }
}

impl Tables {
    pub(super) fn vip(&self, family: u8, addr: Ip, port: Be16, protocol: u8) -> Option<VipEntry> {
        self.vips.get(&(family, Endpoint::new(addr, port, protocol))).copied()
    }

    /// Whether an address lies in the VIP range of its family.
    pub(super) fn in_range(&self, family: u8, addr: &Ip) -> bool {
        let node = &self.node;
        if family == 4 {
            addr.0[3].get() & node.vip_mask.get() == node.vip_network.get()
        } else {
            node.vip6_network[0].get() != 0 && addr.0[..2] == node.vip6_network
        }
    }

    /// The way to an address for a packet so long from its IP header on.
    pub(super) fn way(&self, family: u8, to: &Ip, len: usize) -> Result<Way, Reason> {
        let routes = if family == 4 { &self.routes } else { &self.routes6 };
        let route = routes.get(to).ok_or(Reason::NoRoute)?;
        if len > usize::from(self.link_mtu) {
            return Err(Reason::TooBig);
        }
        match *route {
            Route::Known { ifindex, to, from } => Ok(Way { ifindex, to, from }),
            Route::NoNeighbour => Err(Reason::NoNeighbour),
        }
    }

    pub(super) fn live(&self, index: u32) -> Option<Owner> {
        let entry = *self.backends.get(usize::try_from(index).ok()?)?;
        (entry.flags & backend_flags::LIVE != 0).then_some(Owner { index, entry })
    }

    /// The backend that a table has for a hash.
    pub(super) fn slot(&self, table: TableRange, hash: u32) -> Option<Owner> {
        self.at(table.slot(hash)?)
    }

    pub(super) fn at(&self, slot: u32) -> Option<Owner> {
        self.live(*self.slots.get(usize::try_from(slot).ok()?)?)
    }

    pub(super) fn named(&self, tag: Tag) -> Option<Owner> {
        self.live(*self.tags.get(&tag)?)
    }

    /// The owner of a flow, if its index still belongs to the same one.
    pub(super) fn owner(&self, flow: &FlowValue) -> Option<Owner> {
        self.live(flow.backend)
            .filter(|owner| owner.entry.generation == flow.generation)
    }
}
