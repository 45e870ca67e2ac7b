//! Records in an etcd that fails at every point there is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::etcd::tests::{Fake, Fault};

fn place(fake: &Fake) -> Place {
    Place {
        etcd: fake.etcd(),
        url: format!("etcd://{}/r", fake.address),
        prefix: "/r".to_owned(),
    }
}

/// A leader in its term.
struct Term {
    session: Session,
    store: EtcdStore,
    found: Vec<Record>,
}

async fn fence(place: &Place) -> (Session, Fence) {
    let session = Session::begin(&place.etcd, 10, PATIENCE).await.expect("a lease");
    let key = place.leader_key();
    let end = format!("{key}\0");
    let put = Op::Put {
        key: key.clone(),
        value: b"{}".to_vec(),
        lease: session.lease,
    };
    // Whoever led leads no more.
    place
        .etcd
        .transaction(&[], &[Op::Delete { key, end }], &[], PATIENCE)
        .await
        .expect("done");
    let won = place.etcd.transaction(&[], &[put], &[], PATIENCE).await.expect("done");
    let fence = Fence::new(won.revision, &session);
    (session, fence)
}

async fn lead(fake: &Fake) -> Result<Term, StoreError> {
    let place = place(fake);
    let (session, fence) = fence(&place).await;
    let (store, found) = EtcdStore::open(place, fence, "c").await?;
    Ok(Term { session, store, found })
}

/// One whose record has about so many bytes.
fn agent(name: &str, size: usize) -> Record {
    let Record::PutAgent(mut record) = super::super::tests::agent(name) else {
        panic!("no agent")
    };
    record.hostname = "h".repeat(size);
    Record::PutAgent(record)
}

fn by_key(records: &[Record]) -> BTreeMap<String, Record> {
    records.iter().map(|record| (key(record), record.clone())).collect()
}

/// More than a transaction may have, in operations and in bytes; some go, some come, some grow and shrink.
fn large() -> (Vec<Record>, Vec<Record>, BTreeMap<String, Record>) {
    let before: Vec<Record> = (0..150).map(|n| agent(&format!("a{n:03}"), n * 20)).collect();
    let mut change: Vec<Record> = (100..300).map(|n| agent(&format!("a{n:03}"), 10)).collect();
    change.push(agent("long", 900_000));
    change.extend((0..50).map(|n| Record::DeleteAgent(AgentId::new(format!("a{n:03}").as_str()))));
    let mut after = by_key(&before);
    for record in &change {
        match record {
            Record::DeleteAgent(_) => drop(after.remove(&key(record))),
            put => drop(after.insert(key(put), put.clone())),
        }
    }
    (before, change, after)
}

#[tokio::test]
async fn the_next_leader_finds_what_was_written() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    assert_eq!(term.found, []);
    let (before, change, after) = large();
    term.store.write(&before, None).await.expect("written");
    term.store.write(&change, None).await.expect("written");
    let next = lead(&fake).await.expect("leads");
    assert_eq!(by_key(&next.found), after);
    let gone = agent("long", 3);
    next.store
        .write(std::slice::from_ref(&gone), None)
        .await
        .expect("written");
    let last = lead(&fake).await.expect("leads");
    assert_eq!(
        by_key(&last.found).get(&key(&gone)),
        Some(&gone),
        "no part of the longer one is left"
    );
    assert!(
        !fake.keys().iter().any(|key| key.contains("journal")),
        "{:?}",
        fake.keys()
    );
    let copy = backup(&place(&fake)).await.expect("backed up");
    assert_eq!(Backup::read(&copy).expect("whole").len(), after.len());
}

#[tokio::test]
async fn a_leader_that_falls_leaves_all_of_a_change_or_nothing() {
    let (before, change, after) = large();
    let (told, then) = (recorded(1, &[5, 6]), recorded(3, &[7, 600_000, 8]));
    let (mut all, mut nothing) = (0, 0);
    for taken in 0.. {
        let fake = Fake::start().await;
        let term = lead(&fake).await.expect("leads");
        term.store.write(&before, Some(&told)).await.expect("written");
        fake.takes_only(Some(taken));
        let acknowledged = term.store.write(&change, Some(&then)).await.is_ok();
        fake.takes_only(None);
        // A reader sees the same as the next leader.
        let read = load(&place(&fake)).await.expect("read");
        let events = read.events;
        let (read, _) = batch::join(&place(&fake).records_key(), &read.kept);
        let next = lead(&fake).await.expect("leads");
        let found = by_key(&next.found);
        assert_eq!(next.store.events().1, events, "after {taken}");
        assert_eq!(
            read.keys().collect::<Vec<_>>(),
            found.keys().collect::<Vec<_>>(),
            "after {taken}"
        );
        if found == after {
            assert_eq!(events, [told.clone(), then.clone()], "after {taken}");
            all += 1;
        } else {
            assert_eq!(events, std::slice::from_ref(&told), "after {taken}");
            assert!(!acknowledged, "lost after {taken}");
            assert_eq!(found, by_key(&before), "half of it after {taken}");
            nothing += 1;
        }
        next.store
            .write(&[agent("z", 1)], None)
            .await
            .expect("the next leader writes");
        if acknowledged {
            break;
        }
    }
    assert!(all > 3 && nothing > 3, "{all} whole, {nothing} not at all");
}

/// Events of so many bytes each.
fn recorded(first: u64, sizes: &[usize]) -> Recorded {
    let event = |size: &usize| ("a_event".to_owned(), "e".repeat(*size));
    Recorded {
        first,
        events: sizes.iter().map(event).collect(),
        forget: 0,
    }
}

#[tokio::test]
async fn whoever_follows_hears_the_events_of_each_commit_and_not_before_it() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    let (sender, mut steps) = tokio::sync::mpsc::channel(64);
    tokio::spawn(follow(place(&fake), "c".to_owned(), sender));
    let (_, change, _) = large();
    let told = [recorded(1, &[5]), recorded(2, &[6, 900_000]), recorded(4, &[7])];
    for (records, events) in [&[agent("y", 1)][..], &change, &[]].into_iter().zip(&told) {
        term.store.write(records, Some(events)).await.expect("written");
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last: &Recorded| last.first < 4) {
        let step = tokio::time::timeout(Duration::from_secs(60), steps.recv()).await;
        match step.expect("in time").expect("it goes on") {
            Step::All { events, .. } => heard.extend(events),
            Step::Some { events, records, .. } => {
                for one in events {
                    // As it is carried over from the journal, it is put again.
                    if !heard.contains(&one) {
                        assert!(one.first != 2 || !records.is_empty(), "told without what it tells of");
                        heard.push(one);
                    }
                }
            }
            Step::Seen(..) => {}
        }
    }
    assert_eq!(heard, told);
    let last = Recorded {
        forget: 4,
        ..recorded(5, &[1])
    };
    term.store.write(&[], Some(&last)).await.expect("written");
    let left = load(&place(&fake)).await.expect("read").events;
    assert_eq!(left.iter().map(|one| one.first).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(term.store.events().1, [], "nothing was there before it led");
}

#[tokio::test]
async fn who_follows_looks_for_the_newest_commit_while_no_watch_can_be_had() {
    let fake = Fake::start().await;
    let _term = lead(&fake).await.expect("leads");
    let (sender, mut steps) = tokio::sync::mpsc::channel(64);
    tokio::spawn(follow(place(&fake), "c".to_owned(), sender));
    let mut muted = None;
    loop {
        let step = tokio::time::timeout(Duration::from_secs(60), steps.recv()).await;
        match (step.expect("nobody looks").expect("it goes on"), muted) {
            (Step::All { .. }, None) => {
                fake.mute(true);
                muted = Some(Moment::now());
            }
            (Step::Seen(asked, _), Some(muted)) if asked.since(muted) > Duration::from_secs(1) => return,
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_does_not_write_twice() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    for faults in [
        &[Fault::Lost][..],
        &[Fault::Cut, Fault::Lost],
        &[Fault::Full, Fault::Cut],
    ] {
        let before = fake.transactions();
        fake.meets(faults);
        term.store.write(&[agent("a", 1)], None).await.expect("written");
        assert_eq!(fake.transactions() - before, faults.len() + 1);
    }
    let sequence = term.store.chain.lock().sequence;
    assert_eq!(sequence, 3);
    let next = lead(&fake).await.expect("leads");
    assert_eq!(next.found, [agent("a", 1)]);
}

#[tokio::test]
async fn a_full_etcd_is_told_and_waited_for() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    let mut trouble = term.store.trouble();
    fake.meets(&[Fault::Full; 2]);
    let written = async { term.store.write(&[agent("a", 1)], None).await };
    let told = async {
        trouble.changed().await.expect("told");
        trouble.borrow().clone()
    };
    let (written, told) = tokio::join!(written, told);
    written.expect("written in the end");
    let told = told.expect("trouble");
    assert!(
        matches!(&told, Trouble::Writes(text) if text.contains("it is full; compact")),
        "{told:?}"
    );
    assert_eq!(*term.store.trouble.borrow(), None, "it is over");
}

#[tokio::test]
async fn who_was_deposed_writes_nothing() {
    let fake = Fake::start().await;
    let old = lead(&fake).await.expect("leads");
    old.store.write(&[agent("a", 1)], None).await.expect("written");
    let new = lead(&fake).await.expect("leads");
    let (before, change, _) = large();
    for records in [vec![agent("a", 2)], before, change] {
        let error = old.store.write(&records, None).await.expect_err("refused");
        assert!(matches!(error, StoreError::Etcd(EtcdStoreError::Deposed(_))), "{error}");
    }
    let last = lead(&fake).await.expect("leads");
    assert_eq!(last.found, [agent("a", 1)]);
    // One whose lease was ended does not even ask.
    place(&fake)
        .etcd
        .revoke(new.session.lease, PATIENCE)
        .await
        .expect("revoked");
    let ended = tokio::time::timeout(Duration::from_secs(60), new.store.guard())
        .await
        .expect("seen");
    assert!(ended.to_string().contains("its lease ended"), "{ended}");
    let before = fake.transactions();
    new.store.write(&[agent("b", 1)], None).await.expect_err("refused");
    assert_eq!(fake.transactions(), before);
}

#[tokio::test]
async fn who_did_not_write_last_writes_nothing() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    term.store.write(&[agent("a", 1)], None).await.expect("written");
    fake.set("/r/state/commit", r#"{"epoch":1,"sequence":9,"journal":0}"#);
    let error = term
        .store
        .write(&[agent("a", 2)], None)
        .await
        .expect_err("refused")
        .to_string();
    assert!(error.contains("something else wrote"), "{error}");
}

#[tokio::test]
async fn with_a_lease_in_doubt_a_write_waits() {
    let fake = Fake::start().await;
    let mut term = lead(&fake).await.expect("leads");
    let clock = Arc::new(LeaseClock::new(Moment::now(), Duration::ZERO));
    term.store.fence.clock = Arc::clone(&clock);
    let mut trouble = term.store.trouble();
    let before = fake.transactions();
    let renewed = async {
        let told = tokio::time::timeout(PATIENCE * 10, trouble.changed()).await;
        told.expect("in time").expect("told");
        let told = trouble.borrow().clone();
        assert!(matches!(told, Some(Trouble::Lead(_))), "{told:?}");
        assert_eq!(fake.transactions(), before, "it asked all the same");
        clock.extend(Moment::now(), Duration::from_secs(60));
    };
    let records = [agent("a", 1)];
    let (written, ()) = tokio::join!(term.store.write(&records, None), renewed);
    written.expect("written once the lease stands");
    assert_eq!(fake.transactions(), before + 1);
}

#[tokio::test]
async fn other_data_is_left_alone() {
    let fake = Fake::start().await;
    let term = lead(&fake).await.expect("leads");
    term.store.write(&[agent("a", 1)], None).await.expect("written");
    let place = place(&fake);
    let error = check(&place, "other").await.expect_err("refused").to_string();
    assert!(
        error.contains("the cluster `c`") && error.contains("set master.cluster"),
        "{error}"
    );
    fake.set("/r/meta", r#"{"cluster":"c","schema":250,"release":"9.9.9"}"#);
    let error = check(&place, "c").await.expect_err("refused").to_string();
    assert!(
        error.contains("revere 9.9.9") && error.contains("start that release"),
        "{error}"
    );
    fake.set("/r/meta", "a diary");
    let error = check(&place, "c").await.expect_err("refused").to_string();
    assert!(error.contains("/r/meta holds what no revere master writes"), "{error}");
    fake.set("/r/meta", r#"{"cluster":"c","schema":1,"release":"0.0.1"}"#);
    fake.set("/r/state/records/app//x", "a poem");
    let error = lead(&fake)
        .await
        .map(|term| term.found)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("app//x"), "{error}");
}

#[tokio::test]
async fn what_nobody_signed_is_refused_before_anything_is_written() {
    for key in ["/r/state/diary", "/r/state/records/app//x", "/r/events/mine"] {
        let fake = Fake::start().await;
        fake.set(key, "a diary");
        let error = check(&place(&fake), "c").await.expect_err(key).to_string();
        assert!(
            error.contains(&format!("{key} holds what no revere master writes")),
            "{error}"
        );
        assert_eq!(fake.keys(), [key]);
    }
    let fake = Fake::start().await;
    for others in ["/r/other", "/rather/state/x", "/r/masters/10.0.0.1:5050"] {
        fake.set(others, "a diary");
    }
    check(&place(&fake), "c").await.expect("nothing of it is in the way");
}

#[tokio::test]
async fn a_tool_and_a_master_keep_each_other_out() {
    let fake = Fake::start().await;
    let place = place(&fake);
    let dir = tempfile::tempdir().expect("directory");
    let filled = crate::store::Store::open(dir.path()).expect("opened");
    filled.write(&[agent("a", 1), agent("b", 900_000)]).expect("written");
    let copy = || Backup::read(&filled.backup().expect("backed up")).expect("whole");
    let hold = Hold::take(&place, "c").await.expect("nobody is there");
    let second = Hold::take(&place, "c").await.expect_err("one at a time").to_string();
    assert!(
        second.contains("in use") && second.contains("stop all masters"),
        "{second}"
    );
    restore(place.clone(), hold.fence(), "c", copy()).await.expect("filled");
    let again = restore(place.clone(), hold.fence(), "c", copy())
        .await
        .expect_err("not empty")
        .to_string();
    assert!(again.contains("there are records"), "{again}");
    hold.release().await;
    fake.set("/r/masters/10.0.0.1:5050", "{}");
    let error = Hold::take(&place, "c").await.expect_err("a master waits").to_string();
    assert!(error.contains("10.0.0.1:5050"), "{error}");
    let term = lead(&fake).await.expect("leads");
    assert_eq!(by_key(&term.found), by_key(&filled.load().expect("loaded")));
}
