//! Persistent volumes and residency, as written: Marathon's rules, and what of them is carried out.

use model::PersistentVolume;

use crate::{AppSpec, ContainerSpec, PersistentSpec, Residency};

use super::Faults;

/// More MiB than any disk has.
const MAX_VOLUME_MB: i64 = 1 << 40;
/// Longest name of a file.
const MAX_NAME: usize = 255;
/// Marathon's default.
const ESCALATION_SECONDS: u64 = 3600;

/// The persistent volumes in the order in which they are written.
pub(super) fn persistent(written: &ContainerSpec, faults: &mut Faults) -> Vec<PersistentVolume> {
    let mut volumes = Vec::new();
    for (index, volume) in written.volumes.iter().enumerate() {
        let Some(persistent) = &volume.persistent else { continue };
        let base = format!("/container/volumes({index})");
        if !volume.host_path.is_empty() {
            let error = "a persistent volume lies where the node keeps it: remove hostPath, or remove persistent";
            faults.add(format!("{base}/hostPath"), error);
        }
        let name = volume.container_path.as_str();
        if name.contains('/') || name.starts_with('.') || name.len() > MAX_NAME {
            let error = "a persistent volume is mounted in the sandbox: write a name without a slash or a leading dot, such as data; \
                         to see it elsewhere as well, add a volume with hostPath data";
            faults.add(format!("{base}/containerPath"), error);
        }
        if volume.mode.as_deref().is_some_and(|mode| mode != "RW") {
            faults.add(format!("{base}/mode"), "must be RW for a persistent volume");
        }
        volumes.push(PersistentVolume {
            container_path: volume.container_path.clone(),
            size_mb: size(persistent, &format!("{base}/persistent"), faults),
        });
    }
    volumes
}

fn size(persistent: &PersistentSpec, base: &str, faults: &mut Faults) -> u64 {
    match persistent.kind.as_deref() {
        None | Some("root") => {}
        Some(kind @ ("path" | "mount")) => {
            let error = format!(
                "disks of type {kind} are not carried out by this version of Revere: write root, the disk of the node's state directory"
            );
            faults.add(format!("{base}/type"), error);
        }
        Some(other) => faults.add(
            format!("{base}/type"),
            format!("must be root, path or mount, not {other}"),
        ),
    }
    if persistent.max_size.is_some() {
        faults.add(format!("{base}/maxSize"), "Only mount volumes can have maxSize");
    }
    if persistent.constrained {
        let error = "Constraints on root volumes are not supported";
        faults.add(format!("{base}/constraints"), error);
    }
    if persistent.profile.as_deref().is_some_and(|name| !name.is_empty()) {
        let error = "profiles are for disks of storage plugins, which this version of Revere does not have; remove it";
        faults.add(format!("{base}/profileName"), error);
    }
    match persistent.size {
        Some(size @ 1..=MAX_VOLUME_MB) => size.unsigned_abs(),
        other => {
            let shown = other.map_or("missing".to_owned(), |size| size.to_string());
            let error = format!("must be a whole number of MiB from 1 to {MAX_VOLUME_MB}; it is {shown}");
            faults.add(format!("{base}/size"), error);
            0
        }
    }
}

fn is_resident(spec: &AppSpec) -> bool {
    spec.container.volumes.iter().any(|volume| volume.persistent.is_some())
}

/// `residency`, which every app with persistent volumes has and no other.
pub(super) fn residency(spec: &AppSpec, faults: &mut Faults) -> Option<Residency> {
    let written = spec.residency.clone().unwrap_or_default();
    match written.lost_behavior.as_deref() {
        None | Some("WAIT_FOREVER") => {}
        Some("RELAUNCH_AFTER_TIMEOUT") => {
            let error = "only WAIT_FOREVER is carried out: a new instance elsewhere would begin without the data. \
                         End the task with wipe=true where its node will not come back";
            faults.add("/residency/taskLostBehavior", error);
        }
        Some(other) => {
            let error = format!("must be WAIT_FOREVER, not {other}");
            faults.add("/residency/taskLostBehavior", error);
        }
    }
    let seconds = written.escalation_seconds.map(u64::try_from);
    if matches!(seconds, Some(Err(_))) {
        let error = "must be a number of seconds not below 0";
        faults.add("/residency/relaunchEscalationTimeoutSeconds", error);
    }
    if !is_resident(spec) {
        if spec.residency.is_some() {
            let error = "App must contain persistent volumes and define residency: write container.volumes with persistent, or remove residency";
            faults.add("/residency", error);
        }
        return None;
    }
    Some(Residency {
        escalation_seconds: seconds.and_then(Result::ok).unwrap_or(ESCALATION_SECONDS),
    })
}

/// What an app without an upgrade strategy has.
pub(super) fn default_upgrade(spec: &AppSpec) -> (f64, f64) {
    if is_resident(spec) { (0.5, 0.0) } else { (1.0, 1.0) }
}

/// A new instance takes over the volumes of an old one: there is never one more.
pub(super) fn check_upgrade(spec: &AppSpec, over: f64, faults: &mut Faults) {
    if is_resident(spec) && over != 0.0 {
        let error = format!(
            "must be 0 for an app with persistent volumes, not {over}: a new instance takes over the volumes of an old one"
        );
        faults.add("/upgradeStrategy/maximumOverCapacity", error);
    }
}

/// Whether an app's strategy for lost agents can only be to wait, and whether it says otherwise.
pub(super) fn waits(spec: &AppSpec, faults: &mut Faults) -> bool {
    let resident = is_resident(spec);
    if resident && matches!(spec.unreachable_strategy, Some(crate::UnreachableSpec::After { .. })) {
        let error = "must be \"disabled\" for an app with persistent volumes: its instances wait for the node that has the data";
        faults.add("/unreachableStrategy", error);
    }
    resident
}

#[cfg(test)]
#[path = "volume/tests.rs"]
mod tests;
