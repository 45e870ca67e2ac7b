//! The files of one task's directory, each replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const PLAN: &str = "run.json";
pub(crate) const PID: &str = "pid";
pub(crate) const RUNNER: &str = "runner";
pub(crate) const EXIT: &str = "exit";
pub(crate) const STATUS: &str = "status.json";
pub(crate) const KILL: &str = "kill.json";
pub(crate) const LOG: &str = "runner.log";
pub(crate) const RESOLV_CONF: &str = "resolv.conf";

/// Longest task id that makes a directory name with room for suffixes (NAME_MAX is 255).
const MAX_ID: usize = 200;

/// Why a task's file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {source}")]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// A task's directory.
#[derive(Clone, Debug)]
pub(crate) struct TaskDir(PathBuf);

impl TaskDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes the file beside and renames it into place.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let path = self.file(name);
        let text = serde_json::to_vec(value).map_err(|source| StoreError::Damaged {
            path: path.clone(),
            source,
        })?;
        self.write_bytes(name, &text)
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.file(name);
        let beside = self.file(&format!(".{name}.new"));
        let write = || {
            let mut file = fs::File::create(&beside)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&beside, &path)
        };
        write().map_err(|source| StoreError::Write {
            path: path.clone(),
            source,
        })
    }

    /// Writes the file only if there is none; `false` if there is.
    pub(crate) fn claim<T: Serialize>(&self, name: &str, value: &T) -> Result<bool, StoreError> {
        let path = self.file(name);
        let text = serde_json::to_vec(value).map_err(|source| StoreError::Damaged {
            path: path.clone(),
            source,
        })?;
        let beside = self.file(&format!(".{name}.{}", std::process::id()));
        let write = || {
            fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?
                .write_all(&text)?;
            let linked = fs::hard_link(&beside, &path);
            fs::remove_file(&beside)?;
            match linked {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error),
            }
        };
        write().map_err(|source| StoreError::Write {
            path: path.clone(),
            source,
        })
    }

    /// The file's value, or `None` when there is no such file.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.file(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| StoreError::Damaged { path, source })
    }
}

/// Whether the id can name a directory; all that Marathon makes can.
pub(crate) fn is_dir_name(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID && !id.starts_with('.') && !id.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_taken_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let task = TaskDir::new(dir.path().to_owned());
        assert!(task.claim(RUNNER, &1).expect("claims"));
        assert!(!task.claim(RUNNER, &2).expect("is claimed"));
        assert_eq!(task.read::<u32>(RUNNER).expect("reads"), Some(1));
        assert_eq!(task.read::<u32>(EXIT).expect("reads"), None);
    }

    #[test]
    fn damage_is_told_with_the_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let task = TaskDir::new(dir.path().to_owned());
        task.write_bytes(EXIT, b"{").expect("writes");
        let error = task.read::<u32>(EXIT).expect_err("damaged").to_string();
        assert!(error.contains("exit is damaged"), "{error}");
    }

    #[test]
    fn ids_that_leave_the_directory_are_no_names() {
        for id in ["", ".", "..", "a/b", "../x", ".hidden", "a\0"] {
            assert!(!is_dir_name(id), "{id:?}");
        }
        assert!(is_dir_name("my-service.instance-0000.app.1"));
        assert!(!is_dir_name(&"x".repeat(201)));
    }
}
