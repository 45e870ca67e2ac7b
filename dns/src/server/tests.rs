//! The server on real sockets, asked by a client made by hand.

use std::net::Ipv4Addr;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::fixture::{cluster, question, view, web};

const VIP: &str = "My-Service.maraTHON.l4lb.thisdcos.directory.";
const SRV: &str = "_my-service._tcp.marathon.mesos.";
/// Far above what an answer takes; only so that a fault ends the test.
const DEADLINE: Duration = Duration::from_secs(20);

fn local() -> Config {
    Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..Config::default()
    }
}

async fn serve(config: Config, backends: u8) -> Server {
    let tasks = (0..backends).map(|i| {
        web(
            &format!("t{i}"),
            usize::from(i % 3),
            Ipv4Addr::new(9, 0, 1 + i % 3, i),
            31000,
        )
    });
    let zones = crate::desired(&cluster(tasks.collect()), &view(), &config);
    let server = Server::bind(config).await.expect("a free port");
    server.publish(zones);
    server
}

async fn udp(server: &Server, message: &Message) -> Message {
    Message::from_vec(&udp_bytes(server, &message.to_vec().expect("encodes")).await).expect("parses")
}

async fn udp_bytes(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(server.local_addrs()[0]).await.expect("connected");
    socket.send(bytes).await.expect("sent");
    let mut buffer = vec![0; 65_535];
    let length = timeout(DEADLINE, socket.recv(&mut buffer))
        .await
        .expect("an answer in time")
        .expect("received");
    buffer.truncate(length);
    buffer
}

async fn tcp(server: &Server, message: &Message) -> Message {
    let bytes = message.to_vec().expect("encodes");
    let exchange = async {
        let mut stream = TcpStream::connect(server.local_addrs()[0]).await?;
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await?;
        stream.write_all(&bytes).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(DEADLINE, exchange).await.expect("in time").expect("exchanged");
    Message::from_vec(&answer).expect("parses")
}

#[tokio::test]
async fn vip_names_answer_with_the_case_asked() {
    let server = serve(local(), 3).await;
    for answer in [
        udp(&server, &question(VIP, RecordType::A, None)).await,
        tcp(&server, &question(VIP, RecordType::A, None)).await,
    ] {
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.metadata.authoritative && !answer.metadata.truncation);
        assert_eq!(answer.metadata.id, 4711);
        let [record] = &answer.answers[..] else {
            panic!("{answer}")
        };
        assert_eq!(record.ttl, 5);
        let RData::A(addr) = &record.data else {
            panic!("{answer}")
        };
        assert_eq!(addr.0.octets()[0], 11);
        for name in [answer.queries[0].name(), &record.name] {
            assert_eq!(name.to_ascii(), VIP);
        }
    }
    assert_eq!(server.counters().answered, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn services_bring_the_addresses_of_their_targets() {
    let server = serve(local(), 3).await;
    let answer = udp(&server, &question(SRV, RecordType::SRV, Some(1232))).await;
    assert_eq!(answer.answers.len(), 3);
    assert_eq!(answer.additionals.len(), 3);
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else {
            panic!("{answer}")
        };
        assert_eq!((srv.port, record.ttl), (8080, 60));
        assert!(
            answer
                .additionals
                .iter()
                .any(|a| a.name == srv.target && a.record_type() == RecordType::A)
        );
    }
    server.shutdown().await;
}

#[tokio::test]
async fn absence_has_the_zones_soa() {
    let server = serve(local(), 1).await;
    for (name, rtype, code, apex) in [
        ("nobody.Mesos.", RecordType::A, ResponseCode::NXDomain, "Mesos."),
        ("nobody.mesos.", RecordType::SRV, ResponseCode::NXDomain, "mesos."),
        (VIP, RecordType::TXT, ResponseCode::NoError, "l4lb.thisdcos.directory."),
        (VIP, RecordType::AAAA, ResponseCode::NoError, "l4lb.thisdcos.directory."),
        (
            "a.dclb.thisdcos.global.",
            RecordType::A,
            ResponseCode::NXDomain,
            "dclb.thisdcos.global.",
        ),
        ("marathon.mesos.", RecordType::A, ResponseCode::NoError, "mesos."),
    ] {
        let answer = udp(&server, &question(name, rtype, None)).await;
        assert_eq!(answer.metadata.response_code, code, "{name} {rtype}");
        assert!(answer.answers.is_empty());
        let [soa] = &answer.authorities[..] else {
            panic!("{name}: {answer}")
        };
        assert_eq!((soa.name.to_ascii().as_str(), soa.ttl), (apex, 5));
        assert_eq!(soa.record_type(), RecordType::SOA);
    }
    let counters = server.counters();
    assert_eq!((counters.no_name, counters.no_data), (3, 3));
    server.shutdown().await;
}

#[tokio::test]
async fn what_udp_cannot_hold_comes_by_tcp() {
    let server = serve(local(), 200).await;
    for (payload, limit) in [(None, 512), (Some(4096), 1232)] {
        let message = question(SRV, RecordType::SRV, payload);
        let bytes = udp_bytes(&server, &message.to_vec().expect("encodes")).await;
        assert!(bytes.len() <= limit, "{}", bytes.len());
        let answer = Message::from_vec(&bytes).expect("parses");
        assert!(answer.metadata.truncation && answer.edns.is_some() == payload.is_some());
        let whole = tcp(&server, &message).await;
        assert!(!whole.metadata.truncation);
        assert_eq!((whole.answers.len(), whole.additionals.len()), (200, 200));
    }
    assert_eq!(server.counters().truncated, 2);
    server.shutdown().await;
}

#[tokio::test]
async fn malformed_messages_get_formerr_and_the_server_lives() {
    let server = serve(local(), 1).await;
    let mut broken = question(VIP, RecordType::A, None).to_vec().expect("encodes");
    broken.truncate(20);
    let answer = Message::from_vec(&udp_bytes(&server, &broken).await).expect("parses");
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(udp(&server, &question(VIP, RecordType::A, None)).await.answers.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn other_names_come_from_upstream() {
    let above = Config {
        domain: "up.example".to_owned(),
        masters: vec![([192, 0, 2, 1], 5050).into()],
        ..local()
    };
    let above = serve(above, 200).await;
    let below = Config {
        upstreams: above.local_addrs().to_vec(),
        ..local()
    };
    let below = serve(below, 1).await;
    let answer = udp(&below, &question("Leader.up.example.", RecordType::A, None)).await;
    assert_eq!(answer.answers[0].data.to_string(), "192.0.2.1");
    assert_eq!(
        answer.answers[0].name.to_string().to_ascii_lowercase(),
        "leader.up.example."
    );
    assert!(answer.metadata.recursion_available && !answer.metadata.authoritative);
    let absent = udp(&below, &question("nobody.up.example.", RecordType::A, None)).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(absent.authorities.len(), 1);
    let refused = udp(&below, &question("example.org.", RecordType::A, None)).await;
    assert_ne!(refused.metadata.response_code, ResponseCode::NoError);
    // Too large for UDP on both legs.
    let long = question("my-service.marathon.up.example.", RecordType::A, Some(1232));
    assert!(udp(&below, &long).await.metadata.truncation);
    assert_eq!(tcp(&below, &long).await.answers.len(), 200);
    below.shutdown().await;
    above.shutdown().await;
}

#[tokio::test]
async fn publishing_swaps_the_zones() {
    let server = serve(local(), 0).await;
    let message = question(VIP, RecordType::A, None);
    assert_eq!(
        udp(&server, &message).await.metadata.response_code,
        ResponseCode::NXDomain
    );
    let snapshot = cluster(vec![web("a", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)]);
    server.publish(crate::desired(&snapshot, &view(), &local()));
    assert_eq!(server.generation(), snapshot.generation);
    assert_eq!(udp(&server, &message).await.answers.len(), 1);
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_that_cannot_listen_says_why() {
    let first = serve(local(), 0).await;
    let addr = first.local_addrs()[0];
    let config = |addr: SocketAddr| Config {
        listen: vec![addr],
        ..Config::default()
    };
    let error = Server::bind(config(addr)).await.expect_err("in use");
    assert!(matches!(error, BindError::InUse { transport: "UDP", .. }), "{error:?}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
    let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
    let error = Server::bind(config(elsewhere)).await.expect_err("not ours");
    assert!(matches!(error, BindError::NoSuchAddress { .. }), "{error:?}");
    // Once shut down, the port is free for UDP and TCP again.
    first.shutdown().await;
    Server::bind(config(addr)).await.expect("free again").shutdown().await;
}
