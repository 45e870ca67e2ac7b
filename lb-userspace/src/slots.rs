//! Who has which part of the slot array, and which backend has which index: pure bookkeeping.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use model::VipAddress;

use crate::BackendKey;

/// Ranges of the slot array. Next-fit: a range that was just freed is the last to be given out again, so that a packet
/// which still reads the old table never sees a new one there.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    capacity: u32,
    used: BTreeMap<u32, u32>,
    cursor: u32,
}

impl Ranges {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            used: BTreeMap::new(),
            cursor: 0,
        }
    }

    /// Marks a range found in the maps as taken; false if it lies outside or on another.
    pub(crate) fn claim(&mut self, offset: u32, len: u32) -> bool {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.capacity) else {
            return false;
        };
        let before = self.used.range(..end).next_back();
        if before.is_some_and(|(other, other_len)| other + other_len > offset) {
            return false;
        }
        if len > 0 {
            self.used.insert(offset, len);
        }
        self.cursor = self.cursor.max(end);
        true
    }

    /// Takes `len` slots, or tells that no gap is long enough.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        let offset = self
            .gap(self.cursor, self.capacity, len)
            .or_else(|| self.gap(0, self.capacity, len))?;
        self.used.insert(offset, len);
        self.cursor = offset + len;
        Some(offset)
    }

    pub(crate) fn free(&mut self, offset: u32) {
        self.used.remove(&offset);
    }

    fn gap(&self, from: u32, to: u32, len: u32) -> Option<u32> {
        let covering = self.used.range(..=from).next_back();
        let mut at = covering.map_or(from, |(offset, used)| from.max(offset + used));
        for (offset, used) in self.used.range(at..to) {
            if *offset - at >= len {
                return Some(at);
            }
            at = offset + used;
        }
        (to.checked_sub(at)? >= len).then_some(at)
    }
}

/// Indices of backends. Freed ones are given out again oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indices {
    by_key: BTreeMap<BackendKey, u32>,
    owners: HashMap<u32, BackendKey>,
    free: VecDeque<u32>,
    next: u32,
    capacity: u32,
}

impl Indices {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Rebuilt from what the maps hold; `next` is the first index that was never used.
    pub(crate) fn from_used(capacity: u32, next: u32, used: BTreeMap<BackendKey, u32>) -> Self {
        let taken: BTreeSet<u32> = used.values().copied().collect();
        Self {
            free: (0..next).filter(|index| !taken.contains(index)).collect(),
            owners: used.iter().map(|(key, index)| (*index, *key)).collect(),
            by_key: used,
            next,
            capacity,
        }
    }

    pub(crate) fn get(&self, key: &BackendKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The key's index, a new one if it has none; `None` when all are taken.
    pub(crate) fn take(&mut self, key: BackendKey) -> Option<u32> {
        if let Some(known) = self.get(&key) {
            return Some(known);
        }
        let index = if self.next < self.capacity {
            self.next += 1;
            self.next - 1
        } else {
            self.free.pop_front()?
        };
        self.by_key.insert(key, index);
        self.owners.insert(index, key);
        Some(index)
    }

    /// Every backend with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&BackendKey, &u32)> {
        self.by_key.iter()
    }

    pub(crate) fn owner(&self, index: u32) -> Option<BackendKey> {
        self.owners.get(&index).copied()
    }

    pub(crate) fn free(&mut self, key: &BackendKey) -> Option<u32> {
        let index = self.by_key.remove(key)?;
        self.owners.remove(&index);
        self.free.push_back(index);
        Some(index)
    }
}

/// This node's own numbers of its VIPs. A number goes to another VIP only after all others were used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    by_address: BTreeMap<VipAddress, u16>,
    used: BTreeMap<u16, VipAddress>,
    last: u16,
    /// The largest number there is room for.
    largest: u16,
}

impl Ids {
    /// For tables with so many rooms; room 0 stays empty.
    pub(crate) fn new(rooms: u32) -> Self {
        Self {
            largest: u16::try_from(rooms.saturating_sub(1)).unwrap_or(u16::MAX),
            ..Self::default()
        }
    }

    /// Takes over a number found in the maps; false if it is out of range or another's.
    pub(crate) fn claim(&mut self, address: VipAddress, id: u32) -> bool {
        let Ok(id) = u16::try_from(id) else { return false };
        if id == 0 || id > self.largest || self.used.contains_key(&id) {
            return false;
        }
        self.used.insert(id, address);
        self.by_address.insert(address, id);
        self.last = self.last.max(id);
        true
    }

    pub(crate) fn get(&self, address: &VipAddress) -> Option<u16> {
        self.by_address.get(address).copied()
    }

    pub(crate) fn owner(&self, id: u16) -> Option<VipAddress> {
        self.used.get(&id).copied()
    }

    /// The VIP's number, a new one if it has none; `None` when all are taken.
    pub(crate) fn take(&mut self, address: VipAddress) -> Option<u16> {
        if let Some(known) = self.get(&address) {
            return Some(known);
        }
        let id = self.free(self.last.saturating_add(1), self.largest);
        let id = id.or_else(|| self.free(1, self.last))?;
        self.last = id;
        self.used.insert(id, address);
        self.by_address.insert(address, id);
        Some(id)
    }

    /// The first free number from `from` to `to`.
    fn free(&self, from: u16, to: u16) -> Option<u16> {
        if from > to {
            return None;
        }
        let mut wanted = from;
        for used in self.used.range(from..=to).map(|(id, _)| id) {
            if *used != wanted {
                break;
            }
            wanted = wanted.checked_add(1)?;
        }
        (wanted <= to).then_some(wanted)
    }

    pub(crate) fn release(&mut self, address: &VipAddress) {
        if let Some(id) = self.by_address.remove(address) {
            self.used.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Protocol;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    proptest! {
        #[test]
        fn ranges_never_overlap(steps in proptest::collection::vec((1_u32..40, any::<bool>()), 1..80)) {
            let mut ranges = Ranges::new(500);
            let mut held: Vec<(u32, u32)> = Vec::new();
            for (len, free) in steps {
                if free && !held.is_empty() {
                    let (offset, _) = held.remove(0);
                    ranges.free(offset);
                } else if let Some(offset) = ranges.take(len) {
                    prop_assert!(offset + len <= 500);
                    prop_assert!(held.iter().all(|(o, l)| o + l <= offset || offset + len <= *o), "{held:?} {offset}+{len}");
                    held.push((offset, len));
                }
            }
        }
    }

    #[test]
    fn a_number_rests_until_all_others_were_used() {
        let vip = |port: u16| VipAddress {
            addr: IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)),
            port,
            protocol: Protocol::Tcp,
        };
        let mut ids = Ids::new(5);
        assert_eq!((ids.take(vip(1)), ids.take(vip(2))), (Some(1), Some(2)));
        ids.release(&vip(1));
        assert_eq!((ids.take(vip(3)), ids.take(vip(4))), (Some(3), Some(4)));
        assert_eq!(ids.take(vip(5)), Some(1), "only now");
        assert_eq!(ids.take(vip(6)), None);
        assert_eq!(ids.take(vip(3)), Some(3), "it keeps its own");
        let mut found = Ids::new(5);
        assert!(
            found.claim(vip(9), 3) && !found.claim(vip(8), 3) && !found.claim(vip(8), 5) && !found.claim(vip(8), 0)
        );
        assert_eq!((found.take(vip(1)), found.take(vip(2))), (Some(4), Some(1)));
    }

    #[test]
    fn a_freed_range_is_the_last_to_be_used_again() {
        let mut ranges = Ranges::new(100);
        assert_eq!(ranges.take(10), Some(0));
        ranges.free(0);
        assert_eq!(ranges.take(10), Some(10));
        assert!(!ranges.claim(15, 10), "on another");
        assert!(ranges.claim(90, 10));
        assert!(!ranges.claim(95, 10), "outside");
    }
}
