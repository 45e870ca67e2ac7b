//! What manifests and configurations say, in the media types of Docker and of OCI.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// Media types of manifests, as asked for.
pub(crate) const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Longest manifest or configuration that is read, as Docker's own limit.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// Most layers that overlayfs mounts here: their names must fit one page of mount options.
pub(crate) const MAX_LAYERS: usize = 120;

/// Points to content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A kind of machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) variant: Option<String>,
}

/// A manifest or an index of manifests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a document turned out to be.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Index(Vec<Descriptor>),
    Image(Manifest),
}

/// Why a document is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("its manifest is damaged: {0}")]
    Damaged(String),
    #[error("its manifest is of schema {0}; only version 2 is known: push it again with a Docker of this decade")]
    Schema(u32),
    #[error("it has {0} layers, the limit is {MAX_LAYERS}: build it with fewer")]
    Layers(usize),
    #[error("it has no version for {wanted}, only for {found}")]
    Platform { wanted: String, found: String },
    #[error("its configuration is damaged: {0}")]
    Config(String),
    #[error("its configuration tells of {told} layers, its manifest of {listed}")]
    Mismatch { told: usize, listed: usize },
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Kind, ManifestError> {
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| ManifestError::Damaged(error.to_string()))?;
        if document.schema_version != 2 {
            return Err(ManifestError::Schema(document.schema_version));
        }
        match document.config {
            Some(_) if document.layers.len() > MAX_LAYERS => Err(ManifestError::Layers(document.layers.len())),
            Some(config) => Ok(Kind::Image(Manifest {
                config,
                layers: document.layers,
            })),
            None => Ok(Kind::Index(document.manifests)),
        }
    }
}

impl Platform {
    /// Of this machine, in Go's words.
    pub(crate) fn own() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    fn runs(&self, other: &Self) -> bool {
        self.os == other.os && self.architecture == other.architecture
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// The entry of an index for that platform.
pub(crate) fn choose(index: &[Descriptor], wanted: &Platform) -> Result<Descriptor, ManifestError> {
    let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|platform| wanted.runs(platform));
    // An index of one that tells no platform is an image's own; its configuration tells.
    let only = || {
        index
            .first()
            .filter(|entry| index.len() == 1 && entry.platform.is_none())
    };
    index.iter().find(fits).or_else(only).cloned().ok_or_else(|| {
        let found: Vec<String> = index
            .iter()
            .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
            // Attestations stand in an index under this name.
            .filter(|platform| platform != "unknown/unknown")
            .collect();
        ManifestError::Platform {
            wanted: wanted.to_string(),
            found: if found.is_empty() {
                "none".to_owned()
            } else {
                found.join(", ")
            },
        }
    })
}

/// The configuration of an image, as far as it says how to run it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    pub(crate) config: Option<RunConfig>,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// How it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
}

/// The digests of its unpacked layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub(crate) diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads it and checks that it belongs to the manifest and to this machine.
    pub(crate) fn parse(bytes: &[u8], manifest: &Manifest, wanted: &Platform) -> Result<Self, ManifestError> {
        let config: Self = serde_json::from_slice(bytes).map_err(|error| ManifestError::Config(error.to_string()))?;
        let platform = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: None,
        };
        if !wanted.runs(&platform) {
            return Err(ManifestError::Platform {
                wanted: wanted.to_string(),
                found: platform.to_string(),
            });
        }
        let (told, listed) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        if told != listed {
            return Err(ManifestError::Mismatch { told, listed });
        }
        Ok(config)
    }
}

#[cfg(test)]
#[path = "manifest/tests.rs"]
mod tests;
