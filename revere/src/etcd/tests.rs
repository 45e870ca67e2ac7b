//! A gateway of etcd in memory, with its limits, that fails as told; and the client against it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use data_encoding::BASE64;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

/// What becomes of the next transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused: no room.
    Full,
    /// It is not done, and the member does not see the others.
    Cut,
    /// It is done, and the answer is lost.
    Lost,
    /// Nothing.
    None,
}

#[derive(Debug, Default)]
struct Kept {
    revision: u64,
    keys: BTreeMap<Vec<u8>, Kv>,
    /// Those that ended are gone.
    leases: BTreeMap<u64, u64>,
    faults: VecDeque<Fault>,
    transactions: usize,
    /// All after that many are refused for good.
    last: Option<usize>,
    /// What happened to keys, by revision, as a watch tells it.
    log: Vec<(u64, Vec<u8>, Option<Kv>)>,
    /// What is older than this is forgotten.
    compacted: u64,
    /// Nobody is told anything.
    mute: bool,
    /// What it says of itself, if that is not the usual.
    version: Option<String>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    kept: Arc<Mutex<Kept>>,
    news: Arc<tokio::sync::Notify>,
    pub(crate) address: String,
}

fn refused(code: u64, message: &str) -> Response {
    (
        StatusCode::BAD_REQUEST,
        axum::Json(json!({"error": message, "message": message, "code": code})),
    )
        .into_response()
}

fn raw(value: &Value) -> Vec<u8> {
    BASE64
        .decode(value.as_str().unwrap_or_default().as_bytes())
        .expect("base64")
}

fn shown(kv: &Kv) -> Value {
    json!({"key": BASE64.encode(kv.key.as_bytes()), "value": BASE64.encode(&kv.value), "create_revision": kv.created.to_string(),
        "mod_revision": kv.modified.to_string(), "lease": kv.lease.to_string()})
}

impl Kept {
    fn range(&self, call: &Value) -> Value {
        let (from, end) = (raw(&call["key"]), raw(&call["range_end"]));
        let within = |key: &[u8]| {
            if end.is_empty() {
                key == from
            } else {
                key >= &from[..] && key < &end[..]
            }
        };
        let limit = usize::try_from(number(&call["limit"])).unwrap_or(0);
        let all: Vec<&Kv> = self
            .keys
            .iter()
            .filter(|(key, _)| within(key))
            .map(|(_, kv)| kv)
            .collect();
        let taken = if limit == 0 { all.len() } else { limit.min(all.len()) };
        let kvs: Vec<Value> = all[..taken].iter().map(|kv| shown(kv)).collect();
        json!({"header": {"revision": self.revision.to_string()}, "kvs": kvs, "more": taken < all.len()})
    }

    fn holds(&self, compare: &Value) -> bool {
        let kv = self.keys.get(&raw(&compare["key"]));
        match compare["target"].as_str() {
            Some("CREATE") => kv.map_or(0, |kv| kv.created) == number(&compare["create_revision"]),
            Some("MOD") => kv.map_or(0, |kv| kv.modified) == number(&compare["mod_revision"]),
            other => panic!("{other:?}"),
        }
    }

    fn act(&mut self, op: &Value) -> Value {
        if let Some(put) = op.get("request_put") {
            let key = raw(&put["key"]);
            let created = self.keys.get(&key).map_or(self.revision, |kv| kv.created);
            let kv = Kv {
                key: String::from_utf8(key.clone()).expect("text"),
                value: raw(&put["value"]),
                created,
                modified: self.revision,
                lease: number(&put["lease"]),
            };
            self.log.push((self.revision, key.clone(), Some(kv.clone())));
            self.keys.insert(key, kv);
            return json!({"response_put": {}});
        }
        if let Some(delete) = op.get("request_delete_range") {
            let (from, end) = (raw(&delete["key"]), raw(&delete["range_end"]));
            for key in self.keys.keys().filter(|key| **key >= from && **key < end) {
                self.log.push((self.revision, key.clone(), None));
            }
            self.keys.retain(|key, _| *key < from || *key >= end);
            return json!({"response_delete_range": {}});
        }
        json!({"response_range": self.range(&op["request_range"])})
    }

    fn transaction(&mut self, call: &Value) -> Value {
        let succeeded = call["compare"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|one| self.holds(one));
        let ops = if succeeded { &call["success"] } else { &call["failure"] };
        let ops = ops.as_array().cloned().unwrap_or_default();
        if ops.iter().any(|op| op.get("request_range").is_none()) {
            self.revision += 1;
        }
        let responses: Vec<Value> = ops.iter().map(|op| self.act(op)).collect();
        json!({"header": {"revision": self.revision.to_string()}, "succeeded": succeeded, "responses": responses})
    }
}

async fn transaction(State(fake): State<Fake>, body: axum::body::Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).expect("JSON");
    // In base64 a third more than what counts.
    if body.len() * 3 / 4 > 1_572_864 {
        return refused(3, "etcdserver: request is too large");
    }
    if ["compare", "success", "failure"]
        .iter()
        .any(|part| call[part].as_array().is_some_and(|ops| ops.len() > 128))
    {
        return refused(3, "etcdserver: too many operations in txn request");
    }
    let mut kept = fake.kept.lock();
    kept.transactions += 1;
    if kept.last.is_some_and(|last| kept.transactions > last) {
        return refused(7, "etcdserver: permission denied");
    }
    match kept.faults.pop_front().unwrap_or(Fault::None) {
        Fault::Full => refused(8, "etcdserver: mvcc: database space exceeded"),
        Fault::Cut => refused(14, "etcdserver: no leader"),
        Fault::Lost => {
            kept.transaction(&call);
            fake.news.notify_waiters();
            refused(4, "etcdserver: request timed out")
        }
        Fault::None => {
            let done = kept.transaction(&call);
            fake.news.notify_waiters();
            axum::Json(done).into_response()
        }
    }
}

/// An event of the log as a watch tells it.
fn told_of((revision, key, kv): &(u64, Vec<u8>, Option<Kv>)) -> Value {
    match kv {
        Some(kv) => json!({"kv": shown(kv)}),
        None => {
            let gone = json!({"key": BASE64.encode(key), "mod_revision": revision.to_string()});
            json!({"type": "DELETE", "kv": gone})
        }
    }
}

/// Lines for ever, or until the fake falls mute.
async fn watch(State(fake): State<Fake>, body: axum::body::Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).expect("JSON");
    let create = call["create_request"].clone();
    let (from, end) = (raw(&create["key"]), raw(&create["range_end"]));
    let within = move |key: &[u8]| key >= &from[..] && key < &end[..];
    if fake.kept.lock().mute {
        return refused(14, "etcdserver: no leader");
    }
    let begin = (fake, number(&create["start_revision"]), within);
    let lines = futures_util::stream::unfold(begin, async |(fake, next, within)| {
        loop {
            let notify = Arc::clone(&fake.news);
            let mut news = Box::pin(notify.notified());
            news.as_mut().enable();
            {
                let kept = fake.kept.lock();
                if kept.mute {
                    return None;
                }
                let told = if next <= kept.compacted {
                    json!({"compact_revision": kept.compacted.to_string(), "canceled": true})
                } else {
                    let log = kept
                        .log
                        .iter()
                        .filter(|(revision, key, _)| *revision >= next && within(key));
                    json!({"events": log.map(told_of).collect::<Vec<_>>()})
                };
                let empty = told["events"].as_array().is_some_and(Vec::is_empty);
                if !empty {
                    let line = format!("{}\n", json!({"result": told}));
                    let next = kept.revision + 1;
                    drop(kept);
                    return Some((Ok::<_, std::convert::Infallible>(line), (fake, next, within)));
                }
            }
            news.await;
        }
    });
    axum::body::Body::from_stream(lines).into_response()
}

async fn lease(State(fake): State<Fake>, Path(what): Path<String>, body: axum::body::Bytes) -> Response {
    let call: Value = serde_json::from_slice(&body).expect("JSON");
    let mut kept = fake.kept.lock();
    let id = number(&call["ID"]);
    match what.as_str() {
        "grant" => {
            kept.revision += 1;
            let (id, seconds) = (kept.revision + 1_000, number(&call["TTL"]));
            kept.leases.insert(id, seconds);
            axum::Json(json!({"ID": id.to_string(), "TTL": seconds.to_string()})).into_response()
        }
        "keepalive" => match kept.leases.get(&id) {
            Some(seconds) => {
                axum::Json(json!({"result": {"ID": id.to_string(), "TTL": seconds.to_string()}})).into_response()
            }
            None => axum::Json(json!({"result": {"ID": id.to_string()}})).into_response(),
        },
        _ => {
            kept.leases.remove(&id);
            kept.keys.retain(|_, kv| kv.lease != id);
            axum::Json(json!({})).into_response()
        }
    }
}

async fn version(State(fake): State<Fake>) -> Response {
    let version = fake.kept.lock().version.clone();
    axum::Json(json!({"etcdserver": version.as_deref().unwrap_or("3.4.23")})).into_response()
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address").to_string();
        let fake = Self {
            kept: Arc::default(),
            news: Arc::default(),
            address,
        };
        let range = async |State(fake): State<Self>, body: axum::body::Bytes| {
            let call: Value = serde_json::from_slice(&body).expect("JSON");
            axum::Json(fake.kept.lock().range(&call))
        };
        let router = Router::new()
            .route("/version", get(version))
            .route("/v3/kv/range", post(range))
            .route("/v3/kv/txn", post(transaction))
            .route("/v3/watch", post(watch))
            .route("/v3/lease/{what}", post(lease))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub(crate) fn etcd(&self) -> Arc<Etcd> {
        let address = EtcdAddress::parse(&format!("etcd://{}", self.address)).expect("an address");
        Arc::new(Etcd::new(
            Transport::new(&address, Access::default()).expect("a client"),
        ))
    }

    /// From now on it says that it is of another version.
    pub(crate) fn is(&self, version: &str) {
        self.kept.lock().version = Some(version.to_owned());
    }

    /// What the next transactions meet.
    pub(crate) fn meets(&self, faults: &[Fault]) {
        self.kept.lock().faults.extend(faults);
    }

    /// The trouble is over.
    pub(crate) fn recovers(&self) {
        self.kept.lock().faults.clear();
    }

    /// As if whoever holds the key's lease had not renewed it.
    pub(crate) fn expires(&self, key: &str) {
        let mut kept = self.kept.lock();
        let lease = kept.keys.get(key.as_bytes()).expect("there").lease;
        kept.leases.remove(&lease);
        kept.keys.retain(|_, kv| kv.lease != lease);
    }

    /// Whether watches end, and none begins.
    pub(crate) fn mute(&self, mute: bool) {
        self.kept.lock().mute = mute;
        self.news.notify_waiters();
    }

    /// Forgets what happened up to now.
    pub(crate) fn compact(&self) {
        let mut kept = self.kept.lock();
        kept.compacted = kept.revision;
        kept.log.clear();
    }

    /// From now on only so many transactions are taken; all if `None`.
    pub(crate) fn takes_only(&self, count: Option<usize>) {
        let mut kept = self.kept.lock();
        kept.last = count.map(|count| kept.transactions + count);
    }

    pub(crate) fn transactions(&self) -> usize {
        self.kept.lock().transactions
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.kept.lock().keys.values().map(|kv| kv.key.clone()).collect()
    }

    /// As an operator would.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let mut kept = self.kept.lock();
        kept.revision += 1;
        kept.act(
            &json!({"request_put": {"key": BASE64.encode(key.as_bytes()), "value": BASE64.encode(value.as_bytes())}}),
        );
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_is_no_etcd_or_too_old_is_told() {
    for (body, wanted) in [
        (r#"{"etcdserver":"3.3.27"}"#, "etcd 3.3.27 is too old"),
        (r#"{"etcdserver":"2.3.0"}"#, "too old"),
        (r#"{"etcdserver":"3.10.0"}"#, ""),
        ("<html>", "is it etcd that listens there?"),
        ("{}", "tells no version"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = format!("etcd://{}", listener.local_addr().expect("address"));
        let router = Router::new().route("/version", get(move || std::future::ready(body)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let address = EtcdAddress::parse(&address).expect("an address");
        let etcd = Etcd::new(Transport::new(&address, Access::default()).expect("a client"));
        let told = etcd
            .check(PATIENCE)
            .await
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            told.contains(wanted) && told.is_empty() == wanted.is_empty(),
            "{body}: {told}"
        );
    }
}

#[tokio::test]
async fn a_member_that_is_gone_is_passed_over() {
    let fake = Fake::start().await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let dead = gone.local_addr().expect("address");
    drop(gone);
    let address = EtcdAddress::parse(&format!("etcd://{dead},{}", fake.address)).expect("an address");
    let etcd = Etcd::new(Transport::new(&address, Access::default()).expect("a client"));
    etcd.check(PATIENCE).await.expect("the other answers");
    // A member that sees no majority either: the next is asked, and this one again.
    fake.meets(&[Fault::Cut]);
    let put = Op::Put {
        key: "a".to_owned(),
        value: b"b".to_vec(),
        lease: 0,
    };
    let error = etcd
        .transaction(&[], std::slice::from_ref(&put), &[], PATIENCE)
        .await
        .expect_err("nobody does it");
    assert!(error.may_pass(), "{error}");
    etcd.transaction(&[], &[put], &[], PATIENCE).await.expect("done");
    assert_eq!(
        etcd.get("a", PATIENCE).await.expect("read").map(|kv| kv.value),
        Some(b"b".to_vec())
    );
}

#[test]
fn settings_that_belong_together() {
    let address = EtcdAddress::parse("etcds://a:1").expect("an address");
    type Change = fn(&mut Access);
    let cases: [(Change, &str); 4] = [
        (
            |a| a.user = "me".to_owned(),
            "master.etcd_user is set without master.etcd_password_file",
        ),
        (
            |a| a.password_file = "/x".into(),
            "master.etcd_password_file is set without master.etcd_user",
        ),
        (
            |a| a.certificate = "/x".into(),
            "master.etcd_cert is set without master.etcd_key",
        ),
        (|a| a.ca = "/nowhere".into(), "master.etcd_ca"),
    ];
    for (change, wanted) in cases {
        let mut access = Access::default();
        change(&mut access);
        let error = Transport::new(&address, access).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
