//! Writes with unique names to masters, and which of those that were acknowledged are there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Cluster, PATIENCE, Place, net, wait_for};

/// All of them are below it.
pub const GROUP: &str = "w";

/// Between two writes of one writer.
const PAUSE: Duration = Duration::from_millis(20);

/// An acknowledged write.
#[derive(Clone, Debug)]
struct Taken {
    name: String,
    began: Instant,
    ended: Instant,
}

/// Writes until told to stop.
#[derive(Debug)]
pub struct Writer {
    taken: Arc<Mutex<Vec<Taken>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The id of such an app.
#[must_use]
pub fn path(name: &str) -> String {
    format!("/{GROUP}/{name}")
}

/// An app that runs nothing, by the master of node `via`; the status of the answer.
pub fn create(place: &Place, via: u8, name: &str) -> Result<u16> {
    let body = json!({"id": path(name), "cmd": "true", "instances": 0, "cpus": 0.1, "mem": 8});
    net::http(place, Cluster::master_at(via), "POST /v2/apps", &body.to_string()).map(|(status, _)| status)
}

/// Takes all of them away.
pub fn forget(cluster: &Cluster, via: u8) -> Result<()> {
    let head = format!("DELETE /v2/groups/{GROUP}?force=true");
    let gone = wait_for(PATIENCE, || {
        let (status, _) = net::http(cluster.node(via), Cluster::master_at(via), &head, "").ok()?;
        matches!(status, 200 | 404).then_some(())
    });
    match gone {
        Some(()) => Ok(()),
        None => bail!("the written apps cannot be removed"),
    }
}

/// How many of these are not there. A master that does not lead may be behind for a little, so it is asked until none lacks.
pub fn lost(cluster: &Cluster, via: u8, names: &[String]) -> Result<u64> {
    let mut lost = None;
    let none = wait_for(PATIENCE, || {
        lost = missing(cluster, via, names).or(lost);
        (lost == Some(0)).then_some(())
    });
    match (none, lost) {
        (Some(()), _) => Ok(0),
        (None, Some(lost)) => Ok(lost),
        (None, None) => bail!("the apps cannot be listed"),
    }
}

/// The same, as a master tells it at once; nothing if it tells no list.
#[must_use]
pub fn missing(cluster: &Cluster, via: u8, names: &[String]) -> Option<u64> {
    let said = net::http(cluster.node(via), Cluster::master_at(via), "GET /v2/apps", "");
    let (_, body) = said.ok().filter(|(status, _)| *status == 200)?;
    // A chunked body has its lengths around the JSON.
    let json: String = body.split("\r\n").filter(|line| line.len() > 10).collect();
    let list = serde_json::from_str::<Value>(&json).ok()?;
    let apps = list["apps"].as_array().into_iter().flatten();
    let there: BTreeSet<&str> = apps.filter_map(|app| app["id"].as_str()).collect();
    let lost = names.iter().filter(|name| !there.contains(path(name).as_str()));
    u64::try_from(lost.count()).ok()
}

impl Writer {
    /// Writes by the master of node `via`.
    #[must_use]
    pub fn start(cluster: &Cluster, via: u8, round: u64) -> Self {
        let place = cluster.node(via).clone();
        let taken: Arc<Mutex<Vec<Taken>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (Arc::clone(&taken), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let (name, began) = (format!("r{round}-{number}"), Instant::now());
                if matches!(create(&place, via, &name), Ok(201)) {
                    let one = Taken {
                        name,
                        began,
                        ended: Instant::now(),
                    };
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
                wait_for(PAUSE, || None::<()>);
            }
        });
        Self { taken, stop, thread }
    }

    /// How long after `moment` the first write was acknowledged that began after it.
    #[must_use]
    pub fn first_after(&self, moment: Instant) -> Option<Duration> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let first = taken.iter().find(|one| one.began > moment)?;
        Some(first.ended.duration_since(moment))
    }

    /// Stops; the names of all that were acknowledged.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        let _ = self.thread.join();
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().map(|one| one.name.clone()).collect()
    }
}
