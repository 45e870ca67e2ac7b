//! Answers to single messages, without sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::TokioTime;
use hickory_server::zone_handler::MessageResponse;
use proptest::prelude::*;

use super::*;
use crate::fixture::{cluster, question, view, web};
use crate::forward::fixture::{Deed, Scripted, addresses};

const VIP: &str = "my-service.marathon.l4lb.thisdcos.directory.";
const LOCAL: &str = "127.0.0.1:4000";
const FOREIGN: &str = "192.0.2.7:4000";

/// Keeps the answer's bytes, without any limit of hickory's.
#[derive(Clone, Default)]
struct Keep(Arc<Mutex<Vec<u8>>>);

#[async_trait::async_trait]
impl ResponseHandler for Keep {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let mut bytes = Vec::new();
        let info = response.destructive_emit(&mut BinEncoder::new(&mut bytes))?;
        *self.0.lock().expect("not poisoned") = bytes;
        Ok(info)
    }
}

fn handler(config: Config, backends: u8) -> Handler {
    let tasks = (0..backends).map(|i| {
        web(
            &format!("t{i}"),
            usize::from(i % 3),
            Ipv4Addr::new(9, 0, i % 3, i),
            31000 + u16::from(i),
        )
    });
    let zones = crate::desired(&cluster(tasks.collect()), &view(), &config);
    let shared = Shared::new(config).expect("no system state involved");
    shared.zones.store(Arc::new(zones));
    Handler(Arc::new(shared))
}

async fn ask_bytes(handler: &Handler, bytes: Vec<u8>, from: &str, protocol: Protocol) -> Vec<u8> {
    let from: SocketAddr = from.parse().expect("an address");
    let request = Request::from_bytes(bytes, from, protocol).expect("well formed");
    let keep = Keep::default();
    handler.handle_request::<_, TokioTime>(&request, keep.clone()).await;
    let bytes = keep.0.lock().expect("not poisoned").clone();
    assert!(!bytes.is_empty(), "no answer");
    bytes
}

async fn ask(handler: &Handler, message: &Message, from: &str) -> Message {
    let bytes = message.to_vec().expect("encodes");
    Message::from_vec(&ask_bytes(handler, bytes, from, Protocol::Udp).await).expect("an answer that parses")
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn outside_names_are_refused_without_upstream_or_right() {
    let outside = question("example.com.", RecordType::A, None);
    let alone = handler(Config::default(), 1);
    let answer = ask(&alone, &outside, LOCAL).await;
    assert_eq!(code(&answer), ResponseCode::Refused);
    assert!(!answer.metadata.authoritative && !answer.metadata.recursion_available);

    let config = Config {
        upstreams: vec!["127.0.0.1:1".parse().expect("an address")],
        ..Config::default()
    };
    let forwarding = handler(config, 1);
    assert_eq!(code(&ask(&forwarding, &outside, FOREIGN).await), ResponseCode::Refused);
    let mut iterative = outside.clone();
    iterative.metadata.recursion_desired = false;
    assert_eq!(code(&ask(&forwarding, &iterative, LOCAL).await), ResponseCode::Refused);
    // Our own zones are never forwarded and open to all.
    for (name, wanted) in [
        ("nobody.thisdcos.directory.", ResponseCode::NXDomain),
        ("nobody.mesos.", ResponseCode::NXDomain),
        (VIP, ResponseCode::NoError),
    ] {
        let answer = ask(&forwarding, &question(name, RecordType::A, None), FOREIGN).await;
        assert_eq!(code(&answer), wanted, "{name}");
        assert!(answer.metadata.authoritative);
    }
    assert_eq!(forwarding.0.counts.read().refused, 2);
}

#[tokio::test]
async fn an_alias_that_leads_outside_is_followed_for_the_nodes_own_clients() {
    let upstream = Scripted::new(|question, _| Deed::Messages(vec![addresses(question, 60, &["192.0.2.80"])])).await;
    let config = Config {
        upstreams: vec![upstream.addr],
        records: vec!["out.mesos CNAME www.example.com".parse().expect("a record")],
        ..Config::default()
    };
    let handler = handler(config, 1);
    let question = question("out.mesos.", RecordType::A, None);
    let data = |answer: &Message| {
        answer
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect::<Vec<_>>()
    };
    let own = ask(&handler, &question, LOCAL).await;
    assert_eq!(data(&own), ["www.example.com.", "192.0.2.80"]);
    let foreign = ask(&handler, &question, FOREIGN).await;
    assert_eq!(data(&foreign), ["www.example.com."]);
}

#[tokio::test]
async fn unusual_messages_get_their_codes() {
    let handler = handler(Config::default(), 1);
    for opcode in [OpCode::Status, OpCode::Notify, OpCode::Update, OpCode::Unknown(9)] {
        let mut message = question("leader.mesos.", RecordType::A, None);
        message.metadata.op_code = opcode;
        assert_eq!(
            code(&ask(&handler, &message, LOCAL).await),
            ResponseCode::NotImp,
            "{opcode}"
        );
    }
    let mut chaos = question("version.bind.", RecordType::TXT, None);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&ask(&handler, &chaos, LOCAL).await), ResponseCode::Refused);
    let mut newer = question(VIP, RecordType::A, Some(1232));
    newer.edns.as_mut().expect("there").set_version(1);
    // 16 is BADVERS; hickory reads it as BADSIG, its other meaning.
    assert_eq!(u16::from(code(&ask(&handler, &newer, LOCAL).await)), 16);
    let mut two = question(VIP, RecordType::A, None);
    two.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(code(&ask(&handler, &two, LOCAL).await), ResponseCode::FormErr);
    let none = Message::new(1, MessageType::Query, OpCode::Query);
    assert_eq!(code(&ask(&handler, &none, LOCAL).await), ResponseCode::FormErr);
    assert_eq!(handler.0.counts.read().unsupported, 8);
}

#[tokio::test]
async fn nothing_is_known_before_the_first_zones() {
    let handler = handler(Config::default(), 1);
    handler.0.zones.store(Arc::new(Zones::default()));
    for name in [VIP, "example.com."] {
        let answer = ask(&handler, &question(name, RecordType::A, None), LOCAL).await;
        assert_eq!(code(&answer), ResponseCode::ServFail, "{name}");
    }
}

#[tokio::test]
async fn answers_take_turns() {
    let handler = handler(Config::default(), 3);
    let message = question("my-service.marathon.mesos.", RecordType::A, None);
    let mut firsts = Vec::new();
    for _ in 0..6 {
        let answer = ask(&handler, &message, LOCAL).await;
        assert_eq!(answer.answers.len(), 3);
        firsts.push(answer.answers[0].data.to_string());
    }
    assert_eq!(firsts[..3], firsts[3..]);
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 3);
}

#[tokio::test]
async fn apex_and_any_answers() {
    let handler = handler(Config::default(), 1);
    let soa = ask(&handler, &question("MESOS.", RecordType::SOA, None), LOCAL).await;
    let [record] = &soa.answers[..] else { panic!("{soa}") };
    let RData::SOA(data) = &record.data else {
        panic!("{soa}")
    };
    assert_eq!(data.minimum, 5);
    assert_eq!(u64::from(data.serial), handler.0.zones.load().generation().0);
    let ns = ask(
        &handler,
        &question("l4lb.thisdcos.directory.", RecordType::NS, None),
        LOCAL,
    )
    .await;
    assert_eq!(ns.answers[0].data.to_string(), "ns.spartan.");
    assert_eq!(ns.additionals[0].data.to_string(), "10.0.0.1");
    let any = ask(&handler, &question(VIP, RecordType::ANY, None), LOCAL).await;
    assert!(matches!(
        &any.answers[..],
        [Record {
            data: RData::HINFO(_),
            ..
        }]
    ));
}

#[tokio::test]
async fn the_size_limit_holds_for_every_number_of_backends() {
    for backends in [1, 10, 28, 29, 30, 60, 200] {
        let handler = handler(Config::default(), backends);
        for (payload, limit) in [(None, 512), (Some(100), 512), (Some(800), 800), (Some(4096), 1232)] {
            for (name, rtype) in [
                ("my-service.marathon.mesos.", RecordType::A),
                ("_my-service._tcp.marathon.mesos.", RecordType::SRV),
            ] {
                let bytes = question(name, rtype, payload).to_vec().expect("encodes");
                let bytes = ask_bytes(&handler, bytes, LOCAL, Protocol::Udp).await;
                assert!(bytes.len() <= limit, "{} > {limit} for {backends} {rtype}", bytes.len());
                let answer = Message::from_vec(&bytes).expect("parses");
                let cut = answer.answers.len() < usize::from(backends);
                assert_eq!(answer.metadata.truncation, cut, "{backends} {rtype} {payload:?}");
                assert_eq!(answer.edns.is_some(), payload.is_some());
                assert!(!answer.answers.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn aliases_lead_to_their_records() {
    let records = [
        "short.mesos CNAME shorter.mesos",
        "shorter.mesos CNAME My-Service.marathon.mesos",
        "gone.mesos CNAME nobody.mesos",
        "away.mesos CNAME www.example.com",
        "round.mesos CNAME about.mesos",
        "about.mesos CNAME round.mesos",
    ];
    let config = Config {
        records: records.iter().map(|text| text.parse().expect("a record")).collect(),
        ..Config::default()
    };
    let handler = handler(config, 3);
    for (name, rtype, wanted, code, authorities) in [
        (
            "short.mesos.",
            RecordType::A,
            "CNAME CNAME A A A",
            ResponseCode::NoError,
            0,
        ),
        ("Shorter.mesos.", RecordType::A, "CNAME A A A", ResponseCode::NoError, 0),
        (
            "short.mesos.",
            RecordType::AAAA,
            "CNAME CNAME",
            ResponseCode::NoError,
            1,
        ),
        ("short.mesos.", RecordType::CNAME, "CNAME", ResponseCode::NoError, 0),
        ("gone.mesos.", RecordType::A, "CNAME", ResponseCode::NXDomain, 1),
        ("away.mesos.", RecordType::A, "CNAME", ResponseCode::NoError, 0),
        (
            "round.mesos.",
            RecordType::A,
            &["CNAME"; 8].join(" "),
            ResponseCode::NoError,
            0,
        ),
    ] {
        for _ in 0..3 {
            let answer = ask(&handler, &question(name, rtype, Some(1232)), LOCAL).await;
            let types: Vec<String> = answer
                .answers
                .iter()
                .map(|record| record.record_type().to_string())
                .collect();
            assert_eq!(types.join(" "), wanted, "{name} {rtype}");
            assert_eq!(
                (answer.metadata.response_code, answer.authorities.len()),
                (code, authorities),
                "{name} {rtype}"
            );
        }
    }
}

/// D6 in short: whatever is asked, a forged address gets at most ten times what was sent in its name.
#[tokio::test]
async fn foreign_clients_get_at_most_ten_times_their_question_by_udp() {
    for backends in [1, 5, 30, 60, 200] {
        let handler = handler(Config::default(), backends);
        for (name, rtype) in [
            ("my-service.marathon.mesos.", RecordType::A),
            ("my-service.marathon.mesos.", RecordType::ANY),
            ("_my-service._tcp.marathon.mesos.", RecordType::SRV),
            ("nobody.mesos.", RecordType::A),
            ("mesos.", RecordType::SOA),
            ("mesos.", RecordType::NS),
        ] {
            for payload in [None, Some(1232), Some(u16::MAX)] {
                let asked = question(name, rtype, payload).to_vec().expect("encodes");
                let length = asked.len();
                let answer = ask_bytes(&handler, asked.clone(), FOREIGN, Protocol::Udp).await;
                assert!(
                    answer.len() <= 10 * length,
                    "{} for {length}: {name} {rtype}",
                    answer.len()
                );
                let by_tcp = ask_bytes(&handler, asked, FOREIGN, Protocol::Tcp).await;
                assert!(by_tcp[2] & 2 == 0, "whole by TCP");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any name of any bytes, any type, any size limit: an answer that parses, fits and repeats the question.
    #[test]
    fn any_question_gets_a_sound_answer(
        labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..20), 0..4),
        zone in prop::sample::select(vec!["", "mesos", "marathon.MESOS", "l4lb.thisdcos.directory", "dclb.thisdcos.global",
            "_my-service._tcp.marathon.mesos", "my-service.marathon.l4lb.thisdcos.Global", "spartan"]),
        rtype in prop_oneof![any::<u16>(), 1u16..50],
        payload in any::<Option<u16>>(),
    ) {
        let zone = Name::from_ascii(zone).expect("a name");
        let name = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("labels").append_domain(&zone).expect("short");
        let mut message = question(".", RecordType::from(rtype), payload);
        message.queries[0].set_name(name.clone());
        let bytes = message.to_vec().expect("encodes");
        let handler = handler(Config::default(), 20);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let answer = runtime.block_on(ask_bytes(&handler, bytes, LOCAL, Protocol::Udp));
        prop_assert!(answer.len() <= usize::from(payload.unwrap_or(512).clamp(512, 1232)));
        let answer = Message::from_vec(&answer).expect("parses");
        prop_assert!(answer.queries[0].name().eq_case(&name));
        if code(&answer) == ResponseCode::NXDomain {
            prop_assert!(answer.answers.is_empty() && answer.authorities.len() == 1);
            prop_assert!(answer.authorities[0].name.zone_of(&name));
        }
    }

    /// A question with bytes changed, or any bytes at all: never a panic.
    #[test]
    fn broken_messages_do_no_harm(
        changes in prop::collection::vec((0usize..60, any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = question("my-service.marathon.mesos.", RecordType::A, Some(1232)).to_vec().expect("encodes");
        for (index, value) in changes {
            if let Some(byte) = bytes.get_mut(index) {
                *byte = value;
            }
        }
        bytes.extend(tail);
        let handler = handler(Config::default(), 3);
        let from: SocketAddr = LOCAL.parse().expect("an address");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        if let Ok(request) = Request::from_bytes(bytes, from, Protocol::Udp) {
            runtime.block_on(handler.handle_request::<_, TokioTime>(&request, Keep::default()));
            let counters = handler.0.counts.read();
            let unusual = counters.unsupported + counters.refused;
            prop_assert_eq!(counters.answered + counters.no_data + counters.no_name + unusual, 1);
        }
    }
}
