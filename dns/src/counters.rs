//! How many answers of each kind the server gave.

use std::sync::atomic::{AtomicU64, Ordering};

/// Answers since the start, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// From our zones, with records.
    pub answered: u64,
    /// From our zones: the name exists, records of this type don't.
    pub no_data: u64,
    /// From our zones: no such name.
    pub no_name: u64,
    /// Passed on to an upstream server and answered by it, whatever it said.
    pub forwarded: u64,
    /// No upstream server answered, or too many questions were waiting for one.
    pub failed: u64,
    /// Refused: not our zone and no upstream server, or not for this client.
    pub refused: u64,
    /// Something other than an ordinary question: malformed, another opcode, class or EDNS version, or not one question.
    pub unsupported: u64,
    /// Answers above that did not fit and went out with TC set.
    pub truncated: u64,
    /// Questions by UDP of networks that had asked more than they may in that second; answered with TC set or not at all.
    pub limited: u64,
    /// Questions by UDP that were dropped because too many others were waiting for upstream servers.
    pub dropped: u64,
}

/// Kinds of answers; each question counts as exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Answered,
    NoData,
    NoName,
    Forwarded,
    Failed,
    Refused,
    Unsupported,
}

impl Kind {
    /// Whether the answer came from our own zones.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Answered | Self::NoData | Self::NoName)
    }
}

/// The live counts.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    kinds: [AtomicU64; 7],
    truncated: AtomicU64,
    limited: AtomicU64,
    dropped: AtomicU64,
}

/// Counts of one thread, given to the live ones after each batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    kinds: [u64; 7],
    limited: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, kind: Kind) {
        self.kinds[kind as usize] += 1;
    }

    pub(crate) fn add_limited(&mut self) {
        self.limited += 1;
    }
}

impl Counts {
    /// Adds what a thread counted, which then begins anew.
    pub(crate) fn take(&self, tally: &mut Tally) {
        let kinds = self.kinds.iter().zip(&mut tally.kinds);
        for (live, count) in kinds.chain([(&self.limited, &mut tally.limited)]) {
            if *count > 0 {
                live.fetch_add(std::mem::take(count), Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn add_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, kind: Kind) {
        self.kinds[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_truncated(&self) {
        self.truncated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let of = |kind: Kind| self.kinds[kind as usize].load(Ordering::Relaxed);
        Counters {
            answered: of(Kind::Answered),
            no_data: of(Kind::NoData),
            no_name: of(Kind::NoName),
            forwarded: of(Kind::Forwarded),
            failed: of(Kind::Failed),
            refused: of(Kind::Refused),
            unsupported: of(Kind::Unsupported),
            truncated: self.truncated.load(Ordering::Relaxed),
            limited: self.limited.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}
