//! A node whose tables are written by hand, so that each test says what it needs.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::{
    BackendEntry, Be16, Be32, Endpoint, Ip, NodeConfig, Reason, TUNNEL_PORT, TableRange, Tag, VipEntry, backend_flags,
    node_flags,
};
use lb_userspace::PacketRun;
use tests::pathmodel::Tables;

use super::build::Peer;
use crate::packets::fuzz::grammar::Way;
use crate::packets::fuzz::kernel::Kernel;
use crate::packets::lab::{OWN, PEER};

pub(in crate::packets) struct Node {
    pub(in crate::packets) kernel: Kernel,
    pub(in crate::packets) tables: Tables,
}

pub(in crate::packets) fn ip(addr: IpAddr) -> Ip {
    Ip::from(addr)
}

impl Node {
    pub(in crate::packets) fn new() -> Self {
        let node = NodeConfig {
            own: ip(IpAddr::V4(OWN)),
            vip_network: Be32::new(u32::from(Ipv4Addr::new(198, 18, 0, 0))),
            vip_mask: Be32::new(0xfffe_0000),
            vip6_network: [Be32::new(0xfd01_000c), Be32::new(0)],
            tunnel_port: Be16::new(TUNNEL_PORT),
            underlay_mtu: 1500,
            flags: node_flags::REDIRECT,
            ..NodeConfig::default()
        };
        let mut tables = Tables {
            node,
            link_mtu: 1500,
            ..Tables::default()
        };
        tables.peers.insert(ip(IpAddr::V4(PEER)));
        Self {
            kernel: Kernel::new(),
            tables,
        }
    }

    /// One more backend; its index.
    pub(in crate::packets) fn backend(&mut self, (addr, port): Peer, protocol: u8, flags: u8) -> u32 {
        let index = u32::try_from(self.tables.backends.len()).expect("few");
        let node = if flags & backend_flags::LOCAL == 0 { PEER } else { OWN };
        self.tables.backends.push(BackendEntry {
            addr: ip(addr),
            node: ip(IpAddr::V4(node)),
            port: Be16::new(port),
            protocol,
            flags: flags | backend_flags::LIVE | backend_flags::OPEN,
            generation: 7,
            weight: 1,
            ..BackendEntry::default()
        });
        self.tables
            .tags
            .insert(Tag::new(&ip(addr), Be16::new(port), protocol), index);
        index
    }

    /// One more VIP with this table and this previous one; its id.
    pub(in crate::packets) fn vip(&mut self, (addr, port): Peer, protocol: u8, table: &[u32], previous: &[u32]) -> u32 {
        let id = u32::try_from(self.tables.endpoints.len()).expect("few") + 1;
        let endpoint = Endpoint::new(ip(addr), Be16::new(port), protocol);
        let entry = VipEntry {
            table: self.range(table),
            previous: self.range(previous),
            id,
            ..VipEntry::default()
        };
        let family = if addr.is_ipv4() { 4 } else { 6 };
        self.tables.vips.insert((family, endpoint), entry);
        self.tables.endpoints.insert(id, endpoint);
        for index in table.iter().chain(previous) {
            let backend = &mut self.tables.backends[usize::try_from(*index).expect("small")];
            if backend.flags & backend_flags::SHARED != 0 {
                let ids = self.tables.backend_vips.entry(*index).or_insert([0; 8]);
                if !ids.contains(&u16::try_from(id).expect("small")) {
                    let free = ids.iter().position(|id| *id == 0).expect("a free room");
                    ids[free] = u16::try_from(id).expect("small");
                }
            }
            backend.vip = u16::try_from(id).expect("small");
        }
        id
    }

    pub(in crate::packets) fn entry(&mut self, (addr, port): Peer, protocol: u8) -> &mut VipEntry {
        let family = if addr.is_ipv4() { 4 } else { 6 };
        let endpoint = Endpoint::new(ip(addr), Be16::new(port), protocol);
        self.tables.vips.get_mut(&(family, endpoint)).expect("a VIP")
    }

    fn range(&mut self, table: &[u32]) -> TableRange {
        if self.tables.slots.len() % 2 == 1 {
            self.tables.slots.push(0);
        }
        let offset = u32::try_from(self.tables.slots.len()).expect("few");
        self.tables.slots.extend(table);
        TableRange::new(offset, u32::try_from(table.len()).expect("few"))
    }

    /// Tables into the kernel; flows are forgotten.
    pub(in crate::packets) fn load(&mut self) {
        self.kernel.load(&self.tables);
    }

    /// The first slot of a VIP's table is another backend's from now on; flows are kept.
    pub(in crate::packets) fn turn(&mut self, vip: Peer, protocol: u8, index: u32) {
        let slot = self.entry(vip, protocol).table.offset();
        self.tables.slots[usize::try_from(slot).expect("small")] = index;
        self.kernel.set_slots(slot / 2, [index, index]);
    }

    /// A frame by the uplink must end so.
    pub(in crate::packets) fn enters(&mut self, frame: &[u8], reason: Reason) -> PacketRun {
        self.runs(Way::In, frame, reason)
    }

    /// A frame out by the uplink must end so.
    pub(in crate::packets) fn leaves(&mut self, frame: &[u8], reason: Reason) -> PacketRun {
        self.runs(Way::Out, frame, reason)
    }

    fn runs(&mut self, way: Way, frame: &[u8], reason: Reason) -> PacketRun {
        let run = self.kernel.run(way, frame).expect("a frame that the kernel takes");
        assert_eq!(self.kernel.counted(reason), Ok(()), "{reason:?} expected");
        run
    }
}
