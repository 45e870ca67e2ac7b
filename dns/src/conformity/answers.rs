//! Sections 2.4, 5.4 and 5.5: what an answer holds, and the settings that shape it.

use std::net::Ipv4Addr;

use hickory_proto::rr::{Name, RData, RecordType};

use super::{Row, better, same};
use crate::answer::{Answer, answer};
use crate::counters::Kind;
use crate::fixture::{cluster, view, web};
use crate::{Config, IpSource};

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
    same(
        "5.4",
        "without settings the zone is `mesos`, and tasks' names come from netinfo, then host",
        || {
            let config = Config::default();
            assert_eq!((config.domain.as_str(), config.mesos_ttl), ("mesos", 60));
            assert_eq!(config.ip_sources, [IpSource::Netinfo, IpSource::Host]);
            assert!(
                config.upstreams.is_empty(),
                "8.8.8.8 is not asked unless somebody says so"
            );
        },
    ),
    same("5.4", "another domain moves the whole zone", || {
        let config = Config {
            domain: "cluster".to_owned(),
            ..Config::default()
        };
        let zones = crate::desired(
            &cluster(vec![web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000)]),
            &view(),
            &config,
        );
        let asked = |name: &str| answer(&zones, &Name::from_ascii(name).expect("a name"), RecordType::A, 0);
        assert_eq!(asked("my-service.marathon.cluster.").expect("ours").answers.len(), 1);
        assert!(asked(TASK).is_none(), "mesos is not ours then");
    }),
    better(
        "5.4",
        "SOA: SOAMname, SOARname, SOARefresh, SOARetry, SOAExpire, SOAMinttl",
        "the zone's own name, with a serial that counts changes",
        || {
            let answer = ask("mesos.", RecordType::SOA, 0).expect("ours");
            let RData::SOA(soa) = &answer.answers[0].data else {
                panic!("{answer:?}")
            };
            // Nobody transfers the zone: refresh, retry and expire shape nothing. The minimum is how long "no" is kept.
            assert_eq!((soa.refresh, soa.retry, soa.expire, soa.minimum), (60, 180, 86_400, 5));
        },
    ),
    better(
        "5.4",
        "enforceRFC952",
        "`enforceRFC952` makes names of 24 characters",
        || {
            let long = "a-name-of-more-than-24-characters";
            let mut task = web("t", 0, Ipv4Addr::new(9, 0, 1, 2), 31000);
            task.name = long.to_owned();
            let zones = crate::desired(&cluster(vec![task]), &view(), &Config::default());
            let name = Name::from_ascii(format!("{long}.marathon.mesos.")).expect("a name");
            assert_eq!(answer(&zones, &name, RecordType::A, 0).expect("ours").answers.len(), 1);
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
