//! Where a copy's subscribers are, and what it told lately, for those who come back.

use std::collections::VecDeque;

use bytes::Bytes;

/// Events kept: some megabytes.
const KEPT: usize = 8_192;

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
}

impl Trail {
    /// Begins at a commit, with nothing before.
    pub(super) fn new(identity: String, revision: u64) -> Self {
        Self {
            identity,
            reached: revision,
            oldest: revision,
            kept: VecDeque::new(),
        }
    }

    /// Keeps what is told on the way to the next commit.
    pub(super) fn keep(&mut self, told: Bytes) {
        if self.kept.len() >= KEPT
            && let Some((revision, _)) = self.kept.pop_front()
        {
            // The others of that commit are no use without it.
            self.oldest = self.oldest.max(revision);
        }
        self.kept.push_back((self.reached + 1, told));
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

    /// The records that a reader missed who was at `position`; `None` if that is not known.
    pub(super) fn since(&self, position: &str) -> Option<Vec<Bytes>> {
        let revision = self.revision(position)?;
        let missed = self.kept.iter().filter(|(known, _)| *known > revision);
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
        for number in 0..u64::try_from(KEPT).expect("fits") {
            trail.keep(told(number));
            trail.reach(21 + number);
        }
        assert_eq!(trail.since("x/10").map(|missed| missed.len()), None, "no longer kept");
        assert_eq!(trail.since("x/20").map(|missed| missed.len()), Some(KEPT));
        let nameless = Trail::new(String::new(), 10);
        assert_eq!((nameless.position(), nameless.since("/10").is_none()), (None, true));
    }
}
