//! The follower against masters made of a socket: redirects, deaths in the middle of a record, garbage, silence.

use model::StateSnapshot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::mesos::client::Access;
use crate::mesos::protobuf;
use crate::recordio::encode;

const SUBSCRIBED: &str = r#"{"type":"SUBSCRIBED","subscribed":{"get_state":{},"heartbeat_interval_seconds":0.05}}"#;
const REMOVED: &str = r#"{"type":"AGENT_REMOVED","agent_removed":{"agent_id":{"value":"A"}}}"#;
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";

/// What the fake master does with each connection, in order; afterwards it refuses to answer.
enum Act {
    /// Answers with these bytes and closes.
    Say(Vec<u8>),
    /// Answers with these bytes and stays silent.
    Hold(Vec<u8>),
}

fn stream_of(records: &[&str]) -> Vec<u8> {
    let mut bytes = HEAD.as_bytes().to_vec();
    for record in records {
        bytes.extend_from_slice(&encode(record.as_bytes()));
    }
    bytes
}

/// Starts a master; the handle gives the requests it saw.
async fn master(acts: Vec<Act>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    let serving = tokio::spawn(async move {
        let mut requests = Vec::new();
        let mut held = Vec::new();
        for act in acts {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(br#"{"type":"SUBSCRIBE"}"#) && !request.ends_with(b"\r\n\r\n\x08\x12") {
                assert!(
                    stream.read_buf(&mut request).await.expect("readable") > 0,
                    "a whole request"
                );
            }
            requests.push(String::from_utf8_lossy(&request).into_owned());
            match act {
                Act::Say(bytes) => {
                    // In small pieces: a client must not depend on how bytes arrive.
                    for piece in bytes.chunks(7) {
                        stream.write_all(piece).await.expect("open");
                    }
                    stream.shutdown().await.expect("open");
                }
                Act::Hold(bytes) => {
                    stream.write_all(&bytes).await.expect("open");
                    held.push(stream);
                }
            }
        }
        // The silent connections stay open until the test process ends.
        std::mem::forget(held);
        requests
    });
    (addr, serving)
}

fn follow(addrs: &[&str]) -> (mpsc::Receiver<TaskEvent>, Arc<Status>, JoinHandle<()>) {
    let urls = addrs.iter().map(|addr| format!("http://{addr}")).collect();
    follow_with(watch::channel(urls).1, &Access::default())
}

fn follow_with(masters: Masters, access: &Access) -> (mpsc::Receiver<TaskEvent>, Arc<Status>, JoinHandle<()>) {
    let (events, receiver) = mpsc::channel(16);
    let status = Arc::new(Status::new());
    let follower = Follower {
        masters,
        first: 0,
        position: String::new(),
        client: Client::new(access).expect("no files are named"),
        max_record: 1024 * 1024,
        patience: Patience {
            heartbeats: Duration::from_millis(10)..=Duration::from_millis(500),
            steady: Duration::ZERO,
            record: Duration::from_secs(2),
            ..Patience::default()
        },
        events,
        status: Arc::clone(&status),
    };
    (receiver, status, tokio::spawn(follower.run()))
}

async fn next(events: &mut mpsc::Receiver<TaskEvent>) -> TaskEvent {
    timeout(Duration::from_secs(20), events.recv())
        .await
        .expect("in time")
        .expect("running")
}

fn empty() -> TaskEvent {
    TaskEvent::Snapshot(StateSnapshot::default())
}

fn removed() -> TaskEvent {
    TaskEvent::AgentRemoved(model::AgentId::new("A"))
}

#[tokio::test]
async fn a_redirect_leads_to_the_leader() {
    let (leader, seen) = master(vec![Act::Hold(stream_of(&[SUBSCRIBED, REMOVED]))]).await;
    let redirect =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: //{leader}/api/v1\r\nContent-Length: 0\r\n\r\n");
    let (follower, _) = master(vec![Act::Say(redirect.into_bytes())]).await;
    let (mut events, status, running) = follow(&[&follower]);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, removed());
    let requests = seen.await.expect("served");
    assert!(requests[0].starts_with("POST /api/v1 HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(
        requests[0]
            .to_ascii_lowercase()
            .contains("content-type: application/json\r\n"),
        "{}",
        requests[0]
    );
    assert_eq!(status.facts().master.as_deref(), Some(leader.as_str()));
    running.abort();
}

#[tokio::test]
async fn every_kind_of_end_leads_to_a_new_start() {
    let mut cut = stream_of(&[SUBSCRIBED, REMOVED]);
    cut.truncate(cut.len() - 5);
    let mut garbage = stream_of(&[SUBSCRIBED]);
    garbage.extend_from_slice(b"<html>gateway</html>");
    let no_json = stream_of(&[SUBSCRIBED, "{"]);
    let unavailable = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (addr, _) = master(vec![
        Act::Say(unavailable),
        Act::Say(cut),
        Act::Say(garbage),
        Act::Say(no_json),
        // Ends in order, and silence beyond three heartbeats.
        Act::Say(stream_of(&[SUBSCRIBED])),
        Act::Hold(stream_of(&[SUBSCRIBED])),
        Act::Hold(stream_of(&[SUBSCRIBED, REMOVED])),
    ])
    .await;
    let (mut events, status, running) = follow(&[&addr]);
    for _ in 0..6 {
        assert_eq!(next(&mut events).await, empty());
    }
    assert_eq!(next(&mut events).await, removed());
    assert_eq!(status.metrics.stream_starts.get(), 6);
    assert_eq!(status.metrics.stream_failures.get(), 6);
    running.abort();
}

#[tokio::test]
async fn the_next_master_is_tried() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port")
        .local_addr()
        .expect("bound")
        .to_string();
    let (addr, _) = master(vec![Act::Hold(stream_of(&[SUBSCRIBED]))]).await;
    let (mut events, status, running) = follow(&[&gone, &addr]);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(status.metrics.stream_failures.get(), 1);
    running.abort();
}

#[tokio::test]
async fn masters_in_a_circle_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    let location = format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: //{addr}\r\nContent-Length: 0\r\n\r\n");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.expect("readable") > 0 {}
            stream.write_all(location.as_bytes()).await.expect("open");
        }
    });
    let client = Client::new(&Access::default()).expect("no files are named");
    let error = client.subscribe(&format!("http://{addr}")).await.expect_err("no end");
    assert!(matches!(error, ApiError::Redirects(_)), "{error}");
    serving.abort();
}

#[tokio::test]
async fn protobuf_is_asked_for_and_read() {
    let record = |text: &str| protobuf::from_json(&protobuf::EVENT, &serde_json::from_str(text).expect("JSON"));
    let mut bytes = HEAD.replace("application/json", protobuf::CONTENT_TYPE).into_bytes();
    for text in [SUBSCRIBED, REMOVED] {
        bytes.extend_from_slice(&encode(&record(text)));
    }
    let (addr, seen) = master(vec![Act::Hold(bytes)]).await;
    let access = Access {
        encoding: Encoding::Protobuf,
        ..Access::default()
    };
    let masters = watch::channel(vec![format!("http://{addr}")]).1;
    let (mut events, _, running) = follow_with(masters, &access);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, removed());
    let requests = seen.await.expect("served");
    assert!(
        requests[0].contains("accept: application/x-protobuf\r\n"),
        "{}",
        requests[0]
    );
    running.abort();
}

/// `SUBSCRIBED` with another heartbeat interval.
fn promising(seconds: &str) -> Vec<u8> {
    stream_of(&[&SUBSCRIBED.replace("0.05", seconds)])
}

#[tokio::test]
async fn a_master_that_lies_about_heartbeats_is_left_all_the_same() {
    // One promises none for thirty years, one for no time at all; both fall silent.
    let (addr, _) = master(vec![
        Act::Hold(promising("1e9")),
        Act::Hold(promising("1e-9")),
        Act::Hold(stream_of(&[SUBSCRIBED, REMOVED])),
    ])
    .await;
    let (mut events, status, running) = follow(&[&addr]);
    for _ in 0..3 {
        assert_eq!(next(&mut events).await, empty());
    }
    assert_eq!(next(&mut events).await, removed());
    assert_eq!(status.metrics.stream_failures.get(), 2);
    running.abort();
}

#[tokio::test]
async fn a_record_without_end_and_one_too_large_are_refused() {
    let mut huge = stream_of(&[SUBSCRIBED]);
    huge.extend_from_slice(b"1073741824\n{\"type\":");
    let (addr, _) = master(vec![Act::Say(huge), Act::Hold(stream_of(&[SUBSCRIBED, REMOVED]))]).await;
    let (mut events, status, running) = follow(&[&addr]);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, removed());
    let told = status.facts().last_error.expect("told");
    assert!(told.contains("longer than the limit of 1048576 bytes"), "{told}");
    running.abort();
    // A byte now and then is no sign of life for ever.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    let (mut events, status, running) = follow(&[&addr]);
    let (mut stream, _) = listener.accept().await.expect("a connection");
    stream.write_all(&promising("0.5")).await.expect("open");
    stream.write_all(b"1000\n").await.expect("open");
    let trickle = async {
        while stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(20), trickle)
        .await
        .expect("given up in time");
    assert_eq!(next(&mut events).await, empty());
    let told = status.facts().last_error.expect("told");
    assert!(told.contains("not whole after"), "{told}");
    running.abort();
}

#[tokio::test]
async fn a_new_leader_is_followed_at_once() {
    let (old, _) = master(vec![Act::Hold(promising("1e9"))]).await;
    let (new, _) = master(vec![Act::Hold(stream_of(&[SUBSCRIBED, REMOVED]))]).await;
    let (leaders, masters) = watch::channel(Vec::new());
    let (mut events, status, running) = follow_with(masters, &Access::default());
    leaders.send_replace(vec![format!("http://{old}")]);
    assert_eq!(next(&mut events).await, empty());
    leaders.send_replace(vec![format!("http://{new}"), format!("http://{old}")]);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, removed());
    assert_eq!(status.facts().master.as_deref(), Some(new.as_str()));
    running.abort();
}

#[tokio::test]
async fn unknown_events_are_skipped_and_counted() {
    let odd = r#"{"type":"MOON_PHASE_CHANGED","moon_phase_changed":{"phase":7}}"#;
    let (addr, _) = master(vec![Act::Hold(stream_of(&[SUBSCRIBED, odd, odd, REMOVED]))]).await;
    let (mut events, status, running) = follow(&[&addr]);
    assert_eq!(next(&mut events).await, empty());
    assert_eq!(next(&mut events).await, removed());
    let kind = Kind { kind: "event" };
    assert_eq!(status.metrics.decode_rejects.get_or_create_owned(&kind).get(), 2);
    running.abort();
}

#[test]
fn waits_double_and_stay_bounded() {
    let mut backoff = Backoff::default();
    let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
    assert!(waits[0] >= FIRST_BACKOFF && waits[0] <= FIRST_BACKOFF * 3 / 2);
    assert!(waits[3] >= FIRST_BACKOFF * 8);
    assert!(waits.iter().all(|wait| *wait <= MAX_BACKOFF * 3 / 2));
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was() {
    let position = |text: &str| format!(r#"{{"type":"REVERE_POSITION","position":"{text}"}}"#);
    let resumed = r#"{"type":"REVERE_RESUMED","heartbeat_interval_seconds":0.05}"#;
    let (first, seen) = master(vec![
        Act::Say(stream_of(&[SUBSCRIBED, &position("x/7"), REMOVED, &position("x/9")])),
        Act::Say(stream_of(&[resumed, REMOVED])),
        Act::Say(stream_of(&[SUBSCRIBED])),
        Act::Hold(stream_of(&[SUBSCRIBED])),
    ])
    .await;
    let (mut events, status, running) = follow(&[&first]);
    // No snapshot between the two, and each time a stream that stands.
    for wanted in [empty(), removed(), removed(), empty(), empty()] {
        assert_eq!(next(&mut events).await, wanted);
    }
    let requests = seen.await.expect("served");
    let told = |number: usize| {
        let lines = requests[number].lines();
        let told = lines.filter_map(|line| {
            line.strip_prefix("x-revere-position: ")
                .or(line.strip_prefix("x-revere-position:"))
        });
        told.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        (told(0), told(1), told(2)),
        (vec![String::new()], vec!["x/9".to_owned()], vec!["x/9".to_owned()])
    );
    assert_eq!(told(3), vec![String::new()], "a stream without positions leaves none");
    assert_eq!(status.metrics.stream_resumed.get(), 1);
    assert!(status.metrics.stream_bytes.get() > 0);
    assert_eq!(status.facts().master.as_deref(), Some(first.as_str()));
    running.abort();
}
