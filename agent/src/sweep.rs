//! Removes what ended tasks left, by age, and earlier where the disk is nearly full.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use model::TaskId;

use crate::agent::Shared;
use crate::clock::now_ms;
use crate::plan::RunPlan;
use crate::store::{PLAN, TaskDir};

/// An image that was got so short a time ago may be that of a task which is about to start; a sandbox of that age is what somebody
/// reads to learn why its task failed. No disk is so full that these go.
const YOUNG: Duration = Duration::from_secs(600);

/// Whether more of the disk is used than may be; one that cannot be asked is not full.
fn is_full(dir: &Path, percent: u8) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|stat| over(stat.f_blocks, stat.f_bavail, percent))
}

/// The same in blocks: what is left for root alone counts as used.
fn over(blocks: u64, free: u64, percent: u8) -> bool {
    let used = u128::from(blocks.saturating_sub(free));
    used * 100 > u128::from(blocks) * u128::from(percent)
}

impl Shared {
    /// By age first, then by disk. Tasks start meanwhile.
    pub(crate) fn sweep(&self) {
        let keep = self.config.sandbox_keep;
        let (old, young): (Vec<_>, Vec<_>) = self.ended_sandboxes().into_iter().partition(|(age, _)| *age >= keep);
        for (_, sandbox) in old {
            self.remove(&sandbox);
        }
        let used = self.layers_in_use();
        self.images.sweep(&used);
        let full = || is_full(&self.config.state_dir, self.config.disk_percent);
        for sandbox in early(young) {
            if !full() {
                return;
            }
            tracing::info!(path = %sandbox.display(), "removed early, the disk is nearly full");
            self.remove(&sandbox);
        }
        for since in self.images.unused_since(&used) {
            let unused = Duration::from_millis(now_ms().saturating_sub(since));
            if unused < YOUNG || !full() {
                return;
            }
            self.images
                .sweep_older(&used, unused.saturating_sub(Duration::from_millis(1)));
        }
    }

    /// Removes a sandbox, unless the node is going down or a task of its name has come meanwhile.
    fn remove(&self, sandbox: &Path) {
        let task = sandbox.file_name().map(|name| TaskId::new(name.to_string_lossy()));
        if self.is_stopped() || task.is_some_and(|task| self.is_live(&task)) {
            return;
        }
        if let Err(error) = fs::remove_dir_all(sandbox) {
            tracing::warn!(path = %sandbox.display(), %error, "an old sandbox stays");
        }
    }

    /// What tasks use stands in their plans, whatever their image's name means now.
    fn layers_in_use(&self) -> BTreeSet<String> {
        let tasks = fs::read_dir(&self.layout.tasks).into_iter().flatten().flatten();
        let plans = tasks.filter_map(|task| TaskDir::new(task.path()).read::<RunPlan>(PLAN).ok().flatten());
        plans
            .filter_map(|plan| plan.container)
            .flat_map(|container| container.layers)
            .collect()
    }

    /// Sandboxes of tasks of which nothing is left, and how long ago they ended: the directory's time is set then.
    fn ended_sandboxes(&self) -> Vec<(Duration, PathBuf)> {
        let all = fs::read_dir(&self.layout.sandboxes).into_iter().flatten().flatten();
        let ended = all.filter(|sandbox| !self.is_live(&TaskId::new(sandbox.file_name().to_string_lossy())));
        ended
            .map(|sandbox| {
                let changed = sandbox.metadata().and_then(|data| data.modified());
                let age = changed
                    .ok()
                    .and_then(|time| SystemTime::now().duration_since(time).ok());
                (age.unwrap_or_default(), sandbox.path())
            })
            .collect()
    }
}

/// Those that may go before their time, the oldest first.
fn early(mut sandboxes: Vec<(Duration, PathBuf)>) -> impl Iterator<Item = PathBuf> {
    sandboxes.retain(|(age, _)| *age >= YOUNG);
    sandboxes.sort_unstable_by(|one, other| other.cmp(one));
    sandboxes.into_iter().map(|(_, sandbox)| sandbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_more_than_the_percentage() {
        assert!(!over(1000, 100, 90));
        assert!(over(1000, 99, 90));
        assert!(!over(0, 0, 90), "a file system that tells nothing");
        assert!(!over(u64::MAX, u64::MAX, 1));
        assert!(over(u64::MAX, 0, 99));
    }

    #[test]
    fn a_full_disk_takes_the_oldest_first_and_no_young_ones() {
        let sandbox = |seconds: u64, name: &str| (Duration::from_secs(seconds), PathBuf::from(name));
        let all = vec![
            sandbox(0, "failed now"),
            sandbox(600, "old"),
            sandbox(599, "young"),
            sandbox(7200, "oldest"),
        ];
        assert_eq!(early(all).collect::<Vec<_>>(), ["oldest", "old"].map(PathBuf::from));
    }
}
