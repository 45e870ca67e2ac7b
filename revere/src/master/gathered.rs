//! Events on their way to subscribers: each form of them is made once, for all who read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::state::State;
use crate::mesos::decode::Encoding;
use crate::mesos::{encode, pack, protobuf};
use crate::recordio::{self, Decoder};

/// Places at which readers of late have begun; each holds what was told since.
const PLACES: usize = 16;
/// Events told after such a place before it is given up: who comes then begins anew.
const MOST_SINCE: usize = 4_096;

/// What everybody is told in between.
pub(super) static HEARTBEAT: LazyLock<Gathered> = LazyLock::new(|| Gathered::one(&encode::heartbeat()));

/// How a subscriber is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As Mesos has it.
    Plain(Encoding),
    /// JSON, and positions to come back with.
    Placed,
    /// The same, packed.
    Packed,
}

impl Form {
    /// How its records are written.
    pub(super) fn encoding(self) -> Encoding {
        match self {
            Self::Plain(encoding) => encoding,
            Self::Placed | Self::Packed => Encoding::Json,
        }
    }
}

/// One RecordIO record.
pub(super) fn record(json: &Value, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => recordio::encode(json.to_string().as_bytes()),
        Encoding::Protobuf => recordio::encode(&protobuf::from_json(&protobuf::EVENT, json)),
    }
}

/// Some records that go out together, and where a reader is after them.
#[derive(Debug)]
pub(super) struct Gathered {
    /// What the JSON is made of, until it is.
    state: Mutex<Option<Box<State>>>,
    json: OnceLock<Bytes>,
    /// A record too.
    position: Bytes,
    protobuf: OnceLock<Bytes>,
    placed: OnceLock<Bytes>,
    packed: OnceLock<Bytes>,
    /// Readers that have it.
    taken: AtomicU32,
}

impl Gathered {
    /// Of records in JSON. Without a position none is told.
    pub(super) fn new(json: Bytes, position: Option<&str>) -> Self {
        let position = position.map(|position| record(&encode::position(position), Encoding::Json));
        Self {
            state: Mutex::new(None),
            json: json.into(),
            position: position.unwrap_or_default(),
            protobuf: OnceLock::new(),
            placed: OnceLock::new(),
            packed: OnceLock::new(),
            taken: AtomicU32::new(0),
        }
    }

    /// For one reader, who has it from now on.
    pub(super) fn take(&self, form: Form) -> Bytes {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.told(form)
    }

    /// How many readers have it.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Of a whole state, which is not written before it is wanted: that takes a while.
    pub(super) fn whole(state: State, position: Option<&str>) -> Self {
        Self {
            state: Mutex::new(Some(Box::new(state))),
            json: OnceLock::new(),
            ..Self::new(Bytes::new(), position)
        }
    }

    fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let state = self.state.lock().take();
            let state = state.map(|state| recordio::encode(&encode::subscribed(&*state)));
            state.unwrap_or_default()
        })
    }

    /// Whether that form of them is there, so that it is told at once.
    pub(super) fn is_made(&self, form: Form) -> bool {
        let made = match form {
            Form::Plain(Encoding::Json) => &self.json,
            Form::Plain(Encoding::Protobuf) => &self.protobuf,
            Form::Placed => &self.placed,
            Form::Packed => &self.packed,
        };
        made.get().is_some()
    }

    /// Of one record.
    pub(super) fn one(value: &Value) -> Self {
        Self::new(record(value, Encoding::Json), None)
    }

    /// Their records; empty where there is nothing for such a reader.
    pub(super) fn told(&self, form: Form) -> Bytes {
        let placed = || match (self.json().is_empty(), self.position.is_empty()) {
            (_, true) => self.json().clone(),
            (true, _) => self.position.clone(),
            _ => [&self.json()[..], &self.position[..]].concat().into(),
        };
        match form {
            Form::Plain(Encoding::Json) => self.json().clone(),
            Form::Plain(Encoding::Protobuf) => self.protobuf.get_or_init(|| to_protobuf(self.json())).clone(),
            Form::Placed => self.placed.get_or_init(placed).clone(),
            Form::Packed => self
                .packed
                .get_or_init(|| {
                    let records = placed();
                    if records.is_empty() {
                        records
                    } else {
                        pack::pack(&records)
                    }
                })
                .clone(),
        }
    }
}

/// The same records in protobuf, for whom Mesos itself would serve so.
fn to_protobuf(json: &[u8]) -> Bytes {
    let mut decoder = Decoder::new(json.len());
    decoder.push(json);
    let mut records = Vec::new();
    while let Ok(Some(one)) = decoder.next_record() {
        let value: Value = serde_json::from_slice(&one).unwrap_or_default();
        records.extend_from_slice(&record(&value, Encoding::Protobuf));
    }
    records.into()
}

/// What is told to a reader who begins at some place.
#[derive(Debug)]
struct Start {
    first: Arc<Gathered>,
    since: Vec<Arc<Gathered>>,
    events: usize,
}

/// Where readers of late have begun: a thousand of them that come at once are told the same, which is made once.
///
/// Invariant: who begins from nothing is told a state that no event has been told after. A reader acts on a
/// state at once: one of an hour ago, with all events since behind it, would have it drop what runs and take it up again.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// For who begins from nothing.
    state: Option<Arc<Gathered>>,
    /// For who was at a position.
    places: BTreeMap<String, Start>,
}

impl Starts {
    /// Whether nobody is waited for, so that what is told need not be noted.
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_none() && self.places.is_empty()
    }

    /// The newest whole state, while nothing has been told after it.
    pub(super) fn state(&self) -> Option<Arc<Gathered>> {
        self.state.clone()
    }

    /// A state is told that nothing has been told after.
    pub(super) fn begin(&mut self, state: Arc<Gathered>) {
        self.state = Some(state);
    }

    /// What a reader at that place is told, if one was told it of late.
    pub(super) fn at(&self, place: &str) -> Option<Vec<Arc<Gathered>>> {
        let start = self.places.get(place)?;
        Some(std::iter::once(&start.first).chain(&start.since).cloned().collect())
    }

    /// The first one comes to a place.
    pub(super) fn add(&mut self, place: String, first: Arc<Gathered>) {
        let oldest = self.places.iter().max_by_key(|(_, start)| start.events);
        let oldest = oldest.map(|(place, _)| place.clone());
        if let Some(oldest) = oldest.filter(|_| self.places.len() >= PLACES) {
            self.places.remove(&oldest);
        }
        let (since, events) = (Vec::new(), 0);
        self.places.insert(place, Start { first, since, events });
    }

    /// Everybody was told so many events.
    pub(super) fn told(&mut self, gathered: &Arc<Gathered>, events: usize) {
        // Where its readers are is told them again, and changes no state.
        if events > 0 {
            self.state = None;
        }
        self.places.retain(|_, start| {
            start.since.push(Arc::clone(gathered));
            // What tells a position only counts as well: it is kept, too.
            start.events += events.max(1);
            start.events <= MOST_SINCE
        });
    }

    /// What lies between is not known.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use serde_json::json;

    use super::*;
    use crate::mesos::pack::{HEAD, Unpacker};

    #[test]
    fn each_form_tells_the_same_and_is_made_once() {
        let removed = encode::agent_removed("a");
        let json = record(&removed, Encoding::Json);
        let gathered = Gathered::new([&json[..], &json[..]].concat().into(), Some("x/7"));
        let position = record(&json!({"type": "REVERE_POSITION", "position": "x/7"}), Encoding::Json);
        let plain = gathered.told(Form::Plain(Encoding::Json));
        assert_eq!(plain, [&json[..], &json[..]].concat());
        let placed = [&plain[..], &position[..]].concat();
        assert_eq!(gathered.told(Form::Placed), placed);
        let protobuf = record(&removed, Encoding::Protobuf);
        assert_eq!(
            gathered.told(Form::Plain(Encoding::Protobuf)),
            [&protobuf[..], &protobuf[..]].concat()
        );
        let packed = gathered.told(Form::Packed);
        assert_eq!(packed.as_ptr(), gathered.told(Form::Packed).as_ptr(), "made again");
        let mut stream = BytesMut::from(&HEAD[..]);
        stream.extend_from_slice(&packed);
        let told = Unpacker::packed().part(&mut stream.freeze()).expect("readable");
        assert_eq!(told, placed);
        let only = Gathered::new(Bytes::new(), Some("x/7"));
        assert_eq!(only.told(Form::Placed), position);
        assert!(only.told(Form::Plain(Encoding::Json)).is_empty());
        assert!(only.told(Form::Plain(Encoding::Protobuf)).is_empty());
        assert!(Gathered::new(Bytes::new(), None).told(Form::Packed).is_empty());
    }

    #[test]
    fn who_comes_later_to_a_place_is_told_all_since() {
        let told = |number: u64| Arc::new(Gathered::one(&json!(number)));
        let text = |all: Option<Vec<Arc<Gathered>>>| {
            let plain = |one: &Arc<Gathered>| one.told(Form::Plain(Encoding::Json));
            all.map(|all| all.iter().map(plain).collect::<Vec<_>>())
        };
        let mut starts = Starts::default();
        assert!(starts.at("x").is_none());
        starts.add("x".to_owned(), told(1));
        starts.told(&told(2), 3);
        starts.add("y".to_owned(), told(5));
        starts.told(&told(3), 0);
        assert_eq!(text(starts.at("x")), text(Some(vec![told(1), told(2), told(3)])));
        assert_eq!(text(starts.at("y")), text(Some(vec![told(5), told(3)])));
        starts.told(&told(4), MOST_SINCE - 3);
        assert!(starts.at("x").is_none(), "too much since");
        assert!(starts.at("y").is_some());
        for number in 0..=PLACES {
            starts.add(format!("p{number}"), told(0));
        }
        assert!(starts.places.len() <= PLACES && starts.at("y").is_none());
        starts.forget();
        assert!(starts.is_empty());
    }

    #[test]
    fn who_begins_from_nothing_is_told_no_state_of_the_past() {
        let told = |number: u64| Arc::new(Gathered::one(&json!(number)));
        let mut starts = Starts::default();
        assert!(starts.state().is_none());
        let state = told(1);
        starts.begin(Arc::clone(&state));
        assert!(!starts.is_empty(), "what is told from here on counts");
        let is_there = |starts: &Starts| starts.state().is_some_and(|known| Arc::ptr_eq(&known, &state));
        starts.told(&told(2), 0);
        assert!(is_there(&starts), "only where readers are has changed");
        starts.add("x".to_owned(), told(0));
        starts.told(&told(3), 1);
        assert!(starts.state().is_none() && starts.at("x").is_some());
        starts.begin(state);
        starts.forget();
        assert!(starts.is_empty());
    }
}
