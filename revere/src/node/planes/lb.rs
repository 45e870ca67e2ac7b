//! The load balancer as a plane of the node, with a short cut for tasks that ended here.

use std::collections::BTreeSet;
use std::sync::Arc;

use lb_userspace::{Actual, Desired, Lb, Op, Plan, Reason, apply, desired, observe, plan};
use model::{NodeView, Service, Snapshot, TaskId};

use crate::node::reconcile::Target;
use crate::node::status::{PlaneName, Status};

#[derive(Debug)]
pub(in crate::node) struct LbPlane {
    lb: Lb,
    /// Where the maps are being brought to.
    snapshot: Arc<Snapshot>,
    view: Option<NodeView>,
    wanted: Desired,
    /// What the maps hold as far as this plane's own work tells; `None` after a failure: look before the next step.
    known: Option<Actual>,
    /// Tasks that ended here, until a picture without them arrives.
    dead: BTreeSet<TaskId>,
    failures: Vec<String>,
    status: Arc<Status>,
}

impl LbPlane {
    pub(in crate::node) fn new(lb: Lb, status: Arc<Status>) -> Self {
        Self {
            lb,
            snapshot: Arc::new(Snapshot::default()),
            view: None,
            wanted: Desired::default(),
            known: None,
            dead: BTreeSet::new(),
            failures: Vec::new(),
            status,
        }
    }

    pub(super) fn adds(&mut self, target: &Target) {
        self.failures.clear();
        if target.full {
            self.look();
            // What differs from what was brought about without a failure is somebody else's doing.
            if let (Some(actual), Some(_)) = (&self.known, &self.view) {
                let foreign = plan(&self.wanted, actual);
                let count = u64::try_from(foreign.adds.len() + foreign.removes.len()).unwrap_or(u64::MAX);
                self.status
                    .metrics
                    .repairs
                    .get_or_create(&PlaneName::Lb.label())
                    .inc_by(count);
            }
        }
        self.snapshot = Arc::clone(&target.snapshot);
        self.view = Some(target.view.clone());
        let tasks: BTreeSet<&TaskId> = self.snapshot.tasks.keys().map(|key| &key.1).collect();
        self.dead.retain(|task| tasks.contains(task));
        self.want();
        self.carry_out(Half::Adds);
    }

    pub(super) fn removes(&mut self) {
        self.carry_out(Half::Removes);
        self.status
            .plane(PlaneName::Lb, self.snapshot.generation, self.failures.clone());
    }

    /// A task of this node ended: no VIP may choose it any more. Removing what is dead needs no order among planes, so
    /// this waits for nobody.
    pub(in crate::node) fn local_exit(&mut self, task: &TaskId) {
        self.dead.insert(task.clone());
        if self.view.is_none() || !serves(&self.snapshot, task) {
            return;
        }
        self.want();
        self.carry_out(Half::Adds);
        self.carry_out(Half::Removes);
    }

    /// Every counter of the programs.
    pub(in crate::node) fn counters(&self) -> Vec<(Reason, u64)> {
        self.lb.counters().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        })
    }

    /// Passes traced packets on.
    pub(in crate::node) fn drain_trace(&mut self) {
        self.lb.drain_trace();
    }

    fn want(&mut self) {
        let Some(view) = &self.view else { return };
        self.wanted = if self.dead.is_empty() {
            desired(&self.snapshot, view)
        } else {
            desired(&without(&self.snapshot, &self.dead), view)
        };
    }

    fn look(&mut self) {
        self.known = match observe(&mut self.lb) {
            Ok(actual) => Some(actual),
            Err(error) => {
                self.failures.push(error.to_string());
                None
            }
        };
    }

    fn carry_out(&mut self, half: Half) {
        if self.known.is_none() {
            self.look();
        }
        let Some(known) = &mut self.known else { return };
        let mut steps = plan(&self.wanted, known);
        match half {
            Half::Adds => steps.removes.clear(),
            Half::Removes => steps.adds.clear(),
        }
        let report = apply(&mut self.lb, &steps);
        if report.failed.is_empty() {
            note(known, &steps);
            return;
        }
        self.known = None;
        self.failures
            .extend(report.failed.iter().map(|(op, error)| format!("{op:?}: {error}")));
    }
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Adds,
    Removes,
}

fn serves(snapshot: &Snapshot, task: &TaskId) -> bool {
    snapshot
        .services
        .values()
        .any(|service| service.backends.iter().any(|backend| backend.task == *task))
}

/// The picture without the backends of these tasks, and without the VIPs that then have none.
fn without(snapshot: &Snapshot, dead: &BTreeSet<TaskId>) -> Snapshot {
    let mut services = snapshot.services.clone();
    for (vip, service) in snapshot.services.iter() {
        if !service.backends.iter().any(|backend| dead.contains(&backend.task)) {
            continue;
        }
        let mut left = Service::clone(service);
        left.backends.retain(|backend| !dead.contains(&backend.task));
        if left.backends.is_empty() {
            services.remove(vip);
        } else {
            services.insert(*vip, Arc::new(left));
        }
    }
    Snapshot {
        services,
        ..snapshot.clone()
    }
}

/// What the maps hold after these steps. Indices are the load balancer's own affair and are not kept here.
fn note(known: &mut Actual, steps: &Plan) {
    for op in steps.adds.iter().chain(&steps.removes) {
        match op {
            Op::Attach(hook) => {
                known.unattached.remove(hook);
            }
            Op::SetOwn(own) => known.own = Some(*own),
            Op::PutPeer(peer) => {
                known.peers.insert(*peer);
            }
            Op::PutBackend(key, state) => {
                known.backends.insert(*key, state.clone());
            }
            Op::PutVip(vip, wanted) => {
                known.vips.insert(*vip, Some(wanted.fingerprint()));
            }
            Op::RemoveVip(vip) => {
                known.vips.remove(vip);
            }
            Op::RemoveBackend(key) => {
                known.backends.remove(key);
            }
            Op::RemovePeer(peer) => {
                known.peers.remove(peer);
            }
        }
    }
}

#[cfg(test)]
#[path = "lb/tests.rs"]
mod tests;
