//! Tells when somebody else may have changed the kernel's network, so that a pass looks and repairs at once.

use std::future::pending;
use std::time::Duration;

use overlay::Changes;
use tokio::time::{Instant, sleep, sleep_until};

/// Waited for after the first hint: who flushes a table tells of each entry.
const GATHER: Duration = Duration::from_millis(50);

/// Least time between two looks, however much is going on: a look asks the kernel for all its tables.
const APART: Duration = Duration::from_millis(250);

/// Hints from the kernel, a burst of them as one.
#[derive(Debug)]
pub(super) struct Foreign {
    changes: Option<Changes>,
    heard: bool,
    not_before: Instant,
}

impl Foreign {
    /// `None`: a node without an overlay has nothing to look after.
    pub(super) fn new(changes: Option<Changes>) -> Self {
        Self {
            changes,
            heard: false,
            not_before: Instant::now(),
        }
    }

    /// Waits until it is time to look. Nothing is lost when the wait is given up.
    pub(super) async fn hint(&mut self) {
        if !self.heard {
            let told = match &mut self.changes {
                Some(changes) => changes.next().await,
                None => pending().await,
            };
            if told.is_none() {
                tracing::warn!("the kernel tells no more changes; what others undo is found by the periodic look only");
                self.changes = None;
                pending::<()>().await;
            }
            self.heard = true;
        }
        sleep(GATHER).await;
        sleep_until(self.not_before).await;
        if let Some(changes) = &mut self.changes {
            changes.drain();
        }
        self.heard = false;
        self.not_before = Instant::now() + APART;
    }
}
