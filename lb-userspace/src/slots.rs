//! Who has which part of the slot array, and which backend has which index: pure bookkeeping.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

    /// Rebuilt from what the maps hold.
    pub(crate) fn from_used(capacity: u32, used: BTreeMap<BackendKey, u32>) -> Self {
        let taken: BTreeSet<u32> = used.values().copied().collect();
        let next = taken.last().map_or(0, |last| last + 1);
        Self {
            free: (0..next).filter(|index| !taken.contains(index)).collect(),
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
        Some(index)
    }

    pub(crate) fn free(&mut self, key: &BackendKey) -> Option<u32> {
        let index = self.by_key.remove(key)?;
        self.free.push_back(index);
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
