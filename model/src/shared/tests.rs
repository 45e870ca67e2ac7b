//! The shared map against the standard one.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn it_holds_what_an_ordinary_map_holds(steps in prop::collection::vec((0u8..30, prop::option::of(0u8..4)), 0..120), cut in 0usize..120) {
        let (mut shared, mut plain) = (SharedMap::new(), BTreeMap::new());
        let (mut then, mut plain_then) = (shared.clone(), plain.clone());
        for (at, (key, value)) in steps.into_iter().enumerate() {
            match value {
                Some(value) => prop_assert_eq!(shared.insert(key, value), plain.insert(key, value)),
                None => prop_assert_eq!(shared.remove(&key), plain.remove(&key)),
            }
            prop_assert_eq!(shared.len(), plain.len());
            if at == cut {
                (then, plain_then) = (shared.clone(), plain.clone());
            }
        }
        prop_assert!(shared.iter().eq(&plain));
        prop_assert!(then.iter().eq(&plain_then), "an older version does not change");
        for key in 0..30 {
            prop_assert_eq!(shared.get(&key), plain.get(&key));
        }
        let keys: BTreeSet<u8> = plain.keys().chain(plain_then.keys()).copied().collect();
        let changed: Vec<u8> = keys.into_iter().filter(|key| plain.get(key) != plain_then.get(key)).collect();
        prop_assert_eq!(&then.changed(&shared), &changed);
        prop_assert_eq!(then == shared, changed.is_empty());
    }
}

/// A value that counts how often any was compared.
#[derive(Clone, Debug)]
struct Counted(u32);

thread_local!(static COMPARED: Cell<usize> = const { Cell::new(0) });

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        COMPARED.set(COMPARED.get() + 1);
        self.0 == other.0
    }
}

#[test]
fn a_comparison_looks_at_what_differs_and_not_at_the_rest() {
    let all: SharedMap<u32, Counted> = (0..100_000).map(|i| (i, Counted(i))).collect();
    for change in [
        |map: &mut SharedMap<u32, Counted>| map.insert(4711, Counted(0)),
        |map: &mut SharedMap<u32, Counted>| map.insert(100_001, Counted(0)),
        |map: &mut SharedMap<u32, Counted>| map.remove(&50_000),
    ] {
        let mut next = all.clone();
        change(&mut next);
        COMPARED.set(0);
        assert_eq!(all.changed(&next).len(), 1);
        // The path from the root: some 40 of 100,000 for a balanced tree of this kind.
        assert!(COMPARED.get() < 200, "{}", COMPARED.get());
    }
}
