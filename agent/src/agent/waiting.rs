//! Waiting for tasks that still use what another one needs.

use model::{LaunchSpec, TaskId, volume_attempt, volume_owner};

use super::{Shared, lock};

impl Shared {
    /// Waits until each task that uses something is over.
    async fn until_unused(&self, uses: impl Fn(&LaunchSpec) -> bool) {
        loop {
            let ended = self.ended.notified();
            let used = {
                let table = lock(&self.table);
                table
                    .tasks
                    .values()
                    .any(|entry| uses(&entry.spec) && !lock(&entry.state).over)
            };
            if !used {
                return;
            }
            ended.await;
        }
    }

    /// Waits until no task of that owner with a lower number than this is left: two never share a volume.
    pub(crate) async fn volumes_free(&self, owner: &str, before: u32) {
        let uses = |spec: &LaunchSpec| volume_owner(&spec.task) == owner && volume_attempt(&spec.task) < before;
        self.until_unused(uses).await;
    }

    /// Waits until no task but this one uses a role's volume.
    pub(crate) async fn kept_free(&self, owner: &str, but: Option<&TaskId>) {
        let uses = |spec: &LaunchSpec| {
            but != Some(&spec.task) && spec.container.kept.iter().any(|volume| volume.owner == owner)
        };
        self.until_unused(uses).await;
    }
}
