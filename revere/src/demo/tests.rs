//! Server and load generator against each other on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::load::{FailureKind, LoadArgs, Report, measure};
use super::server::{ServerError, listen, serve};

struct Running {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

fn start(name: &str) -> Running {
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, name.to_owned(), async move {
        let _ = stopped.await;
    }));
    Running { addr, stop, served }
}

async fn load(addr: SocketAddr, path: &str, more: &[&str]) -> Report {
    let url = format!("http://{addr}{path}");
    let mut args = vec!["demo-load", "--url", &url];
    args.extend(more);
    measure(LoadArgs::try_parse_from(args).expect("good arguments"))
        .await
        .expect("measured")
}

#[tokio::test]
async fn every_request_is_answered_by_name() {
    let server = start("web.1");
    for mode in [
        &["--requests", "200"][..],
        &["--requests", "200", "--keep-alive", "--concurrency", "3"],
    ] {
        let report = load(server.addr, "/", mode).await;
        assert_eq!((report.total, report.ok, report.failed), (200, 200, 0), "{report:?}");
        assert_eq!(report.by_instance, BTreeMap::from([("web.1".to_owned(), 200)]));
        assert!(report.p50_us <= report.p99_us && report.p99_us <= report.max_us && report.max_us > 0);
        assert!(report.last_seen["web.1"] >= report.started_ms);
        assert_eq!(report.broken, 0);
    }
    let held = load(server.addr, "/", &["--requests", "6", "--connections", "3", "--hold"]).await;
    assert_eq!((held.ok, held.broken, held.connections), (6, 0, 3), "{held:?}");
}

#[tokio::test]
async fn a_server_that_is_stopped_loses_nothing_it_accepted() {
    let server = start("web.2");
    // Under way when the server stops: the answer comes after the stop.
    let slow = tokio::spawn(load_owned(server.addr, "/slow?ms=300"));
    // Connected in the kernel, first byte sent only after the stop.
    let late = tokio::net::TcpStream::connect(server.addr).await.expect("listening");
    let ready = load(server.addr, "/ready", &["--requests", "1"]).await;
    assert_eq!(ready.by_instance.keys().next().map(String::as_str), Some("ready"));
    server.stop.send(()).expect("running");
    let mut late = tokio::io::BufStream::new(late);
    let answer = ask(&mut late).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("web.2\n"),
        "{answer}"
    );
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    let report = slow.await.expect("no panic");
    assert_eq!((report.ok, report.failed), (1, 0), "{report:?}");
    server.served.await.expect("ended by itself");
    let after = load(server.addr, "/", &["--requests", "2"]).await;
    assert_eq!((after.ok, after.failed), (0, 2));
    assert!(
        after
            .failures
            .iter()
            .all(|failure| failure.kind == FailureKind::ConnectRefused),
        "{after:?}"
    );
}

async fn load_owned(addr: SocketAddr, path: &'static str) -> Report {
    load(addr, path, &["--requests", "1"]).await
}

async fn ask(stream: &mut tokio::io::BufStream<tokio::net::TcpStream>) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("open");
    stream.flush().await.expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("closed in order");
    answer
}

#[tokio::test]
async fn failures_are_named() {
    // A port that accepts and hangs up.
    let hangs_up = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let addr = hangs_up.local_addr().expect("bound");
    let closing = tokio::spawn(async move {
        while let Ok((stream, _)) = hangs_up.accept().await {
            drop(stream);
        }
    });
    let reset = load(addr, "/", &["--requests", "3"]).await;
    assert_eq!(reset.by_kind, BTreeMap::from([("reset", 3)]), "{reset:?}");
    assert!(reset.failures.iter().all(|failure| failure.failed_ms >= failure.at_ms));
    closing.abort();

    let server = start("web.3");
    let bad = load(server.addr, "/slow?ms=x", &["--requests", "1"]).await;
    assert_eq!(bad.by_kind, BTreeMap::from([("bad_answer", 1)]), "{bad:?}");
    let late = load(server.addr, "/slow?ms=5000", &["--requests", "1", "--timeout-ms", "50"]).await;
    assert_eq!(late.by_kind, BTreeMap::from([("answer_timeout", 1)]), "{late:?}");
}

#[tokio::test]
async fn a_port_in_use_is_said_clearly() {
    let server = start("web.4");
    let error = listen(server.addr).expect_err("in use");
    assert!(matches!(error, ServerError::PortInUse(_)));
    assert!(error.to_string().contains("port is in use"), "{error}");
}

#[tokio::test]
async fn a_timeline_has_a_line_per_request() {
    let server = start("web.5");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("timeline");
    let file = file.to_str().expect("plain path");
    load(server.addr, "/", &["--requests", "5", "--timeline", file]).await;
    let lines = std::fs::read_to_string(file).expect("written");
    assert_eq!(lines.lines().count(), 5);
    assert!(lines.lines().all(|line| line.ends_with(" ok web.5")), "{lines}");
}
