//! Where a master's records are: in its own file (or nowhere), or in etcd.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::AgentId;
use scheduler::Record;
use tokio::sync::watch;

use super::etcd::{EtcdStore, Recorded};
use super::{Store, StoreError};

/// Why nothing can be written for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The store does not take writes; this master leads all the same.
    Writes(String),
    /// This master may not lead any more.
    Lead(String),
}

impl Trouble {
    /// For people.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Writes(reason) | Self::Lead(reason) => reason,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum StateStore {
    Embedded(Arc<Store>),
    Etcd(Arc<EtcdStore>),
}

impl StateStore {
    /// Makes a batch durable, all of it or nothing. With etcd it waits until that can be done, or until another master
    /// leads; [`StateStore::trouble`] tells meanwhile what it waits for. A file keeps no events.
    pub(crate) async fn write(self, records: Vec<Record>, events: Option<Arc<Recorded>>) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => {
                let written = tokio::task::spawn_blocking(move || store.write(&records)).await;
                match written {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
            Self::Etcd(store) => store.write(&records, events.as_deref()).await,
        }
    }

    /// Which records these are and the events recorded with them, where events are recorded at all.
    pub(crate) fn events(&self) -> Option<(String, Vec<Recorded>)> {
        match self {
            Self::Embedded(_) => None,
            Self::Etcd(store) => Some(store.events()),
        }
    }

    /// Notes which agents the core has not heard of for a little; whether followers have to be told, by a write.
    pub(crate) fn suspect(&self, agents: &BTreeSet<AgentId>) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Etcd(store) => store.suspect(agents),
        }
    }

    /// What stands in the way of writes, as it changes; nothing ever of a file, whose failure ends the master.
    pub(crate) fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        match self {
            Self::Embedded(_) => watch::channel(None).1,
            Self::Etcd(store) => store.trouble(),
        }
    }

    /// Everything as it is at one moment.
    pub(crate) async fn backup(&self) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Embedded(store) => {
                let store = Arc::clone(store);
                match tokio::task::spawn_blocking(move || store.backup()).await {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
            Self::Etcd(store) => store.backup().await,
        }
    }
}
