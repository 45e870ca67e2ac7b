//! Brings what a task asked for into its sandbox before it starts: downloads, copies, unpacked archives.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use hyper::StatusCode;
use model::{Extract, Fetch, FetchCache, FetchPermission};
use tokio::task::spawn_blocking;

use crate::http::{Get, HttpClient, HttpError};
use crate::image::{Hasher, name_of};
use crate::unpack::{UnpackError, is_archive, unpack_archive};

/// Bit of a file's mode: everybody may read it.
const WORLD_READABLE: u32 = 0o004;

/// Numbers files that are on their way, so that two of the same are not one.
static PARTIAL: AtomicU64 = AtomicU64::new(0);

/// How much may be fetched.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// Most bytes of one file, packed and unpacked each.
    pub limit: u64,
    /// Most bytes kept for other tasks (Mesos' `fetcher_cache_size`).
    pub cache: u64,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            limit: 8 << 30,
            cache: 2 << 30,
        }
    }
}

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {uri}: {fault}")]
pub(crate) struct FetchError {
    uri: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it ends in no file name; give destPath")]
    Nameless,
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the server answers {0}")]
    Status(StatusCode),
    #[error("the server broke off after {found} of {wanted} bytes")]
    Short { found: u64, wanted: u64 },
    #[error("it is larger than the limit of {0} bytes (node.fetch_limit_mb)")]
    Limit(u64),
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    #[error("{0} is no file")]
    NoFile(PathBuf),
    #[error("{path} is not readable for everybody, and the task runs as {user}")]
    Private { path: PathBuf, user: String },
    #[error("{0}")]
    Place(String),
    #[error("it cannot be unpacked: {0}")]
    Unpack(#[from] UnpackError),
    #[error("its SHA-256 is {found}, and not {wanted} as its URI says: it was changed, or the checksum is an old one")]
    Checksum { wanted: String, found: String },
    #[error("`{0}` is no SHA-256")]
    NoChecksum(String),
    #[error("the work on it was given up: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// A file of the node's cache, open: another task may remove its name meanwhile.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    async fn checksum(&mut self) -> Result<String, Fault> {
        let wrong = |error| Fault::File(self.path.clone(), error);
        let file = self.file.try_clone().map_err(wrong)?;
        let found = checksum_open(file, self.path.clone()).await?;
        // Both are at the same place of it, which is its end now.
        self.file.rewind().map_err(wrong)?;
        Ok(found)
    }
}

/// A file on its way; gone with whoever fetches it, also when the task was killed meanwhile.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // One that is whole has another name now.
        let _ = fs::remove_file(&self.0);
    }
}

/// Fetches for one node.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) http: HttpClient,
    pub(crate) settings: FetchSettings,
    pub(crate) cache: PathBuf,
}

impl Fetcher {
    /// Everything in its order; the sandbox is made if need be. `user` is whom the task runs as, if not root.
    pub(crate) async fn all(&self, list: &[Fetch], sandbox: &Path, user: Option<&str>) -> Result<(), FetchError> {
        for fetch in list {
            self.one(fetch, sandbox, user).await.map_err(|fault| FetchError {
                uri: shown(&fetch.uri),
                fault,
            })?;
        }
        Ok(())
    }

    async fn one(&self, fetch: &Fetch, sandbox: &Path, user: Option<&str>) -> Result<(), Fault> {
        let name = fetch.file_name().ok_or(Fault::Nameless)?.to_owned();
        let above = name.rsplit_once('/').map_or("", |(above, _)| above);
        let dir = crate::container::directory_in(sandbox, above).map_err(Fault::Place)?;
        let file = dir.join(name.rsplit('/').next().unwrap_or(&name));
        // A task that is started once more with the same sandbox gets it anew.
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Fault::File(file, error)),
            _ => {}
        }
        let wanted = fetch.sha256().map_err(|digits| Fault::NoChecksum(digits.to_owned()))?;
        let uri = fetch.location();
        match (local(uri), fetch.cache) {
            (Some(path), _) => {
                if let Some(user) = user {
                    readable(&path, user)?;
                }
                self.copy(path, file.clone()).await?;
            }
            (None, FetchCache::None) => self.download(uri, &file).await?,
            (None, FetchCache::Keep) => self.copy_kept(uri, wanted.as_ref(), &file).await?,
        }
        if let Some(wanted) = wanted {
            let found = checksum(file.clone()).await?;
            if found != wanted {
                let _ = fs::remove_file(&file);
                return Err(Fault::Checksum { wanted, found });
            }
        }
        let mode = match fetch.permission {
            FetchPermission::Executable => 0o755,
            FetchPermission::Data => 0o644,
        };
        fs::set_permissions(&file, Permissions::from_mode(mode)).map_err(|error| Fault::File(file.clone(), error))?;
        if fetch.extract == Extract::Archives && fetch.permission == FetchPermission::Data && is_archive(&name) {
            let (into, limit) = (sandbox.to_owned(), self.settings.limit);
            spawn_blocking(move || unpack_archive(&file, &name, &into, limit)).await??;
        }
        Ok(())
    }

    async fn download(&self, uri: &str, path: &Path) -> Result<(), Fault> {
        let wrong = |error| Fault::File(path.to_owned(), error);
        let get = Get {
            url: uri.to_owned(),
            ..Get::default()
        };
        let mut answer = self.http.get(&get).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(Fault::Status(answer.response.status()));
        }
        let wanted = answer.length();
        if wanted.is_some_and(|wanted| wanted > self.settings.limit) {
            return Err(Fault::Limit(self.settings.limit));
        }
        let mut file = File::create_new(path).map_err(wrong)?;
        let mut found = 0;
        while let Some(chunk) = answer.chunk().await? {
            found += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            if found > self.settings.limit {
                return Err(Fault::Limit(self.settings.limit));
            }
            file.write_all(&chunk).map_err(wrong)?;
        }
        match wanted {
            Some(wanted) if wanted != found => Err(Fault::Short { found, wanted }),
            _ => Ok(()),
        }
    }

    async fn copy(&self, from: PathBuf, to: PathBuf) -> Result<(), Fault> {
        let limit = self.settings.limit;
        spawn_blocking(move || {
            let source = File::open(&from).map_err(|error| Fault::File(from.clone(), error))?;
            copy_open(source, &from, &to, limit)
        })
        .await?
    }

    /// Copies what the node has kept. One that does not have its checksum any more is fetched anew.
    async fn copy_kept(&self, uri: &str, wanted: Option<&String>, to: &Path) -> Result<(), Fault> {
        let mut kept = self.kept(uri).await?;
        if let Some(wanted) = wanted
            && kept.checksum().await? != *wanted
        {
            let _ = fs::remove_file(&kept.path);
            kept = self.kept(uri).await?;
        }
        let (limit, path, to) = (self.settings.limit, kept.path.clone(), to.to_owned());
        spawn_blocking(move || copy_open(kept.file, &kept.path, &to, limit)).await??;
        self.trim(&path);
        Ok(())
    }

    /// The node's copy; fetched if there is none.
    async fn kept(&self, uri: &str) -> Result<Kept, Fault> {
        let path = self.cache.join(name_of(uri));
        if let Ok(file) = File::open(&path) {
            // The time tells which was used last.
            let _ = file.set_modified(SystemTime::now());
            return Ok(Kept { path, file });
        }
        fs::create_dir_all(&self.cache).map_err(|error| Fault::File(self.cache.clone(), error))?;
        let number = PARTIAL.fetch_add(1, Ordering::Relaxed);
        let beside = self
            .cache
            .join(format!(".{}-{}-{number}", name_of(uri), std::process::id()));
        let beside = Partial(beside);
        self.download(uri, &beside.0).await?;
        // Opened before it has its name: from then on another task may remove it.
        let opened = File::open(&beside.0).and_then(|file| fs::rename(&beside.0, &path).map(|()| file));
        let file = opened.map_err(|error| Fault::File(path.clone(), error))?;
        Ok(Kept { path, file })
    }

    /// Removes what was used longest ago until the rest fits; the newest too if it alone does not. What is on its way for another
    /// task has a name that begins with a dot.
    fn trim(&self, newest: &Path) {
        let mut files: Vec<(i64, u64, PathBuf)> = fs::read_dir(&self.cache)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !is_partial(&entry.file_name()))
            .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
            .map(|(data, path)| (data.mtime(), data.len(), path))
            .collect();
        files.sort_unstable();
        let mut sum: u64 = files.iter().map(|(_, size, _)| size).sum();
        let kept = |size: u64, path: &Path| path == newest && size <= self.settings.cache;
        for (_, size, path) in files.iter().filter(|(_, size, path)| !kept(*size, path)) {
            if sum <= self.settings.cache {
                return;
            }
            let _ = fs::remove_file(path);
            sum -= size;
        }
    }
}

/// Whether a file of the cache is on its way.
fn is_partial(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Removes what a daemon that was killed had begun to fetch; nobody else does.
pub(crate) fn remove_partial(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_partial(&entry.file_name())) {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), %error, "a part of a fetched file stays");
        }
    }
}

/// Copies an open file; `from` is its name.
fn copy_open(source: File, from: &Path, to: &Path, limit: u64) -> Result<(), Fault> {
    let data = source.metadata().map_err(|error| Fault::File(from.to_owned(), error))?;
    if !data.is_file() {
        return Err(Fault::NoFile(from.to_owned()));
    }
    if data.len() > limit {
        return Err(Fault::Limit(limit));
    }
    let mut target = File::create_new(to).map_err(|error| Fault::File(to.to_owned(), error))?;
    io::copy(&mut source.take(limit), &mut target).map_err(|error| Fault::File(to.to_owned(), error))?;
    Ok(())
}

/// The SHA-256 of a file.
async fn checksum(path: PathBuf) -> Result<String, Fault> {
    let file = File::open(&path).map_err(|error| Fault::File(path.clone(), error))?;
    checksum_open(file, path).await
}

/// The same of one that is open.
async fn checksum_open(mut file: File, path: PathBuf) -> Result<String, Fault> {
    spawn_blocking(move || {
        let mut hasher = Hasher::default();
        io::copy(&mut file, &mut hasher).map_err(|error| Fault::File(path, error))?;
        Ok(hasher.finish().hex().to_owned())
    })
    .await?
}

/// The path of what is on the node.
fn local(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("file://").unwrap_or(uri);
    path.starts_with('/').then(|| path.into())
}

/// Without a query: it may hold a signature.
fn shown(uri: &str) -> String {
    uri.split('?').next().unwrap_or(uri).to_owned()
}

/// The agent reads as root: it may not read for a user what that user could not.
fn readable(path: &Path, user: &str) -> Result<(), Fault> {
    let data = fs::metadata(path).map_err(|error| Fault::File(path.to_owned(), error))?;
    if data.mode() & WORLD_READABLE == 0 {
        return Err(Fault::Private {
            path: path.to_owned(),
            user: user.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const URI: &str = "http://192.0.2.1/tool";

    fn fetcher(cache: &Path) -> Fetcher {
        Fetcher {
            http: HttpClient::new(Duration::from_secs(1)),
            settings: FetchSettings {
                cache: 0,
                ..FetchSettings::default()
            },
            cache: cache.to_owned(),
        }
    }

    #[tokio::test]
    async fn what_another_task_trims_away_is_still_copied() {
        let dir = tempfile::tempdir().unwrap();
        let fetcher = fetcher(dir.path());
        fs::write(dir.path().join(name_of(URI)), "content").unwrap();
        let mut kept = fetcher.kept(URI).await.unwrap();
        // Another task has got something meanwhile, and there is room for nothing.
        fetcher.trim(&dir.path().join("another"));
        assert!(!kept.path.exists());
        assert_eq!(kept.checksum().await.unwrap(), name_of("content"));
        let to = dir.path().join("copy");
        copy_open(kept.file, &kept.path, &to, 100).unwrap();
        assert_eq!(fs::read_to_string(to).unwrap(), "content");
    }

    #[test]
    fn what_is_on_its_way_is_not_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".partial-1-0", "whole"] {
            fs::write(dir.path().join(name), "content").unwrap();
        }
        fetcher(dir.path()).trim(&dir.path().join("another"));
        assert!(dir.path().join(".partial-1-0").exists());
        assert!(!dir.path().join("whole").exists());
        remove_partial(dir.path());
        assert!(!dir.path().join(".partial-1-0").exists());
    }
}
