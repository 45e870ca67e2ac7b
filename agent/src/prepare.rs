//! What a task needs before its runner starts: its image, and what is fetched into its sandbox.

use std::time::Duration;

use model::{TaskState, volume_attempt, volume_owner};

use crate::agent::{Entry, Shared};
use crate::image::{Progress, Ready};

/// How often people are told how far an image is.
const TELL: Duration = Duration::from_secs(5);

/// Why a task does not start.
#[derive(Debug)]
pub(crate) enum Unprepared {
    /// Somebody wanted it to end.
    Killed,
    /// What was tried and why it failed.
    Failed(String),
}

/// Gets everything, and tells how far it is; given up as soon as the task is to end.
pub(crate) async fn prepare(shared: &Shared, entry: &Entry) -> Result<Option<Ready>, Unprepared> {
    let spec = &entry.spec;
    let progress = Progress::default();
    let mut kills = entry.kill.subscribe();
    let work = async {
        let (owner, attempt) = (volume_owner(&spec.task), volume_attempt(&spec.task));
        if !spec.container.persistent.is_empty() {
            // Of an earlier task the end may be known while its last mount is not gone yet.
            shared.volumes_free(owner, attempt).await;
        }
        for volume in &spec.container.kept {
            shared.kept_free(&volume.owner, Some(&spec.task)).await;
        }
        shared.network_ready(&spec.network).await;
        let image = match &spec.container.image {
            Some(image) => {
                let ready = shared.images.ensure(image, &progress).await;
                Some(ready.map_err(|error| error.to_string())?)
            }
            None => None,
        };
        let sandbox = shared.layout.sandboxes.join(spec.task.as_str());
        let user = spec.user.as_deref().filter(|user| !["root", "0"].contains(user));
        let fetched = shared.fetcher.all(&spec.fetch, &sandbox, user).await;
        fetched.map_err(|error| error.to_string())?;
        Ok(image)
    };
    let killed = async { kills.wait_for(Option::is_some).await.is_ok() };
    tokio::pin!(work, killed);
    let mut tick = tokio::time::interval(TELL);
    tick.reset();
    loop {
        tokio::select! {
            biased;
            _ = &mut killed => return Err(Unprepared::Killed),
            done = &mut work => return done.map_err(Unprepared::Failed),
            _ = tick.tick() => {
                let name = spec.container.image.as_ref().map_or("nothing", |image| image.name.as_str());
                let text = format!("getting its image {name}: {}", progress.tell());
                shared.report(entry, TaskState::Staging, None, Some(text)).await;
            }
        }
    }
}
