//! A map from names whose versions share what they have in common: look-ups cost a hash, a change costs one path.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};

/// Bits of the hash that choose a slot of one branch.
const BITS: u32 = 5;
/// Branches on the longest path; behind them the hash is used up.
const DEPTH: u32 = 64 / BITS;

/// Seeded once for each process, so that nobody can choose names that meet in one place.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A persistent hash trie. Cloning is one count; a clone that is changed copies the path to the change.
#[derive(Clone, Debug)]
pub(crate) struct Trie<V> {
    root: Branch<V>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Branch<V> {
    /// Which slots are there.
    bitmap: u32,
    slots: Arc<Vec<Slot<V>>>,
}

#[derive(Clone, Debug)]
enum Slot<V> {
    One(Arc<str>, V),
    More(Branch<V>),
    /// Names with one and the same hash.
    Same(Vec<(Arc<str>, V)>),
}

impl<V> Default for Branch<V> {
    fn default() -> Self {
        Self {
            bitmap: 0,
            slots: Arc::new(Vec::new()),
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self {
            root: Branch::default(),
            len: 0,
        }
    }
}

fn hash(name: &str) -> u64 {
    SEED.hash_one(name)
}

impl<V: Clone> Trie<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        let mut rest = hash(name);
        let mut branch = &self.root;
        loop {
            let (bit, index) = branch.place(rest);
            if branch.bitmap & bit == 0 {
                return None;
            }
            match &branch.slots[index] {
                Slot::One(key, value) => return (**key == *name).then_some(value),
                Slot::More(below) => branch = below,
                Slot::Same(all) => return all.iter().find(|(key, _)| **key == *name).map(|(_, value)| value),
            }
            rest >>= BITS;
        }
    }

    pub(crate) fn insert(&mut self, name: Arc<str>, value: V) {
        let rest = hash(&name);
        self.len += usize::from(self.root.insert(rest, 1, name, value));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.root.remove(hash(name), name);
            self.len -= 1;
        }
    }

    /// All entries, in no order.
    pub(crate) fn entries(&self) -> Vec<(&Arc<str>, &V)> {
        let mut out = Vec::with_capacity(self.len);
        self.root.collect(&mut out);
        out
    }
}

impl<V: Clone + PartialEq> Trie<V> {
    /// Names that another version holds differently, or only one of both holds; in no order, perhaps twice.
    pub(crate) fn changed(&self, old: &Self) -> Vec<Arc<str>> {
        let mut out = Vec::new();
        self.root.changed(&old.root, &mut out);
        out
    }
}

impl<V: Clone + PartialEq> Branch<V> {
    fn changed(&self, old: &Self, out: &mut Vec<Arc<str>>) {
        if Arc::ptr_eq(&self.slots, &old.slots) {
            return;
        }
        for low in 0..(1u64 << BITS) {
            let (ours, theirs) = (self.slot(low), old.slot(low));
            if let (Some(Slot::More(ours)), Some(Slot::More(theirs))) = (ours, theirs) {
                ours.changed(theirs, out);
                continue;
            }
            let (ours, theirs) = (entries_of(ours), entries_of(theirs));
            let differs = |(key, value): &(&Arc<str>, &V), others: &[(&Arc<str>, &V)]| {
                !others.iter().any(|(other, held)| other == key && held == value)
            };
            let new = ours.iter().filter(|entry| differs(entry, &theirs));
            let gone = theirs.iter().filter(|entry| differs(entry, &ours));
            out.extend(new.chain(gone).map(|(key, _)| Arc::clone(key)));
        }
    }

    fn slot(&self, low: u64) -> Option<&Slot<V>> {
        let (bit, index) = self.place(low);
        (self.bitmap & bit != 0).then(|| &self.slots[index])
    }
}

/// Everything in a slot. Only where one version has a branch and the other has none is this more than one name, and such
/// a branch is a small one.
fn entries_of<V: Clone>(slot: Option<&Slot<V>>) -> Vec<(&Arc<str>, &V)> {
    let mut out = Vec::new();
    match slot {
        None => {}
        Some(Slot::One(key, value)) => out.push((key, value)),
        Some(Slot::More(below)) => below.collect(&mut out),
        Some(Slot::Same(all)) => out.extend(all.iter().map(|(key, value)| (key, value))),
    }
    out
}

impl<V: Clone> Branch<V> {
    /// The bit of the slot that a hash leads to, and the slot's index.
    fn place(&self, rest: u64) -> (u32, usize) {
        let low = u32::try_from(rest & ((1 << BITS) - 1)).unwrap_or(0);
        let bit = 1u32 << low;
        let before = (self.bitmap & (bit - 1)).count_ones();
        (bit, usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// Whether the name is new.
    fn insert(&mut self, rest: u64, depth: u32, name: Arc<str>, value: V) -> bool {
        let (bit, index) = self.place(rest);
        let slots = Arc::make_mut(&mut self.slots);
        if self.bitmap & bit == 0 {
            self.bitmap |= bit;
            slots.insert(index, Slot::One(name, value));
            return true;
        }
        match &mut slots[index] {
            Slot::One(key, old) if *key == name => {
                *old = value;
                false
            }
            Slot::One(key, old) => {
                let other = (Arc::clone(key), old.clone());
                slots[index] = if depth > DEPTH {
                    Slot::Same(vec![other, (name, value)])
                } else {
                    let mut below = Self::default();
                    let behind = hash(&other.0) >> (BITS * depth);
                    below.insert(behind, depth + 1, other.0, other.1);
                    below.insert(rest >> BITS, depth + 1, name, value);
                    Slot::More(below)
                };
                true
            }
            Slot::More(below) => below.insert(rest >> BITS, depth + 1, name, value),
            Slot::Same(all) => match all.iter_mut().find(|(key, _)| *key == name) {
                Some((_, old)) => {
                    *old = value;
                    false
                }
                None => {
                    all.push((name, value));
                    true
                }
            },
        }
    }

    /// Takes out a name that is there.
    fn remove(&mut self, rest: u64, name: &str) {
        let (bit, index) = self.place(rest);
        let slots = Arc::make_mut(&mut self.slots);
        let left = match &mut slots[index] {
            Slot::One(..) => None,
            Slot::More(below) => {
                below.remove(rest >> BITS, name);
                match below.slots.as_slice() {
                    [] => None,
                    // A branch with a single name is that name.
                    [Slot::One(key, value)] => Some(Slot::One(Arc::clone(key), value.clone())),
                    _ => return,
                }
            }
            Slot::Same(all) => {
                all.retain(|(key, _)| **key != *name);
                match all.as_slice() {
                    [] => None,
                    [(key, value)] => Some(Slot::One(Arc::clone(key), value.clone())),
                    _ => return,
                }
            }
        };
        match left {
            Some(slot) => slots[index] = slot,
            None => {
                slots.remove(index);
                self.bitmap &= !bit;
            }
        }
    }

    fn collect<'a>(&'a self, out: &mut Vec<(&'a Arc<str>, &'a V)>) {
        for slot in self.slots.iter() {
            match slot {
                Slot::One(key, value) => out.push((key, value)),
                Slot::More(below) => below.collect(out),
                Slot::Same(all) => out.extend(all.iter().map(|(key, value)| (key, value))),
            }
        }
    }
}

impl<V: Clone + PartialEq> PartialEq for Trie<V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .entries()
                .into_iter()
                .all(|(key, value)| other.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_ordinary_map_holds(
            steps in prop::collection::vec((0u16..300, prop::option::of(0u8..4)), 0..400),
            cut in 0usize..400,
        ) {
            let (mut trie, mut plain) = (Trie::default(), BTreeMap::new());
            let (mut then, mut plain_then) = (trie.clone(), plain.clone());
            for (at, (key, value)) in steps.into_iter().enumerate() {
                let name: Arc<str> = Arc::from(format!("n{key}.mesos"));
                match value {
                    Some(value) => {
                        trie.insert(Arc::clone(&name), value);
                        plain.insert(name, value);
                    }
                    None => {
                        trie.remove(&name);
                        plain.remove(&name);
                    }
                }
                prop_assert_eq!(trie.len(), plain.len());
                if at == cut {
                    (then, plain_then) = (trie.clone(), plain.clone());
                }
            }
            for (trie, plain) in [(trie, plain), (then, plain_then)] {
                let mut entries = trie.entries();
                entries.sort();
                prop_assert!(entries.into_iter().eq(&plain));
                for key in 0..300 {
                    let name = format!("n{key}.mesos");
                    prop_assert_eq!(trie.get(&name), plain.get(name.as_str()));
                }
            }
        }
    }

    #[test]
    fn names_of_one_hash_live_together() {
        // The whole hash is the same here, so the path is used up.
        let mut root = Branch::default();
        let names: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        for depth_left in [1, DEPTH + 1] {
            root = Branch::default();
            for (value, name) in names.iter().enumerate().take(if depth_left == 1 { 1 } else { 3 }) {
                root.insert(0, depth_left, Arc::clone(name), value);
            }
        }
        let mut all = Vec::new();
        root.collect(&mut all);
        assert_eq!(all.len(), 3);
        root.remove(0, "b");
        root.remove(0, "a");
        assert!(matches!(root.slots.as_slice(), [Slot::One(name, 2)] if **name == *"c"));
    }
}
