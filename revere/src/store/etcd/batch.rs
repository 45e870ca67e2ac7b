//! Records as keys of etcd, in pieces that its limits allow.

use std::collections::BTreeMap;

use crate::etcd::Op;

/// Most operations in a transaction; etcd takes 128, and the commit is one more.
pub(crate) const MOST_OPS: usize = 120;

/// Most bytes in a transaction; etcd takes 1.5 MB, and messages have their own wrapping.
const MOST_BYTES: usize = 1_000_000;

/// A longer value lies in several keys.
const PART: usize = 400_000;

/// What a key costs besides its bytes.
const WRAPPING: usize = 64;

/// How many keys a record has, where it is more than one.
pub(super) type Long = BTreeMap<String, usize>;

/// The key of a record's part.
fn part_key(key: &str, part: usize) -> String {
    // The zero byte sorts before all that a longer name could go on with.
    if part == 0 {
        key.to_owned()
    } else {
        format!("{key}\0{part:06}")
    }
}

/// What lies behind a record's last part.
fn end(key: &str) -> String {
    format!("{key}\u{1}")
}

/// The acts that put these records (or take them away), and what is long afterwards.
pub(super) fn ops(prefix: &str, entries: Vec<(String, Option<Vec<u8>>)>, long: &mut Long) -> Vec<Op> {
    let mut ops = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let key = format!("{prefix}{key}");
        let Some(value) = value else {
            long.remove(&key);
            ops.push(Op::Delete { end: end(&key), key });
            continue;
        };
        let parts = value.len().div_ceil(PART).max(1);
        let before = long.remove(&key).unwrap_or(1);
        if before > parts {
            ops.push(Op::Delete {
                key: part_key(&key, parts),
                end: end(&key),
            });
        }
        for part in 0..parts {
            let bytes = value.chunks(PART).nth(part).unwrap_or_default();
            ops.push(Op::Put {
                key: part_key(&key, part),
                value: bytes.to_vec(),
                lease: 0,
            });
        }
        if parts > 1 {
            long.insert(key, parts);
        }
    }
    ops
}

/// Puts the parts of records together; the keys without `prefix`.
pub(super) fn join(prefix: &str, kept: &BTreeMap<String, Vec<u8>>) -> (BTreeMap<String, Vec<u8>>, Long) {
    let mut records: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut long = Long::new();
    for (key, value) in kept {
        let name = key.split('\0').next().unwrap_or_default();
        let record = name.strip_prefix(prefix).unwrap_or(name).to_owned();
        records.entry(record).or_default().extend(value);
        if key.len() > name.len() {
            *long.entry(name.to_owned()).or_insert(1) += 1;
        }
    }
    (records, long)
}

/// The record that a key is of, if it is one's.
pub(super) fn record_of<'a>(prefix: &str, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(prefix)?.split('\0').next()
}

/// All parts of one record.
pub(super) fn whole(prefix: &str, name: &str, kept: &BTreeMap<String, Vec<u8>>) -> Option<Vec<u8>> {
    let key = format!("{prefix}{name}");
    let mut parts = kept.range(key.clone()..end(&key)).map(|(_, part)| part);
    let mut whole = parts.next()?.clone();
    for part in parts {
        whole.extend(part);
    }
    Some(whole)
}

/// What `ops` make of the keys.
pub(super) fn apply(ops: &[Op], kept: &mut BTreeMap<String, Vec<u8>>) {
    for op in ops {
        match op {
            Op::Put { key, value, .. } => {
                kept.insert(key.clone(), value.clone());
            }
            Op::Delete { key, end } => kept.retain(|one, _| one < key || one >= end),
            Op::Get(_) => {}
        }
    }
}

fn cost(op: &Op) -> usize {
    WRAPPING
        + match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, end } => key.len() + end.len(),
            Op::Get(key) => key.len(),
        }
}

/// In order, each small enough for one transaction.
pub(super) fn chunks(ops: Vec<Op>) -> Vec<Vec<Op>> {
    let mut chunks: Vec<Vec<Op>> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        let cost = cost(&op);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < MOST_OPS && bytes + cost <= MOST_BYTES => {
                bytes += cost;
                chunk.push(op);
            }
            _ => {
                bytes = cost;
                chunks.push(vec![op]);
            }
        }
    }
    chunks
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(part);
}

fn cut<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

/// A chunk as one value, for the journal.
pub(super) fn write(chunk: &[Op]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for op in chunk {
        match op {
            Op::Put { key, value, .. } => {
                bytes.push(b'+');
                put(&mut bytes, key.as_bytes());
                put(&mut bytes, value);
            }
            Op::Delete { key, end } => {
                bytes.push(b'-');
                put(&mut bytes, key.as_bytes());
                put(&mut bytes, end.as_bytes());
            }
            Op::Get(_) => {}
        }
    }
    bytes
}

/// Reads what [`write`] wrote.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Op>> {
    let text = |part: &[u8]| String::from_utf8(part.to_vec()).ok();
    let mut ops = Vec::new();
    while let Some((kind, rest)) = bytes.split_first() {
        bytes = rest;
        let key = text(cut(&mut bytes)?)?;
        let second = cut(&mut bytes)?;
        ops.push(match kind {
            b'+' => Op::Put {
                key,
                value: second.to_vec(),
                lease: 0,
            },
            b'-' => Op::Delete {
                key,
                end: text(second)?,
            },
            _ => return None,
        });
    }
    Some(ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(prefix: &str, batches: Vec<Vec<(&str, Option<usize>)>>) -> (BTreeMap<String, Vec<u8>>, Long) {
        let (mut kept, mut long) = (BTreeMap::new(), Long::new());
        for (turn, batch) in (1_u8..).zip(batches) {
            let entries = batch.into_iter();
            let entries = entries.map(|(key, size)| (key.to_owned(), size.map(|size| vec![turn; size])));
            apply(&ops(prefix, entries.collect(), &mut long), &mut kept);
        }
        (kept, long)
    }

    #[test]
    fn a_record_is_what_was_put_last_however_long() {
        for second in [0, 1, PART, PART + 1, 3 * PART] {
            let batches = vec![
                vec![
                    ("app//a", Some(2 * PART + 5)),
                    ("app//a/b", Some(3)),
                    ("app//a-b", Some(0)),
                ],
                vec![("app//a", Some(second))],
            ];
            let (kept, long) = kept("/p/", batches);
            let (records, found) = join("/p/", &kept);
            let told: Vec<(&str, usize)> = records.iter().map(|(key, value)| (key.as_str(), value.len())).collect();
            assert_eq!(told, [("app//a", second), ("app//a-b", 0), ("app//a/b", 3)]);
            assert!(records["app//a"].iter().all(|byte| *byte == 2));
            assert_eq!(long, found, "what a load finds is what the writer knew");
        }
        let gone = kept(
            "/p/",
            vec![
                vec![("a", Some(2 * PART)), ("ab", Some(1)), ("a/b", Some(1))],
                vec![("a", None)],
            ],
        );
        assert_eq!(join("/p/", &gone.0).0.into_keys().collect::<Vec<_>>(), ["a/b", "ab"]);
        assert_eq!(gone.1, Long::new());
    }

    #[test]
    fn chunks_keep_order_and_limits_and_survive_the_journal() {
        let mut long = Long::new();
        let sizes = [1, PART - 1, 3 * PART, 0, 10, 900_000];
        let entries = (0..1_000).map(|n| {
            let value = (n % 7 != 3).then(|| vec![7; if n < 40 { sizes[n % sizes.len()] } else { n % 50 }]);
            (format!("{n:05}"), value)
        });
        let all = ops("/p/", entries.collect(), &mut long);
        let chunks = chunks(all.clone());
        assert!(chunks.len() > 8, "{}", chunks.len());
        for chunk in &chunks {
            assert!(chunk.len() <= MOST_OPS && chunk.iter().map(cost).sum::<usize>() <= MOST_BYTES);
            assert!(write(chunk).len() <= MOST_BYTES);
            assert_eq!(read(&write(chunk)).as_ref(), Some(chunk));
        }
        assert_eq!(chunks.concat(), all);
        let whole = write(&chunks[0]);
        assert_eq!(read(&whole[..whole.len() - 1]), None, "cut");
    }
}
