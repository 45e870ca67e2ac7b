//! The load balancer as a plane of the node. A pass costs what has changed since the last one; now and then, and after
//! whatever went wrong, one looks at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lb_userspace::{
    Actual, ApplyError, CookieCount, Desired, FlowTables, FlowsError, Lb, Op, Plan, Reason, Touched, apply, desired,
    observe, plan, plan_touched,
};
use model::{NodeView, Service, SharedMap, Snapshot, TaskId, VipAddress};

use crate::node::reconcile::Target;
use crate::node::status::{PlaneName, Status};

pub(in crate::node) mod tend;

type Services = SharedMap<VipAddress, Arc<Service>>;

#[derive(Debug)]
pub(in crate::node) struct LbPlane {
    lb: Lb,
    /// Where the maps are being brought to.
    snapshot: Arc<Snapshot>,
    view: Option<NodeView>,
    wanted: Desired,
    /// What the maps hold as far as this plane's own work tells; `None` before the first look and when one failed.
    known: Option<Actual>,
    /// What this pass is about; `None` = everything.
    scope: Option<Touched>,
    /// What did not work out and is tried again with every pass.
    unsettled: Touched,
    /// Which VIPs this node's tasks serve, so that the end of one is told without looking through all.
    here: BTreeMap<TaskId, BTreeSet<VipAddress>>,
    /// Tasks that ended here, until a picture without them arrives.
    dead: BTreeSet<TaskId>,
    failures: Vec<String>,
    status: Arc<Status>,
}

impl LbPlane {
    pub(in crate::node) fn new(lb: Lb, status: Arc<Status>) -> Self {
        let hindered = lb.cookies_hindered().map(str::to_owned);
        status.change(|facts| facts.cookies_hindered = hindered);
        Self {
            lb,
            snapshot: Arc::new(Snapshot::default()),
            view: None,
            wanted: Desired::default(),
            known: None,
            scope: None,
            unsettled: Touched::default(),
            here: BTreeMap::new(),
            dead: BTreeSet::new(),
            failures: Vec::new(),
            status,
        }
    }

    pub(in crate::node) fn adds(&mut self, target: &Target) {
        self.failures.clear();
        let all = target.full || self.known.is_none() || self.view.as_ref() != Some(&target.view);
        if target.full {
            self.look();
            self.count_repairs();
            self.tell_listeners(true);
        }
        let before = std::mem::replace(&mut self.snapshot, Arc::clone(&target.snapshot));
        self.view = Some(target.view.clone());
        if all {
            self.want_all();
        } else {
            let mut changed = before.services.changed(&self.snapshot.services);
            changed.extend(self.revived());
            self.want(&before.services, &changed);
            if before.nodes != self.snapshot.nodes {
                self.wanted.set_nodes(&self.snapshot, &target.view);
                self.scope.get_or_insert_default().nodes = true;
            }
        }
        self.failures
            .extend(self.wanted.refused().map(|refusal| refusal.to_string()));
        self.carry_out(Half::Adds);
    }

    pub(in crate::node) fn removes(&mut self) {
        self.carry_out(Half::Removes);
        self.scope = Some(Touched::default());
        self.status
            .plane(PlaneName::Lb, self.snapshot.generation, self.failures.clone());
    }

    /// A task of this node ended: no VIP may choose it any more. Removing what is dead needs no order among planes, so
    /// this waits for nobody.
    pub(in crate::node) fn local_exit(&mut self, task: &TaskId) {
        let frameworks = self.snapshot.frameworks.keys();
        let named = frameworks.filter(|id| self.snapshot.tasks.contains_key(&((*id).clone(), task.clone())));
        if named.count() > 1 {
            // Two frameworks' tasks of one id: the stream will tell which it was.
            return;
        }
        self.dead.insert(task.clone());
        let Some(vips) = self.here.get(task).filter(|_| self.view.is_some()) else {
            return;
        };
        let vips: Vec<VipAddress> = vips.iter().copied().collect();
        let services = self.snapshot.services.clone();
        let rest = self.scope.take();
        self.scope = Some(Touched::default());
        self.want(&services, &vips);
        self.carry_out(Half::Adds);
        self.carry_out(Half::Removes);
        self.scope = rest;
    }

    /// Once a second or so: ends what has had its time, and puts back hooks that somebody took off.
    pub(in crate::node) fn tend(&mut self, now: u64) {
        if let Err(error) = self.lb.expire(now) {
            tracing::warn!("could not end a previous table: {error}");
        }
        self.tell_listeners(false);
        let repairs = self.status.metrics.repairs.get_or_create_owned(&PlaneName::Lb.label());
        for pin in self.lb.restore_pins() {
            tracing::warn!(pin = %pin.display(), "somebody unpinned this; it is pinned again");
            repairs.inc();
        }
        let lost = self.lb.unattached();
        if lost.is_empty() || self.known.is_none() {
            return;
        }
        let hooks = lost.into_iter().map(Op::Attach);
        let repair = Plan {
            generation: self.wanted.generation,
            adds: hooks.collect(),
            removes: Vec::new(),
        };
        let report = apply(&mut self.lb, &repair);
        repairs.inc_by(u64::try_from(report.done).unwrap_or_default());
        for op in &repair.adds {
            match report.failed.iter().find(|(failed, _)| failed == op) {
                Some((_, error)) => tracing::warn!("{error}"),
                None => tracing::warn!(?op, "somebody took this off; it is back"),
            }
        }
    }

    /// The flow tables, for whoever sweeps them.
    pub(in crate::node) fn flow_tables(&self) -> Result<FlowTables, FlowsError> {
        self.lb.flow_tables()
    }

    /// Takes over how many flows are open, by number of the VIP.
    pub(in crate::node) fn set_open(&mut self, open: &BTreeMap<u16, u32>) -> Result<(), ApplyError> {
        self.lb.set_open(open)
    }

    /// The picture that the maps are being brought to.
    pub(in crate::node) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// The load balancer itself, for questions about it.
    pub(in crate::node) fn inner(&mut self) -> &mut Lb {
        &mut self.lb
    }

    /// Every counter of the programs.
    pub(in crate::node) fn counters(&self) -> Vec<(Reason, u64)> {
        self.lb.counters().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        })
    }

    /// What became of questions for SYN cookies.
    pub(in crate::node) fn cookie_counts(&self) -> Vec<(CookieCount, u64)> {
        self.lb.cookie_counts().unwrap_or_else(|error| {
            tracing::warn!("{error}");
            Vec::new()
        })
    }

    /// Passes traced packets on.
    pub(in crate::node) fn drain_trace(&mut self) {
        self.lb.drain_trace();
    }

    /// What differs from what was brought about without a failure is somebody else's doing.
    fn count_repairs(&self) {
        let (Some(actual), Some(_)) = (&self.known, &self.view) else {
            return;
        };
        let foreign = plan(&self.wanted, actual);
        let ops = foreign.adds.iter().chain(&foreign.removes);
        let count = ops.filter(|op| !self.is_unsettled(op)).count();
        let repairs = self.status.metrics.repairs.get_or_create_owned(&PlaneName::Lb.label());
        repairs.inc_by(u64::try_from(count).unwrap_or_default());
    }

    fn is_unsettled(&self, op: &Op) -> bool {
        match op {
            Op::PutVip(vip, _) | Op::RemoveVip(vip) => self.unsettled.vips.contains(vip),
            Op::PutBackend(key, _) | Op::RemoveBackend(key) => self.unsettled.backends.contains(key),
            _ => false,
        }
    }

    /// Works everything out anew.
    fn want_all(&mut self) {
        let Some(view) = &self.view else { return };
        let tasks: BTreeSet<&TaskId> = self.snapshot.tasks.keys().map(|key| &key.1).collect();
        self.dead.retain(|task| tasks.contains(task));
        self.wanted = if self.dead.is_empty() {
            desired(&self.snapshot, view)
        } else {
            desired(&without(&self.snapshot, &self.dead), view)
        };
        self.here.clear();
        for (address, service) in &self.snapshot.services {
            note_here(&mut self.here, view, *address, service);
        }
        self.scope = None;
    }

    /// Tasks that were dead here and are in the picture no more need no remembering; the VIPs of those that are in it
    /// still, or again under the same name, are looked at once more.
    fn revived(&mut self) -> Vec<VipAddress> {
        let here = &self.here;
        self.dead.retain(|task| here.contains_key(task));
        let vips = self.dead.iter().filter_map(|task| here.get(task));
        vips.flatten().copied().collect()
    }

    /// Works out these VIPs alone; `before` is where they were told until now.
    fn want(&mut self, before: &Services, changed: &[VipAddress]) {
        let Some(view) = &self.view else { return };
        self.wanted.generation = self.snapshot.generation;
        let mut scope = std::mem::take(&mut self.unsettled);
        for address in changed {
            if let Some(old) = before.get(address) {
                forget_here(&mut self.here, view, *address, old);
            }
            let service = self.snapshot.services.get(address);
            if let Some(service) = service {
                note_here(&mut self.here, view, *address, service);
            }
            let alive = service.and_then(|service| alive(service, &self.dead));
            let touched = self.wanted.change(*address, alive.as_deref(), view);
            scope.vips.extend(touched.vips);
            scope.backends.extend(touched.backends);
        }
        self.scope = Some(scope);
    }

    /// Without it the end of a backend is noticed when its process is gone, a moment later.
    fn tell_listeners(&mut self, always: bool) {
        if let Err(error) = self.lb.tell_listeners(always) {
            tracing::warn!("{error}");
        }
    }

    fn look(&mut self) {
        self.known = match observe(&mut self.lb) {
            Ok(actual) => Some(actual),
            Err(error) => {
                self.failures.push(error.to_string());
                None
            }
        };
        let hindered = self.lb.nat6_hindered().map(str::to_owned);
        self.status.change(|facts| facts.nat6_hindered = hindered);
    }

    fn carry_out(&mut self, half: Half) {
        if self.known.is_none() {
            self.look();
        }
        let Some(known) = &mut self.known else { return };
        let mut steps = match &self.scope {
            Some(scope) => plan_touched(&self.wanted, known, scope),
            None => plan(&self.wanted, known),
        };
        match half {
            Half::Adds => steps.removes.clear(),
            Half::Removes => steps.adds.clear(),
        }
        if steps.is_empty() {
            return;
        }
        let report = apply(&mut self.lb, &steps);
        // One that fails leaves what was there before; the others do not suffer.
        for (op, error) in &report.failed {
            self.failures.push(format!("{}: {error}", subject(op)));
            match op {
                Op::PutVip(vip, _) | Op::RemoveVip(vip) => {
                    self.unsettled.vips.insert(*vip);
                }
                Op::PutBackend(key, _) | Op::RemoveBackend(key) | Op::SetHop(key, _) => {
                    self.unsettled.backends.insert(*key);
                }
                Op::PutPeer(_) | Op::RemovePeer(_) => self.unsettled.nodes = true,
                Op::Attach(_) | Op::SetOwn(_) | Op::SetOwn6(_) | Op::SetMtu(_) => {}
            }
        }
        let done = |op: &Op| !report.failed.iter().any(|(failed, _)| failed == op);
        steps.adds.retain(&done);
        steps.removes.retain(&done);
        known.note(&steps);
        self.tell_listeners(false);
    }
}

#[derive(Clone, Copy, Debug)]
enum Half {
    Adds,
    Removes,
}

/// What a step is about, for sentences; a table of thousands of backends is none.
fn subject(op: &Op) -> String {
    match op {
        Op::Attach(hook) => format!("hook {hook}"),
        Op::SetOwn(own) => format!("own address {own}"),
        Op::SetOwn6(own) => format!(
            "own IPv6 address {}",
            own.map_or("none".to_owned(), |own| own.to_string())
        ),
        Op::SetMtu(mtu) => format!("the fabric's MTU {mtu}"),
        Op::PutPeer(peer) | Op::RemovePeer(peer) => format!("peer {peer}"),
        Op::PutBackend(key, _) | Op::RemoveBackend(key) | Op::SetHop(key, _) => format!("backend {key}"),
        Op::PutVip(vip, _) | Op::RemoveVip(vip) => format!("VIP {vip}"),
    }
}

fn is_here(view: &NodeView, backend: &model::Backend) -> bool {
    backend.agent_ip == view.ip || view.agent.as_ref() == Some(&backend.agent)
}

type Here = BTreeMap<TaskId, BTreeSet<VipAddress>>;

fn note_here(here: &mut Here, view: &NodeView, address: VipAddress, service: &Service) {
    for backend in service.backends.iter().filter(|backend| is_here(view, backend)) {
        here.entry(backend.task.clone()).or_default().insert(address);
    }
}

fn forget_here(here: &mut Here, view: &NodeView, address: VipAddress, service: &Service) {
    for backend in service.backends.iter().filter(|backend| is_here(view, backend)) {
        if let Some(vips) = here.get_mut(&backend.task) {
            vips.remove(&address);
            if vips.is_empty() {
                here.remove(&backend.task);
            }
        }
    }
}

/// The service without its dead backends; `None` when it then has none.
fn alive(service: &Arc<Service>, dead: &BTreeSet<TaskId>) -> Option<Arc<Service>> {
    if dead.is_empty() || !service.backends.iter().any(|backend| dead.contains(&backend.task)) {
        return Some(Arc::clone(service));
    }
    let mut left = Service::clone(service);
    left.backends.retain(|backend| !dead.contains(&backend.task));
    (!left.backends.is_empty()).then(|| Arc::new(left))
}

/// The picture without the backends of these tasks, and without the VIPs that then have none.
fn without(snapshot: &Snapshot, dead: &BTreeSet<TaskId>) -> Snapshot {
    let mut services = snapshot.services.clone();
    for (vip, service) in &snapshot.services {
        match alive(service, dead) {
            Some(left) if Arc::ptr_eq(&left, service) => {}
            Some(left) => {
                services.insert(*vip, left);
            }
            None => {
                services.remove(vip);
            }
        }
    }
    Snapshot {
        services,
        ..snapshot.clone()
    }
}

#[cfg(test)]
#[path = "lb/tests.rs"]
mod tests;
