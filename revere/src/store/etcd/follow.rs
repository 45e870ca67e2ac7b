//! The records in etcd as they change, for masters that do not lead.
//!
//! First all of them, then what each commit changes; all of them again where etcd has thrown away what would have come
//! next. What stands in a journal is true from the commit on that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use scheduler::Record;
use tokio::sync::{mpsc, watch};

use super::{
    Commit, EtcdStoreError, PATIENCE, Place, RETRY, Raw, Recorded, batch, decode, decoded, events, load, meta,
};
use crate::etcd::clock::Moment;
use crate::etcd::{Change, Changes, EtcdError, Kv, Op, Watch};
use crate::store::StoreError;
use crate::wire::WireError;

/// Between two questions for the newest commit, by whose answer is known how old the copy is.
const LOOK: Duration = Duration::from_millis(250);

/// For the answer: a member that hangs must not let the copy grow old.
const LOOK_PATIENCE: Duration = Duration::from_millis(PATIENCE.as_secs() * 1_000 / 2);

/// A watch that has not told of a commit for so long after it was seen is one of a member that is cut off.
const BEHIND: Duration = Duration::from_secs(2);

/// What happened.
#[derive(Debug)]
pub(crate) enum Step {
    /// Everything, as of a commit.
    All {
        records: Vec<Record>,
        /// The newest ones, told before or not.
        events: Vec<Recorded>,
        suspects: BTreeSet<String>,
        /// Which records these are; revisions of others mean nothing here.
        identity: String,
        revision: u64,
        /// Before they were asked for: they are no older.
        asked: Moment,
    },
    /// What came after. A part of a commit that comes in several has no revision.
    Some {
        records: Vec<Record>,
        /// Some may have been told before.
        events: Vec<Recorded>,
        suspects: Option<BTreeSet<String>>,
        revision: Option<u64>,
    },
    /// At that moment that revision was the newest commit's.
    Seen(Moment, u64),
}

/// The keys as they are known.
#[derive(Debug)]
struct Keys {
    place: Place,
    raw: Raw,
}

/// Tells `steps` for ever; ends when nobody listens any more.
pub(crate) async fn follow(place: Place, cluster: String, steps: mpsc::Sender<Step>) {
    while !steps.is_closed() {
        if let Err(error) = begin(&place, &cluster, &steps).await {
            tracing::debug!("the copy of the records begins anew: {error}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Once there are records: all of them and what comes after; ends when nobody listens any more.
async fn begin(place: &Place, cluster: &str, steps: &mpsc::Sender<Step>) -> Result<(), StoreError> {
    let Some(identity) = meta::identity(place, cluster).await? else {
        return Ok(());
    };
    let asked = Moment::now();
    let mut raw = load(place).await?;
    raw.journal.clear();
    let (records, _) = batch::join(&place.records_key(), &raw.kept);
    let all = Step::All {
        records: decoded(place, records)?,
        events: std::mem::take(&mut raw.events),
        suspects: raw.commit.suspects.clone(),
        identity,
        revision: raw.modified,
        asked,
    };
    if steps.send(all).await.is_err() {
        return Ok(());
    }
    let (looked, newest) = watch::channel(None);
    let keys = Keys {
        place: place.clone(),
        raw,
    };
    tokio::select! {
        ended = keys.watch(steps, newest) => ended,
        () = look(place, steps, looked) => Ok(()),
    }
}

/// When the newest commit was asked for, and which it was.
type Looked = Option<(Moment, u64)>;

/// Looks for the newest commit again and again, whatever becomes of watches; ends when nobody listens any more.
async fn look(place: &Place, steps: &mpsc::Sender<Step>, looked: watch::Sender<Looked>) {
    let key = place.commit_key();
    loop {
        tokio::time::sleep(LOOK).await;
        let asked = Moment::now();
        let Ok(found) = place.etcd.get(&key, LOOK_PATIENCE).await else {
            continue;
        };
        let newest = found.map_or(0, |kv| kv.modified);
        looked.send_replace(Some((asked, newest)));
        if steps.send(Step::Seen(asked, newest)).await.is_err() {
            return;
        }
    }
}

impl Keys {
    /// Follows by one watch after the other; ends without an error when nobody listens.
    async fn watch(
        mut self,
        steps: &mpsc::Sender<Step>,
        mut newest: watch::Receiver<Looked>,
    ) -> Result<(), StoreError> {
        let (from, end) = self.place.range();
        loop {
            let etcd = std::sync::Arc::clone(&self.place.etcd);
            let watch = etcd.watch(&from, &end, self.raw.revision + 1, PATIENCE).await;
            let ended = match watch {
                Ok(watch) => self.follow(watch, steps, &mut newest).await?,
                Err(error) => Some(error),
            };
            match ended {
                None => return Ok(()),
                Some(error @ EtcdError::Compacted(..)) => return Err(EtcdStoreError::from(error).into()),
                Some(error) => {
                    tracing::debug!("a watch ended: {error}");
                    self.place.etcd.turn();
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Until the watch ends, why; `None` when nobody listens.
    async fn follow(
        &mut self,
        mut watch: Watch,
        steps: &mpsc::Sender<Step>,
        newest: &mut watch::Receiver<Looked>,
    ) -> Result<Option<EtcdError>, StoreError> {
        // Since when it has not reached a commit that there was then.
        let mut behind: Looked = None;
        loop {
            tokio::select! {
                told = watch.next() => {
                    let told = match told {
                        Ok(told) => told,
                        Err(error) => return Ok(Some(error)),
                    };
                    for changes in told {
                        let Some(step) = self.take(changes)? else { continue };
                        if steps.send(step).await.is_err() {
                            return Ok(None);
                        }
                    }
                }
                looked = newest.changed() => {
                    let known = *newest.borrow_and_update();
                    let (Ok(()), Some((asked, newest))) = (looked, known) else {
                        return Ok(None);
                    };
                    behind = behind.filter(|(_, newest)| *newest > self.raw.modified);
                    if newest > self.raw.modified && asked.since(behind.get_or_insert((asked, newest)).0) > BEHIND {
                        let text = "a watch is behind its own keys".to_owned();
                        return Ok(Some(EtcdError::Away(text, "its members".to_owned())));
                    }
                }
            }
        }
    }

    /// What a revision makes of the records.
    fn take(&mut self, changes: Changes) -> Result<Option<Step>, StoreError> {
        self.raw.revision = changes.revision;
        let mut touched = BTreeMap::new();
        let mut told = BTreeMap::new();
        let mut commit = None;
        for change in changes.changes {
            match change {
                Change::Put(kv) if kv.key == self.place.commit_key() => commit = Some(kv),
                Change::Put(kv) if kv.key.starts_with(&self.place.events_key()) => drop(told.insert(kv.key, kv.value)),
                Change::Put(kv) if !self.place.is_ours(&kv.key) => {}
                Change::Put(kv) => self.put(kv, &mut touched)?,
                Change::Deleted(key) => {
                    self.raw.chunks.remove(&key);
                    self.touch(&key, &mut touched);
                    self.raw.kept.remove(&key);
                }
            }
        }
        let mut suspects = None;
        if let Some(kv) = &commit {
            let read: Commit = serde_json::from_slice(&kv.value).map_err(|_| damaged(&kv.key))?;
            self.carry_over(&read, &mut touched)?;
            told.append(&mut events::take_out(&self.place, &mut self.raw.kept));
            suspects = Some(read.suspects.clone());
            self.raw.commit = read;
            self.raw.modified = kv.modified;
        }
        let records = touched
            .into_iter()
            .filter_map(|(name, old)| self.record(&name, old).transpose());
        let mut records: Vec<Record> = records.collect::<Result<_, _>>()?;
        // A task's framework comes first.
        records.sort_by_key(|one| matches!(one, Record::PutFrameworkTask(_) | Record::DeleteFrameworkTask(..)));
        let revision = commit.map(|kv| kv.modified);
        if revision.is_none() {
            // A commit is being carried over, which told them; of a long one only a part may be here.
            told.clear();
        }
        let events = events::read(&self.place, &told)?;
        let nothing = records.is_empty() && events.is_empty() && revision.is_none();
        Ok((!nothing).then_some(Step::Some {
            records,
            events,
            suspects,
            revision,
        }))
    }

    fn put(&mut self, kv: Kv, touched: &mut BTreeMap<String, Option<Vec<u8>>>) -> Result<(), StoreError> {
        if kv.key.starts_with(&self.place.records_key()) {
            self.touch(&kv.key, touched);
            self.raw.kept.insert(kv.key, kv.value);
        } else if kv.key.starts_with(&self.place.key("journal/")) {
            let chunk = batch::read(&kv.value).ok_or_else(|| damaged(&kv.key))?;
            self.raw.chunks.insert(kv.key, chunk);
        } else {
            return Err(damaged(&kv.key));
        }
        Ok(())
    }

    /// What a commit says of the journal is so from now on.
    fn carry_over(
        &mut self,
        commit: &Commit,
        touched: &mut BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<(), StoreError> {
        let chunks: Vec<Vec<Op>> = self.raw.chunks.values().take(commit.journal).cloned().collect();
        if chunks.len() < commit.journal {
            return Err(damaged(&self.place.journal_key(chunks.len())));
        }
        for chunk in chunks {
            for op in &chunk {
                match op {
                    Op::Put { key, .. } => self.touch(key, touched),
                    Op::Delete { key, end } => {
                        let gone = self.raw.kept.range(key.clone()..end.clone());
                        for key in gone.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                            self.touch(&key, touched);
                        }
                    }
                    Op::Get(_) => {}
                }
            }
            batch::apply(&chunk, &mut self.raw.kept);
        }
        Ok(())
    }

    /// Notes a record of which a key changes, with what it is before the first change.
    fn touch(&self, key: &str, touched: &mut BTreeMap<String, Option<Vec<u8>>>) {
        if let Some(name) = batch::record_of(&self.place.records_key(), key)
            && !touched.contains_key(name)
        {
            let old = self.whole(name);
            touched.insert(name.to_owned(), old);
        }
    }

    fn whole(&self, name: &str) -> Option<Vec<u8>> {
        batch::whole(&self.place.records_key(), name, &self.raw.kept)
    }

    /// What became of a record.
    fn record(&self, name: &str, old: Option<Vec<u8>>) -> Result<Option<Record>, StoreError> {
        let unreadable = |source: WireError| StoreError::Record {
            path: self.place.url.clone().into(),
            key: name.to_owned(),
            source,
        };
        match (self.whole(name), old) {
            (new, old) if new == old => Ok(None),
            (Some(new), _) => decode(name, &new).map(Some).map_err(unreadable),
            (None, Some(old)) => Ok(gone(decode(name, &old).map_err(unreadable)?)),
            (None, None) => Ok(None),
        }
    }
}

fn damaged(key: &str) -> StoreError {
    EtcdStoreError::Damaged(key.to_owned()).into()
}

/// That a record is no more; nothing of those that stay.
fn gone(record: Record) -> Option<Record> {
    Some(match record {
        Record::PutApp(app) => Record::DeleteApp(app.id),
        Record::PutVersion(app) => Record::DeleteVersion(app.id, app.version),
        Record::PutAgent(agent) => Record::DeleteAgent(agent.id),
        Record::PutInstance(instance) => Record::DeleteInstance(instance.id),
        Record::PutResidence(residence) => Record::DeleteResidence(residence.id),
        Record::PutSecret(secret) => Record::DeleteSecret(secret.path),
        Record::PutDeployment(deployment) => Record::DeleteDeployment(deployment.id),
        Record::PutGroup(group) => Record::DeleteGroup(group.id),
        Record::PutGroupVersion(kept) => Record::DeleteGroupVersion(kept.id, kept.version),
        Record::PutAgentOrder(agent, _) => Record::DeleteAgentOrder(agent),
        Record::PutNetwork(network) => Record::DeleteNetwork(network.name),
        Record::PutHoldings(agent, _) => Record::DeleteHoldings(agent),
        Record::PutQuota(quota) => Record::DeleteQuota(quota.role),
        Record::PutShare(app, _) => Record::DeleteShare(app),
        Record::PutFramework(framework) => Record::DeleteFramework(framework.id),
        Record::PutFrameworkTask(task) => {
            let framework = task.framework().clone();
            Record::DeleteFrameworkTask(framework, task.task)
        }
        // These stay. Each is named, so that a record that is new cannot be forgotten here.
        Record::Framework(_) | Record::PutWeight(..) | Record::PutMaintenance(_) => return None,
        // No key holds one.
        Record::DeleteApp(_)
        | Record::DeleteVersion(..)
        | Record::DeleteAgent(_)
        | Record::DeleteInstance(_)
        | Record::DeleteResidence(_)
        | Record::DeleteSecret(_)
        | Record::DeleteDeployment(_)
        | Record::DeleteGroup(_)
        | Record::DeleteGroupVersion(..)
        | Record::DeleteAgentOrder(_)
        | Record::DeleteNetwork(_)
        | Record::DeleteHoldings(_)
        | Record::DeleteQuota(_)
        | Record::DeleteShare(_)
        | Record::DeleteFramework(_)
        | Record::DeleteFrameworkTask(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use scheduler::{AppId, Quota, Timestamp, ToldShare};

    use super::*;

    #[test]
    fn a_copy_hears_that_a_share_or_what_is_kept_for_a_role_is_no_more() {
        let app = AppId::parse("/a").expect("an id");
        let told = ToldShare {
            share: 5,
            since: Timestamp(1),
        };
        assert_eq!(
            gone(Record::PutShare(app.clone(), told)),
            Some(Record::DeleteShare(app))
        );
        let agent = model::AgentId::new("s-1");
        let kept = Record::PutHoldings(agent.clone(), Vec::new());
        assert_eq!(gone(kept), Some(Record::DeleteHoldings(agent)));
        let quota = Quota {
            role: "db".to_owned(),
            ..Quota::default()
        };
        let put = Record::PutQuota(Box::new(quota));
        assert_eq!(gone(put), Some(Record::DeleteQuota("db".to_owned())));
    }
}
