//! What the nodes of this process were told, and when each change had come to the last of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use model::TaskEvent;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{MOST_RECORD, change_of};
use crate::mesos::decode::{Encoding, Message, decode_as};
use crate::mesos::pack::{HEAD, Unpacker};
use crate::recordio::Decoder;

/// What a piece of a stream says.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// It is what a stream begins with: a state, or that it goes on.
    pub(super) begins: bool,
    pub(super) position: Option<Arc<str>>,
    pub(super) changes: u64,
}

/// A piece that several readers are told.
#[derive(Debug)]
struct Piece {
    told: Told,
    /// Whether it is a whole state.
    snapshot: bool,
    changes: Vec<(u64, u64)>,
    readers: u64,
    /// When the last reader had it.
    last: u64,
}

/// When a change was made, when the last node had it, how many have it.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    made: u64,
    last: u64,
    nodes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    /// Changes that make a node's stream complete.
    wanted: u64,
    pieces: Mutex<HashMap<(usize, u64), Piece>>,
    /// Of the nodes that run a daemon's code.
    whole: Mutex<BTreeMap<u64, Arrival>>,
    bytes: AtomicU64,
    snapshot: AtomicU64,
    snapshots: AtomicU64,
    again: AtomicU64,
    complete: AtomicU64,
    more: Notify,
}

/// Tells pieces apart, quickly: hundreds of megabytes a second come by. Nobody chooses them to be mistaken for each other.
fn mark(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |mark: u64, word: u64| (mark.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    // Four at a time do not wait for each other.
    let (groups, rest) = bytes.as_chunks::<32>();
    let mut marks = [0; 4];
    for group in groups {
        let (words, _) = group.as_chunks::<8>();
        for (mark, word) in marks.iter_mut().zip(words) {
            *mark = fold(*mark, u64::from_le_bytes(*word));
        }
    }
    let mark = marks.into_iter().fold(0, fold);
    rest.iter().fold(mark, |mark, byte| fold(mark, u64::from(*byte)))
}

impl Seen {
    pub(super) fn new(wanted: u64) -> Self {
        Self {
            wanted,
            pieces: Mutex::default(),
            whole: Mutex::default(),
            bytes: AtomicU64::new(0),
            snapshot: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            again: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            more: Notify::new(),
        }
    }

    /// So many bytes were read.
    pub(super) fn read(&self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.bytes.fetch_add(length, Ordering::Relaxed);
    }

    /// A stream ended.
    pub(super) fn again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream began, with a state or without.
    pub(super) fn began(&self, snapshot: bool) {
        self.snapshots.fetch_add(u64::from(snapshot), Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the largest state.
    pub(super) fn snapshot(&self) -> u64 {
        self.snapshot.load(Ordering::Relaxed)
    }

    /// A reader was told a piece; what it says.
    pub(super) fn chunk(&self, piece: &[u8], now: u64) -> anyhow::Result<Told> {
        if piece == HEAD {
            return Ok(Told::default());
        }
        let key = (piece.len(), mark(piece));
        let mut pieces = self.pieces.lock();
        let known = match pieces.get_mut(&key) {
            Some(known) => known,
            None => pieces.entry(key).or_insert(read(piece)?),
        };
        known.readers += 1;
        known.last = known.last.max(now);
        if known.snapshot {
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            self.snapshot.fetch_max(length, Ordering::Relaxed);
            self.began(true);
        }
        Ok(known.told.clone())
    }

    /// A node that runs a daemon's code was told a change.
    pub(super) fn one(&self, (number, made): (u64, u64)) {
        let last = super::micros();
        let mut whole = self.whole.lock();
        let known = whole.entry(number).or_insert(Arrival { made, last, nodes: 0 });
        known.last = last;
        known.nodes += 1;
    }

    /// A node had so many changes and has so many now.
    pub(super) fn has(&self, before: u64, now: u64) {
        if before < self.wanted && now >= self.wanted {
            self.complete.fetch_add(1, Ordering::Relaxed);
            self.more.notify_waiters();
        }
    }

    /// Waits until that many nodes have all changes, but not for ever.
    pub(super) async fn complete(&self, nodes: u32, patience: Duration) {
        let waiting = async {
            loop {
                let more = self.more.notified();
                if self.complete.load(Ordering::Relaxed) >= u64::from(nodes) {
                    return;
                }
                more.await;
            }
        };
        // What is missing is told by the sums.
        let _ = tokio::time::timeout(patience, waiting).await;
    }

    /// All of it.
    pub(super) fn told(&self) -> Value {
        let mut arrivals = self.whole.lock().clone();
        for piece in self.pieces.lock().values() {
            for (number, made) in &piece.changes {
                let known = arrivals.entry(*number).or_insert(Arrival {
                    made: *made,
                    last: 0,
                    nodes: 0,
                });
                known.last = known.last.max(piece.last);
                known.nodes += piece.readers;
            }
        }
        let rows = arrivals
            .iter()
            .map(|(number, one)| json!([number, one.made, one.last, one.nodes]));
        json!({
            "changes": rows.collect::<Vec<_>>(),
            "again": self.again.load(Ordering::Relaxed),
            "snapshots": self.snapshots.load(Ordering::Relaxed),
        })
    }
}

/// Unpacks and decodes a piece, as a daemon would.
fn read(piece: &[u8]) -> anyhow::Result<Piece> {
    let (mut unpacker, mut decoder) = (Unpacker::packed(), Decoder::new(MOST_RECORD));
    for bytes in [&HEAD[..], piece] {
        let mut bytes = Bytes::copy_from_slice(bytes);
        loop {
            let part = unpacker.part(&mut bytes)?;
            if part.is_empty() {
                break;
            }
            decoder.push(&part);
        }
    }
    let mut read = Piece {
        told: Told::default(),
        snapshot: false,
        changes: Vec::new(),
        readers: 0,
        last: 0,
    };
    while let Some(record) = decoder.next_record()? {
        let decoded = decode_as(Encoding::Json, &record)?;
        if let Some(reject) = decoded.rejects.first() {
            bail!("a record with something malformed: {}", reject.what);
        }
        match decoded.message {
            Message::Subscribed(..) => {
                read.told.begins = true;
                read.snapshot = true;
            }
            Message::Resumed(_) => read.told.begins = true,
            Message::Position(position) => read.told.position = Some(position.into()),
            Message::Event(TaskEvent::TaskUpdated { status, .. }) => read.changes.extend(change_of(&status)),
            _ => {}
        }
    }
    decoder.finish()?;
    read.told.changes = u64::try_from(read.changes.len()).unwrap_or(u64::MAX);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::{encode, pack};
    use crate::recordio;

    #[test]
    fn a_piece_is_read_once_and_counts_for_each_reader() {
        let seen = Seen::new(2);
        let status = |number: u64| {
            let mut status = crate::demo::cluster::agent::status(model::TaskState::Running, 1);
            status.message = Some(format!("n={number} t={}", 100 + number));
            encode::task_updated("f", "t", Some("a"), &status)
        };
        let records =
            [status(1), status(2), encode::position("x/7")].map(|one| recordio::encode(one.to_string().as_bytes()));
        let piece = pack::pack(&records.concat());
        for now in [500, 700, 600] {
            let told = seen.chunk(&piece, now).expect("readable");
            assert_eq!(
                (told.changes, told.position.as_deref(), told.begins),
                (2, Some("x/7"), false)
            );
        }
        let heartbeat = pack::pack(&recordio::encode(encode::heartbeat().to_string().as_bytes()));
        assert_eq!(seen.chunk(&heartbeat, 800).expect("readable").changes, 0);
        seen.one((2, 102));
        let told = seen.told();
        assert_eq!(told["changes"][0], json!([1, 101, 700, 3]));
        assert_eq!((&told["changes"][1][0], &told["changes"][1][3]), (&json!(2), &json!(4)));
        assert!(seen.chunk(b"no piece", 900).is_err());
    }
}
