//! Volumes of a pod and where its containers see them.

use std::collections::BTreeSet;

use model::PodMount;

use crate::{PodMountSpec, PodVolumeSpec};

use super::super::{Faults, container, id};

/// Most volumes of a pod, and most mounts of one container.
const MOST: usize = 128;

/// The pod's volumes, each rule applied.
pub(super) fn volumes(written: &[PodVolumeSpec], faults: &mut Faults) -> Vec<PodVolumeSpec> {
    if written.len() > MOST {
        faults.add("/volumes", format!("must be at most {MOST}"));
    }
    let mut names = BTreeSet::new();
    for (index, volume) in written.iter().enumerate() {
        let path = format!("/volumes({index})");
        if !id::is_name(&volume.name) || volume.name.len() > model::MAX_LABEL {
            let error =
                "must be 1 to 63 lower-case letters, digits and hyphens, beginning and ending in a letter or digit";
            faults.add(format!("{path}/name"), error);
        }
        if !names.insert(volume.name.as_str()) {
            let error = format!("volume names must be unique; {} occurs twice", volume.name);
            faults.add(format!("{path}/name"), error);
        }
        if let Some(host) = &volume.host {
            if let Some(error) = container::path_fault(host) {
                faults.add(format!("{path}/host"), error);
            } else if !host.starts_with('/') {
                faults.add(
                    format!("{path}/host"),
                    "must be a path of the node, with its leading slash",
                );
            }
        }
    }
    written.to_vec()
}

/// Where one container sees which of them.
pub(super) fn mounts(
    written: &[PodMountSpec],
    volumes: &[PodVolumeSpec],
    has_image: bool,
    faults: &mut Faults,
) -> Vec<PodMount> {
    if written.len() > MOST {
        faults.add("/volumeMounts", format!("must be at most {MOST}"));
    }
    let mut paths = BTreeSet::new();
    let mut mounts = Vec::new();
    for (index, mount) in written.iter().enumerate() {
        let path = format!("/volumeMounts({index})");
        if !volumes.iter().any(|volume| volume.name == mount.volume) {
            faults.add(
                format!("{path}/name"),
                format!("the pod has no volume {}", mount.volume),
            );
        }
        if let Some(error) = container::path_fault(&mount.path) {
            faults.add(format!("{path}/mountPath"), error);
        } else if !has_image && mount.path.starts_with('/') {
            let error = "without an image a volume is mounted in the sandbox: write a path without a leading slash";
            faults.add(format!("{path}/mountPath"), error);
        }
        if !paths.insert(mount.path.trim_matches('/')) {
            let error = format!("two volumes have the path {}", mount.path);
            faults.add(format!("{path}/mountPath"), error);
        }
        mounts.push(PodMount {
            volume: mount.volume.clone(),
            container_path: mount.path.clone(),
            mode: super::mode(mount.read_only),
        });
    }
    mounts
}
