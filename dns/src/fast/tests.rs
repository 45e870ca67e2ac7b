//! The short way against the long one: for any question both must say the same.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::Message;
use hickory_proto::rr::Record;

use super::*;
use crate::Config;
use crate::fixture::{cluster, question, task, view, web};
use crate::respond::{Transport, respond};

/// Questions compared; both ways and two decodings each.
const QUESTIONS: u32 = 100_000;

fn shared(mut config: Config) -> Arc<Shared> {
    let mut tasks: Vec<_> = (0..24u8)
        .map(|i| {
            web(
                &format!("t{i}"),
                usize::from(i % 3),
                Ipv4Addr::new(9, 0, i % 3, i),
                31000 + u16::from(i),
            )
        })
        .collect();
    tasks.push(task("h", "host-task", 1));
    tasks.push(web("one", 0, Ipv4Addr::new(9, 0, 0, 99), 31999));
    tasks.last_mut().expect("there").name = "single".to_owned();
    let aliases = [
        "short.mesos CNAME shorter.mesos",
        "shorter.mesos CNAME my-service.marathon.mesos",
        "gone.mesos CNAME nobody.mesos",
        "away.mesos CNAME www.example.com",
    ];
    config.records = aliases.iter().map(|text| text.parse().expect("a record")).collect();
    let zones = crate::desired(&cluster(tasks), &view(), &config);
    let shared = Shared::new(config).expect("no system state involved");
    shared.zones.store(Arc::new(zones));
    Arc::new(shared)
}

/// A small generator; the sequence is the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.roll(256)).expect("a byte")
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).expect("small")]
    }
}

const NAMES: &[&str] = &[
    "my-service.marathon.l4lb.thisdcos.directory",
    "my-service.marathon.dclb.thisdcos.global",
    "my-service.marathon.mesos",
    "single.marathon.mesos",
    "host-task.marathon.mesos",
    "_my-service._tcp.marathon.mesos",
    "_single._tcp.marathon.mesos",
    "_http._single._tcp.marathon.mesos",
    "_tcp.marathon.mesos",
    "marathon.mesos",
    "slave.mesos",
    "leader.mesos",
    "mesos",
    "spartan",
    "ready.spartan",
    "ns.spartan",
    "thisdcos.directory",
    "nobody.mesos",
    "short.mesos",
    "gone.mesos",
    "away.mesos",
    "example.com",
    "",
];
const TYPES: &[u16] = &[1, 1, 1, 28, 33, 33, 2, 6, 5, 12, 15, 16, 255, 257, 65535, 0, 41, 252];

fn message(dice: &mut Dice) -> Vec<u8> {
    let mut labels: Vec<Vec<u8>> = dice
        .pick(NAMES)
        .split('.')
        .filter(|l| !l.is_empty())
        .map(Into::into)
        .collect();
    if dice.roll(8) == 0 {
        let length = 1 + dice.roll(9);
        labels.insert(0, (0..length).map(|_| dice.byte()).collect());
    }
    let mut out = vec![
        dice.byte(),
        dice.byte(),
        u8::from(dice.roll(2) == 0),
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    out[3] = *dice.pick(&[0, 0, 0x10, 0x20, 0x30]);
    for label in labels {
        out.push(u8::try_from(label.len()).expect("short"));
        // The case of 0x20.
        out.extend(label.iter().map(|byte| match dice.roll(2) {
            0 => byte.to_ascii_uppercase(),
            _ => *byte,
        }));
    }
    out.push(0);
    out.extend(dice.pick(TYPES).to_be_bytes());
    out.extend([0, 1]);
    if dice.roll(2) == 0 {
        out[11] = 1;
        let payload = [*dice.pick(&[0, 2, 3, 4, 16, 255]), dice.byte()];
        out.extend([
            0,
            0,
            41,
            payload[0],
            payload[1],
            0,
            0,
            *dice.pick(&[0, 0, 0x80, 0x40]),
            0,
            0,
            0,
        ]);
        if dice.roll(4) == 0 {
            let length = *dice.pick(&[8u8, 8, 16, 40, 7, 41]);
            *out.last_mut().expect("there") = 4 + length;
            out.extend([0, *dice.pick(&[10, 10, 10, 3, 8]), 0, length]);
            out.extend((0..length).map(|_| dice.byte()));
        }
    }
    if dice.roll(5) == 0 {
        for _ in 0..=dice.roll(3) {
            let at = usize::try_from(dice.roll(out.len() as u64)).expect("small");
            out[at] = dice.byte();
        }
    }
    match dice.roll(20) {
        0 => out.truncate(usize::try_from(dice.roll(out.len() as u64)).expect("small")),
        1 => out.push(dice.byte()),
        _ => {}
    }
    out
}

/// What an answer says, without the order of its records.
fn said(bytes: &[u8]) -> (Message, Vec<Record>) {
    let mut message = Message::from_vec(bytes).expect("an answer that parses");
    let mut answers = std::mem::take(&mut message.answers);
    answers.sort_by_key(Record::to_string);
    message.additionals.sort_by_key(Record::to_string);
    (message, answers)
}

#[test]
fn both_ways_say_the_same() {
    for config in [
        Config::default(),
        Config {
            max_udp_payload: 4096,
            upstreams: vec!["127.0.0.1:9".parse().expect("an address")],
            ..Config::default()
        },
    ] {
        let shared = shared(config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut fast = Fast::new(Arc::clone(&shared));
        let mut dice = Dice(0x5eed);
        let (mut short, mut silent, mut out) = (0, 0, Vec::new());
        for number in 0..QUESTIONS / 2 {
            let bytes = message(&mut dice);
            let source: SocketAddr = dice
                .pick(&["127.0.0.1:4000", "192.0.2.7:4000"])
                .parse()
                .expect("an address");
            // No second has two questions, so that none is limited.
            match fast.step(&bytes, source.ip(), u64::from(number), &mut out) {
                Step::Long => {}
                Step::Silent => {
                    silent += 1;
                    assert_eq!(runtime.block_on(respond(&shared, bytes, source, Transport::Udp)), None);
                }
                Step::Answered => {
                    short += 1;
                    let long = runtime.block_on(respond(&shared, bytes.clone(), source, Transport::Udp));
                    let long = long.unwrap_or_else(|| panic!("question {number}: no long answer to {bytes:02x?}"));
                    assert_eq!(said(&out), said(&long), "question {number}: {bytes:02x?}");
                    let question = bytes.len().min(12 + 255 + 4);
                    let spelled = bytes[12..question]
                        .iter()
                        .zip(&out[12..])
                        .take_while(|(a, b)| a == b)
                        .count();
                    assert!(out.len() == 12 || spelled >= 5, "the question is not repeated as asked");
                }
            }
        }
        assert!(short > QUESTIONS / 5 && silent > 100, "{short} {silent}");
    }
}

fn ask(fast: &mut Fast, name: &str, rtype: RecordType, source: &str, second: u64) -> Option<Message> {
    let bytes = question(name, rtype, None).to_vec().expect("encodes");
    let mut out = Vec::new();
    let step = fast.step(&bytes, source.parse().expect("an address"), second, &mut out);
    fast.flush();
    (step == Step::Answered).then(|| Message::from_vec(&out).expect("parses"))
}

#[test]
fn kept_answers_take_turns_and_follow_the_zones() {
    let shared = shared(Config::default());
    let mut fast = Fast::new(Arc::clone(&shared));
    let name = "My-Service.Marathon.mesos.";
    let mut firsts = Vec::new();
    for _ in 0..48 {
        let answer = ask(&mut fast, name, RecordType::A, "127.0.0.1", 0).expect("an answer");
        assert_eq!(answer.answers.len(), 24);
        assert!(answer.answers.iter().all(|record| record.name.to_ascii() == name));
        firsts.push(answer.answers[0].data.to_string());
    }
    assert_eq!(firsts[..24], firsts[24..]);
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 24);
    assert_eq!(shared.counts.read().answered, 48);
    let config = Config::default();
    let fewer = crate::desired(
        &cluster(vec![web("t0", 0, Ipv4Addr::new(9, 0, 0, 1), 31000)]),
        &view(),
        &config,
    );
    shared.zones.store(Arc::new(fewer));
    fast.refresh();
    let answer = ask(&mut fast, name, RecordType::A, "127.0.0.1", 0).expect("an answer");
    assert_eq!(answer.answers.len(), 1);
}

#[test]
fn only_names_that_exist_are_kept_and_not_without_end() {
    let mut fast = Fast::new(shared(Config::default()));
    for number in 0..2_000 {
        ask(&mut fast, &format!("n{number}.mesos."), RecordType::A, "127.0.0.1", 0).expect("NXDOMAIN");
    }
    assert!(fast.kept.is_empty());
    for number in 0..20_000u16 {
        ask(
            &mut fast,
            "ready.spartan.",
            RecordType::from(300 + number),
            "127.0.0.1",
            0,
        )
        .expect("NODATA");
    }
    assert_eq!(fast.kept.len(), 20_000);
    let real: usize = fast
        .kept
        .iter()
        .map(|(key, kept)| key.len() + kept.template.weight())
        .sum();
    assert_eq!(real, fast.kept_bytes);
    assert!(real < KEPT_BYTES + 4096);
    fast.kept_bytes = KEPT_BYTES + 1;
    ask(&mut fast, "ns.spartan.", RecordType::A, "127.0.0.1", 0).expect("an answer");
    assert_eq!(fast.kept.len(), 1);
}

#[test]
fn foreign_clients_are_limited_and_own_ones_are_not() {
    let shared = shared(Config {
        deny: vec!["203.0.113.0/24".parse().expect("valid")],
        ..Config::default()
    });
    let mut fast = Fast::new(Arc::clone(&shared));
    for (source, full, cut) in [("192.0.2.7", 50, 50), ("127.0.0.1", 100, 0), ("198.51.100.7", 50, 50)] {
        let answers: Vec<_> = (0..100)
            .filter_map(|_| ask(&mut fast, "leader.mesos.", RecordType::NS, source, 7))
            .collect();
        let truncated = answers.iter().filter(|answer| answer.metadata.truncation).count();
        assert_eq!((answers.len() - truncated, truncated), (full, cut), "{source}");
    }
    assert_eq!(shared.counts.read().limited, 100);
    let denied = ask(&mut fast, "leader.mesos.", RecordType::A, "203.0.113.9", 7).expect("an answer");
    assert_eq!(denied.metadata.response_code, hickory_proto::op::ResponseCode::Refused);
    assert_eq!(shared.counts.read().refused, 1);
}
