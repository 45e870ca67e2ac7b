//! The form of a container and of what is fetched on disk.

use model::{
    Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, Image, Ipc, KeptVolume, Parameter,
    ParameterError, PersistentVolume, Privilege, Pull, Seccomp, Secrets, Volume, VolumeMode,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// [`Container`] on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ContainerFile {
    docker: bool,
    image: Option<ImageFile>,
    privileged: bool,
    parameters: Vec<(String, String)>,
    volumes: Vec<VolumeFile>,
    /// Path and MiB.
    persistent: Vec<(String, u64)>,
    /// Owner and path of volumes of roles.
    kept: Vec<(String, String)>,
    /// Names of secrets; their values are in the task's plan alone.
    secret_sources: BTreeMap<String, String>,
    secret_env: BTreeMap<String, String>,
    secret_files: Vec<(String, String)>,
    unconfined: bool,
    node_ipc: bool,
    shm_mb: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ImageFile {
    name: String,
    always: bool,
    credentials: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VolumeFile {
    container_path: String,
    host_path: String,
    read_only: bool,
}

/// [`Fetch`] on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FetchFile {
    uri: String,
    extract: bool,
    executable: bool,
    cache: bool,
    dest: Option<String>,
}

impl From<&Container> for ContainerFile {
    fn from(container: &Container) -> Self {
        let pairs = container.parameters.iter().map(Parameter::pair);
        Self {
            docker: container.kind == ContainerKind::Docker,
            image: container.image.as_ref().map(|image| ImageFile {
                name: image.name.clone(),
                always: image.pull == Pull::Always,
                credentials: image.credentials.clone(),
            }),
            privileged: container.privilege == Privilege::Full,
            parameters: pairs.map(|(key, value)| (key.to_owned(), value)).collect(),
            volumes: container
                .volumes
                .iter()
                .map(|volume| VolumeFile {
                    container_path: volume.container_path.clone(),
                    host_path: volume.host_path.clone(),
                    read_only: volume.mode == VolumeMode::ReadOnly,
                })
                .collect(),
            secret_sources: container.secrets.sources.clone(),
            secret_env: container.secrets.env.clone(),
            secret_files: container.secrets.files.clone(),
            kept: (container.kept.iter())
                .map(|volume| (volume.owner.clone(), volume.container_path.clone()))
                .collect(),
            persistent: (container.persistent.iter())
                .map(|volume| (volume.container_path.clone(), volume.size_mb))
                .collect(),
            unconfined: container.seccomp == Seccomp::Unconfined,
            node_ipc: container.ipc == Ipc::Node,
            shm_mb: container.shm_mb,
        }
    }
}

impl TryFrom<ContainerFile> for Container {
    type Error = ParameterError;

    fn try_from(file: ContainerFile) -> Result<Self, ParameterError> {
        let parameters = file.parameters.iter();
        Ok(Self {
            kind: if file.docker {
                ContainerKind::Docker
            } else {
                ContainerKind::Mesos
            },
            image: file.image.map(|image| Image {
                name: image.name,
                pull: if image.always { Pull::Always } else { Pull::IfMissing },
                credentials: image.credentials,
            }),
            privilege: if file.privileged {
                Privilege::Full
            } else {
                Privilege::Confined
            },
            parameters: parameters
                .map(|(key, value)| Parameter::parse(key, value))
                .collect::<Result<_, _>>()?,
            volumes: file.volumes.into_iter().map(Volume::from).collect(),
            secrets: Secrets {
                sources: file.secret_sources,
                env: file.secret_env,
                files: file.secret_files,
            },
            kept: (file.kept.into_iter())
                .map(|(owner, container_path)| KeptVolume { owner, container_path })
                .collect(),
            persistent: (file.persistent.into_iter())
                .map(|(container_path, size_mb)| PersistentVolume {
                    container_path,
                    size_mb,
                })
                .collect(),
            seccomp: if file.unconfined {
                Seccomp::Unconfined
            } else {
                Seccomp::Default
            },
            ipc: if file.node_ipc { Ipc::Node } else { Ipc::Private },
            shm_mb: file.shm_mb,
        })
    }
}

impl From<VolumeFile> for Volume {
    fn from(file: VolumeFile) -> Self {
        Self {
            container_path: file.container_path,
            host_path: file.host_path,
            mode: if file.read_only {
                VolumeMode::ReadOnly
            } else {
                VolumeMode::ReadWrite
            },
        }
    }
}

impl From<&Fetch> for FetchFile {
    fn from(fetch: &Fetch) -> Self {
        Self {
            uri: fetch.uri.clone(),
            extract: fetch.extract == Extract::Archives,
            executable: fetch.permission == FetchPermission::Executable,
            cache: fetch.cache == FetchCache::Keep,
            dest: fetch.dest.clone(),
        }
    }
}

impl From<FetchFile> for Fetch {
    fn from(file: FetchFile) -> Self {
        Self {
            uri: file.uri,
            extract: if file.extract {
                Extract::Archives
            } else {
                Extract::Never
            },
            permission: if file.executable {
                FetchPermission::Executable
            } else {
                FetchPermission::Data
            },
            cache: if file.cache { FetchCache::Keep } else { FetchCache::None },
            dest: file.dest,
        }
    }
}

/// One of everything, none of it the default.
#[cfg(test)]
pub(super) fn sample() -> Container {
    Container {
        kind: ContainerKind::Docker,
        image: Some(Image {
            name: "busybox:1".to_owned(),
            pull: Pull::Always,
            credentials: Some("team".to_owned()),
        }),
        privilege: Privilege::Full,
        parameters: vec![Parameter::Hostname("h".to_owned())],
        volumes: vec![Volume {
            container_path: "/data".to_owned(),
            host_path: "data".to_owned(),
            mode: VolumeMode::ReadOnly,
        }],
        kept: vec![KeptVolume {
            owner: "volume-1".to_owned(),
            container_path: "kept".to_owned(),
        }],
        persistent: vec![PersistentVolume {
            container_path: "pgdata".to_owned(),
            size_mb: 100,
        }],
        secrets: Secrets {
            sources: [("pw".to_owned(), "team/db".to_owned())].into(),
            env: [("PASSWORD".to_owned(), "pw".to_owned())].into(),
            files: vec![("pw.txt".to_owned(), "pw".to_owned())],
        },
        seccomp: Seccomp::Unconfined,
        ipc: Ipc::Node,
        shm_mb: Some(8),
    }
}

#[cfg(test)]
pub(super) fn sample_fetch() -> Vec<Fetch> {
    vec![Fetch {
        uri: "http://a.example/x.tgz".to_owned(),
        extract: Extract::Never,
        permission: FetchPermission::Executable,
        cache: FetchCache::Keep,
        dest: Some("x".to_owned()),
    }]
}
