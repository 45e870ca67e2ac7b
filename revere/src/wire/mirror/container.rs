//! Mirrors of a task's container and of what is fetched for it.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use model::{
    Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, Image, Ipc, KeptVolume, Parameter,
    PersistentVolume, Privilege, Pull, Seccomp, Secrets, Volume, VolumeMode,
};

use super::super::since::{Since, Version};
use super::super::{Wire, WireError};
use super::{list, unlist};

#[derive(Debug, Default, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct ContainerMirror {
    docker: bool,
    image: Option<ImageMirror>,
    privileged: bool,
    /// Key and value, as users write them.
    parameters: Vec<(String, String)>,
    volumes: Vec<VolumeMirror>,
    unconfined: bool,
    node_ipc: bool,
    shm_mb: Option<u64>,
    /// Path and MiB.
    persistent: Since<4, Vec<(String, u64)>>,
    secrets: Since<4, SecretsMirror>,
    /// Owner and path.
    kept: Since<6, Vec<(String, String)>>,
}

/// Names only.
#[derive(Debug, Default, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub(super) struct SecretsMirror {
    sources: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
    files: Vec<(String, String)>,
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub(super) struct ImageMirror {
    name: String,
    always: bool,
    credentials: Option<String>,
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct VolumeMirror {
    container_path: String,
    host_path: String,
    read_only: bool,
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct FetchMirror {
    uri: String,
    extract: bool,
    executable: bool,
    cache: bool,
    dest: Option<String>,
}

impl Wire for Container {
    type Mirror = ContainerMirror;

    fn to_mirror(&self) -> ContainerMirror {
        ContainerMirror {
            docker: self.kind == ContainerKind::Docker,
            image: self.image.as_ref().map(|image| ImageMirror {
                name: image.name.clone(),
                always: image.pull == Pull::Always,
                credentials: image.credentials.clone(),
            }),
            privileged: self.privilege == Privilege::Full,
            parameters: self
                .parameters
                .iter()
                .map(Parameter::pair)
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            volumes: list(&self.volumes),
            unconfined: self.seccomp == Seccomp::Unconfined,
            node_ipc: self.ipc == Ipc::Node,
            shm_mb: self.shm_mb,
            secrets: Since(SecretsMirror {
                sources: self.secrets.sources.clone(),
                env: self.secrets.env.clone(),
                files: self.secrets.files.clone(),
            }),
            kept: Since(
                (self.kept.iter())
                    .map(|volume| (volume.owner.clone(), volume.container_path.clone()))
                    .collect(),
            ),
            persistent: Since(
                (self.persistent.iter())
                    .map(|volume| (volume.container_path.clone(), volume.size_mb))
                    .collect(),
            ),
        }
    }

    fn from_mirror(mirror: ContainerMirror) -> Result<Self, WireError> {
        let parameter = |(key, value): &(String, String)| {
            Parameter::parse(key, value).map_err(|error| WireError::Field {
                field: "container parameter",
                reason: error.to_string(),
            })
        };
        Ok(Self {
            kind: if mirror.docker {
                ContainerKind::Docker
            } else {
                ContainerKind::Mesos
            },
            image: mirror.image.map(|image| Image {
                name: image.name,
                pull: if image.always { Pull::Always } else { Pull::IfMissing },
                credentials: image.credentials,
            }),
            privilege: if mirror.privileged {
                Privilege::Full
            } else {
                Privilege::Confined
            },
            parameters: mirror.parameters.iter().map(parameter).collect::<Result<_, _>>()?,
            volumes: unlist(mirror.volumes)?,
            seccomp: if mirror.unconfined {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            ipc: if mirror.node_ipc { Ipc::Node } else { Ipc::Private },
            shm_mb: mirror.shm_mb,
            secrets: Secrets {
                sources: mirror.secrets.0.sources,
                env: mirror.secrets.0.env,
                files: mirror.secrets.0.files,
            },
            kept: (mirror.kept.0.into_iter())
                .map(|(owner, container_path)| KeptVolume { owner, container_path })
                .collect(),
            persistent: (mirror.persistent.0.into_iter())
                .map(|(container_path, size_mb)| PersistentVolume {
                    container_path,
                    size_mb,
                })
                .collect(),
        })
    }
}

impl Wire for Volume {
    type Mirror = VolumeMirror;

    fn to_mirror(&self) -> VolumeMirror {
        VolumeMirror {
            container_path: self.container_path.clone(),
            host_path: self.host_path.clone(),
            read_only: self.mode == VolumeMode::ReadOnly,
        }
    }

    fn from_mirror(mirror: VolumeMirror) -> Result<Self, WireError> {
        Ok(Self {
            container_path: mirror.container_path,
            host_path: mirror.host_path,
            mode: if mirror.read_only {
                VolumeMode::ReadOnly
            } else {
                VolumeMode::ReadWrite
            },
        })
    }
}

impl Wire for Fetch {
    type Mirror = FetchMirror;

    fn to_mirror(&self) -> FetchMirror {
        FetchMirror {
            uri: self.uri.clone(),
            extract: self.extract == Extract::Archives,
            executable: self.permission == FetchPermission::Executable,
            cache: self.cache == FetchCache::Keep,
            dest: self.dest.clone(),
        }
    }

    fn from_mirror(mirror: FetchMirror) -> Result<Self, WireError> {
        Ok(Self {
            uri: mirror.uri,
            extract: if mirror.extract {
                Extract::Archives
            } else {
                Extract::Never
            },
            permission: if mirror.executable {
                FetchPermission::Executable
            } else {
                FetchPermission::Data
            },
            cache: if mirror.cache {
                FetchCache::Keep
            } else {
                FetchCache::None
            },
            dest: mirror.dest,
        })
    }
}
