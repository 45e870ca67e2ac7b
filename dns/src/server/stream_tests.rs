//! TLS, HTTPS, limits of connections and the hand-over of sockets, on real sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use super::*;
use crate::TlsFiles;
use crate::fixture::{cluster, question, view, web};

const NAME: &str = "my-service.marathon.mesos.";
/// Far above what an answer takes; only so that a fault ends the test.
const DEADLINE: Duration = Duration::from_secs(20);

/// Writes a certificate for 127.0.0.1 and its key; gives the certificate.
fn certify(dir: &Path) -> rustls::pki_types::CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(dir.join("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).expect("written");
    certificate.der().clone()
}

fn config(dir: &Path) -> Config {
    let any = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    Config {
        listen: any.clone(),
        listen_tls: any.clone(),
        listen_https: any,
        tls: Some(TlsFiles {
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
        }),
        ..Config::default()
    }
}

async fn serve(config: Config) -> Server {
    let zones = crate::desired(
        &cluster(vec![web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)]),
        &view(),
        &config,
    );
    let server = Server::bind(config).await.expect("free ports");
    server.publish(zones);
    server
}

async fn tls(
    addr: SocketAddr,
    trusted: &rustls::pki_types::CertificateDer<'static>,
    speech: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![speech.to_vec()];
    let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let stream = TcpStream::connect(addr).await?;
    timeout(DEADLINE, TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await
        .expect("in time")
}

fn one_address(bytes: &[u8]) {
    let answer = Message::from_vec(bytes).expect("parses");
    assert_eq!(answer.answers.len(), 1, "{answer}");
    assert_eq!(answer.answers[0].data.to_string(), "9.0.1.2");
}

/// Right and wrong requests by HTTP/2.
async fn http2(doh: SocketAddr, trusted: &rustls::pki_types::CertificateDer<'static>, message: &[u8]) {
    let stream = TokioIo::new(tls(doh, trusted, b"h2").await.expect("TLS"));
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .expect("HTTP/2");
    let driver = tokio::spawn(connection);
    let ask = |method: &str, uri: String, kind: &str, body: Vec<u8>| {
        Request::builder()
            .method(method)
            .uri(format!("https://127.0.0.1{uri}"))
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .expect("a request")
    };
    let dns = "application/dns-message";
    let encoded = BASE64URL_NOPAD.encode(message);
    for (request, status) in [
        (ask("POST", "/dns-query".into(), dns, message.to_vec()), 200),
        (ask("GET", format!("/dns-query?dns={encoded}"), "", Vec::new()), 200),
        (ask("GET", "/dns-query?dns=!".into(), "", Vec::new()), 400),
        (ask("GET", "/dns-query".into(), "", Vec::new()), 400),
        (ask("POST", "/dns-query".into(), dns, vec![1, 2]), 400),
        (ask("POST", "/other".into(), dns, message.to_vec()), 404),
        (ask("PUT", "/dns-query".into(), dns, message.to_vec()), 405),
        (ask("POST", "/dns-query".into(), dns, vec![0; 5000]), 413),
        (ask("POST", "/dns-query".into(), "text/plain", message.to_vec()), 415),
    ] {
        let told = format!("{} {}", request.method(), request.uri());
        let answer = timeout(DEADLINE, client.send_request(request))
            .await
            .expect("in time")
            .expect("an answer");
        assert_eq!(
            answer.status(),
            StatusCode::from_u16(status).expect("a status"),
            "{told}"
        );
        if status == 200 {
            assert_eq!(answer.headers()["cache-control"], "max-age=60");
            assert_eq!(answer.headers()["content-type"], dns);
            one_address(&answer.into_body().collect().await.expect("a body").to_bytes());
        }
    }
    drop(client);
    driver.abort();
}

#[tokio::test]
async fn names_are_served_over_tls_and_https() {
    let dir = tempfile::tempdir().expect("a directory");
    let trusted = certify(dir.path());
    let server = serve(config(dir.path())).await;
    let [_, dot, doh] = server.stream_addrs()[..] else {
        panic!("three listeners")
    };
    let message = question(NAME, RecordType::A, None).to_vec().expect("encodes");

    let mut stream = tls(dot, &trusted, b"dot").await.expect("TLS");
    for _ in 0..3 {
        stream
            .write_u16(u16::try_from(message.len()).expect("short"))
            .await
            .expect("written");
        stream.write_all(&message).await.expect("written");
        let length = timeout(DEADLINE, stream.read_u16())
            .await
            .expect("in time")
            .expect("an answer");
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.expect("an answer");
        one_address(&answer);
    }

    http2(doh, &trusted, &message).await;

    let encoded = BASE64URL_NOPAD.encode(&message);
    let mut stream = tls(doh, &trusted, b"http/1.1").await.expect("TLS");
    let request = format!("GET /dns-query?dns={encoded} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut text = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut text))
        .await
        .expect("in time")
        .expect("an answer");
    let body = text.windows(4).position(|part| part == b"\r\n\r\n").expect("a body") + 4;
    assert!(text.starts_with(b"HTTP/1.1 200"));
    one_address(&text[body..]);
    server.shutdown().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = certify(dir.path());
    let files = config(dir.path()).tls.expect("set");
    let certificate = Certificate::open(files.clone()).expect("reads");
    let shown = || certificate.current().cert[0].clone();
    assert_eq!(shown(), first);
    std::fs::write(&files.key, "nonsense").expect("written");
    certificate.look();
    assert_eq!(shown(), first);
    // Another length, so that it is seen however coarse the file system's clock.
    let second = certify(dir.path());
    let text = std::fs::read_to_string(&files.key).expect("reads");
    std::fs::write(&files.key, format!("{text}\n")).expect("written");
    certificate.look();
    assert_eq!(shown(), second);
    // The key of another certificate.
    let key = std::fs::read(&files.key).expect("reads");
    certify(dir.path());
    std::fs::write(&files.key, key).expect("written");
    assert!(Certificate::open(files.clone()).is_err());
    std::fs::remove_file(&files.key).expect("removed");
    let error = Server::bind(config(dir.path())).await.expect_err("no key").to_string();
    assert!(error.contains("key.pem"), "{error}");
}

#[tokio::test]
async fn long_messages_are_refused_and_many_at_once_answered() {
    let server = serve(Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    })
    .await;
    let addr = server.stream_addrs()[0];
    let message = question(NAME, RecordType::A, None).to_vec().expect("encodes");
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    let framed = [
        &u16::try_from(message.len()).expect("short").to_be_bytes()[..],
        &message,
    ]
    .concat();
    stream.write_all(&framed.repeat(200)).await.expect("written");
    for _ in 0..200 {
        let length = timeout(DEADLINE, stream.read_u16())
            .await
            .expect("in time")
            .expect("an answer");
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.expect("an answer");
        one_address(&answer);
    }
    let mut long = message.clone();
    long.resize(65_535, 0);
    stream
        .write_all(&[&[0xff, 0xff][..], &long].concat())
        .await
        .expect("written");
    assert_eq!(
        timeout(DEADLINE, stream.read_u16())
            .await
            .expect("in time")
            .expect("an answer"),
        12
    );
    let mut header = [0; 12];
    stream.read_exact(&mut header).await.expect("an answer");
    assert_eq!(header[3] & 15, 1, "FORMERR");
    server.shutdown().await;
}

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let server = serve(Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    })
    .await;
    let addr = server.stream_addrs()[0];
    let mut held = Vec::new();
    for _ in 0..crate::stream::MAX_OF_ONE {
        held.push(TcpStream::connect(addr).await.expect("connected"));
    }
    let mut one_more = TcpStream::connect(addr).await.expect("connected");
    let read = timeout(DEADLINE, one_more.read(&mut [0; 1])).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "closed at once");
    let other = tokio::net::TcpSocket::new_v4().expect("a socket");
    other.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("bound");
    let mut other = other.connect(addr).await.expect("connected");
    let message = question(NAME, RecordType::A, None).to_vec().expect("encodes");
    other
        .write_u16(u16::try_from(message.len()).expect("short"))
        .await
        .expect("written");
    other.write_all(&message).await.expect("written");
    timeout(DEADLINE, other.read_u16())
        .await
        .expect("in time")
        .expect("an answer");
    server.shutdown().await;
}

/// While nobody reads, questions wait in the sockets that somebody still holds.
#[tokio::test]
async fn sockets_go_from_one_server_to_the_next() {
    let config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        workers: 2,
        ..Config::default()
    };
    let first = serve(config.clone()).await;
    let addr = first.local_addrs()[0];
    let kept = first.sockets().expect("handles");
    assert_eq!(kept.len(), 3);
    first.shutdown().await;
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let message = question(NAME, RecordType::A, None).to_vec().expect("encodes");
    client.send_to(&message, addr).await.expect("sent");
    let mut stream = TcpStream::connect(addr).await.expect("in the backlog");
    stream
        .write_u16(u16::try_from(message.len()).expect("short"))
        .await
        .expect("written");
    stream.write_all(&message).await.expect("written");

    let config = Config {
        listen: vec![addr],
        ..config
    };
    assert!(Server::bind(config.clone()).await.is_err(), "somebody holds the port");
    let zones = crate::desired(
        &cluster(vec![web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)]),
        &view(),
        &config,
    );
    let second = Server::bind_with(config, Inherited::new(kept), Some(zones))
        .await
        .expect("inherited");
    let mut answer = [0; 512];
    let length = timeout(DEADLINE, client.recv(&mut answer))
        .await
        .expect("in time")
        .expect("an answer");
    let code = answer[3] & 15;
    assert!(code == 0 && length > message.len(), "code {code}");
    timeout(DEADLINE, stream.read_u16())
        .await
        .expect("in time")
        .expect("an answer");
    second.shutdown().await;
}
