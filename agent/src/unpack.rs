//! Unpacks what strangers packed: layers of images and fetched archives, never outside of one directory.

mod archive;
mod tree;

#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tar::EntryType;

pub(crate) use archive::{is_archive, unpack_archive};
pub(crate) use tree::give_away;
use tree::{Attributes, Tree, parts};

/// What the archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A layer for overlayfs: owners are kept, deletions become overlayfs' own.
    Layer,
    /// Files for a sandbox: root's, for the caller to give away; no set-user-id.
    Files,
}

/// What an entry costs beside its content: an inode and its name.
const ENTRY_COST: u64 = 4096;
/// Prefix of deletions in a layer.
const WHITEOUT: &[u8] = b".wh.";
/// Deletes everything that lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of what AUFS kept for itself.
const AUFS: &[u8] = b".wh..wh.";

/// Why an archive was not unpacked. What was written so far is for the caller to remove.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("its entry `{0}` leads out of the directory it is unpacked into")]
    Escape(String),
    #[error("its entry `{path}` is a hard link to `{target}`, which is not in it")]
    Link { path: String, target: String },
    #[error("unpacked it is larger than the limit of {0} bytes")]
    Limit(u64),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("its entry `{path}` cannot be written: {source}")]
    Write { path: String, source: io::Error },
    #[error("cannot unpack into {path}: {source}")]
    Into { path: PathBuf, source: io::Error },
}

impl UnpackError {
    fn damaged(error: &impl std::fmt::Display) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// The uncompressed content, whichever of gzip, zstd, bzip2, xz it begins as.
pub(crate) fn decompressed<'a>(mut reader: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = reader.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(reader))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(reader)?)
    } else if start.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else if start.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(reader))
    } else {
        Box::new(reader)
    })
}

/// Unpacks a tar stream into a directory that exists; tells how many bytes that took.
pub(crate) fn unpack_tar(reader: impl Read, into: &Path, purpose: Purpose, limit: u64) -> Result<u64, UnpackError> {
    let tree = Tree::open(into)?;
    let mut unpacking = Unpacking {
        tree,
        purpose,
        limit,
        used: 0,
    };
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().map_err(|error| UnpackError::damaged(&error))?;
    for entry in entries {
        unpacking.entry(entry.map_err(|error| UnpackError::damaged(&error))?)?;
    }
    Ok(unpacking.used)
}

/// One archive on its way to the disk.
struct Unpacking {
    tree: Tree,
    purpose: Purpose,
    limit: u64,
    used: u64,
}

impl Unpacking {
    fn spend(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.used = self.used.saturating_add(bytes);
        if self.used > self.limit {
            return Err(UnpackError::Limit(self.limit));
        }
        Ok(())
    }

    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), UnpackError> {
        let name = entry.path_bytes().into_owned();
        self.spend(ENTRY_COST)?;
        let parts = parts(&name)?;
        let Some((last, above)) = parts.split_last() else {
            return self.root(&entry);
        };
        let shown = String::from_utf8_lossy(&name).into_owned();
        if self.purpose == Purpose::Layer && last.starts_with(WHITEOUT) {
            return self.whiteout(above, last, &shown);
        }
        let attributes = self.attributes(&mut entry)?;
        match entry.header().entry_type() {
            EntryType::Directory => self.tree.directory(above, last, &attributes, &shown),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                // Refused before it is written, and counted as it is written: a size may lie.
                self.spend(entry.size())?;
                self.tree.file(above, last, &attributes, &mut entry, &shown)
            }
            EntryType::Symlink => {
                let target = link_target(&entry, &shown)?;
                self.tree.symlink(above, last, &target, &attributes, &shown)
            }
            EntryType::Link => {
                let target = link_target(&entry, &shown)?;
                self.tree.hard_link(above, last, &target, &shown)
            }
            EntryType::Fifo => self.tree.fifo(above, last, &attributes, &shown),
            // Devices of an image are of no use: each container has its own /dev, and no other device can be opened.
            _ => Ok(()),
        }
    }

    /// The directory itself: only its permissions.
    fn root<R: Read>(&mut self, entry: &tar::Entry<'_, R>) -> Result<(), UnpackError> {
        match entry.header().mode() {
            Ok(mode) if self.purpose == Purpose::Layer && entry.header().entry_type().is_dir() => {
                self.tree.root_mode(mode)
            }
            _ => Ok(()),
        }
    }

    fn whiteout(&mut self, above: &[Vec<u8>], last: &[u8], shown: &str) -> Result<(), UnpackError> {
        if last == OPAQUE {
            return self.tree.opaque(above, shown);
        }
        if last.starts_with(AUFS) {
            return Ok(());
        }
        let deleted = &last[WHITEOUT.len()..];
        if deleted.is_empty() || deleted == b"." || deleted == b".." {
            return Err(UnpackError::Escape(shown.to_owned()));
        }
        self.tree.whiteout(above, deleted, shown)
    }

    fn attributes<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<Attributes, UnpackError> {
        let mut xattrs = Vec::new();
        if self.purpose == Purpose::Layer {
            for extension in entry
                .pax_extensions()
                .map_err(|error| UnpackError::damaged(&error))?
                .into_iter()
                .flatten()
                .flatten()
            {
                if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
                    xattrs.push((name.to_vec(), extension.value_bytes().to_vec()));
                }
            }
        }
        let header = entry.header();
        let number = |number: io::Result<u64>| -> Result<u32, UnpackError> {
            let number = number.map_err(|error| UnpackError::damaged(&error))?;
            u32::try_from(number).map_err(|_| UnpackError::Damaged(format!("{number} is no user's number")))
        };
        let mode = header.mode().map_err(|error| UnpackError::damaged(&error))?;
        Ok(Attributes {
            mode: mode & if self.purpose == Purpose::Layer { 0o7777 } else { 0o777 },
            owner: match self.purpose {
                Purpose::Layer => Some((number(header.uid())?, number(header.gid())?)),
                Purpose::Files => None,
            },
            modified: header.mtime().unwrap_or(0),
            xattrs,
        })
    }
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>, shown: &str) -> Result<Vec<u8>, UnpackError> {
    let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
    target
        .filter(|target| !target.is_empty())
        .ok_or_else(|| UnpackError::Damaged(format!("its link `{shown}` leads nowhere")))
}
