//! Changes of the names as they happen, for whoever listens: bounded for each reader, and a reader can take up where it
//! left off.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use dns::{Listed, Lookup, Zones};
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::view::{Refusal, View, clean};
use crate::node::status::unix_ms;

/// Changes that may wait for one reader; it is dropped when there are more, and may come back with its last id.
const WAITING: usize = 256;

/// Changes kept for readers that come back: an hour of a busy cluster's, a few minutes of a rolling update.
const KEPT: usize = 1024;

/// A change of more records is not kept: whoever missed it is better served with a new snapshot.
const LARGE: usize = 10_000;

/// Readers at a time; each may hold a list of all names while it begins.
const READERS: usize = 32;

/// Records in one `snapshot` event.
const PIECE: usize = 256;

/// Between signs of life on a quiet stream.
const ALIVE: Duration = Duration::from_secs(15);

/// One version of the zones to the next.
#[derive(Debug)]
struct Change {
    sequence: u64,
    generation: u64,
    added: Vec<Listed>,
    removed: Vec<Listed>,
}

#[derive(Debug)]
struct Versions {
    zones: Arc<Zones>,
    sequence: u64,
    kept: VecDeque<Arc<Change>>,
}

/// The one place where versions become changes.
#[derive(Debug)]
pub(in crate::node) struct Hub {
    /// Tells ids of this process from those of one before.
    epoch: u64,
    state: Mutex<Versions>,
    sender: broadcast::Sender<Arc<Change>>,
    readers: AtomicUsize,
}

impl Hub {
    pub(in crate::node) fn new() -> Self {
        Self {
            epoch: unix_ms(),
            state: Mutex::new(Versions {
                zones: Arc::default(),
                sequence: 0,
                kept: VecDeque::new(),
            }),
            sender: broadcast::Sender::new(WAITING),
            readers: AtomicUsize::new(0),
        }
    }

    /// Tells each new version's changes; ends with the sender.
    pub(in crate::node) async fn run(self: Arc<Self>, mut zones: watch::Receiver<Arc<Zones>>) {
        while zones.changed().await.is_ok() {
            let next = Arc::clone(&zones.borrow_and_update());
            self.take(next);
        }
    }

    fn take(&self, next: Arc<Zones>) {
        let mut state = self.state.lock();
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for name in next.changed_since(&state.zones) {
            let (old, new) = (held(&state.zones, &name), held(&next, &name));
            added.extend(new.difference(&old).cloned());
            removed.extend(old.difference(&new).cloned());
        }
        let generation = next.generation().0;
        state.zones = next;
        if added.is_empty() && removed.is_empty() {
            return;
        }
        state.sequence += 1;
        let change = Arc::new(Change {
            sequence: state.sequence,
            generation,
            added,
            removed,
        });
        if change.added.len() + change.removed.len() > LARGE {
            state.kept.clear();
        } else {
            if state.kept.len() == KEPT {
                state.kept.pop_front();
            }
            state.kept.push_back(Arc::clone(&change));
        }
        // Fails only when nobody listens. Under the lock, so that a reader that begins meanwhile misses none.
        let _ = self.sender.send(change);
    }

    fn id(&self, sequence: u64) -> String {
        format!("{:x}-{sequence}", self.epoch)
    }

    /// Where a reader begins that knows `last`.
    fn begin(&self, last: Option<&str>, under: Option<&str>) -> (VecDeque<Event>, broadcast::Receiver<Arc<Change>>) {
        let state = self.state.lock();
        let receiver = self.sender.subscribe();
        let known = last
            .and_then(|id| id.split_once('-'))
            .filter(|(epoch, _)| *epoch == format!("{:x}", self.epoch))
            .and_then(|(_, sequence)| sequence.parse::<u64>().ok())
            .filter(|known| {
                let oldest = state.kept.front().map_or(state.sequence + 1, |change| change.sequence);
                *known <= state.sequence && known.saturating_add(1) >= oldest
            });
        let first = match known {
            Some(known) => {
                let missed = state.kept.iter().filter(|change| change.sequence > known);
                missed.filter_map(|change| self.event(change, under)).collect()
            }
            None => self.snapshot(&state, under),
        };
        (first, receiver)
    }

    fn snapshot(&self, state: &Versions, under: Option<&str>) -> VecDeque<Event> {
        let names = state.zones.iter().filter(|(name, _)| is_under(name, under));
        let records: Vec<Listed> = names.flat_map(|(name, found)| found.listed(name)).collect();
        let mut pieces: Vec<&[Listed]> = records.chunks(PIECE).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let last = pieces.len() - 1;
        let piece = |(index, records): (usize, &[Listed])| {
            let data =
                json!({"generation": state.zones.generation().0, "records": list(records), "last": index == last});
            let event = Event::default().event("snapshot").data(data.to_string());
            // Only a reader that has all of it may come back with this id.
            if index == last {
                event.id(self.id(state.sequence))
            } else {
                event
            }
        };
        pieces.into_iter().enumerate().map(piece).collect()
    }

    fn event(&self, change: &Change, under: Option<&str>) -> Option<Event> {
        let part = |records: &[Listed]| -> Vec<Value> {
            records
                .iter()
                .filter(|one| is_under(&one.name, under))
                .map(told)
                .collect()
        };
        let (added, removed) = (part(&change.added), part(&change.removed));
        if added.is_empty() && removed.is_empty() {
            return None;
        }
        let data = json!({"generation": change.generation, "added": added, "removed": removed});
        let event = Event::default().event("change").data(data.to_string());
        Some(event.id(self.id(change.sequence)))
    }
}

/// A record as dcos-net told it.
pub(super) fn told(one: &Listed) -> Value {
    json!({"name": one.name, "host": one.data, "rtype": one.kind})
}

fn list(records: &[Listed]) -> Vec<Value> {
    records.iter().map(told).collect()
}

fn held(zones: &Zones, name: &str) -> BTreeSet<Listed> {
    match zones.lookup(name) {
        Lookup::Name(found) => found.listed(name).into_iter().collect(),
        Lookup::NotOurs | Lookup::NoName(_) => BTreeSet::new(),
    }
}

fn is_under(name: &str, under: Option<&str>) -> bool {
    let rest = under.map(|under| name.strip_suffix(under));
    rest.is_none_or(|rest| rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Counts a reader as long as its stream lives.
struct Seat(Arc<Hub>);

impl Seat {
    fn take(hub: &Arc<Hub>) -> Option<Self> {
        let free = |count: usize| (count < READERS).then_some(count + 1);
        hub.readers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, free)
            .ok()?;
        Some(Self(Arc::clone(hub)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Parameters of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Only names at or below this one.
    under: Option<String>,
    /// As the header Last-Event-ID, for clients that cannot set it.
    since: Option<String>,
}

/// `GET /v1/records/watch`.
pub(super) async fn watch(
    State(view): State<View>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let hub = &view.names()?.hub;
    let full = (
        StatusCode::SERVICE_UNAVAILABLE,
        "too many readers watch this node already\n",
    );
    let seat = Seat::take(hub).ok_or(full)?;
    let under = wanted.under.as_deref().map(clean);
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let (first, receiver) = hub.begin(header.or(wanted.since.as_deref()), under.as_deref());
    let reader = Some((first, receiver, seat, under));
    let events = stream::unfold(reader, |reader| async {
        let (mut first, mut receiver, seat, under) = reader?;
        loop {
            if let Some(event) = first.pop_front() {
                return Some((Ok(event), Some((first, receiver, seat, under))));
            }
            match receiver.recv().await {
                Ok(change) => first.extend(seat.0.event(&change, under.as_deref())),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a reader of the names is too slow and is dropped");
                    let event = Event::default()
                        .event("dropped")
                        .data(json!({"missed": missed}).to_string());
                    return Some((Ok(event), None));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)))
}
