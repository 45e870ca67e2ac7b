//! One VIP: its number, its table, what it asks of new flows, and then its entry, by which packets find all that.

use std::collections::BTreeMap;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapError, PerCpuValues};
use lb_common::{Be16, Endpoint, Endpoint4, Ip, RateBucket, TableRange, VipEntry, VipOptions, VipStats, vip_flags};
use model::{Cidr, ServiceOptions, VipAddress};

use super::{ApplyError, absent_is_fine, map, previous};
use crate::lb::VipRecord;
use crate::{DesiredVip, Lb, MAX_MEMBERS, clock, fill_table};

pub(crate) fn endpoint(address: &VipAddress) -> Endpoint {
    Endpoint::new(
        Ip::from(address.addr),
        Be16::new(address.port),
        address.protocol.number(),
    )
}

pub(super) fn put(lb: &mut Lb, address: &VipAddress, vip: &DesiredVip) -> Result<(), ApplyError> {
    let open = vip.members.values().filter(|member| member.weight > 0).count();
    if open > MAX_MEMBERS {
        return Err(ApplyError::TooManyBackends {
            found: open,
            most: MAX_MEMBERS,
        });
    }
    let indices = vip.members.keys().map(|key| {
        let index = lb.book.indices.get(key);
        index.ok_or(ApplyError::UnknownBackend(*key))
    });
    let indices = indices.collect::<Result<Vec<u32>, _>>()?;
    let known = lb.book.ids.get(address).filter(|_| lb.book.vips.contains_key(address));
    let id = lb.book.ids.take(*address).ok_or(ApplyError::NoVips(lb.config.vips))?;
    let mut record = lb.book.vips.get(address).cloned().unwrap_or_default();
    if known.is_none() {
        begin(lb, address, id)?;
    }
    let owner = |position: u32| {
        let index = usize::try_from(position)
            .ok()
            .and_then(|position| indices.get(position));
        index.copied().unwrap_or(u32::MAX)
    };
    let owners: Vec<u32> = fill_table(vip).into_iter().map(owner).collect();
    let table = previous::place(lb, address, &mut record, &owners)?;
    options(lb, id, &mut record, &vip.options).inspect_err(|_| previous::give_back(lb, table))?;
    let previous::Kept { before, until, ages } = previous::keep(lb, &record, table, &owners);
    let entry = VipEntry {
        table,
        previous: before,
        fingerprint: vip.fingerprint(),
        id: u32::from(id),
        flags: flags(&vip.options),
    };
    if let Err(source) = put_entry(lb, address, entry) {
        if before != record.entry.table && before != record.entry.previous {
            previous::give_back(lb, before);
        }
        previous::give_back(lb, table);
        return Err(ApplyError::Map { map: "VIPS", source });
    }
    previous::replace(lb, address, &record, entry, until);
    let record = VipRecord {
        entry,
        until,
        made: clock::seconds_u32(),
        ages,
        ..record
    };
    lb.book.vips.insert(*address, record);
    Ok(())
}

fn flags(options: &ServiceOptions) -> u32 {
    let limited = options.max_rate > 0 || options.max_connections > 0 || !options.allow.is_empty();
    let mut flags = if limited { vip_flags::LIMITED } else { 0 };
    if options.affinity {
        flags |= vip_flags::AFFINITY;
    }
    if options.reset {
        flags |= vip_flags::RESET;
    }
    flags
}

/// A number's new owner starts with clean counts, and answers bear its address.
fn begin(lb: &mut Lb, address: &VipAddress, id: u16) -> Result<(), ApplyError> {
    let id = u32::from(id);
    let used = lb.maps.vip_endpoints.get(&id, 0).map_err(map("VIP_ENDPOINTS"))?;
    if used != Endpoint::default() {
        let cpus = lb.maps.vip_stats.get(&id, 0).map_err(map("VIP_STATS"))?.len();
        if let Ok(nothing) = PerCpuValues::try_from(vec![VipStats::default(); cpus]) {
            lb.maps.vip_stats.set(id, nothing, 0).map_err(map("VIP_STATS"))?;
        }
        if let Ok(nothing) = PerCpuValues::try_from(vec![RateBucket::default(); cpus]) {
            lb.maps.vip_rates.set(id, nothing, 0).map_err(map("VIP_RATES"))?;
        }
        let full = lb.maps.socket_rates.set(id, RateBucket::default(), 0);
        full.map_err(map("SOCKET_RATES"))?;
    }
    let put = lb.maps.vip_endpoints.set(id, endpoint(address), 0);
    put.map_err(map("VIP_ENDPOINTS"))
}

/// Ranges that come are there before those that go have gone, and all of them before the entry says that they count.
fn options(lb: &mut Lb, id: u16, record: &mut VipRecord, wanted: &ServiceOptions) -> Result<(), ApplyError> {
    let id = u32::from(id);
    for cidr in wanted.allow.difference(&record.sources.clone()) {
        source(lb, id, *cidr, true)?;
        record.sources.insert(*cidr);
    }
    for cidr in record.sources.clone().difference(&wanted.allow) {
        source(lb, id, *cidr, false)?;
        record.sources.remove(cidr);
    }
    if !record.limited && flags(wanted) & vip_flags::LIMITED == 0 {
        return Ok(());
    }
    let open = lb.maps.vip_options.get(&id, 0).map_err(map("VIP_OPTIONS"))?.open;
    let options = VipOptions {
        rate: wanted.max_rate,
        burst: wanted.max_rate,
        max_flows: wanted.max_connections,
        open,
        sources: u32::from(!wanted.allow.is_empty()),
        zero: 0,
    };
    record.limited = true;
    lb.maps.vip_options.set(id, options, 0).map_err(map("VIP_OPTIONS"))
}

fn source(lb: &mut Lb, id: u32, cidr: Cidr, allowed: bool) -> Result<(), ApplyError> {
    let prefix_len = 32 + u32::from(cidr.prefix());
    let ip = Ip::from(cidr.addr());
    match ip.as_v4() {
        Some(v4) => {
            let key = Key::new(prefix_len, [id, v4.raw()]);
            let trie = &mut lb.maps.sources4;
            let done = if allowed {
                trie.insert(&key, 1, 0)
            } else {
                absent_is_fine(trie.remove(&key))
            };
            done.map_err(map("SOURCES4"))
        }
        None => {
            let [a, b, c, d] = ip.0.map(lb_common::Be32::raw);
            let key = Key::new(prefix_len, [id, a, b, c, d]);
            let trie = &mut lb.maps.sources6;
            let done = if allowed {
                trie.insert(&key, 1, 0)
            } else {
                absent_is_fine(trie.remove(&key))
            };
            done.map_err(map("SOURCES6"))
        }
    }
}

/// The one step that packets see.
pub(super) fn put_entry(lb: &mut Lb, address: &VipAddress, entry: VipEntry) -> Result<(), MapError> {
    let key = endpoint(address);
    match key.addr.as_v4() {
        Some(v4) => lb
            .maps
            .vips4
            .insert(Endpoint4::new(v4, key.port, key.protocol), entry, 0),
        None => lb.maps.vips6.insert(key, entry, 0),
    }
}

pub(super) fn remove(lb: &mut Lb, address: &VipAddress) -> Result<(), ApplyError> {
    let key = endpoint(address);
    let gone = match key.addr.as_v4() {
        Some(v4) => lb.maps.vips4.remove(&Endpoint4::new(v4, key.port, key.protocol)),
        None => lb.maps.vips6.remove(&key),
    };
    absent_is_fine(gone).map_err(map("VIPS"))?;
    let id = lb.book.ids.get(address);
    if let (Some(id), Some(record)) = (id, lb.book.vips.remove(address)) {
        previous::replace(lb, address, &record, VipEntry::default(), 0);
        let mut rest = record;
        options(lb, id, &mut rest, &ServiceOptions::default())?;
    }
    lb.book.ids.release(address);
    Ok(())
}

impl Lb {
    /// Tells the programs how many flows are open, by number of the VIP, where that is limited.
    pub fn set_open(&mut self, open: &BTreeMap<u16, u32>) -> Result<(), ApplyError> {
        let limited = self
            .book
            .vips
            .values()
            .filter(|record| record.entry.flags & vip_flags::LIMITED != 0);
        let ids: Vec<u32> = limited.map(|record| record.entry.id).collect();
        for id in ids {
            let mut options = self.maps.vip_options.get(&id, 0).map_err(map("VIP_OPTIONS"))?;
            let now = u16::try_from(id)
                .ok()
                .and_then(|id| open.get(&id))
                .copied()
                .unwrap_or_default();
            if options.max_flows > 0 && options.open != now {
                options.open = now;
                self.maps.vip_options.set(id, options, 0).map_err(map("VIP_OPTIONS"))?;
            }
        }
        Ok(())
    }

    /// Empties `previous` tables whose time is over by `now` (seconds of the monotonic clock). Costs nothing when there
    /// are none.
    pub fn expire(&mut self, now: u64) -> Result<(), ApplyError> {
        self.expire_guards(now).map_err(map("GUARDS"))?;
        while let Some((until, address)) = self.book.expiries.first().copied()
            && until <= now
        {
            let Some(record) = self.book.vips.get(&address).cloned() else {
                self.book.expiries.remove(&(until, address));
                continue;
            };
            let entry = VipEntry {
                previous: TableRange::default(),
                ..record.entry
            };
            put_entry(self, &address, entry).map_err(map("VIPS"))?;
            previous::replace(self, &address, &record, entry, 0);
            self.book.vips.insert(
                address,
                VipRecord {
                    entry,
                    until: 0,
                    made: 0,
                    ages: None,
                    ..record
                },
            );
        }
        Ok(())
    }
}
