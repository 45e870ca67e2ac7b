//! What VIPs and backends have seen, summed over CPUs.

use std::collections::BTreeMap;

use aya::maps::MapError;
use lb_common::{BackendStats, VipEntry, VipStats, vip_flags};
use model::VipAddress;

use crate::open::ifindex;
use crate::{BackendKey, Lb};

/// Counts could not be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the map {map}: {source}")]
pub struct StatsError {
    map: &'static str,
    source: MapError,
}

/// Counts of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendCounts {
    /// Its index.
    pub index: u32,
    /// What it has seen since it got its index.
    pub stats: BackendStats,
    /// Connections of this node's own sockets that are open now.
    pub open_sockets: u64,
}

/// Counts of one VIP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipCounts {
    /// Its number.
    pub id: u16,
    /// What it has seen since it got its number.
    pub stats: VipStats,
    /// Its table: how many slots each backend has, by index.
    pub slots: BTreeMap<u32, u32>,
    /// Slots of the previous table; 0 when there is none (any more).
    pub previous: u32,
}

impl Lb {
    /// The VIP's number, if it is in the maps.
    pub fn vip_id(&self, address: &VipAddress) -> Option<u16> {
        self.book.ids.get(address)
    }

    /// The VIP with that number.
    pub fn vip_of(&self, id: u16) -> Option<VipAddress> {
        self.book.ids.owner(id)
    }

    /// The number of a VIP.
    pub fn number_of(&self, vip: &VipAddress) -> Option<u16> {
        self.book.ids.get(vip)
    }

    /// The backend with that index.
    pub fn backend_of(&self, index: u32) -> Option<BackendKey> {
        self.book.indices.owner(index)
    }

    /// Whether some VIP limits its open flows, so that somebody has to count them often.
    pub fn counts_flows(&self) -> bool {
        let mut all = self.book.vips.values();
        all.any(|record| record.entry.flags & vip_flags::LIMITED != 0)
    }

    /// The index of the first uplink that is there.
    pub fn uplink_index(&self) -> Option<u32> {
        self.config.uplinks.iter().find_map(|name| ifindex(name))
    }

    /// Counts of one VIP; `None` when it is not in the maps.
    pub fn vip_counts(&self, address: &VipAddress) -> Result<Option<VipCounts>, StatsError> {
        let (Some(id), Some(record)) = (self.book.ids.get(address), self.book.vips.get(address)) else {
            return Ok(None);
        };
        let map = "VIP_STATS";
        let values = self.maps.vip_stats.get(&u32::from(id), 0);
        let values = values.map_err(|source| StatsError { map, source })?;
        let VipEntry { table, previous, .. } = record.entry;
        let mut slots = BTreeMap::new();
        for slot in 0..table.len() {
            if let Some(owner) = self.maps.slots.load(table.offset() + slot) {
                *slots.entry(owner).or_default() += 1;
            }
        }
        Ok(Some(VipCounts {
            id,
            stats: values.iter().fold(VipStats::default(), add_vip),
            slots,
            previous: previous.len(),
        }))
    }

    /// Counts of one backend; `None` when it is not in the maps.
    pub fn backend_counts(&self, key: &BackendKey) -> Result<Option<BackendCounts>, StatsError> {
        let Some(index) = self.book.indices.get(key) else {
            return Ok(None);
        };
        let failed = |map: &'static str| move |source| StatsError { map, source };
        let values = self.maps.backend_stats.get(&index, 0);
        let values = values.map_err(failed("BACKEND_STATS"))?;
        Ok(Some(BackendCounts {
            index,
            stats: values.iter().fold(BackendStats::default(), add_backend),
            open_sockets: self.maps.open_sockets.get(&index, 0).map_err(failed("OPEN_SOCKETS"))?,
        }))
    }
}

fn add_vip(sum: VipStats, cpu: &VipStats) -> VipStats {
    VipStats {
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
        flows: sum.flows + cpu.flows,
        drops: sum.drops + cpu.drops,
        connects: sum.connects + cpu.connects,
        strays: sum.strays + cpu.strays,
    }
}

fn add_backend(sum: BackendStats, cpu: &BackendStats) -> BackendStats {
    BackendStats {
        packets: sum.packets + cpu.packets,
        bytes: sum.bytes + cpu.bytes,
        flows: sum.flows + cpu.flows,
    }
}
