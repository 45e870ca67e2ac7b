//! The images of a node: got from registries, directories or files, checked, unpacked once, and shared by all tasks.

mod credentials;
mod digest;
mod layers;
mod local;
mod manifest;
mod reference;
mod registry;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{Image, Pull};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::clock::now_ms;
use crate::http::HttpClient;
use credentials::CredentialsError;
use digest::Digest;
use layers::{LayerError, Layers};
use local::{Local, LocalError};
use manifest::{Document, ImageConfig, Kind, Manifest, ManifestError, Platform, choose};
use reference::{ReferenceError, Source};
use registry::{Registry, RegistryError};

pub(crate) use digest::Hasher;
pub(crate) use manifest::RunConfig;

/// A file name for any text.
pub(crate) fn name_of(text: &str) -> String {
    Digest::of(text.as_bytes()).hex().to_owned()
}

/// Images that are got at the same time; more only share the same line and disk.
const AT_ONCE: usize = 3;

/// The node's part of how images are got.
#[derive(Clone, Debug)]
pub struct ImageSettings {
    /// Registries, `host` or `host:port`, that speak plain HTTP.
    pub insecure: BTreeSet<String>,
    /// Directory of credentials, each a file in the form of Docker's config.json; that name is the default one.
    pub credentials: PathBuf,
    /// Most bytes of an image, packed and unpacked each.
    pub limit: u64,
    /// Longest silence of a registry or server.
    pub stall: std::time::Duration,
    /// How long an image that no task uses is kept.
    pub keep: std::time::Duration,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            insecure: BTreeSet::new(),
            credentials: PathBuf::from("/etc/revere/images"),
            limit: 16 << 30,
            // Mesos' fetcher_stall_timeout and DC/OS' gc_delay.
            stall: std::time::Duration::from_secs(60),
            keep: std::time::Duration::from_secs(2 * 24 * 3600),
        }
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the image {name}: {fault}")]
pub(crate) struct ImageError {
    name: String,
    fault: Fault,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("its layers have {told} bytes, more than the limit of {limit} (node.image_limit_mb)")]
    Limit { told: u64, limit: u64 },
    #[error("an index of it holds another index, and that one too")]
    Nested,
    #[error("cannot keep it in {0}: {1}")]
    Store(PathBuf, std::io::Error),
    #[error("the work on it was given up: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What is known of an image that the node has.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    name: String,
    run: RunConfig,
    /// Names of its unpacked layers, lowest first.
    layers: Vec<String>,
    used_ms: u64,
}

/// An image whose layers are there.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) run: RunConfig,
    /// The directory that the layers are in.
    pub(crate) dir: PathBuf,
    /// Their names, lowest first.
    pub(crate) layers: Vec<String>,
}

/// How far an image is on its way.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Bytes of all layers that are still to come.
    total: AtomicU64,
    /// Bytes of the layers that are there whole.
    before: AtomicU64,
    now: AtomicU64,
}

impl Progress {
    fn layer(&self, bytes: u64) {
        self.now.store(bytes, Ordering::Relaxed);
    }

    fn layer_done(&self, bytes: u64) {
        self.before.fetch_add(bytes, Ordering::Relaxed);
        self.now.store(0, Ordering::Relaxed);
    }

    /// For people.
    pub(crate) fn tell(&self) -> String {
        let total = self.total.load(Ordering::Relaxed);
        let done = self.before.load(Ordering::Relaxed) + self.now.load(Ordering::Relaxed);
        if total == 0 {
            return "the registry is asked".to_owned();
        }
        // Tenths of a megabyte.
        let mega = |bytes: u64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
        format!("{} of {} MB are here", mega(done.min(total)), mega(total))
    }
}

/// All images of the node.
#[derive(Debug)]
pub(crate) struct Images {
    settings: ImageSettings,
    layers: Arc<Layers>,
    names: PathBuf,
    http: HttpClient,
    slots: Semaphore,
    /// One task gets an image, the others that need it wait.
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Images {
    /// Opens the store under that directory and removes what an earlier daemon left half done.
    pub(crate) fn open(dir: &std::path::Path, settings: ImageSettings, http: HttpClient) -> std::io::Result<Self> {
        let names = dir.join("names");
        std::fs::create_dir_all(&names)?;
        Ok(Self {
            layers: Arc::new(Layers::open(dir, settings.limit)?),
            names,
            http,
            slots: Semaphore::new(AT_ONCE),
            locks: Mutex::default(),
            settings,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.names.join(name_of(name))
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let text = std::fs::read(self.file(name)).ok()?;
        let stored: Stored = serde_json::from_slice(&text).ok()?;
        stored
            .layers
            .iter()
            .all(|layer| self.layers.has(layer))
            .then_some(stored)
    }

    fn keep(&self, stored: &Stored) -> Result<(), Fault> {
        let file = self.file(&stored.name);
        let beside = file.with_extension("new");
        let text = serde_json::to_vec(stored).map_err(|error| Fault::Store(file.clone(), error.into()))?;
        std::fs::write(&beside, text)
            .and_then(|()| std::fs::rename(&beside, &file))
            .map_err(|error| Fault::Store(file, error))
    }

    fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Gets the image unless it is there.
    pub(crate) async fn ensure(&self, image: &Image, progress: &Progress) -> Result<Ready, ImageError> {
        self.find_or_get(image, progress).await.map_err(|fault| ImageError {
            name: image.name.clone(),
            fault,
        })
    }

    async fn find_or_get(&self, image: &Image, progress: &Progress) -> Result<Ready, Fault> {
        let lock = self.lock(&image.name);
        let _mine = lock.lock().await;
        let found = match image.pull {
            Pull::IfMissing => self.found(&image.name)?,
            Pull::Always => None,
        };
        let stored = match found {
            Some(stored) => stored,
            None => {
                // Closed never.
                let _slot = self.slots.acquire().await;
                let got = self.get(image, progress).await?;
                self.keep(&got)?;
                got
            }
        };
        Ok(Ready {
            run: stored.run,
            dir: self.layers.dir().to_owned(),
            layers: stored.layers,
        })
    }

    /// The image if it is there, used now: nobody forgets it in between.
    fn found(&self, name: &str) -> Result<Option<Stored>, Fault> {
        let _found = self.layers.guard();
        let Some(mut stored) = self.stored(name) else {
            return Ok(None);
        };
        stored.used_ms = now_ms();
        self.keep(&stored)?;
        Ok(Some(stored))
    }

    async fn get(&self, image: &Image, progress: &Progress) -> Result<Stored, Fault> {
        tracing::info!(image = image.name, "getting an image");
        let source = Source::parse(&image.name)?;
        let (config, layers) = match &source {
            Source::Registry {
                host,
                repository,
                version,
            } => {
                let registry = Registry {
                    http: &self.http,
                    host,
                    repository,
                    scheme: if self.settings.insecure.contains(host) {
                        "http"
                    } else {
                        "https"
                    },
                    credentials: credentials::find(&self.settings.credentials, image.credentials.as_deref(), host)?,
                    authorization: tokio::sync::Mutex::default(),
                };
                self.get_from_registry(&registry, &version.to_string(), progress)
                    .await?
            }
            Source::Layout { path, version } => {
                let local = Local::layout(path.clone(), version.clone());
                self.get_from_local(local).await?
            }
            Source::Archive { path, version } => {
                let (path, version, layers) = (path.clone(), version.clone(), Arc::clone(&self.layers));
                let local = spawn_blocking(move || Local::archive(&path, version, &layers)).await??;
                self.get_from_local(local).await?
            }
        };
        tracing::info!(image = image.name, layers = layers.len(), "an image is here");
        Ok(Stored {
            name: image.name.clone(),
            run: config.config.unwrap_or_default(),
            layers,
            used_ms: now_ms(),
        })
    }

    async fn get_from_registry(
        &self,
        registry: &Registry<'_>,
        version: &str,
        progress: &Progress,
    ) -> Result<(ImageConfig, Vec<String>), Fault> {
        let own = Platform::own();
        let mut document = registry.manifest(version).await?;
        let mut manifest = Document::parse(&document)?;
        if let Kind::Index(entries) = &manifest {
            let chosen = choose(entries, &own)?;
            document = registry.manifest(&chosen.digest.to_string()).await?;
            manifest = Document::parse(&document)?;
        }
        let Kind::Image(manifest) = manifest else {
            return Err(Fault::Nested);
        };
        self.check_size(&manifest)?;
        let config = ImageConfig::parse(&registry.document(&manifest.config).await?, &manifest, &own)?;
        let pairs = || manifest.layers.iter().zip(&config.rootfs.diff_ids);
        let missing = pairs().filter(|(_, id)| !self.layers.has(&Layers::name(id)));
        progress
            .total
            .store(missing.map(|(layer, _)| layer.size).sum(), Ordering::Relaxed);
        let mut names = Vec::new();
        for (descriptor, id) in pairs() {
            // Two images that are got at once may share a layer.
            let lock = self.lock(&descriptor.digest.to_string());
            let _mine = lock.lock().await;
            if !self.layers.take(&Layers::name(id)) {
                let packed = self.layers.packed(&descriptor.digest);
                registry.layer(descriptor, &packed, progress).await?;
                let (layers, id, digest) = (Arc::clone(&self.layers), id.clone(), descriptor.digest.clone());
                spawn_blocking(move || layers.add_packed(&packed, &digest, &id)).await??;
                progress.layer_done(descriptor.size);
            }
            names.push(Layers::name(id));
        }
        Ok((config, names))
    }

    fn check_size(&self, manifest: &Manifest) -> Result<(), Fault> {
        let told = manifest
            .layers
            .iter()
            .map(|layer| layer.size)
            .fold(0, u64::saturating_add);
        let limit = self.settings.limit;
        if told > limit {
            return Err(Fault::Limit { told, limit });
        }
        Ok(())
    }

    async fn get_from_local(&self, local: Local) -> Result<(ImageConfig, Vec<String>), Fault> {
        let layers = Arc::clone(&self.layers);
        spawn_blocking(move || {
            let image = local.image(&Platform::own())?;
            let mut names = Vec::new();
            for (file, id) in image.layers.iter().zip(&image.config.rootfs.diff_ids) {
                if !layers.take(&Layers::name(id)) {
                    layers.add(file, id)?;
                }
                names.push(Layers::name(id));
            }
            Ok((image.config, names))
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_megabytes() {
        let progress = Progress::default();
        assert_eq!(progress.tell(), "the registry is asked");
        progress.total.store(4_200_000, Ordering::Relaxed);
        progress.layer(500_000);
        progress.layer_done(1_000_000);
        progress.layer(2_150_000);
        assert_eq!(progress.tell(), "3.1 of 4.2 MB are here");
    }
}
