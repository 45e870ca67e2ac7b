//! A lease that is kept alive for as long as this process is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::{LeaseClock, Moment};
use super::{Etcd, EtcdError};

/// The lease is renewed so often in its life: three renewals may fail before it is in doubt.
const RENEWALS: u32 = 5;

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It stands.
    Held,
    /// It may have ended: etcd cannot be asked, for this reason.
    Doubtful(String),
    /// etcd has ended it, and its keys are gone.
    Ended,
}

/// See the module. The lease ends by itself some time after this is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lease: u64,
    pub(crate) clock: Arc<LeaseClock>,
    pub(crate) standing: watch::Receiver<Standing>,
    keeper: JoinHandle<()>,
}

impl Session {
    /// Asks for a lease of `seconds`; etcd may grant a longer one.
    pub(crate) async fn begin(etcd: &Arc<Etcd>, seconds: u64, patience: Duration) -> Result<Self, EtcdError> {
        let sent = Moment::now();
        let (lease, granted) = etcd.grant(seconds, patience).await?;
        let lasts = Duration::from_secs(granted);
        let clock = Arc::new(LeaseClock::new(sent, lasts));
        let (sender, standing) = watch::channel(Standing::Held);
        let keeper = tokio::spawn(keep(Arc::clone(etcd), lease, lasts, Arc::clone(&clock), sender));
        Ok(Self {
            lease,
            clock,
            standing,
            keeper,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn keep(etcd: Arc<Etcd>, lease: u64, lasts: Duration, clock: Arc<LeaseClock>, standing: watch::Sender<Standing>) {
    let pause = lasts / RENEWALS;
    let tell = |now: Standing| {
        standing.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    };
    loop {
        tokio::time::sleep(pause).await;
        let sent = Moment::now();
        // A member that hangs must leave time for another.
        match etcd.keep_alive(lease, pause).await {
            Ok(0) => return tell(Standing::Ended),
            Ok(seconds) => {
                clock.extend(sent, Duration::from_secs(seconds));
                tell(Standing::Held);
            }
            Err(error) => {
                if clock.is_over(Moment::now()) {
                    tell(Standing::Doubtful(error.to_string()));
                } else {
                    tracing::warn!("the lease could not be renewed: {error}");
                }
            }
        }
    }
}
