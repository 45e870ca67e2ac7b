//! An ordered map whose versions share what they have in common: a change costs the path to it, a comparison what differs.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// A persistent map: cloning is one count, and a changed clone shares all but one path with the original.
///
/// A treap whose ranks are hashes of the keys, so the same keys make the same tree whatever their history; that is what
/// lets [`SharedMap::changed`] skip every part that two versions share.
pub struct SharedMap<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Option<Arc<Branch<K, V>>>;

#[derive(Clone)]
struct Branch<K, V> {
    key: K,
    value: V,
    rank: u64,
    left: Link<K, V>,
    right: Link<K, V>,
}

impl<K: Ord, V> Branch<K, V> {
    /// Who stands higher in the tree; equal only for the same key.
    fn height(&self, rank: u64, key: &K) -> Ordering {
        self.rank.cmp(&rank).then_with(|| self.key.cmp(key))
    }
}

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        let mut link = &self.root;
        while let Some(branch) = link {
            link = match key.cmp(&branch.key) {
                Ordering::Less => &branch.left,
                Ordering::Greater => &branch.right,
                Ordering::Equal => return Some(&branch.value),
            };
        }
        None
    }

    /// Whether `key` has a value.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key`; gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let rank = rank(&key);
        let old = insert(&mut self.root, key, value, rank);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes `key` out; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        if !self.contains_key(key) {
            return None;
        }
        self.len -= 1;
        remove(&mut self.root, key)
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { above: Vec::new() };
        iter.descend(&self.root);
        iter
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The keys, in order, that only one of the two versions has or that have different values.
    pub fn changed(&self, other: &Self) -> Vec<K>
    where
        V: PartialEq,
    {
        let mut out = Vec::new();
        differ(&self.root, &other.root, &mut out);
        out
    }
}

fn rank<K: Hash>(key: &K) -> u64 {
    // The standard hasher with its fixed key: no two runs of one build differ.
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn insert<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: K, value: V, rank: u64) -> Option<V> {
    match link {
        Some(branch) if branch.height(rank, &key) != Ordering::Less => {
            let branch = Arc::make_mut(branch);
            match key.cmp(&branch.key) {
                Ordering::Less => insert(&mut branch.left, key, value, rank),
                Ordering::Greater => insert(&mut branch.right, key, value, rank),
                Ordering::Equal => Some(std::mem::replace(&mut branch.value, value)),
            }
        }
        // The key outranks everything here, so it is not below either.
        _ => {
            let (left, right) = split(link.take(), &key);
            *link = Some(Arc::new(Branch {
                key,
                value,
                rank,
                left,
                right,
            }));
            None
        }
    }
}

fn remove<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: &K) -> Option<V> {
    let branch = Arc::make_mut(link.as_mut()?);
    match key.cmp(&branch.key) {
        Ordering::Less => remove(&mut branch.left, key),
        Ordering::Greater => remove(&mut branch.right, key),
        Ordering::Equal => {
            let (left, right) = (branch.left.take(), branch.right.take());
            let gone = std::mem::replace(link, merge(left, right));
            gone.map(|branch| Arc::unwrap_or_clone(branch).value)
        }
    }
}

/// What lies before `key` and what lies behind it; `key` itself is not in the tree.
fn split<K: Ord + Clone, V: Clone>(link: Link<K, V>, key: &K) -> (Link<K, V>, Link<K, V>) {
    let Some(branch) = link else { return (None, None) };
    let mut branch = Arc::unwrap_or_clone(branch);
    if branch.key < *key {
        let (left, right) = split(branch.right.take(), key);
        branch.right = left;
        (Some(Arc::new(branch)), right)
    } else {
        let (left, right) = split(branch.left.take(), key);
        branch.left = right;
        (left, Some(Arc::new(branch)))
    }
}

/// Both as one tree; every key of `left` is before every key of `right`.
fn merge<K: Ord + Clone, V: Clone>(left: Link<K, V>, right: Link<K, V>) -> Link<K, V> {
    match (left, right) {
        (None, other) | (other, None) => other,
        (Some(left), Some(right)) if left.height(right.rank, &right.key) == Ordering::Greater => {
            let mut top = Arc::unwrap_or_clone(left);
            top.right = merge(top.right.take(), Some(right));
            Some(Arc::new(top))
        }
        (left, Some(right)) => {
            let mut top = Arc::unwrap_or_clone(right);
            top.left = merge(left, top.left.take());
            Some(Arc::new(top))
        }
    }
}

fn differ<K: Ord + Clone, V: Clone + PartialEq>(a: &Link<K, V>, b: &Link<K, V>, out: &mut Vec<K>) {
    let (x, y) = match (a, b) {
        (Some(x), Some(y)) if !Arc::ptr_eq(x, y) => (x, y),
        (Some(only), None) | (None, Some(only)) => {
            differ(&only.left, &None, out);
            out.push(only.key.clone());
            return differ(&only.right, &None, out);
        }
        _ => return,
    };
    match x.height(y.rank, &y.key) {
        Ordering::Equal => {
            differ(&x.left, &y.left, out);
            if x.value != y.value {
                out.push(x.key.clone());
            }
            differ(&x.right, &y.right, out);
        }
        Ordering::Greater => {
            let (left, right) = split(b.clone(), &x.key);
            differ(&x.left, &left, out);
            out.push(x.key.clone());
            differ(&x.right, &right, out);
        }
        Ordering::Less => {
            let (left, right) = split(a.clone(), &y.key);
            differ(&left, &y.left, out);
            out.push(y.key.clone());
            differ(&right, &y.right, out);
        }
    }
}

/// Entries in the order of their keys.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    /// Branches whose own entry is still to come.
    above: Vec<&'a Branch<K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut link: &'a Link<K, V>) {
        while let Some(branch) = link {
            self.above.push(branch);
            link = &branch.left;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let branch = self.above.pop()?;
        self.descend(&branch.right);
        Some((&branch.key, &branch.value))
    }
}

impl<'a, K: Ord + Hash + Clone, V: Clone> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Ord + Hash + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<K: Ord + Hash + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.changed(other).is_empty()
    }
}

impl<K: Ord + Hash + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: fmt::Debug, V> fmt::Debug for Branch<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;
