//! The master's memory: one record per object, in a redb file or nowhere.

mod backup;
pub(crate) mod etcd;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use backup::Backup;
pub(crate) use etcd::EtcdStoreError;
pub(crate) use state::{StateStore, Trouble};

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, TableDefinition};
use scheduler::Record;

use crate::wire::{self, HoldingsOf, OrderOf, ShareOf, WeightOf, WireError};

/// Key `kind/id`, value as made by [`wire::encode`].
const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");
const FILE_NAME: &str = "master.redb";
/// Bytes of the file kept in memory. Everything is read once, at the start; the library would take up to a gigabyte.
const CACHE: usize = 32 * 1024 * 1024;

/// Name of the thread that opens the file.
const OPENER: &str = "store-open";

/// Why the store cannot be used. The file is left as it is in every case.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("cannot create the state directory {path}: {source}; name another with --state-dir")]
    Directory {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// redb cannot open it.
    #[error(
        "the store {path} cannot be opened ({cause}); it was left as it is: restore it from a copy, or move it away to start empty"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// redb's error.
        cause: String,
    },
    /// There is none to read.
    #[error("there is no store at {0}; name a master's state directory (`--state-dir`, of `state move` `--from`)")]
    Missing(PathBuf),
    /// There is one where none should be.
    #[error(
        "there is a store at {0} already; it was left as it is: move it away, or name another directory (`--state-dir`, of `state move` `--to`)"
    )]
    There(PathBuf),
    /// The master keeps nothing.
    #[error("this master keeps its state in memory only (master.store = \"memory\"): there is nothing to back up")]
    NoFile,
    /// Another master has it open.
    #[error("the store {0} is in use: a revere master runs with the same --state-dir")]
    InUse(PathBuf),
    /// A record is damaged or of another release.
    #[error("record `{key}` of the store {path} cannot be read ({source}); the store was left as it is")]
    Record {
        /// The file.
        path: PathBuf,
        /// Its key.
        key: String,
        /// What is wrong.
        source: WireError,
    },
    /// Writing failed: disk full, for example.
    #[error("cannot write to the store {path}: {cause}")]
    Write {
        /// The file.
        path: PathBuf,
        /// redb's error.
        cause: String,
    },
    /// Of records in etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdStoreError),
}

/// Keeps records.
#[derive(Debug)]
pub(crate) struct Store {
    file: Option<(Database, PathBuf)>,
}

impl Store {
    /// Keeps nothing.
    pub(crate) fn memory() -> Self {
        Self { file: None }
    }

    /// Opens or makes `<dir>/master.redb`.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(|source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        })?;
        let path = dir.join(FILE_NAME);
        let ready = opened(&path);
        // It may hold secrets.
        if matches!(ready, Ok(Ok(_)))
            && let Err(source) = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        {
            return Err(StoreError::Directory { path, source });
        }
        match ready {
            Ok(Ok(database)) => Ok(Self {
                file: Some((database, path)),
            }),
            Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => Err(StoreError::InUse(path)),
            Ok(Err(error)) => Err(StoreError::Open {
                path,
                cause: error.to_string(),
            }),
            Err(cause) => Err(StoreError::Open { path, cause }),
        }
    }

    /// Everything that was written and not deleted since.
    pub(crate) fn load(&self) -> Result<Vec<Record>, StoreError> {
        let Some((database, path)) = &self.file else {
            return Ok(Vec::new());
        };
        let records = self.raw(database, path)?.into_iter().map(|(key, value)| {
            decode(&key, &value).map_err(|source| StoreError::Record {
                path: path.clone(),
                key,
                source,
            })
        });
        records.collect()
    }

    /// Makes a batch durable, all of it or nothing.
    pub(crate) fn write(&self, records: &[Record]) -> Result<(), StoreError> {
        let Some((database, path)) = &self.file else {
            return Ok(());
        };
        write(database, records).map_err(|cause| StoreError::Write {
            path: path.clone(),
            cause,
        })
    }
}

/// Opens the file and checks every page of it, so that damage is found here and not in the middle of a change. The
/// library panics at some damage; that happens on a thread of its own and becomes a sentence like any other damage.
fn opened(path: &Path) -> Result<Result<Database, redb::DatabaseError>, String> {
    quiet_panics();
    let file = path.to_owned();
    let open = move || {
        let mut settings = Database::builder();
        settings.set_cache_size(CACHE);
        if !file.exists() {
            return settings.create(&file);
        }
        let mut database = settings.open(&file)?;
        if !database.check_integrity()? {
            tracing::warn!(path = %file.display(), "the store was damaged and has been repaired; look over the apps");
        }
        Ok(database)
    };
    let thread = std::thread::Builder::new().name(OPENER.to_owned()).spawn(open);
    let thread = thread.map_err(|error| format!("no thread could be started to read it: {error}"))?;
    thread.join().map_err(|_| "its pages are damaged".to_owned())
}

/// Keeps panics of the opening thread, which are told as errors, out of the log.
fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name() != Some(OPENER) {
                usual(panic);
            }
        }));
    });
}

fn write(database: &Database, records: &[Record]) -> Result<(), String> {
    let transaction = database.begin_write().map_err(|error| error.to_string())?;
    {
        let mut table = transaction.open_table(RECORDS).map_err(|error| error.to_string())?;
        for record in records {
            let key = key(record);
            match encode(record).map_err(|error| error.to_string())? {
                Some(bytes) => table
                    .insert(key.as_str(), bytes.as_slice())
                    .map_err(|error| error.to_string())?,
                None => table.remove(key.as_str()).map_err(|error| error.to_string())?,
            };
        }
    }
    transaction.commit().map_err(|error| error.to_string())
}

/// Where a record lies.
pub(crate) fn key(record: &Record) -> String {
    match record {
        Record::Framework(_) => "framework/".to_owned(),
        Record::PutApp(app) => format!("app/{}", app.id),
        Record::DeleteApp(id) => format!("app/{id}"),
        Record::PutVersion(app) => format!("version/{}/{}", app.id, app.version.0),
        Record::DeleteVersion(id, version) => format!("version/{id}/{}", version.0),
        Record::PutAgent(agent) => format!("agent/{}", agent.id),
        Record::DeleteAgent(id) => format!("agent/{id}"),
        Record::PutInstance(instance) => format!("instance/{}", instance.id),
        Record::DeleteInstance(id) => format!("instance/{id}"),
        Record::PutResidence(residence) => format!("residence/{}", residence.id),
        Record::DeleteResidence(id) => format!("residence/{id}"),
        Record::PutSecret(secret) => format!("secret/{}", secret.path),
        Record::DeleteSecret(path) => format!("secret/{path}"),
        Record::PutNetwork(network) => format!("network/{}", network.name),
        Record::DeleteNetwork(name) => format!("network/{name}"),
        Record::PutDeployment(deployment) => format!("deployment/{}", deployment.id),
        Record::DeleteDeployment(id) => format!("deployment/{id}"),
        Record::PutGroup(group) => format!("group{}", group.id),
        Record::DeleteGroup(id) => format!("group{id}"),
        Record::PutGroupVersion(kept) => format!("groupversion/{}{}", kept.version.0, kept.id),
        Record::DeleteGroupVersion(id, version) => format!("groupversion/{}{id}", version.0),
        Record::PutAgentOrder(agent, _) | Record::DeleteAgentOrder(agent) => format!("agentorder/{agent}"),
        Record::PutWeight(role, _) => format!("weight/{role}"),
        Record::PutHoldings(agent, _) | Record::DeleteHoldings(agent) => format!("holdings/{agent}"),
        Record::PutMaintenance(_) => "maintenance/".to_owned(),
        Record::PutQuota(quota) => format!("quota/{}", quota.role),
        Record::DeleteQuota(role) => format!("quota/{role}"),
        Record::PutShare(app, _) | Record::DeleteShare(app) => format!("share/{app}"),
        Record::PutFramework(framework) => format!("joined/{}", framework.id),
        Record::DeleteFramework(id) => format!("joined/{id}"),
        Record::PutFrameworkTask(task) => format!("frameworktask/{}/{}", task.framework(), task.task),
        Record::DeleteFrameworkTask(framework, task) => format!("frameworktask/{framework}/{task}"),
    }
}

/// `None`: the key is to be removed.
fn encode(record: &Record) -> Result<Option<Vec<u8>>, WireError> {
    match record {
        Record::Framework(id) => wire::encode(id).map(Some),
        Record::PutApp(app) | Record::PutVersion(app) => wire::encode(app.as_ref()).map(Some),
        Record::PutAgent(agent) => wire::encode(agent.as_ref()).map(Some),
        Record::PutInstance(instance) => wire::encode(instance.as_ref()).map(Some),
        Record::PutResidence(residence) => wire::encode(residence.as_ref()).map(Some),
        Record::PutSecret(secret) => wire::encode(secret.as_ref()).map(Some),
        Record::PutNetwork(network) => wire::encode(network.as_ref()).map(Some),
        Record::PutDeployment(deployment) => wire::encode(deployment.as_ref()).map(Some),
        Record::PutGroup(group) => wire::encode(group).map(Some),
        Record::PutGroupVersion(kept) => wire::encode(kept.as_ref()).map(Some),
        Record::PutAgentOrder(agent, order) => wire::encode(&OrderOf(agent.clone(), order.clone())).map(Some),
        Record::PutWeight(role, weight) => wire::encode(&WeightOf(role.clone(), *weight)).map(Some),
        Record::PutHoldings(agent, all) => wire::encode(&HoldingsOf(agent.clone(), all.clone())).map(Some),
        Record::PutMaintenance(maintenance) => wire::encode(maintenance.as_ref()).map(Some),
        Record::PutQuota(quota) => wire::encode(quota.as_ref()).map(Some),
        Record::PutShare(app, told) => wire::encode(&ShareOf(app.clone(), *told)).map(Some),
        Record::PutFramework(framework) => wire::encode(framework.as_ref()).map(Some),
        Record::PutFrameworkTask(task) => wire::encode(task.as_ref()).map(Some),
        Record::DeleteApp(_)
        | Record::DeleteVersion(..)
        | Record::DeleteAgent(_)
        | Record::DeleteInstance(_)
        | Record::DeleteResidence(_)
        | Record::DeleteSecret(_)
        | Record::DeleteNetwork(_)
        | Record::DeleteDeployment(_)
        | Record::DeleteGroup(_)
        | Record::DeleteGroupVersion(..)
        | Record::DeleteAgentOrder(_)
        | Record::DeleteHoldings(_)
        | Record::DeleteQuota(_)
        | Record::DeleteShare(_)
        | Record::DeleteFramework(_)
        | Record::DeleteFrameworkTask(..) => Ok(None),
    }
}

fn decode(key: &str, bytes: &[u8]) -> Result<Record, WireError> {
    match key.split('/').next() {
        Some("framework") => wire::decode_kept(bytes).map(Record::Framework),
        Some("app") => wire::decode_kept(bytes).map(|app| Record::PutApp(Box::new(app))),
        Some("version") => wire::decode_kept(bytes).map(|app| Record::PutVersion(Box::new(app))),
        Some("agent") => wire::decode_kept(bytes).map(|agent| Record::PutAgent(Box::new(agent))),
        Some("instance") => wire::decode_kept(bytes).map(|instance| Record::PutInstance(Box::new(instance))),
        Some("residence") => wire::decode_kept(bytes).map(|residence| Record::PutResidence(Box::new(residence))),
        Some("secret") => wire::decode_kept(bytes).map(|secret| Record::PutSecret(Box::new(secret))),
        Some("network") => wire::decode_kept(bytes).map(|network| Record::PutNetwork(Box::new(network))),
        Some("deployment") => wire::decode_kept(bytes).map(|one| Record::PutDeployment(Box::new(one))),
        Some("group") => wire::decode_kept(bytes).map(Record::PutGroup),
        Some("groupversion") => wire::decode_kept(bytes).map(|kept| Record::PutGroupVersion(Box::new(kept))),
        Some("agentorder") => wire::decode_kept(bytes).map(|OrderOf(agent, order)| Record::PutAgentOrder(agent, order)),
        Some("weight") => wire::decode_kept(bytes).map(|WeightOf(role, weight)| Record::PutWeight(role, weight)),
        Some("holdings") => wire::decode_kept(bytes).map(|HoldingsOf(agent, all)| Record::PutHoldings(agent, all)),
        Some("maintenance") => wire::decode_kept(bytes).map(|one| Record::PutMaintenance(Box::new(one))),
        Some("quota") => wire::decode_kept(bytes).map(|one| Record::PutQuota(Box::new(one))),
        Some("share") => wire::decode_kept(bytes).map(|ShareOf(app, told)| Record::PutShare(app, told)),
        Some("joined") => wire::decode_kept(bytes).map(|one| Record::PutFramework(Box::new(one))),
        Some("frameworktask") => wire::decode_kept(bytes).map(|one| Record::PutFrameworkTask(Box::new(one))),
        _ => Err(WireError::Field {
            field: "key",
            reason: "its kind is unknown".to_owned(),
        }),
    }
}
