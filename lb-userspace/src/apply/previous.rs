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

/// Seconds for which a table has to count before its flows are thought of rather than those of the one before it.
const SHORT: u64 = 30;

/// The backend that a hash had before: the owner in the last table or in the one before that, whichever lives and is another than
/// now. Where both are, the one whose flows are more: a table that counted for moments, as when a backend died and was replaced, has
/// few.
fn owner_before(now: u32, last: Option<u32>, older: Option<u32>, short: bool) -> u32 {
    let (last, older) = (last.filter(|last| *last != now), older.filter(|older| *older != now));
    let (first, second) = if short { (older, last) } else { (last, older) };
    first.or(second).unwrap_or(now)
}

/// The table that says for each hash which backend it had before, and until when. Tables of another length are kept as they are.
/// Without room there is none; only packets of unknown flows miss it.
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
    let made = record.until.saturating_sub(u64::from(lb.config.previous_seconds));
    let short = clock::seconds() < made + SHORT;
    let before: Vec<u32> = (0..table.len())
        .zip(owners)
        .map(|(slot, now)| {
            let last = lb.maps.slots.load(old.table.offset() + slot);
            let older = lb.maps.slots.load(old.previous.offset() + slot);
            let lives = |index| lb.book.indices.owner(index).is_some();
            owner_before(
                *now,
                last.filter(|last| lives(*last)),
                older.filter(|older| lives(*older)),
                short,
            )
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

    #[test]
    fn a_backend_that_was_replaced_within_moments_costs_no_other_its_flows() {
        let all: Vec<u32> = (0..100).collect();
        for gone in [0, 37, 99] {
            let without: Vec<u32> = all.iter().copied().filter(|n| *n != gone).collect();
            let replaced: Vec<u32> = without.iter().copied().chain([100]).collect();
            let tables = [&all, &without, &replaced].map(|members| table(members));
            let lost = |short| {
                let slots = (0..tables[0].len()).filter(|slot| {
                    let [first, second, third] = [0, 1, 2].map(|n| tables[n][*slot]);
                    let alive = |n: u32| Some(n).filter(|n| *n != gone);
                    // As each change left it: first none, then what the first table said.
                    let before = owner_before(second, Some(first), None, false);
                    let before = owner_before(third, alive(second), alive(before), short);
                    first != gone && first != third && first != before
                });
                slots.count()
            };
            assert_eq!(lost(true), 0);
            assert!(lost(false) > 0, "the other order would do as well");
        }
    }

    #[test]
    fn after_a_while_the_last_table_counts_and_the_dead_never() {
        assert_eq!(owner_before(3, Some(2), Some(1), false), 2);
        assert_eq!(owner_before(3, Some(2), Some(1), true), 1);
        for short in [false, true] {
            assert_eq!(owner_before(3, Some(3), Some(1), short), 1);
            assert_eq!(owner_before(3, Some(2), Some(3), short), 2);
            assert_eq!(owner_before(3, None, Some(1), short), 1);
            assert_eq!(owner_before(3, None, None, short), 3);
        }
    }
}
