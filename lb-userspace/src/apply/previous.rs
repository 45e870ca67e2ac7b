//! Where tables lie, and what becomes of the one before: for some time, each hash still knows the backend it had.

use std::sync::Arc;

use lb_common::{TableRange, VipEntry};
use model::VipAddress;

use super::ApplyError;
use crate::lb::{Age, VipRecord};
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

/// Seconds after which an owner of a slot is taken to have more flows than the one before it, however long that one had it.
const LONG: u32 = 30;

/// A backend that had a slot, and for how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Had {
    backend: u32,
    seconds: u32,
}

/// The backend that a hash had before: the owner in the last table or the one before that owner, whichever lives and is another than
/// now. Where both are, the one that has more flows: one that had the slot for moments, as when a backend died and was replaced, has
/// few.
fn had_before(now: u32, last: Option<Had>, older: Option<Had>) -> Had {
    let another = |had: &Had| had.backend != now;
    let (last, older) = (last.filter(another), older.filter(another));
    let brief = |last: &Had| last.seconds < LONG && older.is_some_and(|older| last.seconds < older.seconds);
    let none = Had {
        backend: now,
        seconds: 0,
    };
    last.filter(|last| !brief(last)).or(older).or(last).unwrap_or(none)
}

/// What is known of a VIP's tables before its new one.
pub(super) struct Kept {
    /// Says for each hash which backend it had before.
    pub(super) before: TableRange,
    /// Until when.
    pub(super) until: u64,
    /// See [`VipRecord::ages`].
    pub(super) ages: Option<Arc<[Age]>>,
}

/// The table before the new one. Of tables of another length, the last one is kept as it is. Without room there is none; only packets
/// of unknown flows miss it.
pub(super) fn keep(lb: &mut Lb, record: &VipRecord, table: TableRange, owners: &[u32]) -> Kept {
    let old = record.entry;
    if old.table.is_empty() {
        return Kept {
            before: old.previous,
            until: record.until,
            ages: None,
        };
    }
    let until = clock::seconds() + u64::from(lb.config.previous_seconds);
    if old.table.len() != table.len() {
        return Kept {
            before: old.table,
            until,
            ages: None,
        };
    }
    let now = clock::seconds_u32();
    let known = old.previous.len() == table.len();
    let (before, ages): (Vec<u32>, Arc<[Age]>) = {
        let slots = (0..).zip(owners).map(|(slot, owner)| {
            let age = record.age(slot);
            let had = |range: TableRange, seconds: u32| {
                let backend = lb.maps.slots.load(range.offset() + slot).filter(|had| had != owner)?;
                lb.book.indices.owner(backend)?;
                Some(Had { backend, seconds })
            };
            let last = had(old.table, now.saturating_sub(age.since));
            let older = if known { had(old.previous, age.before) } else { None };
            let had = had_before(*owner, last, older);
            let stays = lb.maps.slots.load(old.table.offset() + slot) == Some(*owner);
            let changed = Age {
                since: now,
                before: had.seconds,
            };
            (had.backend, if stays { age } else { changed })
        });
        let (before, ages): (Vec<u32>, Vec<Age>) = slots.unzip();
        (before, ages.into())
    };
    // The last table says the same where nothing is known of an older one.
    let offset = if known { lb.book.ranges.take(table.len()) } else { None };
    let range = offset.map_or(old.table, |offset| {
        lb.maps.slots.fill(offset, &before);
        TableRange::new(offset, table.len())
    });
    Kept {
        before: range,
        until,
        ages: Some(ages),
    }
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

    fn had(backend: u32, seconds: u32) -> Option<Had> {
        Some(Had { backend, seconds })
    }

    /// A slot over time: its owners one after the other and the seconds for which each had it; who is remembered in the end.
    fn chain(owners: &[u32], seconds: &[u32], dead: u32) -> u32 {
        let alive = |had: &Had| had.backend != dead;
        let mut before = None;
        let (mut last, mut time) = (owners[0], seconds[0]);
        for (now, seconds) in owners[1..].iter().zip(&seconds[1..]) {
            let found = had_before(*now, had(last, time).filter(alive), before.filter(alive));
            before = Some(found);
            (last, time) = if last == *now {
                (last, time + seconds)
            } else {
                (*now, *seconds)
            };
        }
        before.map_or(u32::MAX, |before| before.backend)
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
            let lost = |seconds: [u32; 4]| {
                let slots = (0..tables[1].len()).filter(|slot| {
                    let owners = [0, 1, 2, 3].map(|n| tables[n][*slot]);
                    let before = chain(&owners, &seconds, gone);
                    owners[1] != gone && owners[1] != owners[3] && owners[1] != before
                });
                slots.count()
            };
            // What opened while all were there goes on, whatever was before.
            for first in [1, 12, 3600] {
                assert_eq!(lost([first, 3600, 1, 0]), 0, "after {first} s");
            }
            assert_eq!(lost([1, 12, 1, 0]), 0, "with little history");
            assert!(lost([3600, 3600, 3600, 0]) > 0, "the last owner alone would do as well");
        }
    }

    #[test]
    fn whoever_had_a_slot_longer_counts_and_the_dead_never() {
        assert_eq!(had_before(3, had(2, LONG), had(1, 3600)).backend, 2);
        assert_eq!(had_before(3, had(2, LONG - 1), had(1, 3600)).backend, 1);
        assert_eq!(had_before(3, had(2, 12), had(1, 12)).backend, 2);
        for seconds in [0, LONG] {
            assert_eq!(had_before(3, had(3, seconds), had(1, 9)).backend, 1);
            assert_eq!(had_before(3, had(2, seconds), had(3, 9)).backend, 2);
            assert_eq!(had_before(3, None, had(1, seconds)).backend, 1);
            assert_eq!(had_before(3, None, None).backend, 3);
        }
    }
}
