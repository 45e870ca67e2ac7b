//! Writes into one directory and never out of it: every path is resolved by the kernel with that directory as its root.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, open, openat, openat2, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::UnpackError;

/// A path's parts, without any that lead up.
pub(super) fn parts(path: &[u8]) -> Result<Vec<Vec<u8>>, UnpackError> {
    let mut parts = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(UnpackError::Escape(String::from_utf8_lossy(path).into_owned())),
            _ if part.contains(&0) => return Err(UnpackError::Damaged("a name in it holds a zero byte".to_owned())),
            _ => parts.push(part.to_vec()),
        }
    }
    Ok(parts)
}

/// What an entry has beside its content.
#[derive(Clone, Debug)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    /// None: that of who unpacks.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) modified: u64,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    path: PathBuf,
    /// The directory written to last: most entries follow their neighbours.
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn os(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn write(shown: &str) -> impl FnOnce(Errno) -> UnpackError {
    let path = shown.to_owned();
    move |errno| UnpackError::Write {
        path,
        source: errno.into(),
    }
}

impl Tree {
    pub(super) fn open(path: &Path) -> Result<Self, UnpackError> {
        let root = open(path, DIRECTORY, Mode::empty()).map_err(|errno| UnpackError::Into {
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self {
            root,
            path: path.to_owned(),
            last: None,
        })
    }

    pub(super) fn root_mode(&self, mode: u32) -> Result<(), UnpackError> {
        fchmod(&self.root, Mode::from_raw_mode(mode & 0o7777)).map_err(|errno| UnpackError::Into {
            path: self.path.clone(),
            source: errno.into(),
        })
    }

    /// The directory of these parts; made where it is missing.
    fn parent(&mut self, above: &[Vec<u8>], shown: &str) -> Result<&OwnedFd, UnpackError> {
        if self.last.as_ref().is_none_or(|(path, _)| path != above) {
            let found = self.descend(above, shown)?;
            self.last = Some((above.to_vec(), found));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd),
            None => Ok(&self.root),
        }
    }

    fn descend(&self, above: &[Vec<u8>], shown: &str) -> Result<OwnedFd, UnpackError> {
        let mut path = PathBuf::from(".");
        let mut at = self.resolve(&path).map_err(write(shown))?;
        for part in above {
            path.push(os(part));
            let next = match self.resolve(&path) {
                Err(Errno::NOENT) => {
                    mkdirat(&at, os(part), Mode::from_raw_mode(0o755)).map_err(write(shown))?;
                    self.resolve(&path)
                }
                found => found,
            };
            at = next.map_err(write(shown))?;
        }
        Ok(at)
    }

    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, DIRECTORY, Mode::empty(), within)
    }

    /// Takes away what has the name already; a directory only with everything in it.
    fn clear(&mut self, above: &[Vec<u8>], name: &[u8], shown: &str) -> Result<(), UnpackError> {
        let parent = self.parent(above, shown)?;
        match unlinkat(parent, os(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                remove_tree(parent, os(name)).map_err(write(shown))?;
                self.last = None;
                Ok(())
            }
            Err(errno) => Err(write(shown)(errno)),
        }
    }

    pub(super) fn directory(
        &mut self,
        above: &[Vec<u8>],
        name: &[u8],
        attributes: &Attributes,
        shown: &str,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(above, shown)?;
        let there = statat(parent, os(name), AtFlags::SYMLINK_NOFOLLOW);
        if !there.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory) {
            self.clear(above, name, shown)?;
            mkdirat(self.parent(above, shown)?, os(name), Mode::from_raw_mode(0o700)).map_err(write(shown))?;
        }
        let parent = self.parent(above, shown)?;
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let made = openat(parent, os(name), flags, Mode::empty()).map_err(write(shown))?;
        dress(&made, attributes).map_err(write(shown))
    }

    pub(super) fn file(
        &mut self,
        above: &[Vec<u8>],
        name: &[u8],
        attributes: &Attributes,
        content: &mut impl Read,
        shown: &str,
    ) -> Result<(), UnpackError> {
        self.clear(above, name, shown)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = self.parent(above, shown)?;
        let made = openat(parent, os(name), flags, Mode::from_raw_mode(0o600)).map_err(write(shown))?;
        let mut file = std::fs::File::from(made);
        copy(content, &mut file, shown)?;
        dress(&file, attributes).map_err(write(shown))
    }

    pub(super) fn symlink(
        &mut self,
        above: &[Vec<u8>],
        name: &[u8],
        target: &[u8],
        attributes: &Attributes,
        shown: &str,
    ) -> Result<(), UnpackError> {
        self.clear(above, name, shown)?;
        let parent = self.parent(above, shown)?;
        // Wherever it leads, it is only text here: who follows it later does so inside the container.
        symlinkat(os(target), parent, os(name)).map_err(write(shown))?;
        if let Some((uid, gid)) = attributes.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(parent, os(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(write(shown))?;
        }
        self.last = None;
        Ok(())
    }

    pub(super) fn hard_link(
        &mut self,
        above: &[Vec<u8>],
        name: &[u8],
        target: &[u8],
        shown: &str,
    ) -> Result<(), UnpackError> {
        let missing = || UnpackError::Link {
            path: shown.to_owned(),
            target: String::from_utf8_lossy(target).into_owned(),
        };
        let whole = parts(target).map_err(|_| missing())?;
        let (target_name, target_above) = whole.split_last().ok_or_else(missing)?;
        if whole.split_last() == Some((&name.to_vec(), above)) {
            return Ok(());
        }
        let path: PathBuf = target_above.iter().map(|part| os(part)).collect();
        let from = self.resolve(&Path::new(".").join(path)).map_err(|_| missing())?;
        let stat = statat(&from, os(target_name), AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(missing());
        }
        self.clear(above, name, shown)?;
        let parent = self.parent(above, shown)?;
        linkat(&from, os(target_name), parent, os(name), AtFlags::empty()).map_err(write(shown))
    }

    pub(super) fn fifo(
        &mut self,
        above: &[Vec<u8>],
        name: &[u8],
        attributes: &Attributes,
        shown: &str,
    ) -> Result<(), UnpackError> {
        self.clear(above, name, shown)?;
        let parent = self.parent(above, shown)?;
        let mode = Mode::from_raw_mode(attributes.mode & 0o777);
        mknodat(parent, os(name), FileType::Fifo, mode, 0).map_err(write(shown))?;
        if let Some((uid, gid)) = attributes.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(parent, os(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(write(shown))?;
        }
        Ok(())
    }

    /// overlayfs' sign for "deleted": a character device 0/0.
    pub(super) fn whiteout(&mut self, above: &[Vec<u8>], name: &[u8], shown: &str) -> Result<(), UnpackError> {
        self.clear(above, name, shown)?;
        let parent = self.parent(above, shown)?;
        mknodat(
            parent,
            os(name),
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(0, 0),
        )
        .map_err(write(shown))
    }

    /// overlayfs' sign for "nothing from below".
    pub(super) fn opaque(&mut self, above: &[Vec<u8>], shown: &str) -> Result<(), UnpackError> {
        let parent = self.parent(above, shown)?;
        fsetxattr(parent, "trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(write(shown))
    }
}

/// Copies, telling a source that breaks from a disk that is full.
fn copy(content: &mut impl Read, file: &mut std::fs::File, shown: &str) -> Result<(), UnpackError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = content
            .read(&mut buffer)
            .map_err(|error| UnpackError::damaged(&error))?;
        if count == 0 {
            return Ok(());
        }
        io::Write::write_all(file, &buffer[..count]).map_err(|source| UnpackError::Write {
            path: shown.to_owned(),
            source,
        })?;
    }
}

/// Owner first: giving a file away takes its set-user-id bits.
fn dress(fd: impl std::os::fd::AsFd, attributes: &Attributes) -> rustix::io::Result<()> {
    if let Some((uid, gid)) = attributes.owner {
        fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(&fd, Mode::from_raw_mode(RawMode::from(attributes.mode)))?;
    for (name, value) in &attributes.xattrs {
        // Only those that mean the same everywhere; overlayfs' own would be taken for orders.
        let kept = name.starts_with(b"user.") || name == b"security.capability";
        if kept {
            fsetxattr(&fd, os(name), value, XattrFlags::empty())?;
        }
    }
    let time = Timespec {
        tv_sec: i64::try_from(attributes.modified).unwrap_or(0),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    futimens(&fd, &times)
}

fn remove_tree(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    let dir = openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let child = entry.file_name();
        if child == c"." || child == c".." {
            continue;
        }
        match unlinkat(&dir, child, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => remove_tree(&dir, os(child.to_bytes()))?,
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Gives a directory and everything in it to a user; links are given, not followed.
pub(crate) fn give_away(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if !path.symlink_metadata()?.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        give_away(&entry?.path(), uid, gid)?;
    }
    Ok(())
}
