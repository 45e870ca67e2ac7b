//! What a master that does not lead has of the records, and serves to readers.

mod keep;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use axum::Router;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Leadership;
use crate::etcd::clock::Moment;
use crate::master::handle::Handle;
use crate::master::http;
use crate::store::StateStore;
use crate::store::etcd::follow;
use keep::Keeper;
pub(super) use serve::EVENTS;

/// Steps that may wait: each is a commit.
const STEPS: usize = 64;

/// A copy that has not been seen to be the newest for so long serves nobody while somebody leads, and ends its streams:
/// their readers find a master that is better off.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// A process that was stopped, or had no processor, finds its copy old though nothing is wrong with it: so long it waits for a look.
const GRACE: Duration = Duration::from_secs(1);

/// How current a copy is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Of the last commit in it.
    pub(super) revision: u64,
    /// When that was seen to be the newest one.
    pub(super) at: Moment,
}

impl Current {
    pub(super) fn age(&self) -> Duration {
        Moment::now().since(self.at)
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::master) struct Copy {
    current: watch::Sender<Option<Current>>,
    router: ArcSwapOption<Router>,
}

impl Copy {
    pub(super) fn new() -> Self {
        Self {
            current: watch::Sender::new(None),
            router: ArcSwapOption::empty(),
        }
    }

    /// How current it is, once it is there.
    pub(super) fn current(&self) -> Option<Current> {
        *self.current.borrow()
    }

    /// Waits until a commit is in it, but not for long.
    pub(super) async fn reaches(&self, revision: u64, patience: Duration) {
        let mut current = self.current.subscribe();
        let there = current.wait_for(|known| known.is_some_and(|known| known.revision >= revision));
        let _ = tokio::time::timeout(patience, there).await;
    }

    fn set(&self, current: Option<Current>) {
        self.current.send_replace(current);
    }
}

/// Keeps the copy for as long as this process is there, whoever leads.
pub(super) async fn run(leadership: Arc<Leadership>, shutdown: CancellationToken) {
    let (sender, steps) = mpsc::channel(STEPS);
    let feed = follow(leadership.place.clone(), leadership.cluster.clone(), sender);
    let (handle, inputs) = Handle::new();
    let copy = Arc::clone(&leadership.front.copy);
    let keeper = Keeper::new(Arc::clone(&copy), leadership.core.clone(), inputs, steps);
    let streams = streams(Arc::clone(&leadership), handle, &shutdown);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = feed => {}
        () = keeper.run() => {}
        () = streams => {}
    }
}

/// Puts up a router once the copy is current, and ends its streams when it is not any more.
async fn streams(leadership: Arc<Leadership>, handle: Handle, shutdown: &CancellationToken) {
    let copy = &leadership.front.copy;
    let mut current = copy.current.subscribe();
    loop {
        let fresh = |known: &Option<Current>| known.is_some_and(|known| known.age() < STALE);
        if current.wait_for(fresh).await.is_err() {
            return;
        }
        let term = shutdown.child_token();
        // Nothing that a reader asks for touches a store.
        let store = StateStore::Embedded(Arc::new(crate::store::Store::memory()));
        let app = http::App::of_term(handle.clone(), store, Arc::clone(&leadership), term.clone());
        copy.router.store(Some(Arc::new(http::router(app))));
        stays_fresh(&mut current).await;
        tracing::warn!("what this master has of the records may be old: its readers are let go");
        term.cancel();
    }
}

/// Ends when the copy has been too old for a while.
async fn stays_fresh(current: &mut watch::Receiver<Option<Current>>) {
    loop {
        let age = current.borrow_and_update().map_or(STALE, |known| known.age());
        if age < STALE {
            tokio::time::sleep(STALE - age).await;
            continue;
        }
        // It may be this process that was stopped: then the next look finds it as new as ever.
        let newer = current.wait_for(|known| known.is_some_and(|known| known.age() < STALE));
        if !matches!(tokio::time::timeout(GRACE, newer).await, Ok(Ok(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_stay_with_a_copy_that_is_fresh_again_at_once() {
        let known = |age: Duration| {
            Some(Current {
                revision: 1,
                at: Moment::now().before(age),
            })
        };
        let (sender, mut current) = watch::channel(known(STALE * 2));
        let mut stays = Box::pin(stays_fresh(&mut current));
        let ended = std::future::poll_fn(|context| std::task::Poll::Ready(stays.as_mut().poll(context).is_ready()));
        assert!(!ended.await, "it has not looked yet");
        sender.send_replace(known(Duration::ZERO));
        // Longer than it waits for a look.
        let stayed = tokio::time::timeout(GRACE * 2, &mut stays).await;
        assert!(stayed.is_err(), "its readers were let go");
        sender.send_replace(known(STALE * 2));
        let ended = tokio::time::timeout(Duration::from_secs(60), stays).await;
        ended.expect("nobody looks any more, and its readers are kept");
    }
}
