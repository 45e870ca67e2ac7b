//! What the load balancer needs every now and then, apart from changes: hooks back, old tables out, ended flows out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use super::LbPlane;
use crate::metrics::{Kind, whole};
use crate::node::status::Status;

/// Time between looks at the hooks: whoever takes one off is found and undone within a second.
const LOOK: Duration = Duration::from_millis(500);

/// Time between sweeps of the flow tables where a limit on open flows depends on them.
const SWEEP: Duration = Duration::from_secs(1);
/// Without such limits one sweep in so many is enough.
const RARELY: u32 = 10;

/// Looks at hooks and at tables that have had their time, for ever.
pub(in crate::node) async fn tend(lb: Arc<Mutex<LbPlane>>) {
    let mut pause = interval(LOOK);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pause.tick().await;
        lb.lock().tend(lb_userspace::monotonic_seconds());
    }
}

/// Sweeps the flow tables, for ever. The walk holds no lock: changes do not wait for it.
pub(in crate::node) async fn sweep(lb: Arc<Mutex<LbPlane>>, status: Arc<Status>) {
    let opened = lb.lock().flow_tables();
    let tables = match opened {
        Ok(tables) => Arc::new(tables),
        Err(error) => {
            tracing::error!("ended flows stay until the kernel needs their room: {error}");
            return std::future::pending().await;
        }
    };
    let mut pause = interval(SWEEP);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut skipped = 0;
    loop {
        pause.tick().await;
        skipped += 1;
        if skipped < RARELY && !lb.lock().inner().counts_flows() {
            continue;
        }
        skipped = 0;
        let tables = Arc::clone(&tables);
        let now = u32::try_from(lb_userspace::monotonic_seconds()).unwrap_or(u32::MAX);
        let swept = match tokio::task::spawn_blocking(move || tables.sweep(now)).await {
            Ok(Ok(swept)) => swept,
            Ok(Err(error)) => {
                tracing::warn!("{error}");
                continue;
            }
            Err(error) => {
                tracing::error!("a sweep of the flow tables ended early: {error}");
                continue;
            }
        };
        if let Err(error) = lb.lock().set_open(&swept.open) {
            tracing::warn!("could not tell the programs how many flows are open: {error}");
        }
        let metrics = &status.metrics;
        metrics.flows.set(whole(swept.kept));
        for (kind, count) in [("ended", swept.ended), ("orphaned", swept.orphaned)] {
            metrics.flows_swept.get_or_create(&Kind { kind }).inc_by(count);
        }
    }
}
