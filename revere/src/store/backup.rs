//! Backups: all records of a store in one file, with the version of their form and a checksum.

use std::path::Path;

use redb::ReadableTable;

use super::{RECORDS, Store, StoreError, decode};
use crate::wire::{OLDEST_KEPT, VERSION};

/// First bytes of every backup.
const MAGIC: &[u8; 14] = b"revere backup\n";

/// Why a file is no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// Another file.
    #[error("this is no backup of a revere master: it does not begin as one")]
    Foreign,
    /// Of a release to come.
    #[error(
        "the backup was written by a newer release (records of version {found}); this one reads version {VERSION}: restore it with that release"
    )]
    Newer {
        /// Its version.
        found: u8,
    },
    /// Of an earlier release.
    #[error(
        "the backup was written by an older release (records of version {found}); this one reads from version {OLDEST_KEPT} on: restore it with that release"
    )]
    Older {
        /// Its version.
        found: u8,
    },
    /// Cut or changed.
    #[error("the backup is damaged: {0}; use another copy")]
    Damaged(String),
}

/// A backup whose every record can be read.
#[derive(Debug)]
pub(crate) struct Backup(Vec<(String, Vec<u8>)>);

/// FNV-1a: finds damage, not intent.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend(part);
}

fn cut<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], BackupError> {
    let (part, after) = rest
        .split_at_checked(length)
        .ok_or_else(|| BackupError::Damaged("it ends in the middle of a record".to_owned()))?;
    *rest = after;
    Ok(part)
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BackupError> {
    let mut length = [0; 4];
    length.copy_from_slice(cut(rest, 4)?);
    cut(rest, usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX))
}

impl Backup {
    /// Records in it.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Of keys and values as a store has them.
    pub(super) fn of(records: Vec<(String, Vec<u8>)>) -> Self {
        Self(records)
    }

    pub(super) fn into_records(self) -> Vec<(String, Vec<u8>)> {
        self.0
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        for (key, value) in &self.0 {
            put(&mut bytes, key.as_bytes());
            put(&mut bytes, value);
        }
        let sum = checksum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    /// Reads a file and every record in it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, BackupError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(BackupError::Foreign)?;
        let (found, _) = rest.split_first().ok_or(BackupError::Foreign)?;
        match *found {
            found if found > VERSION => return Err(BackupError::Newer { found }),
            found if found < OLDEST_KEPT => return Err(BackupError::Older { found }),
            _ => {}
        }
        let damaged = |what: &str| BackupError::Damaged(what.to_owned());
        let (body, sum) = bytes
            .split_last_chunk::<8>()
            .ok_or_else(|| damaged("it is too short"))?;
        if checksum(body) != u64::from_le_bytes(*sum) {
            return Err(damaged("its checksum is wrong"));
        }
        let mut rest = body.get(MAGIC.len() + 1..).unwrap_or_default();
        let mut records = Vec::new();
        while !rest.is_empty() {
            let key = std::str::from_utf8(part(&mut rest)?).map_err(|_| damaged("a key is no text"))?;
            let value = part(&mut rest)?;
            decode(key, value).map_err(|error| BackupError::Damaged(format!("record `{key}`: {error}")))?;
            records.push((key.to_owned(), value.to_vec()));
        }
        Ok(Self(records))
    }
}

impl Store {
    /// Opens a store that must be there.
    pub(crate) fn open_existing(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(super::FILE_NAME);
        if path.exists() {
            Self::open(dir)
        } else {
            Err(StoreError::Missing(path))
        }
    }

    /// Everything as it is at one moment; changes go on meanwhile.
    pub(crate) fn backup(&self) -> Result<Vec<u8>, StoreError> {
        let Some((database, path)) = &self.file else {
            return Err(StoreError::NoFile);
        };
        self.raw(database, path).map(|records| Backup(records).write())
    }

    /// Keys and values as they lie in the file.
    pub(super) fn raw(&self, database: &redb::Database, path: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        use redb::ReadableDatabase as _;
        let open = |cause: String| StoreError::Open {
            path: path.to_owned(),
            cause,
        };
        let read = database.begin_read().map_err(|error| open(error.to_string()))?;
        let table = match read.open_table(RECORDS) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(open(error.to_string())),
        };
        let mut records = Vec::new();
        for entry in table.iter().map_err(|error| open(error.to_string()))? {
            let (key, value) = entry.map_err(|error| open(error.to_string()))?;
            records.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(records)
    }

    /// Makes a store from a backup, where there is none yet. It appears whole or not at all.
    pub(crate) fn restore(dir: &Path, backup: &Backup) -> Result<(), StoreError> {
        let path = dir.join(super::FILE_NAME);
        if path.exists() {
            return Err(StoreError::There(path));
        }
        let draft = dir.join("restore.draft");
        let _ = std::fs::remove_dir_all(&draft);
        let made = Self::open(&draft)?;
        if let Some((database, _)) = &made.file {
            fill(database, backup).map_err(|cause| StoreError::Write {
                path: path.clone(),
                cause,
            })?;
        }
        drop(made);
        let moved = std::fs::rename(draft.join(super::FILE_NAME), &path);
        let _ = std::fs::remove_dir_all(&draft);
        moved.map_err(|error| StoreError::Write {
            path,
            cause: error.to_string(),
        })
    }
}

fn fill(database: &redb::Database, backup: &Backup) -> Result<(), String> {
    let transaction = database.begin_write().map_err(|error| error.to_string())?;
    {
        let mut table = transaction.open_table(RECORDS).map_err(|error| error.to_string())?;
        for (key, value) in &backup.0 {
            table
                .insert(key.as_str(), value.as_slice())
                .map_err(|error| error.to_string())?;
        }
    }
    transaction.commit().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(dir: &Path) -> Vec<scheduler::Record> {
        let store = Store::open(dir).expect("opened");
        store
            .write(&[super::super::tests::agent("a"), super::super::tests::agent("b")])
            .expect("written");
        store.load().expect("loaded")
    }

    #[test]
    fn a_restored_store_holds_what_was_backed_up() {
        let dir = tempfile::tempdir().expect("directory");
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let records = filled(&old);
        let bytes = Store::open_existing(&old)
            .and_then(|store| store.backup())
            .expect("backed up");
        let backup = Backup::read(&bytes).expect("whole");
        assert_eq!(backup.len(), 2);
        std::fs::create_dir(&new).expect("made");
        Store::restore(&new, &backup).expect("restored");
        assert_eq!(
            Store::open(&new).and_then(|store| store.load()).expect("loaded"),
            records
        );
        assert!(
            matches!(Store::restore(&new, &backup), Err(StoreError::There(_))),
            "never overwritten"
        );
        let nowhere = dir.path().join("nowhere");
        assert!(matches!(Store::open_existing(&nowhere), Err(StoreError::Missing(_))));
    }

    #[test]
    fn damage_and_other_releases_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        filled(dir.path());
        let good = Store::open(dir.path())
            .and_then(|store| store.backup())
            .expect("backed up");
        for at in MAGIC.len() + 1..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x40;
            assert!(
                matches!(Backup::read(&bytes), Err(BackupError::Damaged(_))),
                "byte {at}"
            );
            assert!(Backup::read(&good[..at]).is_err(), "cut at {at}");
        }
        let mut other = good.clone();
        other[MAGIC.len()] = VERSION + 1;
        assert!(matches!(Backup::read(&other), Err(BackupError::Newer { .. })));
        other[MAGIC.len()] = OLDEST_KEPT - 1;
        assert!(matches!(Backup::read(&other), Err(BackupError::Older { .. })));
        assert!(matches!(Backup::read(b"PK"), Err(BackupError::Foreign)));
    }
}
