//! A task's place in a pod: tasks that start and end together on one node and see one network.

use crate::{TaskId, VolumeMode};

/// What one task of a pod's instance has to do with the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPart {
    /// The instance's id: the name of what its tasks share on the node. It can name a directory.
    pub instance: String,
    /// Every task of the instance, this one included, in the order of the definition. None starts before each of them
    /// can, and when one ends badly the others are ended.
    pub members: Vec<TaskId>,
    /// Directories of the instance that this task sees; they go when its last task has ended.
    pub mounts: Vec<PodMount>,
}

/// A directory that tasks of one instance share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodMount {
    /// Its name in the pod's definition.
    pub volume: String,
    /// Where the task sees it; without a leading slash in its sandbox.
    pub container_path: String,
    /// Whether the task may write.
    pub mode: VolumeMode,
}
