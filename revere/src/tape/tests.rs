//! A recorded stream in the tree, what it means, and what becomes of damaged files.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::mesos::decode::{Encoding, decode, decode_protobuf};
use crate::mesos::protobuf;

/// A Mesos cluster whose leading master changes. Shapes are those of Mesos 1.11 under DC/OS.
const FAILOVER: &[u8] = include_bytes!("testdata/failover.stream");

const EXPECTED: &str = include_str!("testdata/failover.json");

const HOLD: Duration = Duration::from_secs(600);

fn failover() -> Tape {
    Tape::parse(FAILOVER).expect("a recorded stream")
}

#[test]
fn the_recorded_stream_means_what_it_meant() {
    let told = replay::tell(&failover(), HOLD, Duration::MAX);
    let expected: serde_json::Value = serde_json::from_str(EXPECTED).expect("JSON");
    assert_eq!(
        told, expected,
        "if this is meant, write testdata/failover.json anew:\n{told:#}"
    );
}

#[test]
fn no_service_is_lost_while_agents_come_back() {
    let mut fewest = usize::MAX;
    let watch = |at: Duration, snapshot: &model::Snapshot| {
        if (24..60).contains(&at.as_secs()) {
            let service = snapshot.services.values().next().expect("the service stays");
            fewest = fewest.min(service.backends.len());
        }
    };
    fold::fold(&failover(), model::VipRange::default(), HOLD, Duration::MAX, watch);
    assert_eq!(fewest, 2, "only the task that ended unheard leaves");
    // Without a hold the service goes with the first state of the new master: the test can tell.
    let mut gone = false;
    let watch = |_: Duration, snapshot: &model::Snapshot| gone |= snapshot.services.is_empty();
    fold::fold(
        &failover(),
        model::VipRange::default(),
        Duration::ZERO,
        Duration::MAX,
        watch,
    );
    assert!(gone);
}

#[test]
fn protobuf_means_the_same() {
    let mut tape = failover();
    tape.header.encoding = Encoding::Protobuf;
    for one in &mut tape.said {
        let value: serde_json::Value = serde_json::from_slice(&one.record).expect("JSON");
        let bytes = protobuf::from_json(&protobuf::EVENT, &value);
        // Types that the protobuf has no word for are left out of the bytes.
        if value["type"] != "AGENT_DRAIN_STARTED" && value["task_updated"]["state"] != "TASK_HIBERNATING" {
            assert_eq!(
                decode_protobuf(&bytes).expect("a record").message,
                decode(&one.record).expect("a record").message
            );
        }
        one.record = bytes.into();
    }
    tape.said.retain(|one| !one.record.is_empty());
    let (ours, theirs) = (
        replay::tell(&tape, HOLD, Duration::MAX),
        replay::tell(&failover(), HOLD, Duration::MAX),
    );
    assert_eq!(
        (&ours["services"], &ours["names"]),
        (&theirs["services"], &theirs["names"])
    );
}

#[test]
fn a_file_survives_the_round_and_a_cut() {
    let tape = failover();
    assert_eq!(tape.to_bytes(), FAILOVER);
    assert!(!tape.cut);
    let cut = Tape::parse(&FAILOVER[..FAILOVER.len() - 3]).expect("readable");
    assert_eq!((cut.said.len(), cut.cut), (tape.said.len() - 1, true));
    assert_eq!(cut.said, tape.said[..tape.said.len() - 1]);
    let until = Duration::from_secs(10);
    let told = replay::tell(&tape, HOLD, until);
    assert_eq!(told["services"][0]["backends"].as_array().map(Vec::len), Some(3));
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let refused = |bytes: &[u8]| Tape::parse(bytes).expect_err("no stream").to_string();
    assert!(refused(b"").contains("empty"));
    assert!(refused(b"<html>").contains("no RecordIO"), "{}", refused(b"<html>"));
    assert!(refused(&recordio::encode(b"{}")).contains("revere record"));
    let mut newer = Header::new(Encoding::Json, "m", 0);
    newer.revere_stream = 2;
    assert!(refused(&newer.to_bytes()).contains("version 2"));
    let mut bytes = Header::new(Encoding::Json, "m", 0).to_bytes().to_vec();
    bytes.extend_from_slice(&recordio::encode(b"{\"type\":\"HEARTBEAT\"}"));
    assert!(refused(&bytes).contains("record 1 begins without the time"));
}

#[tokio::test]
async fn a_served_file_is_a_master() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(serve::serve(listener, failover(), serve::Speed::AtOnce));
    let dir = tempfile::tempdir().expect("a directory");
    let args = record::RecordArgs {
        file: dir.path().join("again.stream"),
        config: Default::default(),
        master: None,
        protobuf: false,
        seconds: None,
    };
    let config = crate::node::Config {
        master: vec![url],
        ..Default::default()
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let recording = tokio::spawn({
        let (stop, config) = (stop.clone(), config.clone());
        async move { record::run(&args, config, stop).await }
    });
    let wanted = failover();
    let file = dir.path().join("again.stream");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let again = loop {
        let read = Tape::open(&file)
            .ok()
            .filter(|tape| tape.said.len() >= wanted.said.len());
        match read {
            Some(tape) => break tape,
            None => assert!(tokio::time::Instant::now() < deadline, "nothing is recorded"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    stop.cancel();
    recording.await.expect("ended").expect("written");
    let records = |tape: &Tape| tape.said.iter().map(|one| one.record.clone()).collect::<Vec<_>>();
    assert_eq!(records(&again)[..wanted.said.len()], records(&wanted)[..]);
    assert_eq!(again.header.encoding, Encoding::Json);
    assert_eq!(json!(again.header.encoding), "json");
}
