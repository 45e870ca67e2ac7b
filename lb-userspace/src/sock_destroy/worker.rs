//! The thread that ends sockets of backends that are gone, so that a change of tables waits for none of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError};
use lb_common::SocketEntry;

use super::{DestroyError, DestroyReport, destroy, namespaces};
use crate::BackendKey;

/// Backends that wait. The plane removes a handful at once; each waits for one walk over the namespaces, in which all that
/// wait are done. A node that loses more at a time leaves the rest to their time-outs, and says so.
const WAITING: usize = 4096;

/// How long a backend that is gone may be heard: what it sent last, and that it closed, may still be on its way when the news of its
/// end is here. A socket that has heard it is left alone (see [`destroy`]); what is still open then points at nothing.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A backend whose sockets are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) backend: BackendKey,
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Hands backends to the thread; dropping it ends the thread once it is done.
#[derive(Debug)]
pub(crate) struct Worker {
    queue: SyncSender<Doomed>,
}

impl Worker {
    /// Starts the thread. `maps` is the directory of the pinned maps.
    pub(crate) fn start(maps: PathBuf) -> Result<Self, DestroyError> {
        let (queue, waiting) = sync_channel::<Doomed>(WAITING);
        let run = move || {
            while let Ok(first) = waiting.recv() {
                let mut all = vec![first];
                all.extend(waiting.try_iter());
                // Those that come meanwhile have a wait of their own.
                std::thread::sleep(LAST_WORDS);
                tell(&end_all(&maps, &all));
            }
        };
        std::thread::Builder::new()
            .name("lb-sockets".to_owned())
            .spawn(run)
            .map_err(DestroyError::Thread)?;
        Ok(Self { queue })
    }

    /// Never waits.
    pub(crate) fn hand(&self, doomed: Doomed) {
        match self.queue.try_send(doomed) {
            Ok(()) => {}
            Err(TrySendError::Full(doomed) | TrySendError::Disconnected(doomed)) => {
                tracing::warn!(backend = ?doomed.backend, "too many backends are gone at once: sockets to this one are left to their time-outs");
            }
        }
    }
}

fn end_all(maps: &Path, doomed: &[Doomed]) -> DestroyReport {
    let failed = |error| DestroyReport {
        failed: vec![error],
        ..DestroyReport::default()
    };
    let cookies = match remembered(maps, doomed) {
        Ok(cookies) if cookies.is_empty() => return DestroyReport::default(),
        Ok(cookies) => cookies,
        Err(error) => return failed(error.into()),
    };
    let backends: Vec<BackendKey> = doomed.iter().map(|doomed| doomed.backend).collect();
    match namespaces() {
        Ok(namespaces) => destroy(&namespaces, &backends, &cookies),
        Err(error) => failed(DestroyError::Namespaces(error)),
    }
}

/// Cookies of the sockets that the hooks sent to one of these.
fn remembered(maps: &Path, doomed: &[Doomed]) -> Result<BTreeSet<u64>, MapError> {
    let sockets = Map::from_map_data(MapData::from_pin(maps.join("SOCKETS"))?)?;
    let sockets: HashMap<MapData, u64, SocketEntry> = sockets.try_into()?;
    let wanted: BTreeSet<(u32, u32)> = doomed.iter().map(|doomed| (doomed.index, doomed.generation)).collect();
    let mut cookies = BTreeSet::new();
    for entry in sockets.iter() {
        // An entry that goes while this reads is a socket that was closed.
        if let Ok((cookie, entry)) = entry
            && wanted.contains(&(entry.backend, entry.generation))
        {
            cookies.insert(cookie);
        }
    }
    Ok(cookies)
}

fn tell(report: &DestroyReport) {
    for error in &report.failed {
        tracing::warn!("{error}");
    }
    if report.destroyed > 0 {
        tracing::info!(
            destroyed = report.destroyed,
            namespaces = report.namespaces,
            "ended sockets whose backend is gone"
        );
    }
}
