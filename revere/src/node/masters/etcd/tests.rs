//! Tests of etcd as the teller of the leader, against answers in the words of etcd 3.4.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::mesos::client::Access;

/// Longest wait for anything here.
const DEADLINE: Duration = Duration::from_secs(20);

fn info(host: u8) -> String {
    json!({"address": {"ip": format!("10.0.0.{host}"), "port": 5050}}).to_string()
}

fn entry(key: &str, value: &str) -> Value {
    json!({"key": BASE64.encode(key.as_bytes()), "value": BASE64.encode(value.as_bytes()), "create_revision": "7"})
}

#[test]
fn addresses_are_taken_apart() {
    let address = EtcdAddress::parse("etcd://a:2379,b/mesos/").expect("valid");
    assert_eq!(address.servers, ["http://a:2379", "http://b:2379"]);
    assert_eq!(address.path, "/mesos");
    assert!(
        EtcdAddress::parse("etcds://a/v2/keys/mesos")
            .expect("valid")
            .is_secure()
    );
    for bad in [
        "etcd://a",
        "etcd://a/",
        "etcd:///mesos",
        "etcd://a:port/m",
        "etcd://me:secret@a/m",
        "http://a/m",
        "etcd://a/m//n",
        "etcd://a/v2/keys/",
    ] {
        assert_eq!(EtcdAddress::parse(bad), None, "{bad}");
    }
}

#[test]
fn values_come_in_the_order_of_their_creation() {
    let answer =
        json!({"kvs": [entry("/mesos/b", "one"), entry("/mesos-old", "x"), entry("/mesos", "two"), {"key": "?"}]});
    assert_eq!(of_v3(&answer, "/mesos"), ["one", "two"]);
    assert_eq!(of_v3(&json!({"header": {}}), "/mesos"), [""; 0]);
    let node =
        json!({"dir": true, "nodes": [{"value": "late", "createdIndex": 9}, {"value": "first", "createdIndex": 3}]});
    assert_eq!(of_v2(&node), ["first", "late"]);
    assert_eq!(of_v2(&json!({"value": "alone"})), ["alone"]);
    assert_eq!(of_v2(&Value::Null), [""; 0]);
}

/// An etcd that says what it is told to say, and hears the calls.
#[derive(Clone, Default)]
struct Fake {
    leader: Arc<Mutex<Option<u8>>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

async fn serve(fake: Fake) -> String {
    let range = async |State(fake): State<Fake>, headers: HeaderMap, Json(call): Json<Value>| {
        assert!(
            !headers.contains_key("authorization"),
            "the masters' token went to etcd"
        );
        fake.asked.lock().push(call);
        let leader = *fake.leader.lock();
        let entries: Vec<Value> = leader.iter().map(|host| entry("/mesos", &info(*host))).collect();
        Json(json!({"kvs": entries}))
    };
    let keys = async |State(fake): State<Fake>| match *fake.leader.lock() {
        Some(host) => (StatusCode::OK, Json(json!({"node": {"value": info(host)}}))),
        None => (
            StatusCode::NOT_FOUND,
            Json(json!({"errorCode": 100, "message": "Key not found"})),
        ),
    };
    let routes = Router::new()
        .route("/v3/kv/range", post(range))
        .route("/v2/keys/mesos", get(keys))
        .with_state(fake);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async { axum::serve(listener, routes).await });
    addr.to_string()
}

#[tokio::test]
async fn a_new_leader_is_told_by_either_version() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "secret").expect("written");
    let access = Access {
        token,
        ..crate::node::Config::default().access()
    };
    for path in ["mesos", "v2/keys/mesos"] {
        let fake = Fake::default();
        let server = serve(fake.clone()).await;
        // Nobody is at the first one.
        let address = EtcdAddress::parse(&format!("etcd://127.0.0.1:1,{server}/{path}")).expect("valid");
        let (sender, mut masters) = watch::channel(Vec::new());
        let client = Client::new(&access).expect("a client");
        let watcher = tokio::spawn(watch(address, client, "http", sender));
        for host in [1, 2] {
            *fake.leader.lock() = Some(host);
            let url = format!("http://10.0.0.{host}:5050");
            let told = timeout(DEADLINE, masters.wait_for(|known| *known == [url.clone()])).await;
            assert!(told.is_ok_and(|told| told.is_ok()), "{path}: {url} was not told");
        }
        *fake.leader.lock() = None;
        watcher.abort();
        let asked = fake.asked.lock().clone();
        if path == "mesos" {
            assert_eq!(asked[0]["key"], BASE64.encode(b"/mesos"));
            assert_eq!(asked[0]["range_end"], BASE64.encode(b"/mesos0"));
        }
    }
}
