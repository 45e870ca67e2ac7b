//! Where tables lie, and what becomes of the one before: for some time, each hash still knows the backend it had.

use std::sync::Arc;

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

/// Seconds for which a backend has to have a slot before its flows are thought of rather than those of the one before it.
const SHORT: u32 = 30;

/// The backend that a hash had before: the owner in the last table or the one before that owner, whichever lives and is another than
/// now. Where both are, the one whose flows are more: one that had the slot for moments, as when a backend died and was replaced, has
/// few.
fn owner_before(now: u32, last: Option<u32>, older: Option<u32>, held: u32) -> u32 {
    let (last, older) = (last.filter(|last| *last != now), older.filter(|older| *older != now));
    let (first, second) = if held < SHORT { (older, last) } else { (last, older) };
    first.or(second).unwrap_or(now)
}

/// What is known of a VIP's tables before its new one.
pub(super) struct Kept {
    /// Says for each hash which backend it had before.
    pub(super) before: TableRange,
    /// Until when.
    pub(super) until: u64,
    /// See [`VipRecord::since`].
    pub(super) since: Option<Arc<[u32]>>,
}

/// The table before the new one. Of tables of another length, the last one is kept as it is. Without room there is none; only packets
/// of unknown flows miss it.
pub(super) fn keep(lb: &mut Lb, record: &VipRecord, table: TableRange, owners: &[u32]) -> Kept {
    let old = record.entry;
    if old.table.is_empty() {
        return Kept {
            before: old.previous,
            until: record.until,
            since: None,
        };
    }
    let seconds = clock::seconds();
    let until = seconds + u64::from(lb.config.previous_seconds);
    let now = u32::try_from(seconds).unwrap_or(u32::MAX);
    let alike = old.table.len() == table.len();
    let kept = |before, since| Kept { before, until, since };
    let since = alike.then(|| since(lb, record, owners, now));
    if !alike || old.previous.len() != table.len() {
        return kept(old.table, since);
    }
    let Some(offset) = lb.book.ranges.take(table.len()) else {
        return kept(old.table, since);
    };
    let before: Vec<u32> = (0..table.len())
        .zip(owners)
        .map(|(slot, owner)| {
            let last = lb.maps.slots.load(old.table.offset() + slot);
            let older = lb.maps.slots.load(old.previous.offset() + slot);
            let lives = |index: &u32| lb.book.indices.owner(*index).is_some();
            let held = now.saturating_sub(since_of(record, slot));
            owner_before(*owner, last.filter(lives), older.filter(lives), held)
        })
        .collect();
    lb.maps.slots.fill(offset, &before);
    kept(TableRange::new(offset, table.len()), since)
}

fn since_of(record: &VipRecord, slot: u32) -> u32 {
    let since = record.since.as_ref();
    let known = since.and_then(|since| since.get(usize::try_from(slot).ok()?));
    known.copied().unwrap_or_default()
}

/// Since when each slot has had its owner in a table as long as the last one.
fn since(lb: &Lb, record: &VipRecord, owners: &[u32], now: u32) -> Arc<[u32]> {
    let old = record.entry.table.offset();
    let slots = (0..).zip(owners);
    slots
        .map(|(slot, owner)| match lb.maps.slots.load(old + slot) == Some(*owner) {
            true => since_of(record, slot),
            false => now,
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    use model::Protocol;

    use super::*;
    use crate::{BackendKey, DesiredVip, Member, fill_table};

    /// Who has each slot, of backends known by numbers.
    fn table(members: &[u32]) -> Vec<u32> {
        let member = |n: &u32| {
            let key = BackendKey {
                addr: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)),
                port: 31_000,
                protocol: Protocol::Tcp,
            };
            let member = Member {
                weight: 1,
                node: Ipv4Addr::LOCALHOST,
                local: true,
            };
            (key, member)
        };
        let vip = DesiredVip {
            members: members.iter().map(member).collect::<BTreeMap<_, _>>(),
            ..DesiredVip::default()
        };
        let at = |position: u32| members[usize::try_from(position).expect("small")];
        fill_table(&vip).into_iter().map(at).collect()
    }

    /// A slot over time: its owners one after the other, and for how long the last one had it.
    fn chain(owners: &[u32], dead: &[u32], held: u32) -> u32 {
        let [first, rest @ ..] = owners else { return u32::MAX };
        let alive = |n: u32| Some(n).filter(|n| !dead.contains(n));
        let (mut last, mut before) = (*first, *first);
        for (at, now) in rest.iter().enumerate() {
            let held = if at + 1 == rest.len() { held } else { SHORT };
            before = owner_before(*now, alive(last), alive(before), held);
            last = *now;
        }
        before
    }

    #[test]
    fn a_backend_that_was_replaced_within_moments_costs_no_other_its_flows() {
        let all: Vec<u32> = (0..100).collect();
        for gone in [0, 37, 99] {
            let without: Vec<u32> = all.iter().copied().filter(|n| *n != gone).collect();
            let replaced: Vec<u32> = without.iter().copied().chain([100]).collect();
            // Before all that, one came: what slots had then is known still.
            let fewer: Vec<u32> = all.iter().copied().filter(|n| *n != 50).collect();
            let tables = [&fewer, &all, &without, &replaced].map(|members| table(members));
            let lost = |held: &dyn Fn(bool) -> u32| {
                let slots = (0..tables[1].len()).filter(|slot| {
                    let [fewer, first, second, third] = [0, 1, 2, 3].map(|n| tables[n][*slot]);
                    let before = chain(&[fewer, first, second, third], &[gone], held(first != second));
                    first != gone && first != third && first != before
                });
                slots.count()
            };
            assert_eq!(lost(&|moved| if moved { 1 } else { SHORT }), 0);
            assert!(lost(&|_| SHORT) > 0, "the last owner alone would do as well");
            assert!(lost(&|_| 1) > 0, "the age of the table alone would do as well");
        }
    }

    #[test]
    fn after_a_while_the_last_owner_counts_and_the_dead_never() {
        assert_eq!(owner_before(3, Some(2), Some(1), SHORT), 2);
        assert_eq!(owner_before(3, Some(2), Some(1), SHORT - 1), 1);
        for held in [0, SHORT] {
            assert_eq!(owner_before(3, Some(3), Some(1), held), 1);
            assert_eq!(owner_before(3, Some(2), Some(3), held), 2);
            assert_eq!(owner_before(3, None, Some(1), held), 1);
            assert_eq!(owner_before(3, None, None, held), 3);
        }
    }
}
