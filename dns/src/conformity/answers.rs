//! Sections 2.4 and 5.5: what an answer holds.

use std::net::Ipv4Addr;

use hickory_proto::rr::{Name, RData, RecordType};

use super::{Row, better, same};
use crate::Config;
use crate::answer::{Answer, answer};
use crate::counters::Kind;
use crate::fixture::{cluster, view, web};

fn ask(name: &str, rtype: RecordType, turn: usize) -> Option<Answer> {
    let config = Config {
        zones: vec!["corp.example".to_owned()],
        records: [
            "www.corp.example CNAME web.corp.example",
            "web.corp.example CNAME my-service.marathon.mesos",
            "out.corp.example CNAME www.example.com",
        ]
        .map(|text| text.parse().expect("a record"))
        .to_vec(),
        ..Config::default()
    };
    let tasks = (1..4u8).map(|n| web(&format!("t{n}"), 0, Ipv4Addr::new(9, 0, 1, n), 31000 + u16::from(n)));
    let zones = crate::desired(&cluster(tasks.collect()), &view(), &config);
    answer(&zones, &Name::from_ascii(name).expect("a name"), rtype, turn)
}

fn texts(name: &str, rtype: RecordType, turn: usize) -> Vec<String> {
    let answer = ask(name, rtype, turn).expect("ours");
    answer
        .answers
        .iter()
        .map(|record| format!("{} {}", record.name, record.data))
        .collect()
}

const VIP: &str = "my-service.marathon.l4lb.thisdcos.directory.";
const TASK: &str = "my-service.marathon.mesos.";

pub(super) const ROWS: &[Row] = &[
    same("2.4", "TTL 5 in dcos-net's zones", || {
        assert_eq!(ask(VIP, RecordType::A, 0).expect("ours").answers[0].ttl, 5);
        assert_eq!(ask("ready.spartan.", RecordType::A, 0).expect("ours").answers[0].ttl, 5);
    }),
    better(
        "2.4",
        "SOA",
        "the zone's own name, with a serial that counts changes",
        || {
            let answer = ask("l4lb.thisdcos.directory.", RecordType::SOA, 0).expect("ours");
            let RData::SOA(soa) = &answer.answers[0].data else {
                panic!("{answer:?}")
            };
            assert_eq!(
                (soa.mname.to_string().as_str(), soa.serial, soa.minimum),
                ("ns.spartan.", 1, 5)
            );
        },
    ),
    same("2.4", "answers take turns", || {
        let first: Vec<String> = (0..4).map(|turn| texts(TASK, RecordType::A, turn)[0].clone()).collect();
        assert_ne!(first[0], first[1]);
        assert_eq!(first[0], first[3]);
    }),
    same(
        "2.4",
        "an alias comes first, in the order of the chain, over zones",
        || {
            let answer = texts("www.corp.example.", RecordType::A, 1);
            assert_eq!(
                answer[..2],
                [
                    "www.corp.example. web.corp.example.",
                    "web.corp.example. my-service.marathon.mesos."
                ]
            );
            assert_eq!(answer.len(), 5);
            let alone = texts("www.corp.example.", RecordType::CNAME, 0);
            assert_eq!(alone, ["www.corp.example. web.corp.example."]);
            assert_eq!(
                texts("out.corp.example.", RecordType::A, 0),
                ["out.corp.example. www.example.com."]
            );
            let nothing = ask("www.corp.example.", RecordType::TXT, 0).expect("ours");
            assert_eq!(
                (nothing.kind, nothing.answers.len(), nothing.soa.is_some()),
                (Kind::NoData, 2, true)
            );
        },
    ),
    same(
        "5.5",
        "SRV: priority 0, weight 1, and the addresses of its targets",
        || {
            let answer = ask("_http._my-service._tcp.marathon.mesos.", RecordType::SRV, 0).expect("ours");
            let RData::SRV(srv) = &answer.answers[0].data else {
                panic!("{answer:?}")
            };
            assert_eq!((srv.priority, srv.weight, srv.port), (0, 1, 8080));
            assert_eq!((answer.answers.len(), answer.additionals.len()), (3, 3));
        },
    ),
    same("5.5", "TTL 60 in the zone of tasks", || {
        assert_eq!(ask(TASK, RecordType::A, 0).expect("ours").answers[0].ttl, 60);
    }),
    same("5.5", "case makes no difference", || {
        assert_eq!(texts("My-Service.MARATHON.mesos.", RecordType::A, 0).len(), 3);
    }),
    better(
        "5.5",
        "the case of the question is kept",
        "the case of the question",
        || {
            assert!(
                texts("My-Service.MARATHON.mesos.", RecordType::A, 0)[0].starts_with("My-Service.MARATHON.mesos. ")
            );
        },
    ),
    better("5.5", "SOA and NS", "owned by the query name", || {
        for rtype in [RecordType::SOA, RecordType::NS] {
            assert_eq!(texts("mesos.", rtype, 0).len(), 1);
            let below = ask(TASK, rtype, 0).expect("ours");
            assert_eq!((below.kind, below.answers.len()), (Kind::NoData, 0));
            assert_eq!(below.soa.expect("of the zone").name.to_string(), "mesos.");
        }
    }),
    better(
        "5.5",
        "a missing name or type",
        "SRV of a missing name: NOERROR without SOA",
        || {
            for (name, rtype, kind) in [
                (TASK, RecordType::AAAA, Kind::NoData),
                (TASK, RecordType::TXT, Kind::NoData),
                ("nobody.marathon.mesos.", RecordType::A, Kind::NoName),
                ("_nobody._tcp.marathon.mesos.", RecordType::SRV, Kind::NoName),
            ] {
                let answer = ask(name, rtype, 0).expect("ours");
                assert_eq!((answer.kind, answer.soa.is_some()), (kind, true), "{name} {rtype}");
            }
        },
    ),
    better(
        "5.5",
        "a negative answer under an alias",
        "the zone as the client wrote it",
        || {
            for (name, zone) in [
                ("nobody.mesos.thisdcos.directory.", "mesos.thisdcos.directory."),
                ("nobody.marathon.dclb.thisdcos.GLOBAL.", "dclb.thisdcos.GLOBAL."),
            ] {
                let answer = ask(name, RecordType::A, 0).expect("ours");
                assert_eq!(answer.soa.expect("of the zone").name.to_string(), zone);
            }
        },
    ),
    better("5.5", "ANY", "one small record", || {
        assert_eq!(texts(VIP, RecordType::ANY, 0).len(), 1);
    }),
    better("5.5", "`.*` in names", "`bob.*.mesos`", || {
        assert_eq!(
            ask("my-service.*.marathon.mesos.", RecordType::A, 0)
                .expect("ours")
                .kind,
            Kind::NoName
        );
    }),
    same("5.5", "names of another suffix are not ours", || {
        assert!(ask("leader.mesos.local.", RecordType::A, 0).is_none());
    }),
];
