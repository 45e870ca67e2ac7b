//! The three planes of a node behind the steps of a pass.

use std::net::Ipv4Addr;
use std::sync::Arc;

use model::{NodeView, Snapshot};
use parking_lot::Mutex;

use super::reconcile::{Planes, Step, Target};
use super::status::{PlaneName, Status};

mod lb;
mod overlay;

pub(super) use lb::LbPlane;
pub(super) use overlay::OverlayPlane;

/// The name server and what its zones are made with.
#[derive(Debug)]
pub(super) struct NamePlane {
    pub(super) server: Arc<dns::Server>,
    pub(super) config: dns::Config,
}

/// All planes this node runs.
#[derive(Debug)]
pub(super) struct NodePlanes {
    overlay: Option<OverlayPlane>,
    /// Shared with the agent's events: a task that ended here leaves the maps without waiting for a pass.
    lb: Option<Arc<Mutex<LbPlane>>>,
    names: Option<NamePlane>,
    target: Target,
    status: Arc<Status>,
}

impl NodePlanes {
    pub(super) fn new(
        overlay: Option<OverlayPlane>,
        lb: Option<Arc<Mutex<LbPlane>>>,
        names: Option<NamePlane>,
        status: Arc<Status>,
    ) -> Self {
        let on = [overlay.is_some(), lb.is_some(), names.is_some()];
        status.change(|facts| {
            for (plane, on) in facts.planes.iter_mut().zip(on) {
                plane.on = on;
            }
        });
        let nowhere = Target {
            snapshot: Arc::new(Snapshot::default()),
            view: NodeView {
                ip: Ipv4Addr::UNSPECIFIED,
                agent: None,
            },
            full: true,
        };
        Self {
            overlay,
            lb,
            names,
            target: nowhere,
            status,
        }
    }

    /// Where the next pass goes.
    pub(super) fn aim(&mut self, target: Target) {
        self.target = target;
    }

    /// Keeps the way to the peers resolved.
    pub(super) async fn warm(&mut self) {
        if let Some(overlay) = &mut self.overlay {
            overlay.warm(&self.target).await;
        }
    }
}

impl Planes for NodePlanes {
    async fn step(&mut self, step: Step) {
        let target = &self.target;
        let generation = target.snapshot.generation;
        match step {
            Step::OverlayAdds => {
                if let Some(overlay) = &mut self.overlay {
                    overlay.adds(target, &self.status).await;
                }
            }
            Step::LbAdds => {
                if let Some(lb) = &self.lb {
                    lb.lock().adds(target);
                }
            }
            Step::Names => {
                if let Some(names) = &self.names {
                    names
                        .server
                        .publish(dns::desired(&target.snapshot, &target.view, &names.config));
                    self.status.plane(PlaneName::Dns, generation, Vec::new());
                }
            }
            Step::LbRemoves => {
                if let Some(lb) = &self.lb {
                    lb.lock().removes();
                }
            }
            Step::OverlayRemoves => {
                if let Some(overlay) = &mut self.overlay {
                    let failures = overlay.removes().await;
                    self.status.plane(PlaneName::Overlay, generation, failures);
                }
            }
        }
    }
}
