//! Writes what the node knows down, so that a restart without a master serves it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::disk;
use super::status::{Facts, Status};
use super::table::Picture;

/// Shortest time between two writes of the picture: what it lacks is what a restart without a master, and the names'
/// standby, do not know.
const SAVE_PAUSE: Duration = Duration::from_millis(100);

/// Longest, however slow the disk and large the picture.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A write is followed by a pause of so many times its own length, so that churn keeps the disk busy for a tenth of the
/// time at most.
const REST: u32 = 9;

/// An unchanged picture is written again after this time, so that its age on disk stays true.
const SAVE_AGAIN: Duration = Duration::from_secs(30);

/// Writes the picture down after changes, with a pause after each write.
pub(super) async fn run(path: PathBuf, mut pictures: watch::Receiver<Picture>, status: Arc<Status>) {
    loop {
        let changed = tokio::time::timeout(SAVE_AGAIN, pictures.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return;
        }
        let file = path.clone();
        let (seen, facts) = (pictures.borrow_and_update().clone(), status.facts());
        let began = Instant::now();
        let saved = tokio::task::spawn_blocking(move || save(&file, seen, &facts)).await;
        if let Err(error) = saved {
            tracing::warn!("writing the picture down failed: {error}");
        }
        sleep((began.elapsed() * REST).clamp(SAVE_PAUSE, LONGEST_PAUSE)).await;
    }
}

/// Writes a picture that a master has confirmed; until one has, the file holds all there is to know.
pub(super) fn save(path: &Path, picture: Picture, facts: &Facts) {
    let leader = facts.master.as_deref().and_then(super::master_address);
    let beside = path.with_file_name(disk::LEADER);
    if let Some(leader) = leader.filter(|leader| disk::load_leader(&beside) != Some(*leader))
        && let Err(error) = disk::save_leader(&beside, leader)
    {
        tracing::warn!("{error}; a restart without a master would not know who leads");
    }
    let (Some(snapshot), Some(as_of_ms), false) = (picture, facts.as_of_ms, facts.from_disk) else {
        return;
    };
    if let Err(error) = disk::save(path, &disk::state_of(&snapshot), as_of_ms) {
        tracing::warn!("{error}; a restart without a master would know less");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_master_confirmed_is_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("snapshot");
        let picture = || Some(Arc::new(model::Snapshot::default()));
        let mut facts = Facts {
            from_disk: true,
            as_of_ms: Some(7),
            ..Facts::default()
        };
        save(&path, picture(), &facts);
        assert!(!path.exists(), "it came from there");
        facts.from_disk = false;
        save(&path, None, &facts);
        assert!(!path.exists(), "nothing is known");
        save(&path, picture(), &facts);
        assert_eq!(disk::load(&path).expect("readable").map(|(_, as_of)| as_of), Some(7));
        let leader = dir.path().join(disk::LEADER);
        assert_eq!(disk::load_leader(&leader), None);
        facts.master = Some("http://10.0.0.1:5050".to_owned());
        save(&path, picture(), &facts);
        assert_eq!(disk::load_leader(&leader), Some(([10, 0, 0, 1], 5050).into()));
    }
}
