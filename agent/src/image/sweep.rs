//! Forgets images that no task has used for long, and the layers that only they had.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{Images, Stored};
use crate::clock::now_ms;

impl Images {
    /// Removes what is old; `used` are the layers of the tasks that the node has.
    pub(crate) fn sweep(&self, used: &BTreeSet<String>) {
        self.sweep_older(used, self.settings.keep);
    }

    /// Removes what has not been used for so long.
    pub(crate) fn sweep_older(&self, used: &BTreeSet<String>, keep: Duration) {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        let oldest = now_ms().saturating_sub(keep_ms);
        let mut needed = used.clone();
        let found = self.layers.guard();
        for file in fs::read_dir(&self.names).into_iter().flatten().flatten() {
            let stored: Option<Stored> = fs::read(file.path())
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            match stored {
                Some(stored) if stored.used_ms >= oldest || stored.layers.iter().any(|layer| used.contains(layer)) => {
                    needed.extend(stored.layers);
                }
                // A name that is being written is no JSON yet, and young.
                None if file.metadata().is_ok_and(|data| is_younger(&data, keep_ms)) => {}
                _ => {
                    tracing::info!(file = ?file.file_name(), "an image that no task uses is forgotten");
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        let given_up = self.give_up(&needed, keep_ms);
        drop(found);
        for layer in given_up {
            if let Err(error) = fs::remove_dir_all(&layer) {
                tracing::warn!(layer = %layer.display(), %error, "a layer that nothing needs stays until the next start");
            }
        }
    }

    /// When each image was used last that no task uses now, the oldest first.
    pub(crate) fn unused_since(&self, used: &BTreeSet<String>) -> Vec<u64> {
        let files = fs::read_dir(&self.names).into_iter().flatten().flatten();
        let stored = files.filter_map(|file| serde_json::from_slice::<Stored>(&fs::read(file.path()).ok()?).ok());
        let unused = stored.filter(|stored| !stored.layers.iter().any(|layer| used.contains(layer)));
        let mut times: Vec<u64> = unused.map(|stored| stored.used_ms).collect();
        times.sort_unstable();
        times
    }

    /// Takes away the layers that nothing needs; where they are now.
    fn give_up(&self, needed: &BTreeSet<String>, keep_ms: u64) -> Vec<PathBuf> {
        let mut away = Vec::new();
        for layer in fs::read_dir(self.layers.dir()).into_iter().flatten().flatten() {
            let name = layer.file_name().to_string_lossy().into_owned();
            // One that is young may belong to an image that is on its way.
            let young = layer.metadata().is_ok_and(|data| is_new(&data, keep_ms));
            if needed.contains(&name) || young {
                continue;
            }
            match self.layers.give_up(&name) {
                Ok(path) => away.push(path),
                Err(error) => tracing::warn!(layer = name, %error, "a layer that nothing needs stays"),
            }
        }
        away
    }
}

fn is_younger(data: &fs::Metadata, milliseconds: u64) -> bool {
    let age = data.modified().ok().and_then(|time| time.elapsed().ok());
    age.is_none_or(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX) < milliseconds)
}

/// By the time of the last change of its inode, which being renamed is one: content keeps the times of its builder.
fn is_new(data: &fs::Metadata, milliseconds: u64) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let changed = u64::try_from(data.ctime()).unwrap_or(0).saturating_mul(1_000);
    now_ms().saturating_sub(changed) < milliseconds.max(60_000)
}
