//! Fetched archives by the ends of their names, as Mesos' fetcher tells them: tar in each compression, gz, zip.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::tree::{Attributes, Tree, parts};
use super::{ENTRY_COST, Purpose, UnpackError, decompressed, unpack_tar};

const TARS: [&str; 9] = [
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst",
];
/// Type bits of a symbolic link in a Unix mode.
const LINK: u32 = 0o120_000;
const KIND: u32 = 0o170_000;
/// Longest target of a symbolic link.
const MAX_TARGET: u64 = 4096;

/// Whether a file of that name is unpacked.
pub(crate) fn is_archive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TARS.iter().any(|end| name.ends_with(end)) || name.ends_with(".gz") || name.ends_with(".zip")
}

/// Unpacks a file into a directory by its name.
pub(crate) fn unpack_archive(file: &Path, name: &str, into: &Path, limit: u64) -> Result<u64, UnpackError> {
    let opened = File::open(file).map_err(|source| UnpackError::Into {
        path: file.to_owned(),
        source,
    })?;
    let lower = name.to_ascii_lowercase();
    if lower.ends_with(".zip") {
        return unpack_zip(opened, into, limit);
    }
    let mut content = decompressed(BufReader::new(opened)).map_err(|error| UnpackError::damaged(&error))?;
    if TARS.iter().any(|end| lower.ends_with(end)) {
        return unpack_tar(content, into, Purpose::Files, limit);
    }
    let base = name.rsplit('/').next().unwrap_or(name);
    let plain = &base.as_bytes()[..base.len() - ".gz".len()];
    let mut tree = Tree::open(into)?;
    let mut limited = Limited::new(&mut content, limit);
    let written = tree.file(&[], plain, &attributes(0o644), &mut limited, base);
    limited.over()?;
    written.map(|()| limit - limited.left)
}

fn attributes(mode: u32) -> Attributes {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Attributes {
        mode,
        owner: None,
        modified: now.map(|time| time.as_secs()).unwrap_or_default(),
        xattrs: Vec::new(),
    }
}

/// Ends with an error after so many bytes: sizes that archives tell may lie.
struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Limited<R> {
    fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            limit,
            left: limit,
            exceeded: false,
        }
    }

    fn over(&self) -> Result<(), UnpackError> {
        if self.exceeded {
            return Err(UnpackError::Limit(self.limit));
        }
        Ok(())
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(u64::try_from(count).unwrap_or(u64::MAX)) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => {
                self.exceeded = true;
                Err(io::Error::other("too large"))
            }
        }
    }
}

fn unpack_zip(file: File, into: &Path, limit: u64) -> Result<u64, UnpackError> {
    let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| UnpackError::damaged(&error))?;
    let mut tree = Tree::open(into)?;
    let mut left = limit;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| UnpackError::damaged(&error))?;
        left = left.checked_sub(ENTRY_COST).ok_or(UnpackError::Limit(limit))?;
        let name = entry.name_raw().to_vec();
        let shown = String::from_utf8_lossy(&name).into_owned();
        let parts = parts(&name)?;
        let Some((last, above)) = parts.split_last() else {
            continue;
        };
        let mode = entry.unix_mode();
        if entry.is_dir() {
            let attributes = attributes(mode.unwrap_or(0o755) & 0o777);
            tree.directory(above, last, &attributes, &shown)?;
        } else if mode.is_some_and(|mode| mode & KIND == LINK) {
            let mut target = Vec::new();
            let read = entry.by_ref().take(MAX_TARGET).read_to_end(&mut target);
            read.map_err(|error| UnpackError::damaged(&error))?;
            tree.symlink(above, last, &target, &attributes(0o777), &shown)?;
        } else {
            let attributes = attributes(mode.unwrap_or(0o644) & 0o777);
            let mut limited = Limited::new(&mut entry, left);
            let written = tree.file(above, last, &attributes, &mut limited, &shown);
            if limited.exceeded {
                return Err(UnpackError::Limit(limit));
            }
            written?;
            left = limited.left;
        }
    }
    Ok(limit - left)
}
