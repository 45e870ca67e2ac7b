//! Marathon's events beside the records: those of a commit are written in its transaction, so that whoever leads next and
//! whoever follows tell the same ones under the same numbers.

use std::collections::BTreeMap;

use super::batch::{self, Long};
use super::{EtcdStoreError, Place};
use crate::etcd::Op;

/// Events of a commit, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Number of the first; the others follow it.
    pub(crate) first: u64,
    /// Type and data (JSON in one line) of each.
    pub(crate) events: Vec<(String, String)>,
    /// Those before this one need not be kept any longer; 0 says nothing of it.
    pub(crate) forget: u64,
}

impl Recorded {
    /// What puts them beside the records.
    pub(super) fn ops(&self, place: &Place) -> Vec<Op> {
        let prefix = place.events_key();
        let lines = self.events.iter();
        let text: String = lines.flat_map(|(kind, data)| [kind, " ", data, "\n"]).collect();
        let entry = (name(self.first), Some(text.into_bytes()));
        let mut ops = batch::ops(&prefix, vec![entry], &mut Long::new());
        if self.forget > 0 {
            ops.push(Op::Delete {
                end: format!("{prefix}{}", name(self.forget)),
                key: prefix,
            });
        }
        ops
    }
}

/// Sorts as the numbers do.
fn name(first: u64) -> String {
    format!("{first:020}")
}

/// Takes the events' keys out of others.
pub(super) fn take_out(place: &Place, keys: &mut BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let (from, end) = (place.events_key(), place.events_end());
    let names: Vec<String> = keys.range(from..end).map(|(key, _)| key.clone()).collect();
    names.iter().filter_map(|name| keys.remove_entry(name)).collect()
}

/// Reads what [`Recorded::ops`] put, in the order of the numbers.
pub(super) fn read(place: &Place, keys: &BTreeMap<String, Vec<u8>>) -> Result<Vec<Recorded>, EtcdStoreError> {
    let prefix = place.events_key();
    let (texts, _) = batch::join(&prefix, keys);
    let read = |(name, text): (String, Vec<u8>)| {
        let recorded = parse(&name, &text);
        recorded.ok_or_else(|| EtcdStoreError::Damaged(format!("{prefix}{name}")))
    };
    texts.into_iter().map(read).collect()
}

fn parse(name: &str, text: &[u8]) -> Option<Recorded> {
    let line = |line: &str| {
        let (kind, data) = line.split_once(' ')?;
        Some((kind.to_owned(), data.to_owned()))
    };
    Some(Recorded {
        first: name.parse().ok()?,
        events: std::str::from_utf8(text)
            .ok()?
            .lines()
            .map(line)
            .collect::<Option<_>>()?,
        forget: 0,
    })
}
