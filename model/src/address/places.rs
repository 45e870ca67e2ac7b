//! Who has which place in a range: a function of the set of names, changed piece by piece.

use std::collections::{BTreeMap, BTreeSet};

use crate::VipName;

/// Places of names. The same set of names has the same places, whatever the order in which they came.
///
/// A name's home is the place its hash gives. Of the names with one home, the first in their order has it. The others
/// take, in their order, the next place upwards (the first follows the last) that is nobody's home and not yet taken.
/// So a name alone in its home never moves; another moves only when a name comes or goes whose home is the same or lies
/// on its way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The last place.
    span: u64,
    homes: BTreeMap<u64, BTreeSet<VipName>>,
    /// Names whose home another has: their home and their place, none if the range is full.
    displaced: BTreeMap<VipName, (u64, Option<u64>)>,
}

impl Places {
    pub(crate) fn new(span: u64) -> Self {
        Self {
            span,
            ..Self::default()
        }
    }

    /// The place of a name whose home is `home`.
    pub(crate) fn of(&self, name: &VipName, home: u64) -> Option<u64> {
        match self.displaced.get(name) {
            Some((_, place)) => *place,
            None => self.homes.get(&home)?.contains(name).then_some(home),
        }
    }

    /// Names that found no place.
    pub(crate) fn without(&self) -> impl Iterator<Item = &VipName> {
        self.displaced
            .iter()
            .filter(|(_, (_, place))| place.is_none())
            .map(|(name, _)| name)
    }

    /// A name comes. Gives the other names that move.
    pub(crate) fn add(&mut self, name: &VipName, home: u64) -> Vec<VipName> {
        let at_home = self.homes.entry(home).or_default();
        let before = at_home.first().cloned();
        at_home.insert(name.clone());
        let mut moved = Vec::new();
        match before {
            None => {}
            Some(first) if *name < first => {
                self.displaced.insert(first.clone(), (home, None));
                moved.push(first);
            }
            Some(_) => drop(self.displaced.insert(name.clone(), (home, None))),
        }
        self.settle(moved)
    }

    /// A name goes. Gives the other names that move.
    pub(crate) fn remove(&mut self, name: &VipName, home: u64) -> Vec<VipName> {
        let mut moved = Vec::new();
        if let Some(at_home) = self.homes.get_mut(&home) {
            let was_first = at_home.first() == Some(name);
            at_home.remove(name);
            match at_home.first().cloned() {
                None => drop(self.homes.remove(&home)),
                Some(heir) if was_first => {
                    self.displaced.remove(&heir);
                    moved.push(heir);
                }
                Some(_) => {}
            }
        }
        self.displaced.remove(name);
        self.settle(moved)
    }

    /// Finds the places of the displaced again; among so many addresses they are few.
    fn settle(&mut self, mut moved: Vec<VipName>) -> Vec<VipName> {
        let mut taken: BTreeSet<u64> = BTreeSet::new();
        for (name, (home, place)) in &mut self.displaced {
            let held = self.homes.len() + taken.len();
            let mut next = *home;
            // One more step than there are places in use finds a free one, if there is one.
            let found = (0..=held).find_map(|_| {
                next = if next >= self.span { 0 } else { next + 1 };
                (!self.homes.contains_key(&next) && !taken.contains(&next)).then_some(next)
            });
            taken.extend(found);
            if *place != found {
                *place = found;
                moved.push(name.clone());
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(n: u8) -> VipName {
        VipName {
            label: format!("n{n:02}"),
            framework: "f".into(),
        }
    }

    /// Eight places, sixteen names: many meet.
    fn home(n: u8) -> u64 {
        u64::from(n * 5 % 7)
    }

    fn places(names: &BTreeSet<u8>) -> Places {
        let mut places = Places::new(7);
        for n in names {
            places.add(&name(*n), home(*n));
        }
        places
    }

    proptest! {
        #[test]
        fn the_set_of_names_decides_and_moves_are_told(steps in prop::collection::vec((0u8..16, any::<bool>()), 0..60)) {
            let mut there = BTreeSet::new();
            let mut all = Places::new(7);
            for (n, comes) in steps {
                let before: Vec<_> = there.iter().map(|n| (*n, all.of(&name(*n), home(*n)))).collect();
                let moved = match (comes, there.contains(&n)) {
                    (true, false) => {
                        there.insert(n);
                        all.add(&name(n), home(n))
                    }
                    (false, true) => {
                        there.remove(&n);
                        all.remove(&name(n), home(n))
                    }
                    _ => continue,
                };
                for (other, place) in before.into_iter().filter(|(other, _)| *other != n) {
                    let now = all.of(&name(other), home(other));
                    prop_assert_eq!(moved.contains(&name(other)), now != place);
                }
                let anew = places(&there);
                let mut taken = BTreeSet::new();
                for n in &there {
                    let place = all.of(&name(*n), home(*n));
                    prop_assert_eq!(place, anew.of(&name(*n), home(*n)));
                    prop_assert!(place.is_none_or(|place| taken.insert(place)), "two names have one address");
                }
                prop_assert_eq!(taken.len(), there.len().min(8), "a place is free and a name has none");
                prop_assert_eq!(all.without().count(), there.len() - taken.len());
            }
        }
    }

    #[test]
    fn who_is_alone_at_home_never_moves() {
        let mut places = Places::new(7);
        places.add(&name(9), 3);
        assert_eq!(places.add(&name(8), 4), []);
        // n05 takes the home of n09, which passes over n08's.
        assert_eq!(places.add(&name(5), 3), [name(9), name(9)]);
        assert_eq!(places.of(&name(9), 3), Some(5));
        assert_eq!(places.of(&name(8), 4), Some(4));
        // A name whose home n09 sits in sends it on.
        assert_eq!(places.add(&name(7), 5), [name(9)]);
        assert_eq!(places.of(&name(9), 3), Some(6));
        assert_eq!(places.remove(&name(5), 3), [name(9)]);
        assert_eq!(places.of(&name(9), 3), Some(3));
    }
}
