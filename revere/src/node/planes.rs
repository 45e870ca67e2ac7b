//! The three planes of a node behind the steps of a pass.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use model::{NodeView, Snapshot};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::reconcile::{Planes, Step, Target};
use super::status::{PlaneName, Status};

mod early;
mod lb;
mod overlay;

pub(super) use early::{Early, SharedEarly, silence, take_off, tend as tend_early};
pub(super) use lb::{LbPlane, tend};
pub(super) use overlay::OverlayPlane;

/// The name server and what its zones are made with.
#[derive(Debug)]
pub(super) struct NamePlane {
    pub(super) server: Arc<dns::Server>,
    pub(super) zones: dns::Names,
    pub(super) config: Arc<dns::Config>,
    /// Tells each version to the HTTP API.
    pub(super) published: watch::Sender<Arc<dns::Zones>>,
    /// What answers before the server, if anything does.
    pub(super) early: Option<SharedEarly>,
    /// Names in conflict that were told already.
    pub(super) told: BTreeSet<String>,
}

impl NamePlane {
    /// Opens the name server on sockets that an earlier daemon left, as far as there are any, and answers from the
    /// picture it left at once.
    pub(super) async fn open(
        config: dns::Config,
        sockets: dns::Inherited,
        picture: Option<(Arc<Snapshot>, NodeView)>,
        leader: Option<SocketAddr>,
    ) -> Result<Self, dns::BindError> {
        let mut names = dns::Names::new(config.clone());
        names.set_leader(leader);
        let first = picture.map(|(snapshot, view)| names.update(&snapshot, &view));
        let published = watch::Sender::default();
        if let Some(zones) = &first {
            published.send_replace(Arc::new(zones.clone()));
        }
        Ok(Self {
            server: Arc::new(dns::Server::bind_with(config.clone(), sockets, first).await?),
            config: Arc::new(config),
            zones: names,
            published,
            early: None,
            told: BTreeSet::new(),
        })
    }

    /// Serves what differs from the picture before; the rest of the zones is shared with the version served until now.
    fn publish(&mut self, target: &Target, status: &Status) {
        let leader = status.facts().master.as_deref().and_then(super::master_address);
        if leader.is_some() {
            self.zones.set_leader(leader);
        }
        let zones = self.zones.update(&target.snapshot, &target.view);
        status.zones(&zones);
        self.published.send_replace(Arc::new(zones.clone()));
        self.server.publish(zones.clone());
        if let Some(early) = &self.early {
            early.lock().publish(&zones, target.full);
        }
        let conflicts: BTreeSet<String> = self.zones.conflicts().map(str::to_owned).collect();
        for name in conflicts.difference(&self.told) {
            tracing::warn!(name, "two things claim one name; the docs on names say who has it");
        }
        self.told = conflicts;
        status.plane(PlaneName::Dns, target.snapshot.generation, Vec::new());
    }
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
            disturbed: false,
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
                if let Some(names) = &mut self.names {
                    names.publish(target, &self.status);
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
