//! Looks into the sandboxes of tasks for people, and never out of them.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, open, openat2, statat};
use rustix::io::Errno;

use crate::agent::Agent;
use crate::store::is_dir_name;

/// Most bytes of one read, as Mesos has it: sixteen pages.
const MOST_READ: u64 = 16 * 4096;
/// Most entries of a directory that are told.
const MOST_ENTRIES: usize = 100_000;
/// Links lead to what is in the sandbox, or nowhere.
const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

/// One entry of a directory, as Mesos tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct FileInfo {
    /// As it was asked for, with its own name at the end.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Links to it.
    pub nlink: u64,
    /// Kind and permissions, as `ls -l` shows them.
    pub mode: String,
    /// Unix time.
    pub mtime: i64,
    /// Owner's name, or number.
    pub uid: String,
    /// Group's name, or number.
    pub gid: String,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Where it begins; of a question for the end, where the file ends.
    pub offset: u64,
    /// What stands there.
    pub data: Vec<u8>,
    /// Names the file itself: another one may get its place when a log is full.
    pub identity: String,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// No such sandbox, no such file in it, or a way out of it.
    #[error("there is no {0} in a sandbox of this node")]
    NotThere(String),
    /// A directory where a file is asked for, or the other way round; or a pipe, a socket, a device.
    #[error("{path} is not {wanted}")]
    Kind {
        /// As asked for.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The disk's fault.
    #[error("cannot read {path}: {source}")]
    Io {
        /// As asked for.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Agent {
    /// Every sandbox that is here, as it can be asked for.
    pub fn sandboxes(&self) -> Vec<PathBuf> {
        let found = std::fs::read_dir(self.sandbox_dir()).into_iter().flatten().flatten();
        let mut all: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
        all.sort();
        all
    }

    /// What lies in a directory of a sandbox, sorted by name.
    pub fn browse(&self, path: &str) -> Result<Vec<FileInfo>, FilesError> {
        let found = found(self.sandbox_dir(), path)?;
        if !found.metadata.is_dir() {
            return Err(kind(path, "a directory"));
        }
        let failed = |source: Errno| io_error(path, source.into());
        let mut all = Vec::new();
        for entry in Dir::read_from(&found.file).map_err(failed)?.take(MOST_ENTRIES) {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            // One that went away meanwhile is not there.
            let Ok(stat) = statat(&found.file, entry.file_name(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            all.push(FileInfo {
                path: format!("{}/{name}", path.trim_end_matches('/')),
                size: u64::try_from(stat.st_size).unwrap_or_default(),
                nlink: links(&stat),
                mode: mode(stat.st_mode),
                mtime: stat.st_mtime,
                uid: user(stat.st_uid),
                gid: group(stat.st_gid),
            });
        }
        all.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(all)
    }

    /// A part of a file, at most so long; without an offset only where the file ends.
    pub fn read_file(&self, path: &str, offset: Option<u64>, length: Option<u64>) -> Result<FilePart, FilesError> {
        let (mut file, size) = self.open_file(path)?;
        let identity = file.metadata().map(|data| identity(&data)).unwrap_or_default();
        let Some(offset) = offset else {
            return Ok(FilePart {
                offset: size,
                data: Vec::new(),
                identity,
            });
        };
        let failed = |source| io_error(path, source);
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut data = Vec::new();
        let most = length.unwrap_or(MOST_READ).min(MOST_READ);
        file.take(most).read_to_end(&mut data).map_err(failed)?;
        Ok(FilePart { offset, data, identity })
    }

    /// A file to be read whole, and its length now.
    pub fn open_file(&self, path: &str) -> Result<(File, u64), FilesError> {
        let found = found(self.sandbox_dir(), path)?;
        if !found.metadata.is_file() {
            return Err(kind(path, "a file"));
        }
        Ok((found.file, found.metadata.len()))
    }
}

/// Number and birth: numbers are given again.
fn identity(data: &Metadata) -> String {
    let born = data
        .created()
        .ok()
        .and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    format!("{}-{}", data.ino(), born.unwrap_or_default().as_nanos())
}

struct Found {
    file: File,
    metadata: Metadata,
}

fn kind(path: &str, wanted: &'static str) -> FilesError {
    let path = path.to_owned();
    FilesError::Kind { path, wanted }
}

fn io_error(path: &str, source: io::Error) -> FilesError {
    let path = path.to_owned();
    FilesError::Io { path, source }
}

/// The sandbox that a path is in and the way from there. Paths are those of [`Agent::sandboxes`], or Mesos' own:
/// `.../executors/TASK/runs/CONTAINER/...`.
fn split<'a>(sandboxes: &Path, path: &'a str) -> Option<(&'a str, &'a str)> {
    let rest = match path.split_once("/executors/") {
        Some((_, mesos)) => {
            let (task, rest) = mesos.split_once("/runs/")?;
            let rest = rest.split_once('/').map_or("", |(_, rest)| rest);
            return Some((task, rest));
        }
        None => path.strip_prefix(sandboxes.to_str()?)?.strip_prefix('/')?,
    };
    Some(rest.split_once('/').unwrap_or((rest, "")))
}

fn found(sandboxes: &Path, path: &str) -> Result<Found, FilesError> {
    let none = || FilesError::NotThere(path.to_owned());
    let (task, rest) = split(sandboxes, path)
        .filter(|(task, _)| is_dir_name(task))
        .ok_or_else(none)?;
    // Not to wait for whoever may write into a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let told = |errno: Errno| match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::NXIO | Errno::ACCESS => none(),
        other => io_error(path, other.into()),
    };
    let sandbox = sandboxes.join(task);
    let root = open(&sandbox, flags | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).map_err(told)?;
    let rest = rest.trim_matches('/');
    let inside = if rest.is_empty() { "." } else { rest };
    let file = File::from(openat2(&root, inside, flags, Mode::empty(), INSIDE).map_err(told)?);
    let metadata = file.metadata().map_err(|source| io_error(path, source))?;
    Ok(Found { file, metadata })
}

#[allow(clippy::useless_conversion, reason = "the field is narrower on other machines")]
fn links(stat: &rustix::fs::Stat) -> u64 {
    u64::from(stat.st_nlink)
}

fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| uid.to_string(), |user| user.name)
}

fn group(gid: u32) -> String {
    let known = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    known.map_or_else(|| gid.to_string(), |group| group.name)
}

/// As `ls -l` shows it.
fn mode(bits: u32) -> String {
    let kind = match bits & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        libc::S_IFBLK => 'b',
        libc::S_IFCHR => 'c',
        _ => '-',
    };
    let letters = "rwxrwxrwx".chars().enumerate();
    let shown = letters.map(|(place, letter)| if bits & (0o400 >> place) == 0 { '-' } else { letter });
    std::iter::once(kind).chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_as_ls_does() {
        assert_eq!(mode(0o100_644), "-rw-r--r--");
        assert_eq!(mode(0o040_711), "drwx--x--x");
        assert_eq!(mode(0o120_777), "lrwxrwxrwx");
    }

    #[test]
    fn both_forms_of_a_path_lead_to_the_sandbox_and_no_other_leads_anywhere() {
        let dir = Path::new("/state/sandboxes");
        assert_eq!(split(dir, "/state/sandboxes/t-1/stdout"), Some(("t-1", "stdout")));
        assert_eq!(split(dir, "/state/sandboxes/t-1"), Some(("t-1", "")));
        let mesos = "/var/lib/mesos/slave/slaves/S0/frameworks/F/executors/t-1/runs/latest/a/b";
        assert_eq!(split(dir, mesos), Some(("t-1", "a/b")));
        for none in ["/etc/passwd", "/state/sandboxes", "/state/sandboxesx/t", "stdout", ""] {
            assert_eq!(split(dir, none), None, "{none}");
        }
    }

    #[test]
    fn nothing_outside_is_ever_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let sandboxes = dir.path().join("sandboxes");
        std::fs::create_dir_all(sandboxes.join("t-1/sub")).expect("made");
        std::fs::write(dir.path().join("outside"), "no").expect("written");
        std::fs::write(sandboxes.join("t-1/sub/file"), "yes").expect("written");
        for (name, target) in [
            ("absolute", "/etc/passwd"),
            ("upward", "../../outside"),
            ("inward", "sub/file"),
            ("proc", "/proc/self/root/etc/passwd"),
        ] {
            std::os::unix::fs::symlink(target, sandboxes.join("t-1").join(name)).expect("linked");
        }
        std::os::unix::fs::symlink(dir.path(), sandboxes.join("t-2")).expect("linked");
        let path = |rest: &str| format!("{}/{rest}", sandboxes.display());
        for good in ["t-1/sub/file", "t-1/inward", "t-1/sub/../sub/file"] {
            assert!(found(&sandboxes, &path(good)).is_ok(), "{good}");
        }
        for bad in [
            "t-1/absolute",
            "t-1/upward",
            "t-1/proc",
            "t-1/../../outside",
            "../outside",
            "t-2/outside",
            "t-1/none",
            "t-1/sub/file/x",
        ] {
            assert!(
                matches!(found(&sandboxes, &path(bad)), Err(FilesError::NotThere(_))),
                "{bad}"
            );
        }
    }
}
