//! The forwarder against servers that are slow, dead, lame, lying.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};

use super::fixture::{Deed, Scripted, Way, a, absent, addresses, cname, name, reply};
use super::*;

/// Far above what an answer takes; only so that a fault ends the test.
const LIMIT: Duration = Duration::from_secs(20);

fn config(upstreams: &[SocketAddr]) -> Config {
    Config {
        upstreams: upstreams.to_vec(),
        ..Config::default()
    }
}

fn forwarder(upstreams: &[SocketAddr]) -> Forwarder {
    with(config(upstreams))
}

fn with(config: Config) -> Forwarder {
    config.check().expect("good settings");
    Forwarder::new(&config).expect("starts").expect("has upstreams")
}

async fn ask(forwarder: &Forwarder, text: &str) -> Result<Reply, NoReply> {
    ask_for(forwarder, Asked::new(name(text), RecordType::A)).await
}

async fn ask_for(forwarder: &Forwarder, asked: Asked) -> Result<Reply, NoReply> {
    timeout(LIMIT, forwarder.ask(&asked)).await.expect("in time")
}

fn data(reply: &Reply) -> Vec<String> {
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

fn one(message: Message) -> Deed {
    Deed::Messages(vec![message])
}

async fn good(addr: &'static str) -> Scripted {
    Scripted::new(move |question, _| one(addresses(question, 60, &[addr]))).await
}

async fn silent() -> Scripted {
    Scripted::new(|_, _| Deed::Silence).await
}

/// Nobody listens there.
async fn dead() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.local_addr().expect("bound")
}

#[tokio::test]
async fn replies_come_with_the_spelling_asked_and_a_falling_ttl_from_the_cache() {
    let server = good("192.0.2.1").await;
    let forwarder = forwarder(&[server.addr]);
    for text in ["Www.Example.COM.", "www.example.com."] {
        let reply = ask(&forwarder, text).await.expect("answered");
        assert_eq!(reply.answers[0].name.to_string(), text);
        assert!(reply.answers[0].ttl <= 60);
        assert_eq!(data(&reply), ["192.0.2.1"]);
    }
    assert_eq!(server.heard().len(), 1);
    assert_eq!(forwarder.counters().cached, 1);
}

#[tokio::test]
async fn of_two_servers_the_first_usable_reply_wins() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        let bad = Scripted::new(move |question, _| one(reply(question, code))).await;
        let slow = Scripted::slow(Duration::from_millis(200), |question, _| {
            one(addresses(question, 60, &["192.0.2.7"]))
        })
        .await;
        let forwarder = forwarder(&[bad.addr, slow.addr]);
        assert_eq!(
            data(&ask(&forwarder, "www.example.").await.expect("the slower one")),
            ["192.0.2.7"]
        );
        assert_eq!((bad.heard().len(), slow.heard().len()), (1, 1), "asked at once");
        assert_eq!(forwarder.counters().poor, 1);
    }
}

#[tokio::test]
async fn lame_and_empty_replies_wait_for_better_ones_and_the_best_of_them_counts() {
    let lame = Scripted::new(|question, _| {
        let mut message = reply(question, ResponseCode::NoError);
        message.authorities.push(fixture::ns("example.", "ns.elsewhere."));
        one(message)
    })
    .await;
    let bare = Scripted::new(|question, _| one(reply(question, ResponseCode::NoError))).await;
    let forwarder = forwarder(&[lame.addr, bare.addr]);
    let reply = ask(&forwarder, "www.example.").await.expect("an empty answer");
    assert_eq!((reply.code, reply.answers.len()), (ResponseCode::NoError, 0));
    let alone = self::forwarder(&[lame.addr]);
    assert_eq!(ask(&alone, "www.example.").await, Err(NoReply::Failed));
}

#[tokio::test]
async fn the_next_server_is_asked_when_the_first_two_are_silent_or_gone() {
    let (first, second, third) = (silent().await, dead().await, good("192.0.2.3").await);
    let forwarder = forwarder(&[first.addr, second, third.addr]);
    let down = |addr: SocketAddr| forwarder.upstreams().iter().any(|up| up.addr == addr && up.down);
    let learning = async {
        let mut count = 0;
        while !(down(first.addr) && down(second)) {
            count += 1;
            assert!(ask(&forwarder, &format!("n{count}.example.")).await.is_ok());
        }
    };
    timeout(LIMIT, learning).await.expect("it is learnt in time");
    // Known now and left alone, but for the one that asks whether it is back.
    let asked = first.heard().len();
    for i in 0..50 {
        assert!(ask(&forwarder, &format!("m{i}.example.")).await.is_ok());
    }
    assert!(
        first.heard().len() <= asked + 5,
        "{} after {asked}",
        first.heard().len()
    );
}

#[tokio::test]
async fn no_answer_at_all_fails_and_is_not_asked_again_at_once() {
    let servers = [silent().await, silent().await];
    let forwarder = forwarder(&[servers[0].addr, servers[1].addr]);
    assert_eq!(ask(&forwarder, "www.example.").await, Err(NoReply::Failed));
    let asked = servers[0].heard().len();
    assert_eq!(asked, TRIES_OF_ONE, "each server is asked so often for one question");
    assert_eq!(ask(&forwarder, "www.example.").await, Err(NoReply::Failed));
    assert_eq!(servers[0].heard().len(), asked);
    assert_eq!(forwarder.counters().failed, 1);
}

/// As [`race`] has it.
const TRIES_OF_ONE: usize = 3;

#[tokio::test]
async fn forged_and_foreign_replies_are_not_taken() {
    // Wrong id, wrong question, wrong type, no answer, then the right one: five datagrams, the last counts.
    let server = Scripted::new(|question, way| {
        assert_eq!(way, Way::Udp);
        let right = addresses(question, 60, &["192.0.2.1"]);
        let mut forged: Vec<Message> = vec![addresses(question, 60, &["6.6.6.6"]); 4];
        forged[0].metadata.id ^= 1;
        forged[1].queries[0].set_name(name("www.bank.example."));
        forged[2].queries[0].set_query_type(RecordType::AAAA);
        forged[3].metadata.message_type = hickory_proto::op::MessageType::Query;
        Deed::Messages(forged.into_iter().chain([right]).collect())
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    assert_eq!(
        data(&ask(&forwarder, "www.example.").await.expect("answered")),
        ["192.0.2.1"]
    );
    assert_eq!(forwarder.counters().foreign, 4);
}

#[tokio::test]
async fn after_a_few_wrong_replies_or_wrong_letters_the_question_goes_by_tcp() {
    let flood = Scripted::new(|question, way| match way {
        Way::Tcp => one(addresses(question, 60, &["192.0.2.1"])),
        Way::Udp => {
            let forged = (1..=100u16).map(|i| {
                let mut message = addresses(question, 60, &["6.6.6.6"]);
                message.metadata.id = question.metadata.id.wrapping_add(i);
                message
            });
            Deed::Messages(forged.collect())
        }
    })
    .await;
    let lower = Scripted::new(|question, way| {
        let mut message = addresses(question, 60, &[if way == Way::Tcp { "192.0.2.1" } else { "6.6.6.6" }]);
        let lower = question.queries[0].name().to_lowercase();
        message.queries[0].set_name(lower);
        one(message)
    })
    .await;
    for server in [&flood, &lower] {
        let forwarder = forwarder(&[server.addr]);
        let reply = ask(&forwarder, "a-long-name-of-many-letters.example.")
            .await
            .expect("by TCP");
        assert_eq!(data(&reply), ["192.0.2.1"]);
        assert!(forwarder.counters().tcp >= 1);
    }
    let mut plain = config(&[lower.addr]);
    plain.forward.case = CaseMixing::Off;
    let forwarder = with(plain);
    let reply = ask(&forwarder, "another-name-of-many-letters.example.")
        .await
        .expect("by UDP");
    assert_eq!(
        data(&reply),
        ["6.6.6.6"],
        "control: without mixed case that reply counts"
    );
}

#[tokio::test]
async fn cut_replies_are_fetched_whole_by_tcp() {
    let server = Scripted::new(|question, way| match way {
        Way::Udp => {
            let mut message = addresses(question, 60, &["192.0.2.1"]);
            message.metadata.truncation = true;
            one(message)
        }
        Way::Tcp => {
            let addrs: Vec<String> = (0..=250).map(|i| format!("192.0.2.{i}")).collect();
            one(addresses(
                question,
                60,
                &addrs.iter().map(String::as_str).collect::<Vec<_>>(),
            ))
        }
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    assert_eq!(
        ask(&forwarder, "many.example.").await.expect("whole").answers.len(),
        251
    );
    let ways: Vec<Way> = server.heard().iter().map(|heard| heard.way).collect();
    assert_eq!(ways, [Way::Udp, Way::Tcp]);
    assert_ne!(
        server.heard()[0].message.metadata.id,
        server.heard()[1].message.metadata.id
    );
}

#[tokio::test]
async fn servers_without_edns_are_asked_without() {
    let server = Scripted::new(|question, _| match question.edns {
        Some(_) => {
            let mut message = reply(question, ResponseCode::FormErr);
            message.edns = None;
            // Header only, as old servers do.
            let mut bytes = message.to_vec().expect("encodes");
            bytes.truncate(12);
            bytes[5] = 0;
            Deed::Bytes(bytes)
        }
        None => one(addresses(question, 60, &["192.0.2.1"])),
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    assert!(ask(&forwarder, "one.example.").await.is_ok());
    assert_eq!(server.heard().len(), 2);
    assert!(ask(&forwarder, "two.example.").await.is_ok());
    assert_eq!(server.heard().len(), 3, "remembered");
}

#[tokio::test]
async fn equal_questions_wait_together() {
    let server = Scripted::slow(Duration::from_millis(300), |question, _| {
        one(addresses(question, 0, &["192.0.2.1"]))
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    let asks = ["www.example.", "WWW.example.", "www.EXAMPLE."].map(|text| ask(&forwarder, text));
    let replies = futures_util::future::join_all(asks).await;
    assert_eq!(server.heard().len(), 1);
    assert_eq!(forwarder.counters().joined, 2);
    assert_eq!(
        replies[2].as_ref().expect("answered").answers[0].name.to_string(),
        "www.EXAMPLE."
    );
    // TTL 0 was shared, not kept.
    assert!(ask(&forwarder, "www.example.").await.is_ok());
    assert_eq!(server.heard().len(), 2);
}

#[tokio::test]
async fn rules_decide_by_the_longest_suffix_and_cnames_change_servers() {
    let corp = Scripted::new(|question, _| {
        let asked = question.queries[0].name().clone();
        let mut message = reply(question, ResponseCode::NoError);
        // A lie: this server may not tell about the outside.
        let mut alias = cname(&asked.to_string(), 60, "www.outside.");
        alias.name = asked;
        message.answers = vec![alias, a(&name("www.outside."), 60, "6.6.6.6")];
        one(message)
    })
    .await;
    let outside = good("192.0.2.80").await;
    let mut config = config(&[outside.addr]);
    config.forward.zones = vec![
        ForwardZone {
            suffix: "corp.example".to_owned(),
            upstreams: vec![corp.addr],
        },
        ForwardZone {
            suffix: "kept.corp.example".to_owned(),
            upstreams: Vec::new(),
        },
    ];
    let forwarder = with(config);
    let reply = ask(&forwarder, "intra.corp.example.").await.expect("both servers");
    assert_eq!(data(&reply), ["www.outside.", "192.0.2.80"]);
    assert_eq!(corp.heard().len(), 1);
    assert_eq!(ask(&forwarder, "x.kept.corp.example.").await, Err(NoReply::NoServer));
    assert_eq!(
        data(&ask(&forwarder, "www.example.").await.expect("outside")),
        ["192.0.2.80"]
    );
    assert_eq!((corp.heard().len(), outside.heard().len()), (1, 2));
}

#[tokio::test]
async fn names_of_the_cluster_are_never_taken_from_outside() {
    let liar = Scripted::new(|question, _| {
        let mut message = reply(question, ResponseCode::NoError);
        let mut alias = cname("x.", 60, "leader.mesos.");
        alias.name = question.queries[0].name().clone();
        message.answers = vec![alias, a(&name("leader.mesos."), 60, "6.6.6.6")];
        one(message)
    })
    .await;
    let forwarder = forwarder(&[liar.addr]);
    let reply = ask(&forwarder, "www.example.").await.expect("the alias");
    assert_eq!(data(&reply), ["leader.mesos."]);
    assert_eq!(reply.rest, Some(name("leader.mesos.")), "for our own zones to answer");
}

#[tokio::test]
async fn past_its_time_a_reply_serves_while_nobody_answers() {
    let left = Arc::new(AtomicU32::new(1));
    let counter = Arc::clone(&left);
    let server = Scripted::new(move |question, _| {
        let answers = counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match answers {
            Ok(_) => one(addresses(question, 1, &["192.0.2.1"])),
            Err(_) => one(reply(question, ResponseCode::ServFail)),
        }
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    assert_eq!(ask(&forwarder, "www.example.").await.expect("fresh").answers[0].ttl, 1);
    let stale = until_ttl(&forwarder, 30).await;
    assert_eq!(data(&stale), ["192.0.2.1"]);
    assert!(forwarder.counters().stale >= 1);
    // Not asked again at once, and a new reply ends it.
    let asked = server.heard().len();
    assert_eq!(ask(&forwarder, "www.example.").await.expect("stale").answers[0].ttl, 30);
    assert_eq!(server.heard().len(), asked);
    left.store(1000, Ordering::SeqCst);
    until_ttl(&forwarder, 1).await;
    let strict = Config {
        forward: Forwarding {
            stale: Duration::ZERO,
            ..Forwarding::default()
        },
        ..config(&[server.addr])
    };
    let strict = with(strict);
    assert!(ask(&strict, "www.example.").await.is_ok());
    left.store(0, Ordering::SeqCst);
    let failed = async { while ask(&strict, "www.example.").await.is_ok() {} };
    timeout(LIMIT, failed)
        .await
        .expect("control: without serve-stale the name goes");
}

/// Asks until the reply has this TTL.
async fn until_ttl(forwarder: &Forwarder, ttl: u32) -> Reply {
    let asking = async {
        loop {
            let reply = ask(forwarder, "www.example.").await.expect("never without an answer");
            if reply.answers[0].ttl == ttl {
                return reply;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, asking).await.expect("in time")
}

#[tokio::test]
async fn negative_replies_are_kept_too() {
    let server = Scripted::new(|question, _| one(absent(question, ResponseCode::NXDomain, "example.", 60, 60))).await;
    let forwarder = forwarder(&[server.addr]);
    for _ in 0..3 {
        let reply = ask(&forwarder, "gone.example.").await.expect("a clear answer");
        assert_eq!((reply.code, reply.authorities.len()), (ResponseCode::NXDomain, 1));
    }
    assert_eq!(server.heard().len(), 1);
}

#[tokio::test]
async fn a_question_that_was_here_is_refused() {
    let server = good("192.0.2.1").await;
    let forwarder = forwarder(&[server.addr]);
    assert!(ask(&forwarder, "www.example.").await.is_ok());
    let sent: Edns = server.heard()[0].message.edns.clone().expect("EDNS");
    let again = Asked::new(name("other.example."), RecordType::A).with_edns(Some(&sent));
    assert_eq!(ask_for(&forwarder, again).await, Err(NoReply::Loop));
    assert_eq!((server.heard().len(), forwarder.counters().loops), (1, 1));
    // Another server's mark is no loop, and is passed on.
    let other = self::forwarder(&[server.addr]);
    let once = Asked::new(name("other.example."), RecordType::A).with_edns(Some(&sent));
    assert!(ask_for(&other, once).await.is_ok());
    let sent = server.heard()[1].message.edns.clone().expect("EDNS");
    let back = Asked::new(name("third.example."), RecordType::A).with_edns(Some(&sent));
    assert_eq!(ask_for(&forwarder, back).await, Err(NoReply::Loop));
}

#[tokio::test]
async fn our_own_address_is_no_upstream() {
    let everywhere = Config {
        listen: vec!["0.0.0.0:5353".parse().expect("an address")],
        ..config(&["127.0.0.1:5353".parse().expect("an address")])
    };
    let refused = Forwarder::new(&everywhere).map(drop);
    assert!(
        matches!(refused, Err(BindError::Config(ConfigError::Loop(_)))),
        "{refused:?}"
    );
    let elsewhere = Config {
        upstreams: vec!["192.0.2.1:5353".parse().expect("an address")],
        ..everywhere
    };
    assert!(Forwarder::new(&elsewhere).is_ok());
}

#[tokio::test]
async fn waiting_questions_are_bounded_and_the_rest_is_refused_at_once() {
    let hanging = silent().await;
    let good = good("192.0.2.1").await;
    let mut config = config(&[good.addr]);
    config.forward.zones = vec![ForwardZone {
        suffix: "hangs".to_owned(),
        upstreams: vec![hanging.addr],
    }];
    let forwarder = with(config);
    let names: Vec<String> = (0..MAX_WAITING).map(|i| format!("n{i}.hangs.")).collect();
    let asks = futures_util::future::join_all(names.iter().map(|name| ask(&forwarder, name)));
    let others = async {
        for i in 0..100 {
            assert!(
                ask(&forwarder, &format!("n{i}.works.")).await.is_ok(),
                "another rule has its own places"
            );
        }
    };
    let (ends, ()) = tokio::join!(asks, others);
    let busy = ends.iter().filter(|end| **end == Err(NoReply::Busy)).count();
    assert_eq!(busy, MAX_WAITING / 2);
    assert_eq!(forwarder.counters().busy, busy as u64);
    assert!(
        ends.iter()
            .all(|end| matches!(end, Err(NoReply::Busy | NoReply::Failed)))
    );
}

#[tokio::test]
async fn a_forger_who_cannot_see_questions_has_no_luck() {
    let server = Scripted::slow(Duration::from_millis(600), |question, _| {
        one(addresses(question, 0, &["192.0.2.1"]))
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    let question = {
        let asked = Asked::new(name("www.example."), RecordType::A);
        let sent = wire::Sent::new(&asked.key(), &Hops::default(), wire::Dress::Edns, CaseMixing::Off);
        Message::from_vec(&sent.expect("encodes").bytes).expect("parses")
    };
    let mut forged = addresses(&question, 60, &["6.6.6.6"]).to_vec().expect("encodes");
    let flood = async {
        for _ in 0..5000 {
            let dice: [u8; 4] = ports::random().expect("random");
            forged[..2].copy_from_slice(&dice[..2]);
            let port = u16::from_be_bytes([dice[2], dice[3]]) | 0x2800;
            let _ = server
                .socket
                .try_send_to(&forged, SocketAddr::from(([127, 0, 0, 1], port)));
            tokio::task::yield_now().await;
        }
    };
    let (reply, ()) = tokio::join!(ask(&forwarder, "www.example."), flood);
    assert_eq!(data(&reply.expect("answered")), ["192.0.2.1"]);
}

#[tokio::test]
async fn ids_and_ports_are_spread_evenly() {
    let server = Scripted::new(|question, _| one(addresses(question, 0, &["192.0.2.1"]))).await;
    let mut config = config(&[server.addr]);
    config.forward.cache_bytes = 0;
    let forwarder = with(config);
    const QUESTIONS: usize = 2000;
    for i in 0..QUESTIONS {
        assert!(ask(&forwarder, &format!("n{i}.example.")).await.is_ok());
    }
    let heard = server.heard();
    let spread = |what: &dyn Fn(&fixture::Heard) -> usize, cells: usize| {
        let mut counts = vec![0u32; cells];
        heard.iter().for_each(|one| counts[what(one)] += 1);
        let expected = heard.len() as f64 / cells as f64;
        counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum::<f64>()
    };
    // Chi-square with 63 degrees of freedom is above 130 once in a million runs.
    let ids = spread(&|heard| usize::from(heard.message.metadata.id >> 10), 64);
    let low = spread(&|heard| usize::from(heard.message.metadata.id & 63), 64);
    let ports = Ports::new(&[(31_000, 32_000)]);
    let port = spread(
        &|heard| ports.place(heard.from.port()).expect("an allowed port") * 64 / ports.count(),
        64,
    );
    assert!(ids < 130.0 && low < 130.0 && port < 130.0, "{ids} {low} {port}");
    assert!(
        heard
            .iter()
            .all(|heard| heard.message.queries[0].name() != &Name::root())
    );
}

#[tokio::test]
async fn signatures_are_asked_for_and_kept_apart() {
    let server = Scripted::new(|question, _| {
        let wanted = question.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut message = addresses(question, 60, &["192.0.2.1"]);
        if wanted {
            let rdata = hickory_proto::rr::rdata::NULL::with([&1u16.to_be_bytes()[..], &[7; 30]].concat());
            let code = RecordType::RRSIG;
            let data = hickory_proto::rr::RData::Unknown { code, rdata };
            message
                .answers
                .push(Record::from_rdata(question.queries[0].name().clone(), 60, data));
        }
        one(message)
    })
    .await;
    let forwarder = forwarder(&[server.addr]);
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true);
    let signed = Asked::new(name("www.example."), RecordType::A).with_edns(Some(&edns));
    for _ in 0..2 {
        assert_eq!(
            ask(&forwarder, "www.example.").await.expect("answered").answers.len(),
            1
        );
        assert_eq!(
            ask_for(&forwarder, signed.clone())
                .await
                .expect("answered")
                .answers
                .len(),
            2
        );
    }
    assert_eq!(server.heard().len(), 2);
}
