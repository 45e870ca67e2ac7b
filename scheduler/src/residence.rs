//! Residences: what an instance with persistent volumes keeps on its agent when its task ends.

use model::{AgentId, PersistentVolume, Resources, TaskId, TaskState};

use crate::{App, AppId, InstanceId, Timestamp};

/// Marathon's `residency`: such an app's instances stay where their volumes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residency {
    /// `relaunchEscalationTimeoutSeconds`, kept and shown: with `WAIT_FOREVER` nothing is ever started elsewhere.
    pub escalation_seconds: u64,
}

/// The place of one instance: its volumes on one agent, and what is set aside there for its next task.
#[derive(Clone, Debug, PartialEq)]
pub struct Residence {
    /// The instance; each of its tasks has the next number.
    pub id: InstanceId,
    /// Its app.
    pub app: AppId,
    /// Where the volumes are, for as long as this is kept.
    pub agent: AgentId,
    /// The volumes.
    pub volumes: Vec<PersistentVolume>,
    /// For its next task, while there is none.
    pub resources: Resources,
    /// Number of its newest task.
    pub attempt: u32,
    /// Version of the app that its newest task was launched from.
    pub version: Timestamp,
    /// How its newest task ended, if it has.
    pub ended: Option<TaskState>,
    /// Whether the volumes are to be removed, as soon as no task uses them. There is no way back.
    pub wiped: bool,
}

impl Residence {
    /// Its newest task.
    pub fn task(&self) -> TaskId {
        self.id.attempt(self.attempt)
    }

    /// The disk that its volumes take.
    pub fn disk(&self) -> Resources {
        disk_of(&self.volumes)
    }

    /// Marathon's id of a volume: app, path and what makes it one of its own, joined by `#`.
    pub fn persistence_id(&self, volume: &PersistentVolume) -> String {
        let app = self.app.as_str().trim_start_matches('/').replace('/', "_");
        format!("{app}#{}#{}", volume.container_path, self.uuid())
    }

    /// The part of the instance's id that no other has.
    pub fn uuid(&self) -> &str {
        let id = self.id.0.as_str();
        id.rsplit_once(".instance-").map_or(id, |(_, uuid)| uuid)
    }
}

impl App {
    /// Whether its instances have volumes that hold them to their agents.
    pub fn is_resident(&self) -> bool {
        !self.container.persistent.is_empty()
    }

    /// The disk that the volumes of one instance take.
    pub(crate) fn volume_disk(&self) -> Resources {
        disk_of(&self.container.persistent)
    }
}

fn disk_of(volumes: &[PersistentVolume]) -> Resources {
    Resources {
        disk_mb: volumes.iter().fold(0, |sum, one| sum.saturating_add(one.size_mb)),
        ..Resources::default()
    }
}
