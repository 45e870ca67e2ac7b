//! Where a copy's subscribers are, and what it told lately, for those who come back.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes of events kept. A reader that was away for longer begins anew, from a state that is not much smaller in a large
/// cluster: at a thousand changes a second this is a minute.
const KEPT: usize = 32 << 20;

/// No copy is so many commits behind another: a position further on was never told by one.
const NEAR: u64 = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Trail {
    /// Which records; empty: nobody can come back.
    identity: String,
    /// All up to this commit was told.
    reached: u64,
    /// Who has all up to this commit, or a later one, can be told the rest.
    oldest: u64,
    /// Records in JSON.
    kept: VecDeque<(u64, Bytes)>,
    /// Bytes of those.
    bytes: usize,
    /// The last so many of them have not gone out yet.
    unsent: usize,
}

impl Trail {
    /// Begins at a commit, with nothing before.
    pub(super) fn new(identity: String, revision: u64) -> Self {
        Self {
            identity,
            reached: revision,
            oldest: revision,
            kept: VecDeque::new(),
            bytes: 0,
            unsent: 0,
        }
    }

    /// Keeps what is told on the way to the next commit.
    pub(super) fn keep(&mut self, told: Bytes) {
        self.bytes += told.len();
        self.unsent += 1;
        self.kept.push_back((self.reached + 1, told));
        while self.bytes > KEPT
            && let Some((revision, told)) = self.kept.pop_front()
        {
            self.bytes -= told.len();
            // The others of that commit are no use without it.
            self.oldest = self.oldest.max(revision);
        }
        self.unsent = self.unsent.min(self.kept.len());
    }

    /// Subscribers were told everything up to here.
    pub(super) fn sent(&mut self) {
        self.unsent = 0;
    }

    /// The commit is told whole.
    pub(super) fn reach(&mut self, revision: u64) {
        let open = self.reached + 1;
        self.reached = self.reached.max(revision);
        for (known, _) in self.kept.iter_mut().rev().take_while(|(known, _)| *known == open) {
            *known = revision;
        }
    }

    /// For a reader to come back with.
    pub(super) fn position(&self) -> Option<String> {
        (!self.identity.is_empty()).then(|| format!("{}/{}", self.identity, self.reached))
    }

    /// Whether a reader who was told that position, or none, has heard everything.
    pub(super) fn is_at(&self, told: Option<&str>) -> bool {
        self.position().as_deref() == told
    }

    /// Whether what a reader missed who was at `position` is known.
    pub(super) fn knows(&self, position: &str) -> bool {
        self.revision(position).is_some()
    }

    /// The commit that a position names.
    fn revision(&self, position: &str) -> Option<u64> {
        let (identity, revision) = position.split_once('/')?;
        let revision: u64 = revision.parse().ok()?;
        let known = (self.oldest..=self.reached).contains(&revision);
        (!self.identity.is_empty() && identity == self.identity && known).then_some(revision)
    }

    /// The commit of a position that another copy of the same records has told, and this one has not reached yet.
    pub(super) fn ahead(&self, position: &str) -> Option<u64> {
        let (identity, revision) = position.split_once('/')?;
        let revision = revision.parse().ok()?;
        let near = (self.reached + 1..=self.reached.saturating_add(NEAR)).contains(&revision);
        (!self.identity.is_empty() && identity == self.identity && near).then_some(revision)
    }

    /// Whether a reader at `position` has heard, from another copy, of something that has yet to go out here.
    pub(super) fn is_beyond_sent(&self, position: &str) -> bool {
        let unsent = self.kept.len() - self.unsent;
        let first = self.kept.get(unsent).map(|(known, _)| *known);
        first.is_some_and(|first| self.revision(position).is_some_and(|revision| first <= revision))
    }

    /// The records that a reader missed who was at `position`, without those that have yet to go out to everybody; `None` if
    /// that is not known.
    pub(super) fn since(&self, position: &str) -> Option<Vec<Bytes>> {
        let revision = self.revision(position)?;
        let sent = self.kept.iter().take(self.kept.len() - self.unsent);
        let missed = sent.filter(|(known, _)| *known > revision);
        Some(missed.map(|(_, told)| told.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(number: u64) -> Bytes {
        number.to_string().into()
    }

    fn numbers(missed: Option<Vec<Bytes>>) -> Option<Vec<u64>> {
        let number = |told: Bytes| std::str::from_utf8(&told).ok()?.parse().ok();
        missed?.into_iter().map(number).collect()
    }

    #[test]
    fn who_comes_back_is_told_what_it_missed_or_that_it_cannot_be() {
        let mut trail = Trail::new("x".to_owned(), 10);
        trail.keep(told(1));
        trail.keep(told(2));
        trail.reach(15);
        trail.reach(17);
        trail.keep(told(3));
        trail.reach(20);
        trail.sent();
        assert_eq!(trail.position().as_deref(), Some("x/20"));
        for (position, wanted) in [
            ("x/10", Some(vec![1, 2, 3])),
            ("x/15", Some(vec![3])),
            ("x/17", Some(vec![3])),
            ("x/20", Some(vec![])),
            ("x/9", None),
            ("x/21", None),
            ("y/20", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(numbers(trail.since(position)), wanted, "{position}");
        }
        let large = Bytes::from(vec![b'x'; KEPT / 4]);
        for number in 0..4 {
            trail.keep(large.clone());
            trail.reach(21 + number);
        }
        trail.sent();
        assert_eq!(trail.since("x/10").map(|missed| missed.len()), None, "no longer kept");
        assert_eq!(trail.since("x/20").map(|missed| missed.len()), Some(4));
        let nameless = Trail::new(String::new(), 10);
        assert_eq!((nameless.position(), nameless.since("/10").is_none()), (None, true));
    }

    #[test]
    fn what_has_yet_to_go_out_is_not_told_twice() {
        let mut trail = Trail::new("x".to_owned(), 10);
        trail.keep(told(1));
        trail.reach(11);
        trail.sent();
        // A part of a commit goes out before it is whole.
        trail.keep(told(2));
        trail.sent();
        trail.keep(told(3));
        trail.reach(12);
        assert_eq!(numbers(trail.since("x/10")), Some(vec![1, 2]));
        assert!(!trail.is_beyond_sent("x/11"));
        // Who was told 3 elsewhere would hear it again.
        assert!(trail.is_beyond_sent("x/12"));
        trail.sent();
        assert!(!trail.is_beyond_sent("x/12"));
        assert_eq!(numbers(trail.since("x/11")), Some(vec![2, 3]));
        assert_eq!(
            (trail.ahead("x/13"), trail.ahead("x/12"), trail.ahead("y/13")),
            (Some(13), None, None)
        );
    }
}
