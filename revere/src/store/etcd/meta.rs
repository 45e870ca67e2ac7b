//! Whose records lie under a prefix, and in which form.

use serde::{Deserialize, Serialize};

use super::{EtcdStore, EtcdStoreError, PATIENCE, Place};
use crate::etcd::{Compare, Op};
use crate::wire::VERSION;

/// `<prefix>/meta`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meta {
    cluster: String,
    /// The newest form of a record among them.
    schema: u8,
    /// Who wrote it.
    release: String,
    /// Tells these records from any others that lay or will lie here, as after a restore; empty of older releases.
    #[serde(default)]
    id: String,
}

fn key(place: &Place) -> String {
    format!("{}/meta", place.prefix)
}

/// What is signed, and its revision; `None` of a place without records. Refuses what is another cluster's or newer.
async fn read(place: &Place, cluster: &str) -> Result<Option<(Meta, u64)>, EtcdStoreError> {
    let Some(kv) = place.etcd.get(&key(place), PATIENCE).await? else {
        return Ok(None);
    };
    let meta: Meta = serde_json::from_slice(&kv.value).map_err(|_| EtcdStoreError::Damaged(kv.key.clone()))?;
    if meta.cluster != cluster {
        return Err(EtcdStoreError::Foreign {
            place: place.url.clone(),
            found: meta.cluster,
            wanted: cluster.to_owned(),
        });
    }
    if meta.schema > VERSION {
        return Err(EtcdStoreError::Newer {
            place: place.url.clone(),
            found: meta.schema,
            release: meta.release,
            known: VERSION,
        });
    }
    Ok(Some((meta, kv.modified)))
}

/// Refuses what is another cluster's, newer, or no master's at all, before anything is written there.
pub(crate) async fn check(place: &Place, cluster: &str) -> Result<(), EtcdStoreError> {
    if read(place, cluster).await?.is_some() {
        return Ok(());
    }
    for (from, end) in place.ours() {
        let found = place.etcd.page(&from, &end, 0, 1, PATIENCE).await?;
        // Another master may have begun meanwhile.
        if let Some(kv) = found.kvs.into_iter().next()
            && read(place, cluster).await?.is_none()
        {
            return Err(EtcdStoreError::Damaged(kv.key));
        }
    }
    Ok(())
}

/// The name of these records among all that may ever lie there, empty where they have none; nothing where no master has
/// led yet.
pub(super) async fn identity(place: &Place, cluster: &str) -> Result<Option<String>, EtcdStoreError> {
    Ok(read(place, cluster).await?.map(|(meta, _)| meta.id))
}

fn any_id() -> String {
    use std::hash::BuildHasher as _;
    let word = || std::hash::RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}

impl EtcdStore {
    /// Signs a new place, or one that this release will write newer records to. Returns which records those are.
    pub(super) async fn sign(&self, cluster: &str) -> Result<String, EtcdStoreError> {
        let place = &self.place;
        let known = read(place, cluster).await?;
        if let Some((meta, _)) = &known
            && meta.schema == VERSION
        {
            return Ok(meta.id.clone());
        }
        let meta = Meta {
            cluster: cluster.to_owned(),
            schema: VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            id: match &known {
                Some((meta, _)) => meta.id.clone(),
                None => any_id(),
            },
        };
        let when = [
            Compare::Created(place.leader_key(), self.fence.epoch),
            Compare::Modified(key(place), known.map_or(0, |(_, modified)| modified)),
        ];
        let put = Op::Put {
            key: key(place),
            value: serde_json::to_vec(&meta).unwrap_or_default(),
            lease: 0,
        };
        place.etcd.transaction(&when, &[put], &[], PATIENCE).await?;
        // Whoever was faster: it must be there now, and ours.
        match read(place, cluster).await? {
            Some((meta, _)) => Ok(meta.id),
            None => Err(super::deposed("another was elected")),
        }
    }
}
