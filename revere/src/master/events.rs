//! Marathon's event stream: every event once in text, the newest kept for those who come back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use scheduler::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

/// Events a reader may lag behind before it is closed (Marathon's `--event_stream_max_outstanding_messages`).
const READER_BUFFER: usize = 1024;
/// Events kept for readers that come back: some megabytes.
const KEPT: usize = 4096;

/// One event, ready to send.
#[derive(Debug)]
pub(super) struct Told {
    number: u64,
    /// For example `status_update_event`.
    pub(super) kind: &'static str,
    /// The whole SSE frame.
    pub(super) frame: Bytes,
}

/// What a reader begins with.
#[derive(Debug)]
pub(super) struct Reader {
    /// Events since the one that it saw last.
    pub(super) missed: Vec<Arc<Told>>,
    /// Whether some of those are no longer kept, or were told by an earlier master.
    pub(super) gap: bool,
    /// All that come.
    pub(super) events: broadcast::Receiver<Arc<Told>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Events {
    /// Start of this master: ids of one start mean nothing to another.
    epoch: u64,
    next: u64,
    kept: VecDeque<Arc<Told>>,
    sender: broadcast::Sender<Arc<Told>>,
}

impl Events {
    pub(super) fn new(started: Timestamp) -> Self {
        Self {
            epoch: started.0,
            next: 1,
            kept: VecDeque::with_capacity(KEPT),
            sender: broadcast::Sender::new(READER_BUFFER),
        }
    }

    /// Tells all readers. `data` gets the event's type and time.
    pub(super) fn tell(&mut self, kind: &'static str, now: Timestamp, mut data: Value) {
        data["eventType"] = kind.into();
        data["timestamp"] = now.to_string().into();
        let number = self.next;
        self.next = self.next.saturating_add(1);
        let frame = format!("event: {kind}\r\ndata: {data}\r\nid: {}-{number}\r\n\r\n", self.epoch);
        let told = Arc::new(Told {
            number,
            kind,
            frame: frame.into(),
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
        let events = self.sender.subscribe();
        let Some(last_seen) = last_seen else {
            return Reader {
                missed: Vec::new(),
                gap: false,
                events,
            };
        };
        let number = last_seen
            .split_once('-')
            .filter(|(epoch, _)| epoch.parse() == Ok(self.epoch))
            .and_then(|(_, number)| number.parse::<u64>().ok())
            .filter(|number| *number < self.next);
        let oldest = self.kept.front().map_or(self.next, |told| told.number);
        Reader {
            missed: match number {
                Some(seen) => self.kept.iter().filter(|told| told.number > seen).cloned().collect(),
                None => self.kept.iter().cloned().collect(),
            },
            gap: number.is_none_or(|seen| seen.saturating_add(1) < oldest),
            events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(reader: &Reader) -> Vec<u64> {
        reader.missed.iter().map(|told| told.number).collect()
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
}
