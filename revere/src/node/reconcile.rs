//! When the planes change, and in which order: make before break.

use std::sync::Arc;
use std::time::Duration;

use model::{NodeView, Snapshot};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::foreign::Foreign;
use super::planes::NodePlanes;
use super::table::Picture;

/// Time between full passes, which find and repair what somebody else changed.
const FULL_PASS: Duration = Duration::from_secs(10);

/// Time between refreshes of the peers' neighbour entries; the kernel forgets them after 30 s or so.
const WARM: Duration = Duration::from_secs(5);

/// A part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Routes and tunnels to new backends.
    OverlayAdds,
    /// New backends, new VIPs; VIPs that lose some of their backends get their new table here.
    LbAdds,
    /// All names, old and new, in one swap: after what they lead to is there, before what they led to goes.
    Names,
    /// VIPs and backends that are gone.
    LbRemoves,
    /// Routes and tunnels that nothing uses any more.
    OverlayRemoves,
}

/// Adds run overlay, load balancer, names; removes run names, load balancer, overlay.
const ORDER: [Step; 5] = [
    Step::OverlayAdds,
    Step::LbAdds,
    Step::Names,
    Step::LbRemoves,
    Step::OverlayRemoves,
];

/// What a pass acts on. A step that fails says so in the status and does not stop the others.
pub(super) trait Planes {
    /// Carries one step out.
    async fn step(&mut self, step: Step);
}

/// One pass over all planes.
pub(super) async fn pass(planes: &mut impl Planes) {
    for step in ORDER {
        planes.step(step).await;
    }
}

/// Where the planes are to go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) view: NodeView,
    /// Whether to look at what is there, instead of trusting what was done.
    pub(super) full: bool,
    /// Whether somebody may have changed the kernel's network.
    pub(super) disturbed: bool,
}

/// Keeps the planes true until told to stop. Until the first picture it leaves everything as it was found.
pub(super) async fn run(
    mut planes: NodePlanes,
    mut pictures: watch::Receiver<Picture>,
    mut views: watch::Receiver<NodeView>,
    mut foreign: Foreign,
    shutdown: CancellationToken,
) {
    let now = Instant::now();
    let mut full_pass = interval_at(now + FULL_PASS, FULL_PASS);
    let mut warm = interval_at(now + WARM, WARM);
    full_pass.set_missed_tick_behavior(MissedTickBehavior::Delay);
    warm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut full, mut disturbed) = (true, false);
    loop {
        let picture = pictures.borrow_and_update().clone();
        let view = views.borrow_and_update().clone();
        if let Some(snapshot) = picture {
            planes.aim(Target {
                snapshot,
                view,
                full,
                disturbed,
            });
            pass(&mut planes).await;
            (full, disturbed) = (false, false);
        }
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = pictures.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                changed = views.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                _ = full_pass.tick() => {
                    full = true;
                    break;
                }
                () = foreign.hint() => {
                    disturbed = true;
                    break;
                }
                _ = warm.tick() => planes.warm().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Recorder(Vec<Step>);

    impl Planes for Recorder {
        async fn step(&mut self, step: Step) {
            self.0.push(step);
        }
    }

    #[tokio::test]
    async fn make_comes_before_break() {
        let mut planes = Recorder::default();
        pass(&mut planes).await;
        let at = |step: Step| planes.0.iter().position(|done| *done == step).expect("each step runs");
        assert_eq!(planes.0.len(), 5);
        assert!(at(Step::OverlayAdds) < at(Step::LbAdds), "a backend needs its route");
        assert!(at(Step::LbAdds) < at(Step::Names), "a name needs its VIP");
        assert!(at(Step::Names) < at(Step::LbRemoves), "a VIP goes after its name");
        assert!(
            at(Step::LbRemoves) < at(Step::OverlayRemoves),
            "a route goes after its backend"
        );
    }
}
