//! A lease that is kept alive for as long as this process is there.
//!
//! By a thread of its own: where thousands of readers share the other threads a renewal would wait for all of them, and a busy leader
//! is no dead one. But one whose other threads do nothing at all any more is.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::clock::{LeaseClock, Moment};
use super::{Etcd, EtcdError};

/// The lease is renewed so often in its life: three renewals may fail before it is in doubt.
const RENEWALS: u32 = 5;

/// So many of the lease's lives may the other threads do nothing before it is renewed no more.
const LIVES: u32 = 10;

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
    /// Says that the other threads do something.
    signs: JoinHandle<()>,
    /// Its thread ends with it.
    _keeper: oneshot::Sender<()>,
}

impl Session {
    /// Asks for a lease of `seconds`; etcd may grant a longer one.
    pub(crate) async fn begin(etcd: &Arc<Etcd>, seconds: u64, patience: Duration) -> Result<Self, EtcdError> {
        let sent = Moment::now();
        let (lease, granted) = etcd.grant(seconds, patience).await?;
        let lasts = Duration::from_secs(granted);
        let clock = Arc::new(LeaseClock::new(sent, lasts));
        let (sender, standing) = watch::channel(Standing::Held);
        let life = Arc::new(LeaseClock::new(Moment::now(), lasts * LIVES));
        let keeper = Keeper {
            etcd: etcd.apart(),
            lease,
            lasts,
            clock: Arc::clone(&clock),
            life: Arc::clone(&life),
        };
        let (over, ended) = oneshot::channel::<()>();
        apart(async move {
            tokio::select! {
                () = keeper.run(sender) => {}
                _ = ended => {}
            }
        })
        .map_err(EtcdError::Thread)?;
        let signs = tokio::spawn(async move {
            loop {
                tokio::time::sleep(lasts / RENEWALS).await;
                life.extend(Moment::now(), lasts * LIVES);
            }
        });
        Ok(Self {
            lease,
            clock,
            standing,
            signs,
            _keeper: over,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.signs.abort();
    }
}

/// Runs that in a thread with a runtime of its own.
fn apart(work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("lease".to_owned());
    thread.spawn(move || runtime.block_on(work)).map(drop)
}

/// Renews the lease.
struct Keeper {
    etcd: Etcd,
    lease: u64,
    lasts: Duration,
    clock: Arc<LeaseClock>,
    /// Until when the other threads are believed to live.
    life: Arc<LeaseClock>,
}

impl Keeper {
    async fn run(self, standing: watch::Sender<Standing>) {
        let pause = self.lasts / RENEWALS;
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
            if self.life.is_over(sent) {
                let lives = self.lasts * LIVES;
                let why = format!("this master has done nothing for {lives:?}");
                tracing::warn!("the lease is not renewed: {why}");
                tell(Standing::Doubtful(why));
                continue;
            }
            // A member that hangs must leave time for another.
            match self.etcd.keep_alive(self.lease, pause).await {
                Ok(0) => return tell(Standing::Ended),
                Ok(seconds) => {
                    self.clock.extend(sent, Duration::from_secs(seconds));
                    tell(Standing::Held);
                }
                Err(error) => {
                    if self.clock.is_over(Moment::now()) {
                        tell(Standing::Doubtful(error.to_string()));
                    } else {
                        tracing::warn!("the lease could not be renewed: {error}");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::etcd::tests::Fake;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A server that has threads of its own, and what ends it.
    fn fake() -> (Fake, oneshot::Sender<()>) {
        let (sender, started) = mpsc::channel();
        let (over, ended) = oneshot::channel::<()>();
        apart(async move {
            // Whoever waits for it is there.
            let _ = sender.send(Fake::start().await);
            let _ = ended.await;
        })
        .expect("a thread");
        (started.recv_timeout(DEADLINE).expect("started"), over)
    }

    #[tokio::test]
    async fn a_busy_master_keeps_its_lease_and_one_that_is_stuck_does_not() {
        let (fake, _over) = fake();
        let session = Session::begin(&fake.etcd(), 1, DEADLINE).await.expect("a lease");
        let began = Moment::now();
        // From here on this runtime's only thread is kept from everything else.
        let busy = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(Moment::now().since(began) < DEADLINE, "in vain");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        busy(&|| {
            let now = Moment::now();
            now.since(began) > Duration::from_secs(3) && !session.clock.is_over(now)
        });
        let stuck = |known: &Standing| matches!(known, Standing::Doubtful(why) if why.contains("has done nothing"));
        busy(&|| stuck(&session.standing.borrow()) && session.clock.is_over(Moment::now()));
    }
}
