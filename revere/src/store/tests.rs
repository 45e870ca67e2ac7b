//! Reopening, deleting, damage, and what an earlier version wrote.

use model::{AgentId, FrameworkId, Resources};
use scheduler::{AgentRecord, Record};

use super::*;

pub(super) fn agent(id: &str) -> Record {
    Record::PutAgent(Box::new(AgentRecord {
        id: AgentId::new(id),
        hostname: "h".to_owned(),
        ip: [10, 0, 0, 1].into(),
        http_port: 5051,
        resources: Resources {
            cpus_milli: 1,
            mem_mb: 2,
            disk_mb: 3,
        },
        ports: vec![(1, 2)],
        attributes: [("a".to_owned(), "b".to_owned())].into(),
        domain: scheduler::Domain::default(),
        subnet: "9.0.1.0/24".parse().ok(),
        networks: Default::default(),
    }))
}

#[test]
fn records_survive_reopening() {
    let dir = tempfile::tempdir().expect("directory");
    let framework = Record::Framework(FrameworkId::new("f"));
    {
        let store = Store::open(dir.path()).expect("opened");
        assert_eq!(store.load().expect("loaded"), []);
        store
            .write(&[framework.clone(), agent("a"), agent("b")])
            .expect("written");
        store.write(&[Record::DeleteAgent(AgentId::new("a"))]).expect("written");
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
    }
    let store = Store::open(dir.path()).expect("opened");
    assert_eq!(store.load().expect("loaded"), [agent("b"), framework]);
}

#[test]
fn a_damaged_file_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join(FILE_NAME);
    for garbage in [b"not a database at all".to_vec(), vec![0; 8192]] {
        std::fs::write(&path, &garbage).expect("written");
        let error = Store::open(dir.path()).expect_err("refused").to_string();
        assert!(
            error.contains("left as it is") || error.contains("it was left"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).expect("read"), garbage);
    }
}

/// Wherever a page of the file is overwritten: either it was not in use, or there is a sentence. Never a panic, and never
/// other records than were written.
#[test]
fn damage_in_the_middle_is_a_sentence() {
    const PAGE: usize = 4096;
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join(FILE_NAME);
    let all: Vec<Record> = (0..200).map(|number| agent(&format!("a{number:03}"))).collect();
    Store::open(dir.path()).expect("opened").write(&all).expect("written");
    let good = std::fs::read(&path).expect("read");
    let mut refused = 0;
    for at in (PAGE..good.len()).step_by(PAGE) {
        let mut bytes = good.clone();
        let end = bytes.len().min(at + PAGE);
        bytes[at..end].fill(0xa5);
        std::fs::write(&path, &bytes).expect("written");
        match Store::open(dir.path()).and_then(|store| store.load()) {
            Ok(records) => assert_eq!(records, all, "page at {at}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Open { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no page of the file is in use");
    for length in [0, 100, PAGE, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..length]).expect("written");
        let error = Store::open(dir.path()).expect_err("refused");
        assert!(matches!(error, StoreError::Open { .. }), "{error}");
    }
}

#[test]
fn a_record_of_another_version_names_both() {
    let dir = tempfile::tempdir().expect("directory");
    {
        let store = Store::open(dir.path()).expect("opened");
        let (database, _) = store.file.as_ref().expect("a file");
        let transaction = database.begin_write().expect("begun");
        transaction
            .open_table(RECORDS)
            .expect("table")
            .insert("agent/x", [9u8, 1, 2].as_slice())
            .expect("inserted");
        transaction.commit().expect("committed");
    }
    let error = Store::open(dir.path())
        .expect("opened")
        .load()
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("`agent/x`") && error.contains("version 9") && error.contains("version 6"),
        "{error}"
    );
}

#[test]
fn a_network_is_kept_until_it_is_removed() {
    let dir = tempfile::tempdir().expect("directory");
    let network: model::Network = "blue,4097,10.64.0.0/16,24,dcos".parse().expect("a network");
    let put = Record::PutNetwork(Box::new(network));
    let store = Store::open(dir.path()).expect("opened");
    store.write(std::slice::from_ref(&put)).expect("written");
    drop(store);
    let store = Store::open(dir.path()).expect("opened again");
    assert_eq!(store.load().expect("loaded"), [put]);
    store
        .write(&[Record::DeleteNetwork("blue".to_owned())])
        .expect("written");
    assert_eq!(store.load().expect("loaded"), []);
}

#[test]
fn memory_keeps_nothing() {
    let store = Store::memory();
    store.write(&[agent("a")]).expect("written");
    assert_eq!(store.load().expect("loaded"), []);
}

/// An app and an instance as wire version 1 kept them.
const APP_1: &str = "0102000000000000002f61000000000100000000000000786400000000000000100000000000000000000000000000000100\
    0000000000000000000000000000000000000000000000010000000000000010270010270100000000000000060001000000\
    0000000005000000000000005649505f3005000000000000002f613a38300000000000000000000100000000000000000000\
    00666666666666f23f2c01000000000000000000000001000000000000f03f000000000000f03f0068e5cf8b0100000068e5\
    cf8b010000";
const INSTANCE_1: &str = "012f00000000000000612e696e7374616e63652d39353361656237302d363733652d343963622d623364332d336236363661\
    31653231646102000000000000002f610068e5cf8b01000009000000000000007265766572652d5330360000000000000061\
    2e696e7374616e63652d39353361656237302d363733652d343963622d623364332d3362363636613165323164612e5f6170\
    702e310100000000000000610b000000000000007265766572652d3030303000000000010000000000000078000d00000000\
    0000001f000000000000004d41524154484f4e5f4150505f454e464f5243455f47524f55505f524f4c450500000000000000\
    66616c73650f000000000000004d41524154484f4e5f4150505f494402000000000000002f6113000000000000004d415241\
    54484f4e5f4150505f4c4142454c5300000000000000001a000000000000004d41524154484f4e5f4150505f5245534f5552\
    43455f435055530300000000000000302e311a000000000000004d41524154484f4e5f4150505f5245534f555243455f4449\
    534b0300000000000000302e301a000000000000004d41524154484f4e5f4150505f5245534f555243455f47505553010000\
    00000000003019000000000000004d41524154484f4e5f4150505f5245534f555243455f4d454d040000000000000031362e\
    3014000000000000004d41524154484f4e5f4150505f56455253494f4e1800000000000000323032332d31312d3134543232\
    3a31333a32302e3030305a0d000000000000004d45534f535f5441534b5f49443600000000000000612e696e7374616e6365\
    2d39353361656237302d363733652d343963622d623364332d3362363636613165323164612e5f6170702e31040000000000\
    0000504f5254050000000000000033313030300500000000000000504f525430050000000000000033313030300500000000\
    000000504f525453050000000000000033313030300a00000000000000504f52545f31303030300500000000000000333130\
    3030640000000000000010000000000000000000000000000000000100000000000000187900060001000000000000000500\
    0000000000005649505f3005000000000000002f613a38300000000000000000010000000000000018790000000000000000\
    01010000000000000018790a0000000000000000000000010000000000000000000000030000000000000000000000010000\
    000000000010270c000000000000005441534b5f53544147494e47000000000000000000000068e5cf8b0100000068e5cf8b\
    0100000000";

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[test]
fn records_of_version_1_are_read_and_written_anew() {
    let Record::PutApp(app) = decode("app//a", &bytes(APP_1)).expect("read") else {
        panic!("no app");
    };
    assert_eq!((app.id.as_str(), app.instances), ("/a", 1));
    assert!(app.health_checks.is_empty() && app.readiness_checks.is_empty());
    assert_eq!(app.unreachable, scheduler::UnreachableStrategy::default());
    let Record::PutInstance(instance) = decode("instance/x", &bytes(INSTANCE_1)).expect("read") else {
        panic!("no instance");
    };
    assert_eq!(
        (instance.spec.host_ports.as_slice(), instance.unreachable_since),
        (&[31_000][..], None)
    );
    assert_eq!(*instance.status.checks, model::CheckResults::default());
    for record in [Record::PutApp(app), Record::PutInstance(instance)] {
        let kept = encode(&record).expect("written").expect("a value");
        assert_eq!(kept[0], wire::VERSION);
        assert_eq!(decode(&key(&record), &kept).expect("read"), record);
    }
}

#[test]
fn residences_come_back_as_kept() {
    let residence = Record::PutResidence(Box::new(scheduler::Residence {
        id: scheduler::InstanceId("g_db.instance-u".to_owned()),
        app: scheduler::AppId::parse("/g/db").expect("valid"),
        agent: AgentId::new("S1"),
        volumes: vec![model::PersistentVolume {
            container_path: "data".to_owned(),
            size_mb: 100,
        }],
        resources: Resources {
            cpus_milli: 1,
            mem_mb: 2,
            disk_mb: 3,
        },
        attempt: 7,
        version: scheduler::Timestamp(9),
        ended: Some(model::TaskState::Failed),
        wiped: true,
    }));
    let kept = encode(&residence).expect("written").expect("a value");
    assert_eq!(decode(&key(&residence), &kept).expect("read"), residence);
    let id = scheduler::InstanceId("g_db.instance-u".to_owned());
    let gone = Record::DeleteResidence(id);
    assert_eq!((key(&gone), encode(&gone).expect("written")), (key(&residence), None));
}

#[test]
fn shares_come_back_as_kept() {
    let app = scheduler::AppId::parse("/g/canary").expect("valid");
    let told = scheduler::ToldShare {
        share: 25,
        since: scheduler::Timestamp(9),
    };
    let put = Record::PutShare(app.clone(), told);
    let kept = encode(&put).expect("written").expect("a value");
    assert_eq!(decode(&key(&put), &kept).expect("read"), put);
    let gone = Record::DeleteShare(app);
    assert_eq!((key(&gone), encode(&gone).expect("written")), (key(&put), None));
}

#[test]
fn records_of_unknown_versions_are_refused() {
    for version in [0, wire::VERSION + 1] {
        let mut kept = bytes(APP_1);
        kept[0] = version;
        let error = decode("app//a", &kept).expect_err("refused").to_string();
        assert!(error.contains(&format!("version {version}")), "{error}");
    }
}
