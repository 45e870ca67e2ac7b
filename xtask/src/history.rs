//! Whether a history of concurrent reads and writes of one register can be told as one after the other (linearizability).
//!
//! Wing and Gong's search with Lowe's memory of where it has been: operations take effect one by one, each between its
//! beginning and its end, and a way that leads to what was seen before is not gone again. Two shortcuts lose nothing: a
//! read that fits is taken at once, as it changes nothing for the others; and a write of which nobody knows whether it
//! was done is left out unless somebody read its value.

use std::collections::{BTreeSet, HashSet};

#[cfg(test)]
#[path = "history/tests.rs"]
mod tests;

/// When an operation ended of which nobody knows whether it was carried out.
pub const NEVER: u64 = u64::MAX;

/// What was done. No two writes have the same value; `None` is what nobody wrote to yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This was written.
    Write(u64),
    /// This was read.
    Read(Option<u64>),
}

/// One operation as its client saw it; times are of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// It took effect not before.
    pub from: u64,
    /// Nor after, or [`NEVER`].
    pub to: u64,
    /// What it was.
    pub act: Act,
}

/// Which operations have taken effect: all of the first ones, and some after them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Done {
    first: usize,
    later: BTreeSet<usize>,
}

impl Done {
    fn has(&self, number: usize) -> bool {
        number < self.first || self.later.contains(&number)
    }

    fn add(&mut self, number: usize) {
        self.later.insert(number);
        while self.later.remove(&self.first) {
            self.first += 1;
        }
    }
}

/// A place in the search.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    done: Done,
    value: Option<u64>,
}

/// Nothing if there is such an order; else an operation that fits into none.
///
/// # Errors
/// The first operation, by its end, that no order comes past.
pub fn linearizable(history: &[Operation]) -> Result<(), Operation> {
    let operations = ordered(history);
    let mut ways = vec![Place {
        done: Done::default(),
        value: None,
    }];
    let mut seen = HashSet::new();
    let mut furthest: Option<Operation> = None;
    while let Some(mut place) = ways.pop() {
        let writes = advance(&operations, &mut place);
        let Some(next) = due(&operations, &place.done) else {
            return Ok(());
        };
        if furthest.is_none_or(|known| known.to < next.to) {
            furthest = Some(next);
        }
        if !seen.insert(place.clone()) {
            continue;
        }
        for number in writes {
            let Act::Write(value) = operations[number].act else {
                continue;
            };
            let mut way = Place {
                done: place.done.clone(),
                value: Some(value),
            };
            way.done.add(number);
            ways.push(way);
        }
    }
    match furthest {
        Some(stuck) => Err(stuck),
        None => Ok(()),
    }
}

/// By their beginning, without writes that nobody can tell of.
fn ordered(history: &[Operation]) -> Vec<Operation> {
    let read: HashSet<u64> = history
        .iter()
        .filter_map(|one| match one.act {
            Act::Read(value) => value,
            Act::Write(_) => None,
        })
        .collect();
    let told = |one: &&Operation| match one.act {
        Act::Write(value) => one.to != NEVER || read.contains(&value),
        Act::Read(_) => one.to != NEVER,
    };
    let mut operations: Vec<Operation> = history.iter().filter(told).copied().collect();
    operations.sort_by_key(|one| (one.from, one.to));
    operations
}

/// Takes every read that fits; the writes that may come next.
fn advance(operations: &[Operation], place: &mut Place) -> Vec<usize> {
    loop {
        let (mut writes, mut fits) = (Vec::new(), None);
        // What begins after another one's end comes after it.
        let mut end = NEVER;
        for (number, one) in operations.iter().enumerate().skip(place.done.first) {
            if one.from > end {
                break;
            }
            if place.done.has(number) {
                continue;
            }
            end = end.min(one.to);
            match one.act {
                Act::Write(_) => writes.push(number),
                Act::Read(value) if value == place.value => fits = Some(number),
                Act::Read(_) => {}
            }
        }
        match fits {
            Some(number) => place.done.add(number),
            None => return writes,
        }
    }
}

/// The first one to end of those that have yet to take effect; nothing if no other must.
fn due(operations: &[Operation], done: &Done) -> Option<Operation> {
    let open = operations.iter().enumerate().skip(done.first);
    let open = open.filter(|(number, one)| !done.has(*number) && one.to != NEVER);
    open.map(|(_, one)| *one).min_by_key(|one| one.to)
}
