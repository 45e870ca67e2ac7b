//! The form on disk of a task's place in a pod.

use model::{PodMount, PodPart, TaskId, VolumeMode};
use serde::{Deserialize, Serialize};

/// [`PodPart`] on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PodFile {
    instance: String,
    members: Vec<String>,
    mounts: Vec<MountFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MountFile {
    volume: String,
    container_path: String,
    read_only: bool,
}

impl From<&PodPart> for PodFile {
    fn from(part: &PodPart) -> Self {
        let mount = |mount: &PodMount| MountFile {
            volume: mount.volume.clone(),
            container_path: mount.container_path.clone(),
            read_only: mount.mode == VolumeMode::ReadOnly,
        };
        Self {
            instance: part.instance.clone(),
            members: part.members.iter().map(|task| task.as_str().to_owned()).collect(),
            mounts: part.mounts.iter().map(mount).collect(),
        }
    }
}

impl From<PodFile> for Box<PodPart> {
    fn from(file: PodFile) -> Self {
        let mount = |mount: MountFile| PodMount {
            volume: mount.volume,
            container_path: mount.container_path,
            mode: if mount.read_only {
                VolumeMode::ReadOnly
            } else {
                VolumeMode::ReadWrite
            },
        };
        Self::new(PodPart {
            instance: file.instance,
            members: file.members.into_iter().map(TaskId::new).collect(),
            mounts: file.mounts.into_iter().map(mount).collect(),
        })
    }
}

#[cfg(test)]
pub(super) fn sample() -> Box<PodPart> {
    Box::new(PodPart {
        instance: "p.instance-1".to_owned(),
        members: vec![TaskId::new("p.instance-1.web.1"), TaskId::new("p.instance-1.side.1")],
        mounts: vec![PodMount {
            volume: "data".to_owned(),
            container_path: "shared/data".to_owned(),
            mode: VolumeMode::ReadOnly,
        }],
    })
}
