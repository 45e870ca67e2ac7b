//! Records in etcd: one key per record, every write fenced by the leader's key and chained to the write before it.
//!
//! A transaction compares two things: that the leader's key is the one this master made (its create revision is the
//! epoch), and that the last commit is the one this master knows. So a master that was deposed writes nothing, and a
//! write that is sent again because its answer was lost is done once. What is larger than one transaction may be goes
//! into a journal first; the commit that names the journal makes all of it true at once.

mod batch;
mod events;
mod follow;
mod hold;
mod meta;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::AgentId;
use parking_lot::Mutex;
use scheduler::Record;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::backup::Backup;
use super::state::Trouble;
use super::{StoreError, decode, encode, key};
use crate::etcd::clock::{LeaseClock, Moment};
use crate::etcd::{Compare, Etcd, EtcdError, Op, Session, Standing};
use crate::wire::WireError;
use batch::Long;
pub(crate) use batch::MOST_OPS;
pub(crate) use events::Recorded;
pub(crate) use follow::{Step, follow};
pub(crate) use hold::Hold;
pub(crate) use meta::check;

/// For one member's answer; then the next one is asked. A test has one member only, which may have to wait for a processor.
pub(crate) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 20 } else { 2 });

/// Between two tries of a write.
const RETRY: Duration = Duration::from_millis(200);

/// An answer that takes longer is told as trouble.
const SLOW: Duration = Duration::from_secs(1);

/// Between two looks at a lease in doubt.
const LOOK: Duration = Duration::from_millis(50);

/// Keys asked for at a time.
const PAGE: u32 = 500;

/// Why records cannot be read from etcd or written to it.
#[derive(Debug, thiserror::Error)]
pub enum EtcdStoreError {
    /// etcd's.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// It leads no more.
    #[error("this master leads no more: {0}")]
    Deposed(String),
    /// Of other masters.
    #[error(
        "the keys under {place} belong to the cluster `{found}`, and this master is of `{wanted}`: set master.cluster, or another prefix behind the address"
    )]
    Foreign {
        /// The store's address.
        place: String,
        /// Its cluster.
        found: String,
        /// This master's.
        wanted: String,
    },
    /// Of a release to come.
    #[error(
        "the keys under {place} were written by a newer release (records of version {found}, revere {release}); this one reads up to version {known}: start that release"
    )]
    Newer {
        /// The store's address.
        place: String,
        /// Its version.
        found: u8,
        /// Who wrote it.
        release: String,
        /// This program's.
        known: u8,
    },
    /// Not ours.
    #[error(
        "the key {0} holds what no revere master writes; use another prefix behind the address, or restore a backup"
    )]
    Damaged(String),
    /// Another process is at work on it.
    #[error(
        "the store {0} is in use by the master {1}: stop all masters first; one that was killed counts until its lease has ended"
    )]
    InUse(String, String),
    /// Two of one name.
    #[error("another master of the name {0} runs: give each its own master.listen or master.advertise")]
    NameTaken(String),
    /// Not empty.
    #[error("there are records under {0} already; they were left as they are: name another prefix")]
    There(String),
}

/// Where the keys lie.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) etcd: Arc<Etcd>,
    /// For people.
    pub(crate) url: String,
    pub(crate) prefix: String,
}

impl Place {
    /// Whose value tells the leading master; it lives as long as that master's lease.
    pub(crate) fn leader_key(&self) -> String {
        format!("{}/leader", self.prefix)
    }

    /// Below it each master has a key.
    pub(crate) fn masters_key(&self) -> String {
        format!("{}/masters/", self.prefix)
    }

    fn key(&self, name: &str) -> String {
        format!("{}/state/{name}", self.prefix)
    }

    fn commit_key(&self) -> String {
        self.key("commit")
    }

    fn journal_key(&self, chunk: usize) -> String {
        self.key(&format!("journal/{chunk:06}"))
    }

    fn journal_end(&self) -> String {
        self.key("journal0")
    }

    fn records_key(&self) -> String {
        self.key("records/")
    }

    /// Not below `state/`, where earlier releases know of no such keys.
    fn events_key(&self) -> String {
        format!("{}/events/", self.prefix)
    }

    fn events_end(&self) -> String {
        format!("{}/events0", self.prefix)
    }

    /// All that a commit may touch lies between these two, and some that it never does.
    fn range(&self) -> (String, String) {
        (self.events_key(), format!("{}/state0", self.prefix))
    }

    /// The two parts of it that only commits touch.
    fn ours(&self) -> [(String, String); 2] {
        let (from, end) = self.range();
        [(from, self.events_end()), (self.key(""), end)]
    }

    /// Whether a key in that range is a commit's.
    fn is_ours(&self, key: &str) -> bool {
        key.starts_with(&self.key("")) || key.starts_with(&self.events_key())
    }
}

/// What allows a master to write.
#[derive(Debug)]
pub(crate) struct Fence {
    /// The leader key's create revision.
    pub(crate) epoch: u64,
    clock: Arc<LeaseClock>,
    standing: watch::Receiver<Standing>,
}

impl Fence {
    pub(crate) fn new(epoch: u64, session: &Session) -> Self {
        Self {
            epoch,
            clock: Arc::clone(&session.clock),
            standing: session.standing.clone(),
        }
    }
}

/// The last commit's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Commit {
    epoch: u64,
    sequence: u64,
    /// Chunks of the journal that are true and may not lie among the records yet.
    journal: usize,
    /// Agents that the leader has not heard of for a little: what it tells of their tasks is not in the records.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    suspects: BTreeSet<String>,
}

/// The chain's end as its writer knows it.
#[derive(Clone, Debug, Default)]
struct Chain {
    modified: u64,
    sequence: u64,
    long: Long,
}

/// Everything, as it was at one revision.
#[derive(Debug, Default)]
struct Raw {
    commit: Commit,
    modified: u64,
    /// That of the moment.
    revision: u64,
    /// All chunks of it, true or not.
    chunks: BTreeMap<String, Vec<Op>>,
    journal: Vec<Vec<Op>>,
    kept: BTreeMap<String, Vec<u8>>,
    /// Of those that load; whoever follows has told them.
    events: Vec<Recorded>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct EtcdStore {
    place: Place,
    fence: Fence,
    chain: Mutex<Chain>,
    /// See [`Commit::suspects`].
    suspects: Mutex<BTreeSet<String>>,
    trouble: watch::Sender<Option<Trouble>>,
    /// Which records these are.
    identity: String,
    /// Events that were recorded before this term.
    events: Mutex<Vec<Recorded>>,
}

impl EtcdStore {
    /// Takes up what the last leader left, as the leader that `fence` tells of.
    pub(crate) async fn open(place: Place, fence: Fence, cluster: &str) -> Result<(Self, Vec<Record>), StoreError> {
        let mut store = Self {
            place,
            fence,
            chain: Mutex::new(Chain::default()),
            suspects: Mutex::default(),
            trouble: watch::Sender::new(None),
            identity: String::new(),
            events: Mutex::default(),
        };
        store.identity = store.sign(cluster).await?;
        let raw = load(&store.place).await?;
        let (records, long) = batch::join(&store.place.records_key(), &raw.kept);
        let mut chain = Chain {
            modified: raw.modified,
            sequence: raw.commit.sequence,
            long,
        };
        if raw.commit.journal > 0 {
            store.carry_over(&mut chain, raw.journal).await?;
        }
        *store.chain.lock() = chain;
        *store.events.lock() = raw.events;
        let records = decoded(&store.place, records)?;
        Ok((store, records))
    }

    /// What stands in the way of writes.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Told with the next write; whether that is news.
    pub(crate) fn suspect(&self, agents: &BTreeSet<AgentId>) -> bool {
        let mut known = self.suspects.lock();
        let news = !known.iter().map(String::as_str).eq(agents.iter().map(AgentId::as_str));
        if news {
            *known = agents.iter().map(|agent| agent.as_str().to_owned()).collect();
        }
        news
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.chain.lock().modified
    }

    /// Everything as it is at one moment.
    pub(crate) async fn backup(&self) -> Result<Vec<u8>, StoreError> {
        backup(&self.place).await
    }

    /// Which records these are, and the events that were recorded before this term; those are given once.
    pub(crate) fn events(&self) -> (String, Vec<Recorded>) {
        (self.identity.clone(), std::mem::take(&mut *self.events.lock()))
    }

    /// See [`super::state::StateStore::write`].
    pub(crate) async fn write(&self, records: &[Record], events: Option<&Recorded>) -> Result<(), StoreError> {
        let entry = |record: &Record| Ok((key(record), encode(record)?));
        let entries: Result<Vec<_>, WireError> = records.iter().map(entry).collect();
        let entries = entries.map_err(|source| StoreError::Record {
            path: PathBuf::from(&self.place.url),
            key: "(new)".to_owned(),
            source,
        })?;
        Ok(self.put(entries, events).await?)
    }

    /// All of it or nothing.
    async fn put(
        &self,
        entries: Vec<(String, Option<Vec<u8>>)>,
        events: Option<&Recorded>,
    ) -> Result<(), EtcdStoreError> {
        let mut chain = self.chain.lock().clone();
        let mut ops = batch::ops(&self.place.records_key(), entries, &mut chain.long);
        ops.extend(events.into_iter().flat_map(|events| events.ops(&self.place)));
        let mut chunks = batch::chunks(ops);
        if chunks.len() <= 1 {
            let ops = chunks.pop().unwrap_or_default();
            self.commit(&mut chain, 0, ops).await?;
        } else {
            let end = self.place.journal_end();
            let clear = Op::Delete {
                key: self.place.journal_key(0),
                end,
            };
            self.transact(&mut chain, None, vec![clear]).await?;
            for (number, chunk) in chunks.iter().enumerate() {
                let put = Op::Put {
                    key: self.place.journal_key(number),
                    value: batch::write(chunk),
                    lease: 0,
                };
                self.transact(&mut chain, None, vec![put]).await?;
            }
            self.commit(&mut chain, chunks.len(), Vec::new()).await?;
            self.carry_over(&mut chain, chunks).await?;
        }
        *self.chain.lock() = chain;
        Ok(())
    }

    /// From the journal to the records.
    async fn carry_over(&self, chain: &mut Chain, journal: Vec<Vec<Op>>) -> Result<(), EtcdStoreError> {
        for chunk in journal {
            self.transact(chain, None, chunk).await?;
        }
        let clear = Op::Delete {
            key: self.place.journal_key(0),
            end: self.place.journal_end(),
        };
        self.commit(chain, 0, vec![clear]).await
    }

    async fn commit(&self, chain: &mut Chain, journal: usize, ops: Vec<Op>) -> Result<(), EtcdStoreError> {
        chain.sequence += 1;
        let commit = Commit {
            epoch: self.fence.epoch,
            sequence: chain.sequence,
            journal,
            suspects: self.suspects.lock().clone(),
        };
        self.transact(chain, Some(commit), ops).await
    }

    /// One transaction, again and again until it is done or must not be.
    async fn transact(
        &self,
        chain: &mut Chain,
        commit: Option<Commit>,
        mut then: Vec<Op>,
    ) -> Result<(), EtcdStoreError> {
        let (leader, key) = (self.place.leader_key(), self.place.commit_key());
        let when = [
            Compare::Created(leader.clone(), self.fence.epoch),
            Compare::Modified(key.clone(), chain.modified),
        ];
        let value = commit.map(|commit| serde_json::to_vec(&commit).unwrap_or_default());
        if let Some(value) = &value {
            then.push(Op::Put {
                key: key.clone(),
                value: value.clone(),
                lease: 0,
            });
        }
        let otherwise = [Op::Get(leader), Op::Get(key)];
        loop {
            self.permitted().await?;
            let error = match self.ask(&when, &then, &otherwise).await {
                Ok(done) if done.succeeded => {
                    if value.is_some() {
                        chain.modified = done.revision;
                    }
                    self.tell(None);
                    return Ok(());
                }
                Ok(mut refused) => {
                    let commit = refused.found.pop().flatten();
                    let leader = refused.found.pop().flatten();
                    if leader.is_none_or(|leader| leader.created != self.fence.epoch) {
                        return Err(deposed("another was elected, or it was asked to step down"));
                    }
                    // Done before; only the answer was lost.
                    return match commit {
                        Some(commit) if value.as_ref() == Some(&commit.value) => {
                            chain.modified = commit.modified;
                            self.tell(None);
                            Ok(())
                        }
                        _ => Err(deposed("something else wrote to its records")),
                    };
                }
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error.into()),
            };
            self.tell(Some(Trouble::Writes(error.to_string())));
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Tells when the answer takes long.
    async fn ask(&self, when: &[Compare], then: &[Op], otherwise: &[Op]) -> Result<crate::etcd::Outcome, EtcdError> {
        let answer = self.place.etcd.transaction(when, then, otherwise, PATIENCE);
        tokio::pin!(answer);
        match tokio::time::timeout(SLOW, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let slow = format!("etcd has not answered a write for {} s", SLOW.as_secs());
                self.tell(Some(Trouble::Writes(slow)));
                answer.await
            }
        }
    }

    fn tell(&self, trouble: Option<Trouble>) {
        self.trouble.send_if_modified(|known| {
            let changed = *known != trouble;
            if changed && let Some(trouble) = &trouble {
                tracing::warn!("writes wait: {}", trouble.reason());
            }
            *known = trouble;
            changed
        });
    }

    /// Waits while the lease is in doubt; an error once it has ended. Looked at before each write.
    async fn permitted(&self) -> Result<(), EtcdStoreError> {
        while self.lease_in_doubt()? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Whether this master must not act for now; tells so.
    fn lease_in_doubt(&self) -> Result<bool, EtcdStoreError> {
        let standing = self.fence.standing.borrow().clone();
        if standing == Standing::Ended {
            return Err(deposed("its lease ended"));
        }
        let over = self.fence.clock.is_over(Moment::now());
        if over {
            let why = match standing {
                Standing::Doubtful(why) => why,
                _ => "it was not renewed in time".to_owned(),
            };
            let text = format!("the lease by which this master leads may have ended: {why}");
            self.tell(Some(Trouble::Lead(text)));
        }
        Ok(over)
    }

    /// Watches the lease while nothing is written; returns when it has ended.
    pub(crate) async fn guard(&self) -> StoreError {
        loop {
            match self.lease_in_doubt() {
                Err(error) => return error.into(),
                Ok(true) => {}
                // It stood the test.
                Ok(false) if matches!(*self.trouble.borrow(), Some(Trouble::Lead(_))) => self.tell(None),
                Ok(false) => {}
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn deposed(why: &str) -> EtcdStoreError {
    EtcdStoreError::Deposed(why.to_owned())
}

fn decoded(place: &Place, records: BTreeMap<String, Vec<u8>>) -> Result<Vec<Record>, StoreError> {
    let records = records.into_iter().map(|(key, value)| {
        decode(&key, &value).map_err(|source| StoreError::Record {
            path: PathBuf::from(&place.url),
            key,
            source,
        })
    });
    records.collect()
}

/// All keys, as they were at one revision, with what the journal makes of them.
async fn load(place: &Place) -> Result<Raw, EtcdStoreError> {
    let mut raw = Raw::default();
    let (mut from, end) = place.range();
    let (records, mut revision) = (place.records_key(), 0);
    let mut more = true;
    while more {
        let page = place.etcd.page(&from, &end, revision, PAGE, PATIENCE).await?;
        if revision == 0 {
            revision = page.revision;
        }
        more = page.more;
        for kv in page.kvs {
            from = format!("{}\0", kv.key);
            let damaged = || EtcdStoreError::Damaged(kv.key.clone());
            if !place.is_ours(&kv.key) {
                continue;
            }
            if kv.key.starts_with(&records) || kv.key.starts_with(&place.events_key()) {
                raw.kept.insert(kv.key, kv.value);
            } else if kv.key == place.commit_key() {
                raw.commit = serde_json::from_slice(&kv.value).map_err(|_| damaged())?;
                raw.modified = kv.modified;
            } else if kv.key.starts_with(&place.key("journal/")) {
                let chunk = batch::read(&kv.value).ok_or_else(damaged)?;
                raw.chunks.insert(kv.key, chunk);
            } else {
                return Err(damaged());
            }
        }
    }
    if raw.commit.journal > 0 {
        raw.journal = raw.chunks.values().take(raw.commit.journal).cloned().collect();
        if raw.journal.len() < raw.commit.journal {
            return Err(EtcdStoreError::Damaged(place.journal_key(raw.journal.len())));
        }
        for chunk in &raw.journal {
            batch::apply(chunk, &mut raw.kept);
        }
    }
    raw.events = events::read(place, &events::take_out(place, &mut raw.kept))?;
    raw.revision = revision;
    Ok(raw)
}

/// All records of a place, whoever leads.
pub(crate) async fn backup(place: &Place) -> Result<Vec<u8>, StoreError> {
    let raw = load(place).await?;
    let (records, _) = batch::join(&place.records_key(), &raw.kept);
    Ok(Backup::of(records.into_iter().collect()).write())
}

/// Puts a backup where there is nothing yet, by the one process that `fence` lets write.
pub(crate) async fn restore(place: Place, fence: Fence, cluster: &str, backup: Backup) -> Result<(), StoreError> {
    let url = place.url.clone();
    let (store, records) = EtcdStore::open(place, fence, cluster).await?;
    if !records.is_empty() {
        return Err(EtcdStoreError::There(url).into());
    }
    let entries = backup.into_records().into_iter();
    Ok(store
        .put(entries.map(|(key, value)| (key, Some(value))).collect(), None)
        .await?)
}
