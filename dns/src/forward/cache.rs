//! Replies kept for their time, and past it for when no server answers. Pure but for its storage: time is an argument.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache as Store;

use super::question::Key;
use super::reply::Reply;

/// How long a name that no server could answer is not asked about again (RFC 9520 section 3.2: at least one second).
const FAILURE: Duration = Duration::from_secs(1);
/// The same for a name with a reply past its end, which is given out meanwhile (RFC 8767 section 5 speaks of 30 s; a
/// cluster's names move faster).
const RECHECK: Duration = Duration::from_secs(5);

/// What the cache says about a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    /// A reply this old that still counts.
    Fresh(Arc<Reply>, Duration),
    /// A reply past its end. Ask again unless the last try was a moment ago.
    Stale(Arc<Reply>, Again),
    /// Nobody knew a moment ago.
    Failed,
    /// Ask.
    Nothing,
}

/// Whether to ask again for a reply past its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Now.
    Now,
    /// Not yet.
    Later,
}

#[derive(Debug)]
struct Entry {
    reply: Option<Arc<Reply>>,
    born: Instant,
    ttl: Duration,
    /// The last try failed; none before this.
    retry_at: Option<Instant>,
}

/// Bounded by bytes; what is asked for least goes first.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Store<Key, Arc<Entry>>,
    stale: Duration,
}

impl Cache {
    /// Keeps at most so many bytes, and replies for so long past their end.
    pub(crate) fn new(bytes: u64, stale: Duration) -> Self {
        let weight = |key: &Key, entry: &Arc<Entry>| {
            let reply = entry.reply.as_ref().map_or(0, |reply| reply.weight());
            let bytes = size_of::<Key>() + key.name.len() + size_of::<Entry>() + reply;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self {
            store: Store::builder().max_capacity(bytes).weigher(weight).build(),
            stale,
        }
    }

    pub(crate) fn find(&self, key: &Key, now: Instant) -> Found {
        let Some(entry) = self.store.get(key) else {
            return Found::Nothing;
        };
        let resting = entry.retry_at.is_some_and(|at| now < at);
        let age = now.saturating_duration_since(entry.born);
        match &entry.reply {
            Some(reply) if age < entry.ttl => Found::Fresh(Arc::clone(reply), age),
            Some(reply) if age < entry.ttl + self.stale => {
                let again = if resting { Again::Later } else { Again::Now };
                Found::Stale(Arc::clone(reply), again)
            }
            _ if resting => Found::Failed,
            _ => Found::Nothing,
        }
    }

    /// Keeps a reply for as long as it says; one that says nothing, or zero, is not kept.
    pub(crate) fn keep(&self, key: &Key, reply: &Arc<Reply>, now: Instant) {
        match reply.ttl {
            None | Some(0) => self.store.invalidate(key),
            Some(ttl) => {
                let entry = Entry {
                    reply: Some(Arc::clone(reply)),
                    born: now,
                    ttl: Duration::from_secs(u64::from(ttl)),
                    retry_at: None,
                };
                self.store.insert(key.clone(), Arc::new(entry));
            }
        }
    }

    /// Remembers that nobody knew. A reply past its end stays.
    pub(crate) fn failed(&self, key: &Key, now: Instant) {
        let old = self.store.get(key).filter(|entry| entry.reply.is_some());
        let entry = match old {
            Some(old) => Entry {
                reply: old.reply.clone(),
                born: old.born,
                ttl: old.ttl,
                retry_at: Some(now + RECHECK),
            },
            None => Entry {
                reply: None,
                born: now,
                ttl: Duration::ZERO,
                retry_at: Some(now + FAILURE),
            },
        };
        self.store.insert(key.clone(), Arc::new(entry));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.store.run_pending_tasks();
        self.store.entry_count()
    }

    #[cfg(test)]
    fn bytes(&self) -> u64 {
        self.store.run_pending_tasks();
        self.store.weighted_size()
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::{Name, RecordType};

    use super::*;
    use crate::forward::question::Asked;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        Asked::new(Name::from_ascii(name).expect("a name"), RecordType::A).key()
    }

    fn reply(ttl: Option<u32>) -> Arc<Reply> {
        Arc::new(Reply {
            code: ResponseCode::NXDomain,
            answers: Vec::new(),
            authorities: Vec::new(),
            rest: None,
            ttl,
        })
    }

    #[test]
    fn replies_count_for_their_time_and_serve_past_it() {
        let cache = Cache::new(1 << 20, 100 * SECOND);
        let (key, now) = (key("www.example.com."), Instant::now());
        assert_eq!(cache.find(&key, now), Found::Nothing);
        let kept = reply(Some(10));
        cache.keep(&key, &kept, now);
        assert_eq!(
            cache.find(&key, now + 9 * SECOND),
            Found::Fresh(Arc::clone(&kept), 9 * SECOND)
        );
        assert_eq!(
            cache.find(&key, now + 10 * SECOND),
            Found::Stale(Arc::clone(&kept), Again::Now)
        );
        let later = now + 50 * SECOND;
        cache.failed(&key, later);
        assert_eq!(cache.find(&key, later), Found::Stale(Arc::clone(&kept), Again::Later));
        assert_eq!(cache.find(&key, later + RECHECK), Found::Stale(kept, Again::Now));
        assert_eq!(cache.find(&key, now + 110 * SECOND), Found::Nothing);
        // A new reply ends all that.
        cache.keep(&key, &reply(Some(5)), later);
        assert!(matches!(cache.find(&key, later), Found::Fresh(..)));
    }

    #[test]
    fn nothing_is_kept_without_a_time_and_failures_only_for_a_moment() {
        let cache = Cache::new(1 << 20, 100 * SECOND);
        let now = Instant::now();
        for ttl in [None, Some(0)] {
            cache.keep(&key("a."), &reply(ttl), now);
            assert_eq!(cache.find(&key("a."), now), Found::Nothing);
        }
        cache.failed(&key("a."), now);
        assert_eq!(cache.find(&key("a."), now + FAILURE / 2), Found::Failed);
        assert_eq!(cache.find(&key("a."), now + FAILURE), Found::Nothing);
        let none = Cache::new(1 << 20, Duration::ZERO);
        none.keep(&key("a."), &reply(Some(1)), now);
        assert_eq!(none.find(&key("a."), now + SECOND), Found::Nothing);
    }

    #[test]
    fn a_flood_of_names_stays_within_the_bytes() {
        let cache = Cache::new(64 * 1024, SECOND);
        let now = Instant::now();
        for i in 0..20_000 {
            cache.keep(&key(&format!("n{i}.example.")), &reply(Some(60)), now);
        }
        assert!(
            cache.bytes() <= 64 * 1024 && cache.len() > 10,
            "{} bytes, {} replies",
            cache.bytes(),
            cache.len()
        );
    }
}
