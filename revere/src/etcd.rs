//! etcd as this program uses it: keys, transactions and leases over its JSON gateway (docs/decisions/0008).

mod address;
pub(crate) mod clock;
mod session;
mod transport;
mod watch;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use address::EtcdAddress;
pub(crate) use session::{Session, Standing};
pub(crate) use transport::EtcdError;
pub(crate) use transport::{Access, Transport};
pub(crate) use watch::{Change, Changes, Watch};

use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

/// The oldest etcd whose gateway has these paths.
const OLDEST: (u32, u32) = (3, 4);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kv {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// 0 is none.
    pub(crate) lease: u64,
}

/// Part of what lies between two keys.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) kvs: Vec<Kv>,
    pub(crate) revision: u64,
    pub(crate) more: bool,
}

/// What a transaction asks before it acts.
#[derive(Clone, Debug)]
pub(crate) enum Compare {
    /// The key was made at that revision; 0 is: it is not there.
    Created(String, u64),
    /// It was last written at that revision; 0 is: it is not there.
    Modified(String, u64),
}

/// One act of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put {
        key: String,
        value: Vec<u8>,
        /// 0 is none.
        lease: u64,
    },
    /// From `key` up to, without, `end`.
    Delete {
        key: String,
        end: String,
    },
    Get(String),
}

/// What became of a transaction.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) succeeded: bool,
    pub(crate) revision: u64,
    /// Answers to its [`Op::Get`]s, in their order.
    pub(crate) found: Vec<Option<Kv>>,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Etcd {
    transport: Transport,
}

fn text(bytes: &[u8]) -> Value {
    Value::String(BASE64.encode(bytes))
}

/// Numbers of 64 bits are text in the gateway's JSON, and 0 is left out.
fn number(value: &Value) -> u64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .or_else(|| value.as_u64())
        .unwrap_or(0)
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    BASE64.decode(value.as_str().unwrap_or_default().as_bytes()).ok()
}

fn kv(value: &Value) -> Result<Kv, EtcdError> {
    let unreadable = || EtcdError::Unreadable(format!("a key is no text: {value}"));
    Ok(Kv {
        key: bytes(&value["key"])
            .and_then(|key| String::from_utf8(key).ok())
            .ok_or_else(unreadable)?,
        value: bytes(&value["value"]).ok_or_else(unreadable)?,
        created: number(&value["create_revision"]),
        modified: number(&value["mod_revision"]),
        lease: number(&value["lease"]),
    })
}

fn kvs(answer: &Value) -> Result<Vec<Kv>, EtcdError> {
    answer["kvs"].as_array().into_iter().flatten().map(kv).collect()
}

impl Compare {
    fn json(&self) -> Value {
        match self {
            Self::Created(key, revision) => json!({"key": text(key.as_bytes()), "target": "CREATE", "result": "EQUAL",
                "create_revision": revision.to_string()}),
            Self::Modified(key, revision) => json!({"key": text(key.as_bytes()), "target": "MOD", "result": "EQUAL",
                "mod_revision": revision.to_string()}),
        }
    }
}

impl Op {
    fn json(&self) -> Value {
        match self {
            Self::Put { key, value, lease } => json!({"request_put": {"key": text(key.as_bytes()),
                "value": text(value), "lease": lease.to_string()}}),
            Self::Delete { key, end } => json!({"request_delete_range": {"key": text(key.as_bytes()),
                "range_end": text(end.as_bytes())}}),
            Self::Get(key) => json!({"request_range": {"key": text(key.as_bytes())}}),
        }
    }
}

impl Etcd {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport }
    }

    /// For another runtime than this one's: connections belong to the one that they were made in.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.transport.apart())
    }

    /// The next call goes to another member.
    pub(crate) fn turn(&self) {
        self.transport.turn();
    }

    /// Refuses what is no etcd, and etcd that is too old.
    pub(crate) async fn check(&self, patience: Duration) -> Result<(), EtcdError> {
        let answer = self.transport.get("/version", patience).await?;
        let told = answer["etcdserver"].as_str().unwrap_or_default().to_owned();
        let mut parts = told.split('.').map_while(|part| part.parse::<u32>().ok());
        match (parts.next(), parts.next()) {
            (Some(major), Some(minor)) if (major, minor) >= OLDEST => Ok(()),
            (Some(_), Some(_)) => Err(EtcdError::TooOld(told)),
            _ => Err(EtcdError::Unreadable(format!("it tells no version: {answer}"))),
        }
    }

    /// One key, as the majority of the members has it.
    pub(crate) async fn get(&self, key: &str, patience: Duration) -> Result<Option<Kv>, EtcdError> {
        let call = json!({"key": text(key.as_bytes())});
        let answer = self.transport.call("/v3/kv/range", &call, patience).await?;
        Ok(kvs(&answer)?.pop())
    }

    /// Up to `limit` keys from `from` up to `end`, as they were at `revision` (0: now).
    pub(crate) async fn page(
        &self,
        from: &str,
        end: &str,
        revision: u64,
        limit: u32,
        patience: Duration,
    ) -> Result<Page, EtcdError> {
        let call = json!({"key": text(from.as_bytes()), "range_end": text(end.as_bytes()),
            "revision": revision.to_string(), "limit": limit.to_string()});
        let answer = self.transport.call("/v3/kv/range", &call, patience).await?;
        Ok(Page {
            kvs: kvs(&answer)?,
            revision: number(&answer["header"]["revision"]),
            more: answer["more"].as_bool().unwrap_or(false),
        })
    }

    /// `then` if all of `when` is so, else `otherwise`; in one step.
    pub(crate) async fn transaction(
        &self,
        when: &[Compare],
        then: &[Op],
        otherwise: &[Op],
        patience: Duration,
    ) -> Result<Outcome, EtcdError> {
        let ops = |ops: &[Op]| ops.iter().map(Op::json).collect::<Vec<_>>();
        let when: Vec<Value> = when.iter().map(Compare::json).collect();
        let call = json!({"compare": when, "success": ops(then), "failure": ops(otherwise)});
        let answer = self.transport.call("/v3/kv/txn", &call, patience).await?;
        let ranges = answer["responses"].as_array().into_iter().flatten();
        let ranges = ranges.filter_map(|one| one.get("response_range"));
        let found = ranges.map(|range| Ok(kvs(range)?.pop()));
        let found = found.collect::<Result<Vec<_>, EtcdError>>()?;
        Ok(Outcome {
            succeeded: answer["succeeded"].as_bool().unwrap_or(false),
            revision: number(&answer["header"]["revision"]),
            found,
        })
    }

    /// A new lease: its id and how many seconds it lasts.
    pub(crate) async fn grant(&self, seconds: u64, patience: Duration) -> Result<(u64, u64), EtcdError> {
        let call = json!({"TTL": seconds.to_string()});
        let answer = self.transport.call("/v3/lease/grant", &call, patience).await?;
        match (number(&answer["ID"]), number(&answer["TTL"])) {
            (0, _) | (_, 0) => Err(EtcdError::Unreadable(format!("it grants no lease: {answer}"))),
            granted => Ok(granted),
        }
    }

    /// How many seconds the lease lasts from now on; 0 if it is no more.
    pub(crate) async fn keep_alive(&self, lease: u64, patience: Duration) -> Result<u64, EtcdError> {
        let call = json!({"ID": lease.to_string()});
        let answer = self.transport.call("/v3/lease/keepalive", &call, patience).await?;
        match &answer["result"] {
            Value::Null => Err(EtcdError::Unreadable(format!("no lease is in its answer: {answer}"))),
            result => Ok(number(&result["TTL"])),
        }
    }

    /// Ends a lease and takes its keys away. One that is no more is as well.
    pub(crate) async fn revoke(&self, lease: u64, patience: Duration) -> Result<(), EtcdError> {
        let call = json!({"ID": lease.to_string()});
        match self.transport.call("/v3/lease/revoke", &call, patience).await {
            Ok(_) => Ok(()),
            Err(EtcdError::Refused { code: 5, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
