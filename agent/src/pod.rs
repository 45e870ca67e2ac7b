//! Pods on a node: tasks that start together or not at all, end together when one ends badly, and share an address and
//! directories.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{LaunchSpec, PodMount, PodPart, TaskId, TaskNetwork, TaskState, Volume};
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use crate::address::link_name;
use crate::agent::{Entry, Shared};
use crate::clock::now_ms;
use crate::kill::KillRecord;
use crate::netns;
use crate::plan::NetworkPlan;

/// Held by a runner while it makes or looks for the network of its instance.
const LOCK: &str = "lock";
/// There once the network is whole.
const NETWORK: &str = "network";
/// Where the directories lie that containers share.
const VOLUMES: &str = "volumes";
/// Containers may run as different users, and share these directories on purpose.
const SHARED_MODE: u32 = 0o777;

/// Passed through by those who know a name in it.
const REACHED_MODE: u32 = 0o711;

/// Tasks of one instance that are not yet ready to start.
pub(crate) type Gathering = Arc<watch::Sender<usize>>;

/// Waits for the others of its instance. All of them have what they need then.
pub(crate) async fn gather(gathering: &Gathering) {
    gathering.send_modify(|left| *left = left.saturating_sub(1));
    // The sender is held here, so that it cannot be gone.
    let _ = gathering.subscribe().wait_for(|left| *left == 0).await;
}

/// The directory of an instance.
pub(crate) fn directory(pods: &Path, part: &PodPart) -> PathBuf {
    pods.join(&part.instance)
}

/// The name of the network namespace that a task is in: its own, or its instance's.
pub(crate) fn network_name(spec: &LaunchSpec) -> &str {
    spec.pod.as_ref().map_or(spec.task.as_str(), |part| &part.instance)
}

/// A task as it is started: with the directories of its instance, which are made, among its volumes.
pub(crate) fn with_volumes(pods: &Path, spec: &LaunchSpec) -> Result<LaunchSpec, String> {
    let mut spec = spec.clone();
    let Some(part) = spec.pod.as_deref() else {
        return Ok(spec);
    };
    let path = directory(pods, part);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(REACHED_MODE);
    builder
        .create(&path)
        .map_err(|error| format!("cannot create the pod's directory {}: {error}", path.display()))?;
    let base = path.join(VOLUMES);
    let volume = |mount: &PodMount| {
        let path = base.join(&mount.volume);
        let told = |error| format!("cannot create the pod's volume {}: {error}", path.display());
        fs::create_dir_all(&path).map_err(told)?;
        fs::set_permissions(&path, Permissions::from_mode(SHARED_MODE)).map_err(told)?;
        Ok(Volume {
            container_path: mount.container_path.clone(),
            host_path: path.to_string_lossy().into_owned(),
            mode: mount.mode,
        })
    };
    let volumes: Vec<Volume> = part.mounts.iter().map(volume).collect::<Result<_, String>>()?;
    spec.container.volumes.extend(volumes);
    Ok(spec)
}

/// The instance's network: the first runner makes it, the others enter it. A runner that dies in the middle leaves nothing
/// that the next one takes for whole.
pub(crate) fn network(plan: &NetworkPlan, pod: &Path) -> Result<File, String> {
    let told = |tried: &'static str| move |error: std::io::Error| format!("cannot {tried} of the pod: {error}");
    let lock = File::create(pod.join(LOCK)).map_err(told("open the lock"))?;
    let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| told("take the lock")(error.into()))?;
    let made = pod.join(NETWORK);
    if made.exists() {
        return File::open(&plan.netns).map_err(told("open the network namespace"));
    }
    let netns = netns::create(plan)?;
    File::create(&made).map_err(told("note the network"))?;
    Ok(netns)
}

/// What of pods lies here whose tasks are all unknown: a daemon that was killed in the middle leaves it.
pub(crate) fn remove_strays(pods: &Path, known: &BTreeMap<TaskId, Arc<Entry>>) {
    let used = |name: &std::ffi::OsStr| {
        let mut parts = known.values().filter_map(|entry| entry.spec.pod.as_deref());
        parts.any(|part| name == part.instance.as_str())
    };
    for pod in fs::read_dir(pods).into_iter().flatten().flatten() {
        if !used(&pod.file_name())
            && let Err(error) = fs::remove_dir_all(pod.path())
        {
            tracing::warn!(path = %pod.path().display(), %error, "what a pod shared stays");
        }
    }
}

/// The task orders of one instance as they can be carried out: complete, of one instance, and nameable.
pub(crate) fn check(specs: &[LaunchSpec]) -> Result<(), String> {
    let ids: Vec<&TaskId> = specs.iter().map(|spec| &spec.task).collect();
    for spec in specs {
        let Some(part) = &spec.pod else {
            return Err(format!("{} is no part of a pod", spec.task));
        };
        if !part.members.iter().eq(ids.iter().copied()) {
            return Err(format!(
                "the orders of the pod's instance {} are not complete",
                part.instance
            ));
        }
        let plain = |name: &str| crate::store::is_dir_name(name);
        if !plain(&part.instance) || !part.mounts.iter().all(|mount| plain(&mount.volume)) {
            return Err(format!("the pod's instance {} cannot name a directory", part.instance));
        }
    }
    Ok(())
}

impl Shared {
    /// The other tasks of an entry's instance that this node has.
    fn others(&self, entry: &Entry) -> Vec<Arc<Entry>> {
        let mut group = self.group(entry);
        group.retain(|other| other.spec.task != entry.spec.task);
        group
    }

    /// A task of a pod that ended in any other way than by itself and well ends the others.
    pub(crate) fn end_others(&self, entry: &Entry) {
        let state = entry.status().state;
        if !state.is_terminal() || state == TaskState::Finished {
            return;
        }
        for other in self.others(entry) {
            if !other.status().state.is_terminal() {
                tracing::info!(task = %other.spec.task, because = %entry.spec.task, "ends with another container of its pod");
                let record = KillRecord::new(other.spec.kill, now_ms());
                other.kill.send_modify(|kill| {
                    kill.get_or_insert(record);
                });
            }
        }
    }

    /// Tasks found again of which others of the same instance are missing, or have ended badly, end.
    pub(crate) fn end_torn(&self, entry: &Entry) {
        let Some(part) = &entry.spec.pod else { return };
        let others = self.others(entry);
        let ended_badly = |other: &Arc<Entry>| {
            let state = other.status().state;
            state.is_terminal() && state != TaskState::Finished
        };
        let torn = others.len() + 1 < part.members.len() || others.iter().any(ended_badly);
        if torn && !entry.status().state.is_terminal() {
            tracing::warn!(task = %entry.spec.task, "others of its pod are gone, it ends");
            let record = KillRecord::new(entry.spec.kill, now_ms());
            entry.kill.send_modify(|kill| {
                kill.get_or_insert(record);
            });
        }
    }

    /// The address that another task of the instance holds.
    pub(crate) fn address_of_others(&self, entry: &Entry) -> Option<Ipv4Addr> {
        self.others(entry).iter().find_map(|other| other.address())
    }

    /// Whether every other task of the instance is over, too.
    pub(crate) fn is_last(&self, entry: &Entry) -> bool {
        self.others(entry).iter().all(|other| other.is_over())
    }

    /// The last task of an instance is over: what they shared goes.
    pub(crate) fn remove_pod(&self, entry: &Entry) {
        let Some(part) = entry.spec.pod.as_deref().filter(|_| self.is_last(entry)) else {
            return;
        };
        let netns = self.layout.netns.join(&part.instance);
        if entry.spec.network != TaskNetwork::Host
            && let Err(error) = netns::remove(&link_name(&part.instance), &netns)
        {
            tracing::warn!(pod = %part.instance, %error, "the network of an ended pod stays");
        }
        if let Err(error) = fs::remove_dir_all(directory(&self.layout.pods, part))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(pod = %part.instance, %error, "what an ended pod shared stays");
        }
    }
}
