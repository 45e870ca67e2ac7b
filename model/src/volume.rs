//! Persistent local volumes: directories of one node that outlive the tasks that use them.

use crate::TaskId;

/// A volume as an app asks for it. Each of its instances has one of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Where the task sees it: a name in its sandbox, without a slash (Marathon's rule).
    pub container_path: String,
    /// MiB of the node's disk that are set aside for it.
    pub size_mb: u64,
}

/// A volume that is not its instance's: a role's, which one task after the other may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVolume {
    /// Names its directory on the node; never used again for another.
    pub owner: String,
    /// Where the task sees it; without a leading slash in its sandbox.
    pub container_path: String,
}

/// Whose volumes a task uses: those of its instance, which each further task of that instance finds again. Task ids are
/// `<instance>._app.<n>`; any other id is its own owner.
pub fn volume_owner(task: &TaskId) -> &str {
    parts(task).0
}

/// The how manieth task of its owner it is, from 1 on; 0 where the id does not tell.
pub fn volume_attempt(task: &TaskId) -> u32 {
    parts(task).1
}

fn parts(task: &TaskId) -> (&str, u32) {
    let split = task.as_str().rsplit_once("._app.");
    let numbered = split.and_then(|(instance, attempt)| Some((instance, attempt.parse().ok()?)));
    numbered.unwrap_or((task.as_str(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_instance_have_one_owner() {
        for (task, owner, attempt) in [
            ("db.instance-1._app.1", "db.instance-1", 1),
            ("db.instance-1._app.12", "db.instance-1", 12),
            ("db.instance-1._app.x", "db.instance-1._app.x", 0),
            ("marathon-7", "marathon-7", 0),
        ] {
            let task = TaskId::new(task);
            assert_eq!((volume_owner(&task), volume_attempt(&task)), (owner, attempt));
        }
    }
}
