//! Unpacked layers, each in a directory of its own that appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::digest::{Digest, Hashing};
use crate::unpack::{Purpose, UnpackError, decompressed, unpack_tar};

/// Digits of a layer's name: so short that the names of all layers of an image fit into one page of mount options,
/// so long that nobody finds two contents with the same.
const NAME_DIGITS: usize = 28;

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error("its layer {digest} is corrupt: what came has the digest {found}; push the image again")]
    Packed { digest: Digest, found: Digest },
    #[error("its layer {wanted} is corrupt: unpacked it has the digest {found}; push the image again")]
    Unpacked { wanted: Digest, found: Digest },
    #[error("its layer {id} cannot be unpacked: {source}")]
    Unpack { id: Digest, source: UnpackError },
    #[error("its layer {id} cannot be read from {path}: {source}")]
    Read {
        id: Digest,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot keep its layer {id} in {path}: {source}")]
    Keep {
        id: Digest,
        path: PathBuf,
        source: io::Error,
    },
}

/// All layers of the node.
#[derive(Debug)]
pub(crate) struct Layers {
    layers: PathBuf,
    packed: PathBuf,
    scratch: PathBuf,
    limit: u64,
    count: AtomicU64,
    /// Held while somebody finds that layers are there and says so, or that nothing needs them and takes them away.
    found: Mutex<()>,
}

impl Layers {
    pub(crate) fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        let scratch = dir.join("scratch");
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (layers, packed) = (dir.join("layers"), dir.join("packed"));
        for path in [&layers, &packed, &scratch] {
            fs::create_dir_all(path)?;
        }
        Ok(Self {
            layers,
            packed,
            scratch,
            limit,
            count: AtomicU64::new(0),
            found: Mutex::default(),
        })
    }

    /// The directory of all.
    pub(crate) fn dir(&self) -> &Path {
        &self.layers
    }

    /// The name of a layer's directory.
    pub(crate) fn name(id: &Digest) -> String {
        id.hex().chars().take(NAME_DIGITS).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.layers.join(name).is_dir()
    }

    /// What is found under this guard stays until it is dropped; held for moments only.
    pub(crate) fn guard(&self) -> MutexGuard<'_, ()> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as [`Layers::has`] for an image that is on its way: the layer is as young again as one that came now.
    pub(crate) fn take(&self, name: &str) -> bool {
        let _found = self.guard();
        let path = self.layers.join(name);
        // Its mode stays; that it is set changes the time by which a layer's age is told.
        path.metadata()
            .is_ok_and(|data| data.is_dir() && fs::set_permissions(&path, data.permissions()).is_ok())
    }

    /// Takes a layer away; it is the caller's to remove, outside of the guard.
    pub(crate) fn give_up(&self, name: &str) -> io::Result<PathBuf> {
        let scratch = self.scratch()?;
        let away = scratch.join(name);
        fs::rename(self.layers.join(name), away)?;
        Ok(scratch)
    }

    /// Where a layer is put together before it is unpacked; kept over failures.
    pub(crate) fn packed(&self, digest: &Digest) -> PathBuf {
        self.packed.join(digest.hex())
    }

    /// A new directory that is gone after a restart.
    pub(crate) fn scratch(&self) -> io::Result<PathBuf> {
        let path = self
            .scratch
            .join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Most bytes of one.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Checks and unpacks what came from a registry; the packed file is gone afterwards, also if it was corrupt.
    pub(crate) fn add_packed(&self, file: &Path, digest: &Digest, id: &Digest) -> Result<(), LayerError> {
        let checked = self.check_packed(file, digest, id).and_then(|()| self.add(file, id));
        // It would only be found again, corrupt or of no more use.
        let _ = fs::remove_file(file);
        checked
    }

    fn check_packed(&self, file: &Path, digest: &Digest, id: &Digest) -> Result<(), LayerError> {
        let read = |source| LayerError::Read {
            id: id.clone(),
            path: file.to_owned(),
            source,
        };
        let mut hashing = Hashing::new(File::open(file).map_err(read)?);
        io::copy(&mut hashing, &mut io::sink()).map_err(read)?;
        let found = hashing.hasher.finish();
        if found == *digest {
            return Ok(());
        }
        Err(LayerError::Packed {
            digest: digest.clone(),
            found,
        })
    }

    /// Unpacks a layer, in whatever compression, and checks that it is the one meant.
    pub(crate) fn add(&self, file: &Path, id: &Digest) -> Result<(), LayerError> {
        let path = self.layers.join(Self::name(id));
        let keep = |source| LayerError::Keep {
            id: id.clone(),
            path: path.clone(),
            source,
        };
        let scratch = self.scratch().map_err(keep)?;
        let unpacked = self.unpack(file, id, &scratch).and_then(|()| {
            // On the disk before it has its name: a layer that is there is whole, also after a power cut.
            let synced = File::open(&scratch).and_then(|dir| rustix::fs::syncfs(&dir).map_err(io::Error::from));
            synced.and_then(|()| fs::rename(&scratch, &path)).map_err(keep)
        });
        if unpacked.is_err() {
            let _ = fs::remove_dir_all(&scratch);
            // Somebody else was faster: then it is there.
            return if path.is_dir() { Ok(()) } else { unpacked };
        }
        Ok(())
    }

    fn unpack(&self, file: &Path, id: &Digest, into: &Path) -> Result<(), LayerError> {
        let read = |source| LayerError::Read {
            id: id.clone(),
            path: file.to_owned(),
            source,
        };
        let opened = File::open(file).map_err(read)?;
        let content = decompressed(BufReader::new(opened)).map_err(read)?;
        let mut hashing = Hashing::new(content);
        let unpack = |source| LayerError::Unpack { id: id.clone(), source };
        unpack_tar(&mut hashing, into, Purpose::Layer, self.limit).map_err(unpack)?;
        // What follows the archive's end belongs to the digest.
        io::copy(&mut hashing, &mut io::sink()).map_err(read)?;
        let found = hashing.hasher.finish();
        if found == *id {
            return Ok(());
        }
        Err(LayerError::Unpacked {
            wanted: id.clone(),
            found,
        })
    }
}
