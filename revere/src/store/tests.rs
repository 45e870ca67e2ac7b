//! Reopening, deleting, damage.

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
        error.contains("`agent/x`") && error.contains("version 9") && error.contains("version 2"),
        "{error}"
    );
}

#[test]
fn memory_keeps_nothing() {
    let store = Store::memory();
    store.write(&[agent("a")]).expect("written");
    assert_eq!(store.load().expect("loaded"), []);
}
