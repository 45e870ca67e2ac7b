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

/// A copy that has not been seen to be the newest for so long is asked for nothing while somebody leads. If it got nowhere
/// meanwhile its streams end: their readers find a master that is better off.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// While it gets further, only late, its readers stay for so long: who is short of processors would have more to do with
/// readers that begin elsewhere.
const MOST_STALE: Duration = Duration::from_secs(30);

/// A process that was stopped, or had no processor, finds its copy old though nothing is wrong with it: so long it waits for a look.
const GRACE: Duration = Duration::from_secs(1);

/// How current a copy is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Of the last commit in it.
    pub(super) revision: u64,
    /// When that was seen to be the newest one.
    pub(super) at: Moment,
    /// When it last got there, or got further.
    pub(super) moved: Moment,
}

impl Current {
    pub(super) fn age(&self) -> Duration {
        Moment::now().since(self.at)
    }

    /// For how long its readers are no better off elsewhere, as far as is known.
    fn good_for(&self) -> Duration {
        let now = Moment::now();
        let (age, still) = (now.since(self.at), now.since(self.moved));
        let late = STALE.saturating_sub(still).min(MOST_STALE.saturating_sub(age));
        STALE.saturating_sub(age).max(late)
    }

    /// Whether readers stay, and such as were elsewhere may come.
    pub(super) fn is_good(&self) -> bool {
        !self.good_for().is_zero()
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
        let good = |known: &Option<Current>| known.is_some_and(|known| known.is_good());
        if current.wait_for(good).await.is_err() {
            return;
        }
        let term = shutdown.child_token();
        // Nothing that a reader asks for touches a store.
        let store = StateStore::Embedded(Arc::new(crate::store::Store::memory()));
        let app = http::App::of_term(handle.clone(), store, Arc::clone(&leadership), term.clone());
        copy.router.store(Some(Arc::new(http::router(app))));
        stays_good(&mut current).await;
        tracing::warn!("what this master has of the records may be old: its readers are let go");
        term.cancel();
    }
}

/// Ends when the copy has been no good for a while.
async fn stays_good(current: &mut watch::Receiver<Option<Current>>) {
    loop {
        let good = current
            .borrow_and_update()
            .map_or(Duration::ZERO, |known| known.good_for());
        if !good.is_zero() {
            tokio::time::sleep(good).await;
            continue;
        }
        // It may be this process that was stopped: then the next look finds it as new as ever.
        let again = current.wait_for(|known| known.is_some_and(|known| known.is_good()));
        if !matches!(tokio::time::timeout(GRACE, again).await, Ok(Ok(_))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aged(age: Duration, still: Duration) -> Current {
        Current {
            revision: 1,
            at: Moment::now().before(age),
            moved: Moment::now().before(still),
        }
    }

    #[test]
    fn who_is_late_and_gets_further_keeps_its_readers_for_a_while() {
        let good = |age, still| aged(Duration::from_secs(age), Duration::from_secs(still)).is_good();
        assert!(good(1, 1) && good(4, 100), "it was seen to be the newest");
        assert!(good(6, 1) && good(29, 4), "it is late and gets further");
        assert!(!good(6, 6), "it is cut off");
        assert!(!good(31, 0), "it is too late");
    }

    #[tokio::test]
    async fn readers_stay_with_a_copy_that_is_fresh_again_at_once() {
        let known = |age: Duration| Some(aged(age, age));
        let (sender, mut current) = watch::channel(known(STALE * 2));
        let mut stays = Box::pin(stays_good(&mut current));
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
