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

/// Whose volumes a task uses: those of its instance, which each further task of that instance finds again. Task ids are
/// `<instance>._app.<n>`; any other id is its own owner.
pub fn volume_owner(task: &TaskId) -> &str {
    match task.as_str().rsplit_once("._app.") {
        Some((instance, attempt)) if attempt.parse::<u32>().is_ok() => instance,
        _ => task.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_instance_have_one_owner() {
        for (task, owner) in [
            ("db.instance-1._app.1", "db.instance-1"),
            ("db.instance-1._app.12", "db.instance-1"),
            ("db.instance-1._app.x", "db.instance-1._app.x"),
            ("marathon-7", "marathon-7"),
        ] {
            assert_eq!(volume_owner(&TaskId::new(task)), owner);
        }
    }
}
