//! Images that are on the node already: a directory in the OCI layout, or a tar file of one or from `docker save`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, open, openat2};
use serde::Deserialize;

use super::digest::Digest;
use super::layers::Layers;
use super::manifest::{
    Descriptor, Document, ImageConfig, Kind, MAX_DOCUMENT, Manifest, ManifestError, Platform, choose,
};
use crate::unpack::{Purpose, UnpackError, decompressed, unpack_tar};

/// The name of an image in an index.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The same as containerd and Docker write it, with the repository.
const FULL_NAME: &str = "io.containerd.image.name";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    #[error("{0} cannot be unpacked: {1}")]
    Unpack(PathBuf, UnpackError),
    #[error("{0} is neither an OCI layout (index.json) nor from `docker save` (manifest.json)")]
    Kind(PathBuf),
    #[error("{path} has no image `{wanted}`, only {found}")]
    Missing {
        path: PathBuf,
        wanted: String,
        found: String,
    },
    #[error("{path} is corrupt: its part {digest} has the digest {found}")]
    Corrupt {
        path: PathBuf,
        digest: Digest,
        found: Digest,
    },
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// An image on the disk.
#[derive(Debug)]
pub(crate) struct Local {
    dir: PathBuf,
    /// What the user named.
    shown: PathBuf,
    version: Option<String>,
    /// Removed at the end.
    scratch: bool,
}

/// Its parts.
#[derive(Debug)]
pub(crate) struct LocalImage {
    pub(crate) config: ImageConfig,
    /// Files of its layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.scratch {
            // Else it is gone at the next start.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Local {
    /// A directory.
    pub(crate) fn layout(dir: PathBuf, version: Option<String>) -> Self {
        Self {
            shown: dir.clone(),
            dir,
            version,
            scratch: false,
        }
    }

    /// A tar file; unpacked for the time that this lives.
    pub(crate) fn archive(file: &Path, version: Option<String>, layers: &Layers) -> Result<Self, LocalError> {
        let read = |error| LocalError::Read(file.to_owned(), error);
        let opened = File::open(file).map_err(read)?;
        let content = decompressed(BufReader::new(opened)).map_err(read)?;
        let local = Self {
            dir: layers.scratch().map_err(read)?,
            shown: file.to_owned(),
            version,
            scratch: true,
        };
        unpack_tar(content, &local.dir, Purpose::Files, layers.limit())
            .map_err(|error| LocalError::Unpack(file.to_owned(), error))?;
        Ok(local)
    }

    /// A file inside; links in it lead nowhere else.
    fn open(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let root = open(&self.dir, OFlags::DIRECTORY | flags, Mode::empty())?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&root, name, flags, Mode::empty(), within)?.into())
    }

    /// The path of a file inside, with all links followed within.
    fn path(&self, name: &str) -> Result<PathBuf, LocalError> {
        use std::os::fd::AsRawFd as _;
        let file = self.open(name).map_err(|error| self.read_error(name, error))?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::read_link(link).map_err(|error| self.read_error(name, error))
    }

    fn read_error(&self, name: &str, error: io::Error) -> LocalError {
        LocalError::Read(self.shown.join(name), error)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, LocalError> {
        let mut text = Vec::new();
        self.open(name)
            .and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut text))
            .map_err(|error| self.read_error(name, error))?;
        Ok(text)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LocalError> {
        let text = self.document(&blob_name(&descriptor.digest))?;
        let found = Digest::of(&text);
        if found == descriptor.digest {
            return Ok(text);
        }
        Err(LocalError::Corrupt {
            path: self.shown.clone(),
            digest: descriptor.digest.clone(),
            found,
        })
    }

    /// The image of that version for that platform.
    pub(crate) fn image(&self, own: &Platform) -> Result<LocalImage, LocalError> {
        if self.open("index.json").is_ok() {
            return self.in_layout(own);
        }
        if self.open("manifest.json").is_ok() {
            return self.in_saved(own);
        }
        match fs::metadata(&self.shown) {
            Err(error) => Err(LocalError::Read(self.shown.clone(), error)),
            Ok(_) => Err(LocalError::Kind(self.shown.clone())),
        }
    }

    fn in_layout(&self, own: &Platform) -> Result<LocalImage, LocalError> {
        let Kind::Index(entries) = Document::parse(&self.document("index.json")?)? else {
            return Err(LocalError::Damaged(
                self.shown.join("index.json"),
                "it is no index".to_owned(),
            ));
        };
        let entries = self.named(entries)?;
        let chosen = choose(&entries, own).or_else(|error| {
            // Entries of a layout need not tell a platform: a name chooses, and the configuration tells.
            let plain = entries.iter().find(|entry| entry.platform.is_none());
            plain.cloned().ok_or(error)
        })?;
        let mut kind = Document::parse(&self.blob(&chosen)?)?;
        if let Kind::Index(inner) = &kind {
            let chosen = choose(inner, own)?;
            kind = Document::parse(&self.blob(&chosen)?)?;
        }
        let Kind::Image(manifest) = kind else {
            return Err(LocalError::Damaged(
                self.shown.clone(),
                "indexes hold indexes without end".to_owned(),
            ));
        };
        let config = ImageConfig::parse(&self.blob(&manifest.config)?, &manifest, own)?;
        let layers = manifest.layers.iter().map(|layer| self.path(&blob_name(&layer.digest)));
        Ok(LocalImage {
            layers: layers.collect::<Result<_, _>>()?,
            config,
        })
    }

    /// The entries of the version asked for; all, if none was.
    fn named(&self, entries: Vec<Descriptor>) -> Result<Vec<Descriptor>, LocalError> {
        let Some(wanted) = &self.version else {
            return Ok(entries);
        };
        let name_of = |entry: &Descriptor| {
            let full = entry.annotations.get(FULL_NAME);
            full.or_else(|| entry.annotations.get(REFERENCE)).cloned()
        };
        let found: Vec<String> = entries.iter().filter_map(name_of).collect();
        let fits = |annotations: &BTreeMap<String, String>| {
            let is = |name: &String| name == wanted || name.ends_with(&format!("/{wanted}"));
            annotations.get(REFERENCE).is_some_and(is) || annotations.get(FULL_NAME).is_some_and(is)
        };
        let chosen: Vec<Descriptor> = entries.into_iter().filter(|entry| fits(&entry.annotations)).collect();
        if chosen.is_empty() {
            return Err(self.missing(wanted, &found));
        }
        Ok(chosen)
    }

    fn missing(&self, wanted: &str, found: &[String]) -> LocalError {
        LocalError::Missing {
            path: self.shown.clone(),
            wanted: wanted.to_owned(),
            found: if found.is_empty() {
                "one without a name".to_owned()
            } else {
                found.join(", ")
            },
        }
    }

    fn in_saved(&self, own: &Platform) -> Result<LocalImage, LocalError> {
        let text = self.document("manifest.json")?;
        let saved: Vec<Saved> = serde_json::from_slice(&text)
            .map_err(|error| LocalError::Damaged(self.shown.join("manifest.json"), error.to_string()))?;
        let tags = |saved: &Saved| saved.repo_tags.clone().unwrap_or_default();
        let chosen = match &self.version {
            None => saved.first(),
            Some(wanted) => saved.iter().find(|saved| tags(saved).contains(wanted)),
        };
        let Some(chosen) = chosen else {
            let found: Vec<String> = saved.iter().flat_map(tags).collect();
            return Err(self.missing(self.version.as_deref().unwrap_or("latest"), &found));
        };
        let config = self.document(&chosen.config)?;
        let nothing = Descriptor {
            media_type: String::new(),
            digest: Digest::of(&config),
            size: 0,
            platform: None,
            annotations: BTreeMap::new(),
        };
        // Only the number of layers counts: they are checked by what the configuration says of them.
        let manifest = Manifest {
            layers: vec![nothing.clone(); chosen.layers.len()],
            config: nothing,
        };
        Ok(LocalImage {
            config: ImageConfig::parse(&config, &manifest, own)?,
            layers: chosen
                .layers
                .iter()
                .map(|layer| self.path(layer))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
