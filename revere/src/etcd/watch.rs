//! Changes of keys as etcd tells them, one revision after the other.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::time::Duration;

use super::{Etcd, EtcdError, Kv, kv, number, text};

/// Largest line: one transaction, in base64 and with its names.
const MAX_LINE: usize = 64 * 1024 * 1024;

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Kv),
    Deleted(String),
}

/// One revision's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) revision: u64,
    pub(crate) changes: Vec<Change>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Watch {
    body: Incoming,
    buffer: BytesMut,
    from: u64,
}

impl Etcd {
    /// What happens to keys from `from` up to `end` from that revision on. One member tells it: should that be cut off from
    /// the others it falls silent without an error.
    pub(crate) async fn watch(
        &self,
        from: &str,
        end: &str,
        revision: u64,
        patience: Duration,
    ) -> Result<Watch, EtcdError> {
        let create = json!({"key": text(from.as_bytes()), "range_end": text(end.as_bytes()),
            "start_revision": revision.to_string()});
        let call = json!({"create_request": create});
        Ok(Watch {
            body: self.transport.stream("/v3/watch", &call, patience).await?,
            buffer: BytesMut::new(),
            from: revision,
        })
    }
}

impl Watch {
    /// What comes next, revisions whole. May be given up and asked again.
    pub(crate) async fn next(&mut self) -> Result<Vec<Changes>, EtcdError> {
        loop {
            if let Some(line) = self.line()? {
                let told = changes(&line, self.from)?;
                if !told.is_empty() {
                    return Ok(told);
                }
                continue;
            }
            let ended = |why: &str| EtcdError::Away(why.to_owned(), "its members".to_owned());
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(ended(&error.to_string())),
                None => return Err(ended("it ended a watch")),
            }
        }
    }

    fn line(&mut self) -> Result<Option<Value>, EtcdError> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let value = serde_json::from_slice(&line);
            return value
                .map(Some)
                .map_err(|error| EtcdError::Unreadable(format!("a watch told no JSON: {error}")));
        }
        if self.buffer.len() > MAX_LINE {
            return Err(EtcdError::Unreadable("a watch told a line without end".to_owned()));
        }
        Ok(None)
    }
}

/// A line's changes by revision, in order.
fn changes(line: &Value, from: u64) -> Result<Vec<Changes>, EtcdError> {
    let result = &line["result"];
    let compacted = number(&result["compact_revision"]);
    if compacted > 0 {
        return Err(EtcdError::Compacted(from, compacted));
    }
    if result.is_null() || result["canceled"] == true {
        let why = [&line["error"]["message"], &result["cancel_reason"]];
        let why = why.iter().find_map(|text| text.as_str()).unwrap_or("no reason is told");
        let text = format!("it ended a watch: {why}");
        return Err(EtcdError::Away(text, "its members".to_owned()));
    }
    let mut told: Vec<Changes> = Vec::new();
    for event in result["events"].as_array().into_iter().flatten() {
        let kv = kv(&event["kv"])?;
        let revision = kv.modified;
        let change = match event["type"].as_str() {
            Some("DELETE") => Change::Deleted(kv.key),
            _ => Change::Put(kv),
        };
        match told.last_mut() {
            Some(last) if last.revision == revision => last.changes.push(change),
            _ => told.push(Changes {
                revision,
                changes: vec![change],
            }),
        }
    }
    Ok(told)
}
