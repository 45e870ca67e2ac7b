//! Mirrors of pods: their definitions, and a task's place in one.

use std::time::Duration;

use bincode::{Decode, Encode};
use model::{Command, Container, LaunchSpec, PodMount, PodPart, Resources, Scheme, TaskId, TaskStatus, VolumeMode};
use scheduler::{AppPort, Member, Pod, PodCheck, PodCheckTarget, PodContainer, PodVolumeSpec, Timestamp};

use super::super::since::Version;
use super::super::{Wire, WireError};
use super::container::{ContainerMirror, FetchMirror};
use super::{list, unlist};

type Map = std::collections::BTreeMap<String, String>;

impl Wire for PodMount {
    /// (volume, path, read-only)
    type Mirror = (String, String, bool);

    fn to_mirror(&self) -> Self::Mirror {
        let read_only = self.mode == VolumeMode::ReadOnly;
        (self.volume.clone(), self.container_path.clone(), read_only)
    }

    fn from_mirror((volume, container_path, read_only): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self {
            volume,
            container_path,
            mode: if read_only {
                VolumeMode::ReadOnly
            } else {
                VolumeMode::ReadWrite
            },
        })
    }
}

impl Wire for PodPart {
    /// (instance, members, mounts)
    type Mirror = (String, Vec<String>, Vec<<PodMount as Wire>::Mirror>);

    fn to_mirror(&self) -> Self::Mirror {
        let members = self.members.iter().map(|task| task.as_str().to_owned());
        (self.instance.clone(), members.collect(), list(&self.mounts))
    }

    fn from_mirror((instance, members, mounts): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self {
            instance,
            members: members.into_iter().map(TaskId::new).collect(),
            mounts: unlist(mounts)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct MemberMirror {
    spec: <LaunchSpec as Wire>::Mirror,
    status: <TaskStatus as Wire>::Mirror,
    since: u64,
}

impl Wire for Member {
    type Mirror = MemberMirror;

    fn to_mirror(&self) -> MemberMirror {
        MemberMirror {
            spec: self.spec.to_mirror(),
            status: self.status.to_mirror(),
            since: self.since.0,
        }
    }

    fn from_mirror(mirror: MemberMirror) -> Result<Self, WireError> {
        Ok(Self {
            spec: LaunchSpec::from_mirror(mirror.spec)?,
            status: TaskStatus::from_mirror(mirror.status)?,
            since: Timestamp(mirror.since),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub(super) enum TargetMirror {
    Http { endpoint: u32, path: String, tls: bool },
    Tcp { endpoint: u32 },
    Exec(<Command as Wire>::Mirror),
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct CheckMirror {
    target: TargetMirror,
    grace: Duration,
    interval: Duration,
    timeout: Duration,
    delay: Duration,
    max_failures: u32,
}

impl Wire for PodCheck {
    type Mirror = CheckMirror;

    fn to_mirror(&self) -> CheckMirror {
        CheckMirror {
            target: match &self.target {
                PodCheckTarget::Http { endpoint, path, scheme } => TargetMirror::Http {
                    endpoint: *endpoint,
                    path: path.clone(),
                    tls: *scheme == Scheme::Https,
                },
                PodCheckTarget::Tcp { endpoint } => TargetMirror::Tcp { endpoint: *endpoint },
                PodCheckTarget::Exec(command) => TargetMirror::Exec(command.to_mirror()),
            },
            grace: self.grace,
            interval: self.interval,
            timeout: self.timeout,
            delay: self.delay,
            max_failures: self.max_failures,
        }
    }

    fn from_mirror(mirror: CheckMirror) -> Result<Self, WireError> {
        Ok(Self {
            target: match mirror.target {
                TargetMirror::Http { endpoint, path, tls } => PodCheckTarget::Http {
                    endpoint,
                    path,
                    scheme: if tls { Scheme::Https } else { Scheme::Http },
                },
                TargetMirror::Tcp { endpoint } => PodCheckTarget::Tcp { endpoint },
                TargetMirror::Exec(command) => PodCheckTarget::Exec(Command::from_mirror(command)?),
            },
            grace: mirror.grace,
            interval: mirror.interval,
            timeout: mirror.timeout,
            delay: mirror.delay,
            max_failures: mirror.max_failures,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct PodContainerMirror {
    name: String,
    command: Option<<Command as Wire>::Mirror>,
    override_entrypoint: Option<bool>,
    resources: (u64, u64, u64),
    env: Map,
    labels: Map,
    user: Option<String>,
    container: ContainerMirror,
    fetch: Vec<FetchMirror>,
    endpoints: Vec<<AppPort as Wire>::Mirror>,
    health_check: Option<CheckMirror>,
    mounts: Vec<<PodMount as Wire>::Mirror>,
    kill_grace: Option<Duration>,
}

impl Wire for PodContainer {
    type Mirror = PodContainerMirror;

    fn to_mirror(&self) -> PodContainerMirror {
        PodContainerMirror {
            name: self.name.clone(),
            command: self.command.as_ref().map(Wire::to_mirror),
            override_entrypoint: self.override_entrypoint,
            resources: self.resources.to_mirror(),
            env: self.env.clone(),
            labels: self.labels.clone(),
            user: self.user.clone(),
            container: self.container.to_mirror(),
            fetch: list(&self.fetch),
            endpoints: list(&self.endpoints),
            health_check: self.health_check.as_ref().map(Wire::to_mirror),
            mounts: list(&self.mounts),
            kill_grace: self.kill_grace,
        }
    }

    fn from_mirror(mirror: PodContainerMirror) -> Result<Self, WireError> {
        Ok(Self {
            name: mirror.name,
            command: mirror.command.map(Command::from_mirror).transpose()?,
            override_entrypoint: mirror.override_entrypoint,
            resources: Resources::from_mirror(mirror.resources)?,
            env: mirror.env,
            labels: mirror.labels,
            user: mirror.user,
            container: Container::from_mirror(mirror.container)?,
            fetch: unlist(mirror.fetch)?,
            endpoints: unlist(mirror.endpoints)?,
            health_check: mirror.health_check.map(PodCheck::from_mirror).transpose()?,
            mounts: unlist(mirror.mounts)?,
            kill_grace: mirror.kill_grace,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct PodMirror {
    containers: Vec<PodContainerMirror>,
    /// Name and path on the node.
    volumes: Vec<(String, Option<String>)>,
    executor: (u64, u64, u64),
    max_instances: Option<u32>,
}

impl Wire for Pod {
    type Mirror = PodMirror;

    fn to_mirror(&self) -> PodMirror {
        let volumes = self.volumes.iter();
        PodMirror {
            containers: list(&self.containers),
            volumes: volumes
                .map(|volume| (volume.name.clone(), volume.host.clone()))
                .collect(),
            executor: self.executor.to_mirror(),
            max_instances: self.max_instances,
        }
    }

    fn from_mirror(mirror: PodMirror) -> Result<Self, WireError> {
        let volumes = mirror.volumes.into_iter();
        Ok(Self {
            containers: unlist(mirror.containers)?,
            volumes: volumes.map(|(name, host)| PodVolumeSpec { name, host }).collect(),
            executor: Resources::from_mirror(mirror.executor)?,
            max_instances: mirror.max_instances,
        })
    }
}
