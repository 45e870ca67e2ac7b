//! Marathon's event stream: every event once in text, the newest kept for those who come back.
//!
//! Of many masters the leading one numbers the events and records them with the commit that they are of; it and all others
//! tell what is recorded, so that a number means the same event at every master and outlives the one that gave it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use scheduler::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

use crate::store::etcd::Recorded;

/// Events kept for readers that come back, and in the records: some megabytes.
const KEPT: usize = 4096;
/// The same, for numbers.
const KEPT_NUMBERS: u64 = 4096;
/// Events a reader may lag behind before it is closed (Marathon's `--event_stream_max_outstanding_messages`). All of a
/// commit are told at once, so a reader that is quick must have room for a large one.
const READER_BUFFER: usize = KEPT;
/// What is no longer kept in the records is removed this many events at a time.
const FORGET: u64 = KEPT_NUMBERS / 8;

/// One event, ready to send.
#[derive(Debug)]
pub(super) struct Told {
    /// None of one that only this master's readers are told of, and only now.
    number: Option<u64>,
    /// For example `status_update_event`.
    pub(super) kind: String,
    /// The whole SSE frame.
    pub(super) frame: Bytes,
}

impl Told {
    /// Whether a reader that has seen all up to `seen` has seen it.
    pub(super) fn is_seen(&self, seen: u64) -> bool {
        self.number.is_some_and(|number| number <= seen)
    }
}

/// What a reader begins with.
#[derive(Debug)]
pub(super) struct Reader {
    /// Events since the one that it saw last.
    pub(super) missed: Vec<Arc<Told>>,
    /// Whether some of those are no longer kept, or were told by an earlier master.
    pub(super) gap: bool,
    /// All up to here it was told, by a master that was ahead of this one.
    pub(super) seen: u64,
    /// All that come.
    pub(super) events: broadcast::Receiver<Arc<Told>>,
}

/// Who numbers the events, and where they are kept.
#[derive(Debug)]
enum Keeping {
    /// This master, in memory: nobody else tells them.
    Memory,
    /// This master, which leads.
    Leads(Leads),
    /// The leader.
    Copies,
}

/// What the leader knows besides.
#[derive(Debug, Default)]
struct Leads {
    /// Type and data of those that are yet to be recorded, before which nobody is told them.
    waiting: VecDeque<(String, String)>,
    /// How many before these will not be.
    lost: u64,
    /// Number of the first event of each commit in the records: of a commit all are removed or none.
    firsts: VecDeque<u64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Events {
    keeping: Keeping,
    /// Ids of one origin mean nothing to another: the start of this master, or which records the events are of.
    origin: String,
    /// The newest that was told.
    told: u64,
    /// Without a gap up to the newest.
    kept: VecDeque<Arc<Told>>,
    sender: broadcast::Sender<Arc<Told>>,
}

impl Events {
    pub(super) fn new(started: Timestamp) -> Self {
        Self {
            keeping: Keeping::Memory,
            origin: started.0.to_string(),
            told: 0,
            kept: VecDeque::with_capacity(KEPT),
            sender: broadcast::Sender::new(READER_BUFFER),
        }
    }

    /// Of a copy of the records, which [`Self::take_up`] feeds.
    pub(super) fn copying() -> Self {
        Self {
            keeping: Keeping::Copies,
            ..Self::new(Timestamp(0))
        }
    }

    /// Of the master that leads, after what earlier ones recorded.
    pub(super) fn leading(origin: &str, recorded: &[Recorded]) -> Self {
        let mut events = Self::copying();
        events.take_up(origin, recorded);
        events.keeping = Keeping::Leads(Leads {
            firsts: recorded.iter().map(|one| one.first).collect(),
            ..Leads::default()
        });
        events
    }

    /// Tells all readers, if need be once it is recorded. `data` gets the event's type and time.
    pub(super) fn tell(&mut self, kind: &str, now: Timestamp, data: Value) {
        let data = with_type(kind, now, data);
        match &mut self.keeping {
            Keeping::Memory => self.send(self.told + 1, kind, &data),
            Keeping::Leads(leads) => {
                // A store that does not answer for so long leaves a gap in the numbers, of which readers are told.
                if leads.waiting.len() >= KEPT {
                    leads.waiting.pop_front();
                    leads.lost += 1;
                }
                leads.waiting.push_back((kind.to_owned(), data));
            }
            Keeping::Copies => {}
        }
    }

    /// Tells this master's readers what is no matter of the others'.
    pub(super) fn tell_here(&mut self, kind: &str, now: Timestamp, data: Value) {
        if matches!(self.keeping, Keeping::Memory) {
            return self.tell(kind, now, data);
        }
        let data = with_type(kind, now, data);
        // Fails only when nobody listens.
        let _ = self.sender.send(Arc::new(Told {
            number: None,
            kind: kind.to_owned(),
            frame: format!("event: {kind}\r\ndata: {data}\r\n\r\n").into(),
        }));
    }

    /// What is to be recorded; [`Self::publish`] tells it once it is.
    pub(super) fn take_unrecorded(&mut self) -> Option<Recorded> {
        let Keeping::Leads(leads) = &mut self.keeping else {
            return None;
        };
        if leads.waiting.is_empty() {
            return None;
        }
        let events: Vec<_> = std::mem::take(&mut leads.waiting).into();
        let first = self.told + 1 + std::mem::take(&mut leads.lost);
        let newest = first + u64::try_from(events.len()).unwrap_or(u64::MAX) - 1;
        leads.firsts.push_back(first);
        let forget = leads.forget((newest + 1).saturating_sub(KEPT_NUMBERS));
        Some(Recorded { first, events, forget })
    }

    /// Tells what is recorded and was not told before.
    pub(super) fn publish(&mut self, recorded: &Recorded) {
        for (number, (kind, data)) in (recorded.first..).zip(&recorded.events) {
            if number > self.told + 1 {
                self.told = number - 1;
                self.begin_anew();
            }
            if number > self.told {
                self.send(number, kind, data);
            }
        }
    }

    /// Tells what is in the records that were read anew. Where these are of a time before that of the newest event that was told, as
    /// after etcd was restored, their numbers will be given to other events.
    pub(super) fn take_up(&mut self, origin: &str, recorded: &[Recorded]) {
        let newest = recorded.last().map_or(0, |last| {
            (last.first + u64::try_from(last.events.len()).unwrap_or(0)).saturating_sub(1)
        });
        if self.origin != origin || newest < self.told {
            origin.clone_into(&mut self.origin);
            self.told = 0;
            self.begin_anew();
        }
        for events in recorded {
            self.publish(events);
        }
    }

    /// There is a gap: who reads now comes back, and is told so.
    fn begin_anew(&mut self) {
        self.kept.clear();
        self.sender = broadcast::Sender::new(READER_BUFFER);
    }

    fn send(&mut self, number: u64, kind: &str, data: &str) {
        self.told = number;
        let told = Arc::new(Told {
            number: Some(number),
            kind: kind.to_owned(),
            frame: format!("event: {kind}\r\ndata: {data}\r\nid: {}-{number}\r\n\r\n", self.origin).into(),
        });
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Arc::clone(&told));
        // Fails only when nobody listens.
        let _ = self.sender.send(told);
    }

    /// A reader that begins now, or behind the event of which it says the id.
    pub(super) fn follow(&self, last_seen: Option<&str>) -> Reader {
        let mut reader = Reader {
            missed: Vec::new(),
            gap: false,
            seen: 0,
            events: self.sender.subscribe(),
        };
        let Some(last_seen) = last_seen else {
            return reader;
        };
        let number = last_seen
            .rsplit_once('-')
            .filter(|(origin, _)| *origin == self.origin)
            .and_then(|(_, number)| number.parse::<u64>().ok())
            .filter(|number| *number <= self.told + self.ahead());
        let first = self.told + 1 - u64::try_from(self.kept.len()).unwrap_or(0);
        reader.seen = number.unwrap_or(0);
        reader.gap = number.is_none_or(|seen| seen + 1 < first);
        let missed = self.kept.iter().filter(|told| !told.is_seen(reader.seen));
        reader.missed = missed.cloned().collect();
        reader
    }

    /// How far ahead of this one another master may be that told the same events.
    fn ahead(&self) -> u64 {
        match self.keeping {
            Keeping::Memory => 0,
            Keeping::Leads(_) | Keeping::Copies => KEPT_NUMBERS,
        }
    }
}

impl Leads {
    /// The commit from which on all are kept, if enough can be removed before it; else 0. All from `bound` on stay.
    fn forget(&mut self, bound: u64) -> u64 {
        let gone = self.firsts.partition_point(|first| *first <= bound).saturating_sub(1);
        let (Some(oldest), Some(forget)) = (self.firsts.front(), self.firsts.get(gone)) else {
            return 0;
        };
        let forget = *forget;
        if forget - oldest < FORGET {
            return 0;
        }
        self.firsts.drain(..gone);
        forget
    }
}

fn with_type(kind: &str, now: Timestamp, mut data: Value) -> String {
    data["eventType"] = kind.into();
    data["timestamp"] = now.to_string().into();
    data.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(reader: &Reader) -> Vec<u64> {
        reader.missed.iter().filter_map(|told| told.number).collect()
    }

    #[test]
    fn who_comes_back_gets_what_it_missed() {
        let mut events = Events::new(Timestamp(7));
        for _ in 0..3 {
            events.tell("a_event", Timestamp(1), serde_json::json!({}));
        }
        let back = events.follow(Some("7-1"));
        assert_eq!((numbers(&back), back.gap), (vec![2, 3], false));
        assert!(numbers(&events.follow(None)).is_empty());
        assert!(numbers(&events.follow(Some("7-3"))).is_empty());
        for unknown in ["6-1", "x", "7-99"] {
            let back = events.follow(Some(unknown));
            assert_eq!((numbers(&back), back.gap), (vec![1, 2, 3], true), "{unknown}");
        }
        for _ in 0..KEPT {
            events.tell("a_event", Timestamp(1), serde_json::json!({}));
        }
        let back = events.follow(Some("7-1"));
        assert_eq!((back.missed.len(), back.gap), (KEPT, true));
    }

    #[test]
    fn a_frame_is_what_browsers_read() {
        let mut events = Events::new(Timestamp(7));
        let mut reader = events.follow(None);
        events.tell("a_event", Timestamp(0), serde_json::json!({"x": 1}));
        let told = reader.events.try_recv().expect("told");
        assert_eq!(
            told.frame,
            "event: a_event\r\ndata: {\"eventType\":\"a_event\",\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"x\":1}\r\nid: 7-1\r\n\r\n"
        );
    }

    fn told(reader: &mut Reader) -> Vec<String> {
        let mut frames = Vec::new();
        while let Ok(told) = reader.events.try_recv() {
            frames.push(String::from_utf8_lossy(&told.frame).into_owned());
        }
        frames
    }

    /// A leader that has something to tell, and what it wants recorded.
    fn recorded(events: &mut Events, count: usize) -> Recorded {
        for number in 0..count {
            events.tell("a_event", Timestamp(1), serde_json::json!({"n": number}));
        }
        events.take_unrecorded().expect("something to record")
    }

    #[test]
    fn all_masters_tell_what_is_recorded_and_under_the_same_numbers() {
        let mut leader = Events::leading("x", &[]);
        let mut copy = Events::copying();
        copy.take_up("x", &[]);
        let (mut there, mut here) = (leader.follow(None), copy.follow(None));
        let first = recorded(&mut leader, 2);
        assert!(told(&mut there).is_empty(), "it is not durable yet");
        assert_eq!(leader.take_unrecorded(), None, "and is recorded once");
        for events in [&mut leader, &mut copy] {
            events.publish(&first);
            // As when a journal is carried over.
            events.publish(&first);
        }
        let frames = told(&mut there);
        assert_eq!(frames.len(), 2);
        assert!(frames[1].ends_with("id: x-2\r\n\r\n"), "{frames:?}");
        assert_eq!(told(&mut here), frames);
        // The next leader goes on where this one was, of which the copy has not heard.
        let second = recorded(&mut leader, 1);
        let mut next = Events::leading("x", &[first.clone(), second.clone()]);
        assert_eq!(numbers(&next.follow(Some("x-1"))), [2, 3]);
        let third = recorded(&mut next, 1);
        assert_eq!(third.first, 4);
        let mut ahead = copy.follow(Some("x-3"));
        assert!(numbers(&ahead).is_empty() && !ahead.gap && ahead.seen == 3);
        copy.publish(&second);
        assert!(ahead.events.try_recv().expect("told").is_seen(ahead.seen));
        copy.take_up("x", &[first, second, third]);
        assert!(!ahead.events.try_recv().expect("told").is_seen(ahead.seen));
        assert_eq!(numbers(&copy.follow(Some("x-1"))), [2, 3, 4]);
        assert!(copy.follow(Some("y-1")).gap, "of other records");
    }

    #[test]
    fn whoever_reads_over_a_gap_is_let_go_and_told_of_it() {
        let mut leader = Events::leading("x", &[]);
        let first = recorded(&mut leader, 3);
        leader.publish(&first);
        let mut reader = leader.follow(None);
        let late = recorded(&mut leader, KEPT + 5);
        assert_eq!(
            (late.first, late.events.len()),
            (9, KEPT),
            "the oldest five are given up"
        );
        leader.publish(&late);
        let ended = broadcast::error::TryRecvError::Closed;
        assert_eq!(reader.events.try_recv().expect_err("let go"), ended);
        let back = leader.follow(Some("x-3"));
        assert_eq!((back.missed.len(), back.gap), (KEPT, true));
        assert!(!leader.follow(Some("x-8")).gap);
        // A copy of other records than before.
        let mut copy = Events::copying();
        copy.take_up("x", &[first]);
        let mut reader = copy.follow(None);
        copy.take_up("y", &[]);
        assert_eq!(reader.events.try_recv().expect_err("let go"), ended);
    }

    #[test]
    fn what_is_no_longer_kept_is_removed_from_the_records() {
        let mut leader = Events::leading("x", &[]);
        let mut forgotten = Vec::new();
        for _ in 0..KEPT + 2 * KEPT / 8 {
            let one = recorded(&mut leader, 1);
            leader.publish(&one);
            forgotten.extend(Some(one.forget).filter(|forget| *forget > 0));
        }
        assert_eq!(forgotten, [1 + FORGET, 1 + 2 * FORGET]);
        // The next leader knows what is there.
        let there: Vec<Recorded> = (1 + 2 * FORGET..=leader.told)
            .map(|first| Recorded {
                first,
                events: vec![("a_event".to_owned(), "{}".to_owned())],
                forget: 0,
            })
            .collect();
        let mut next = Events::leading("x", &there);
        let one = recorded(&mut next, KEPT / 8 - 1);
        assert_eq!(one.forget, 0, "not worth it yet");
        next.publish(&one);
        assert_eq!(recorded(&mut next, 1).forget, 1 + 3 * FORGET);
    }

    #[test]
    fn of_a_commit_all_events_are_kept_or_none() {
        let mut leader = Events::leading("x", &[]);
        for (count, forget) in [(KEPT, 0), (1, 0), (KEPT - 2, 0), (1, 1 + KEPT_NUMBERS)] {
            let one = recorded(&mut leader, count);
            assert_eq!(one.forget, forget, "behind {}", leader.told);
            leader.publish(&one);
        }
    }

    #[test]
    fn records_of_an_earlier_time_are_told_from_there_on() {
        let mut leader = Events::leading("x", &[]);
        let all: Vec<Recorded> = (0..3)
            .map(|_| {
                let one = recorded(&mut leader, 2);
                leader.publish(&one);
                one
            })
            .collect();
        let mut copy = Events::copying();
        copy.take_up("x", &all);
        let mut reader = copy.follow(None);
        copy.take_up("x", &all);
        let nothing = broadcast::error::TryRecvError::Empty;
        assert_eq!(reader.events.try_recv().expect_err("told before"), nothing);
        copy.take_up("x", &all[..1]);
        let ended = broadcast::error::TryRecvError::Closed;
        assert_eq!(reader.events.try_recv().expect_err("let go"), ended);
        let mut reader = copy.follow(None);
        let mut leader = Events::leading("x", &all[..1]);
        let other = recorded(&mut leader, 1);
        copy.publish(&other);
        let heard = told(&mut reader);
        assert!(
            matches!(&heard[..], [frame] if frame.ends_with("id: x-3\r\n\r\n")),
            "{heard:?}"
        );
    }

    #[test]
    fn what_only_this_masters_readers_hear_has_no_number() {
        let mut copy = Events::copying();
        copy.take_up("x", &[]);
        let mut reader = copy.follow(Some("x-7"));
        copy.tell_here("b_event", Timestamp(0), serde_json::json!({}));
        let heard = reader.events.try_recv().expect("told");
        assert!(!heard.is_seen(reader.seen));
        assert!(heard.frame.starts_with(b"event: b_event\r\n") && !heard.frame.windows(3).any(|part| part == b"id:"));
        assert!(copy.follow(None).missed.is_empty());
    }
}
