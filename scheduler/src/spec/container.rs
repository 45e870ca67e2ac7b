//! Images, volumes, privileges and what is fetched, as written: what belongs together and what is carried out.

use std::collections::BTreeSet;

use model::{
    Container, ContainerKind, Extract, Fetch, FetchCache, FetchPermission, Image, Ipc, Parameter, Privilege, Pull,
    Seccomp, Volume, VolumeMode,
};

use crate::{AppSpec, ContainerSpec, FetchSpec, VolumeSpec};

use super::{Faults, NUL};

/// Longest name of an image: repository and tag or digest.
const MAX_IMAGE: usize = 512;
/// More MiB of shared memory than any machine has.
const MAX_SHM_MB: i64 = 1 << 24;
/// Most entries of `fetch` and of `volumes`; more are a mistake, and each costs every start.
const MAX_ENTRIES: usize = 128;

/// The container, each rule applied.
pub(super) fn container(spec: &AppSpec, faults: &mut Faults) -> Container {
    let written = &spec.container;
    let kind = match written.kind.as_deref() {
        None | Some("MESOS") => ContainerKind::Mesos,
        Some("DOCKER") => ContainerKind::Docker,
        Some(other) => {
            faults.add("/container/type", format!("must be MESOS or DOCKER, not {other}"));
            ContainerKind::Mesos
        }
    };
    let image = image(written, faults);
    if kind == ContainerKind::Docker && image.is_none() {
        faults.add("/container/docker/image", "a container of type DOCKER needs an image");
    }
    if image.is_none() {
        needs_image(written, faults);
    }
    let mut parameters = Vec::new();
    for (index, (key, value)) in written.parameters.iter().enumerate() {
        match Parameter::parse(key, value) {
            Ok(parameter) => parameters.push(parameter),
            Err(error) => faults.add(format!("/container/docker/parameters({index})"), error.to_string()),
        }
    }
    Container {
        kind,
        privilege: if written.privileged {
            Privilege::Full
        } else {
            Privilege::Confined
        },
        parameters,
        persistent: super::volume::persistent(written, faults),
        kept: Vec::new(),
        secrets: super::secret::secrets(spec, faults),
        volumes: volumes(written, image.is_some(), faults),
        seccomp: seccomp(written, faults),
        ipc: ipc(written, faults),
        shm_mb: shm(written, faults),
        image,
    }
}

fn image(written: &ContainerSpec, faults: &mut Faults) -> Option<Image> {
    let name = written.image.clone()?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > MAX_IMAGE || name.contains(odd) {
        let error = "must be the name of an image, such as registry.example:5000/team/app:1.2, without blanks";
        faults.add("/container/docker/image", error);
    }
    let credentials = written.pull_secret.clone();
    if credentials
        .as_ref()
        .is_some_and(|name| name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']))
    {
        let error =
            "must be the name of credentials that the nodes have (node.image_credentials): no slash, no leading dot";
        faults.add("/container/docker/pullConfig/secret", error);
    }
    Some(Image {
        name,
        pull: if written.force_pull {
            Pull::Always
        } else {
            Pull::IfMissing
        },
        credentials,
    })
}

/// What has no meaning in the node's own root directory.
fn needs_image(written: &ContainerSpec, faults: &mut Faults) {
    let set = [
        ("docker/privileged", written.privileged),
        ("docker/parameters", !written.parameters.is_empty()),
        ("docker/pullConfig", written.pull_secret.is_some()),
        (
            "linuxInfo/seccomp",
            written.seccomp_profile.is_some() || written.seccomp_unconfined,
        ),
        (
            "linuxInfo/ipcInfo",
            written.ipc_mode.is_some() || written.shm_size.is_some(),
        ),
    ];
    for (path, _) in set.iter().filter(|(_, set)| *set) {
        faults.add(
            format!("/container/{path}"),
            "is for containers with an image: write container.docker.image, or remove it",
        );
    }
}

fn seccomp(written: &ContainerSpec, faults: &mut Faults) -> Seccomp {
    match (written.seccomp_profile.as_deref(), written.seccomp_unconfined) {
        (Some(_), true) => {
            let error = "a profileName and unconfined exclude each other";
            faults.add("/container/linuxInfo/seccomp", error);
            Seccomp::Default
        }
        (None | Some("default"), false) => Seccomp::Default,
        (None, true) => Seccomp::Unconfined,
        (Some(other), false) => {
            let error = format!("there is no profile {other}: write default, or unconfined");
            faults.add("/container/linuxInfo/seccomp/profileName", error);
            Seccomp::Default
        }
    }
}

fn ipc(written: &ContainerSpec, faults: &mut Faults) -> Ipc {
    match written.ipc_mode.as_deref() {
        None | Some("PRIVATE") => Ipc::Private,
        Some("SHARE_PARENT") => {
            if written.shm_size.is_some() {
                let error = "shmSize is for mode PRIVATE: with SHARE_PARENT the size is the node's";
                faults.add("/container/linuxInfo/ipcInfo/shmSize", error);
            }
            Ipc::Node
        }
        Some(other) => {
            let error = format!("must be PRIVATE or SHARE_PARENT, not {other}");
            faults.add("/container/linuxInfo/ipcInfo/mode", error);
            Ipc::Private
        }
    }
}

fn shm(written: &ContainerSpec, faults: &mut Faults) -> Option<u64> {
    let size = written.shm_size?;
    match u64::try_from(size) {
        Ok(megabytes) if megabytes > 0 && size <= MAX_SHM_MB => Some(megabytes),
        _ => {
            let error = format!("must be a whole number of MiB from 1 to {MAX_SHM_MB}, not {size}");
            faults.add("/container/linuxInfo/ipcInfo/shmSize", error);
            None
        }
    }
}

fn volumes(written: &ContainerSpec, has_image: bool, faults: &mut Faults) -> Vec<Volume> {
    if written.volumes.len() > MAX_ENTRIES {
        faults.add("/container/volumes", format!("must be at most {MAX_ENTRIES}"));
    }
    let mut seen = BTreeSet::new();
    let mut volumes = Vec::new();
    for (index, volume) in written.volumes.iter().enumerate() {
        let base = format!("/container/volumes({index})");
        if let Some(error) = path_fault(&volume.container_path) {
            faults.add(format!("{base}/containerPath"), error);
        }
        let inside = volume.container_path.trim_matches('/');
        if !seen.insert(inside.to_owned()) {
            let error = format!("two volumes have the path {}", volume.container_path);
            faults.add(format!("{base}/containerPath"), error);
        }
        if !has_image && volume.container_path.starts_with('/') {
            let error = "without an image a volume is mounted in the sandbox: write a path without a leading slash";
            faults.add(format!("{base}/containerPath"), error);
        }
        if volume.persistent.is_some() || volume.secret.is_some() {
            // Looked at by itself.
            continue;
        }
        if let Some(error) = path_fault(&volume.host_path) {
            faults.add(format!("{base}/hostPath"), error);
        }
        volumes.push(Volume {
            container_path: volume.container_path.clone(),
            host_path: volume.host_path.clone(),
            mode: mode(volume, &base, faults),
        });
    }
    volumes
}

fn mode(volume: &VolumeSpec, base: &str, faults: &mut Faults) -> VolumeMode {
    match volume.mode.as_deref() {
        None | Some("RW") => VolumeMode::ReadWrite,
        Some("RO") => VolumeMode::ReadOnly,
        Some(other) => {
            faults.add(format!("{base}/mode"), format!("must be RW or RO, not {other}"));
            VolumeMode::ReadWrite
        }
    }
}

/// Why a path cannot be mounted, if so.
pub(super) fn path_fault(path: &str) -> Option<&'static str> {
    if path.trim_matches('/').is_empty() {
        Some("must be a path, and not the root directory")
    } else if path.contains('\0') {
        Some(NUL)
    } else if path.split('/').any(|part| part == "..") {
        Some("must not contain `..`")
    } else {
        None
    }
}

/// What is fetched, each rule applied.
pub(super) fn fetch(spec: &AppSpec, faults: &mut Faults) -> Vec<Fetch> {
    if spec.fetch.len() > MAX_ENTRIES {
        faults.add("/fetch", format!("must be at most {MAX_ENTRIES}"));
    }
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for (index, written) in spec.fetch.iter().enumerate() {
        let path = format!("/fetch({index})");
        let one = fetched(written);
        let schemes = ["http://", "https://", "file:///", "/"];
        if !schemes.iter().any(|scheme| written.uri.starts_with(scheme)) || written.uri.contains(['\0', ' ', '\n']) {
            let error =
                "must begin with http://, https://, file:/// or / and hold no blank; other schemes are not carried out";
            faults.add(format!("{path}/uri"), error);
        }
        if let Err(digits) = one.sha256() {
            let error = format!("`{digits}` is no SHA-256: write #sha256= and its 64 hexadecimal digits, or nothing");
            faults.add(format!("{path}/uri"), error);
        }
        match one.file_name() {
            None => faults.add(format!("{path}/uri"), "ends in no file name: give destPath"),
            Some(name) if name.starts_with('/') || path_fault(name).is_some() => {
                let error = "must be a path in the sandbox: no leading slash, no `..`";
                faults.add(format!("{path}/destPath"), error);
            }
            Some(name) if !names.insert(name.to_owned()) => {
                let error = format!("two entries would be the file {name}: give destPath to one of them");
                faults.add(format!("{path}/uri"), error);
            }
            Some(_) => {}
        }
        all.push(one);
    }
    all
}

fn fetched(written: &FetchSpec) -> Fetch {
    Fetch {
        uri: written.uri.clone(),
        extract: if written.extract.unwrap_or(true) {
            Extract::Archives
        } else {
            Extract::Never
        },
        permission: if written.executable {
            FetchPermission::Executable
        } else {
            FetchPermission::Data
        },
        cache: if written.cache {
            FetchCache::Keep
        } else {
            FetchCache::None
        },
        dest: written.dest.clone().filter(|dest| !dest.is_empty()),
    }
}

#[cfg(test)]
#[path = "container/tests.rs"]
mod tests;
