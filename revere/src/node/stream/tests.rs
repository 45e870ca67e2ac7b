//! The follower against masters made of a socket: redirects, deaths in the middle of a record, garbage, silence.

use model::StateSnapshot;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
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
            while !request.ends_with(br#"{"type":"SUBSCRIBE"}"#) {
                assert!(
                    stream.read_buf(&mut request).await.expect("readable") > 0,
                    "a whole request"
                );
            }
            requests.push(String::from_utf8(request).expect("text"));
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
    let (events, receiver) = mpsc::channel(16);
    let status = Arc::new(Status::new());
    let follower = Follower {
        masters: addrs.iter().map(|addr| format!("http://{addr}")).collect(),
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
    let error = subscribe(&format!("http://{addr}")).await.expect_err("no end");
    assert!(matches!(error, StreamError::Redirects(_)), "{error}");
    serving.abort();
}

#[test]
fn waits_double_and_stay_bounded() {
    let mut backoff = Backoff::default();
    let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
    assert!(waits[0] >= FIRST_BACKOFF && waits[0] <= FIRST_BACKOFF * 3 / 2);
    assert!(waits[3] >= FIRST_BACKOFF * 8);
    assert!(waits.iter().all(|wait| *wait <= MAX_BACKOFF * 3 / 2));
}
