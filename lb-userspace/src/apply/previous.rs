//! Where tables lie, and what becomes of the one before: for some time, each hash still knows the backend it had.

use lb_common::{TableRange, VipEntry};
use model::VipAddress;

use super::ApplyError;
use crate::lb::VipRecord;
use crate::{Lb, clock};

/// Writes a table into free slots. Short of room, the VIP's own previous table goes first.
pub(super) fn place(
    lb: &mut Lb,
    address: &VipAddress,
    record: &mut VipRecord,
    owners: &[u32],
) -> Result<TableRange, ApplyError> {
    let wanted = u32::try_from(owners.len()).unwrap_or(u32::MAX);
    let mut offset = lb.book.ranges.take(wanted);
    if offset.is_none() && !record.entry.previous.is_empty() {
        lb.book.expiries.remove(&(record.until, *address));
        lb.book.expiries.insert((0, *address));
        if let Some(record) = lb.book.vips.get_mut(address) {
            record.until = 0;
        }
        lb.expire(0)?;
        *record = lb.book.vips.get(address).cloned().unwrap_or_default();
        offset = lb.book.ranges.take(wanted);
    }
    let all = lb.config.slots;
    let offset = offset.ok_or(ApplyError::NoSlots { wanted, all })?;
    lb.maps.slots.fill(offset, owners);
    Ok(TableRange::new(offset, wanted))
}

pub(super) fn give_back(lb: &mut Lb, range: TableRange) {
    if !range.is_empty() {
        lb.book.ranges.free(range.offset());
    }
}

/// The table that says for each hash which backend it had before, and until when: per slot the owner before, where that is
/// another than now, else what the previous table said. Tables of another length are kept as they are. Without room there
/// is none; only packets of unknown flows miss it.
pub(super) fn keep(lb: &mut Lb, record: &VipRecord, table: TableRange, owners: &[u32]) -> (TableRange, u64) {
    let old = record.entry;
    if old.table.is_empty() {
        return (old.previous, record.until);
    }
    let until = clock::seconds() + u64::from(lb.config.previous_seconds);
    if old.previous.len() != table.len() || old.table.len() != table.len() {
        return (old.table, until);
    }
    let Some(offset) = lb.book.ranges.take(table.len()) else {
        return (old.table, until);
    };
    let before: Vec<u32> = (0..table.len())
        .zip(owners)
        .map(|(slot, now)| {
            let last = lb.maps.slots.load(old.table.offset() + slot);
            let older = lb.maps.slots.load(old.previous.offset() + slot);
            last.filter(|last| last != now).or(older).unwrap_or(*now)
        })
        .collect();
    lb.maps.slots.fill(offset, &before);
    (TableRange::new(offset, table.len()), until)
}

/// Frees what the old entry had and the new one has not, and notes when the new one's previous table ends.
pub(super) fn replace(lb: &mut Lb, address: &VipAddress, old: &VipRecord, new: VipEntry, until: u64) {
    for range in [old.entry.table, old.entry.previous] {
        if range != new.table && range != new.previous {
            give_back(lb, range);
        }
    }
    lb.book.expiries.remove(&(old.until, *address));
    if !new.previous.is_empty() {
        lb.book.expiries.insert((until, *address));
    }
}
