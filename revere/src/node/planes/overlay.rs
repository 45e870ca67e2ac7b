//! The overlay as a plane of the node: looks at the kernel only when the wanted state changed, or to check.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use agent::Agent;
use model::{Ipv4Net, NodeView, Snapshot};
use overlay::{Desired, Object, Op, Overlay, Plan, apply, change, desired, observe, plan, warm};

use crate::node::reconcile::Target;
use crate::node::status::{PlaneName, Status};

#[derive(Debug)]
pub(in crate::node) struct OverlayPlane {
    overlay: Overlay,
    /// What the kernel was last brought to without a failure.
    settled: Option<Desired>,
    /// Of the pass under way: what it brings about, what it still has to remove, what went wrong.
    wanted: Option<Desired>,
    removes: Vec<Op>,
    failures: Vec<String>,
    /// Who starts tasks on the networks that are there.
    agent: Option<Agent>,
    /// Nodes without Revere.
    bare: Vec<Ipv4Net>,
    /// IPv6 addresses of backends there, as of the last pass.
    bare6: BTreeSet<IpAddr>,
}

impl OverlayPlane {
    pub(in crate::node) fn new(overlay: Overlay, bare: Vec<Ipv4Net>) -> Self {
        Self {
            overlay,
            settled: None,
            wanted: None,
            removes: Vec::new(),
            failures: Vec::new(),
            agent: None,
            bare,
            bare6: BTreeSet::new(),
        }
    }

    /// The same, telling the agent which networks have everything that keeps their tasks reachable and apart.
    pub(in crate::node) fn telling(mut self, agent: Agent) -> Self {
        self.agent = Some(agent);
        self
    }

    fn tell_networks(&self, target: &Target) {
        let Some(agent) = &self.agent else { return };
        let own = target.view.agent.as_ref().and_then(|id| target.snapshot.nodes.get(id));
        let overlay = self.overlay.config().overlay_net;
        let number = own
            .and_then(|own| own.subnet)
            .and_then(|subnet| subnet.index_in(overlay));
        let networks = own.into_iter().flat_map(|own| own.networks.iter());
        let blocks = networks.filter_map(|network| Some((network.name.clone(), network.block(number?)?)));
        agent.set_networks(blocks.collect());
    }

    /// Before anything else is opened: the addresses and routes that need no picture of the cluster. Removes nothing.
    pub(in crate::node) async fn prepare(&mut self, ip: Ipv4Addr) -> Result<String, overlay::ObserveError> {
        let view = NodeView { ip, agent: None };
        let wanted = desired(&Snapshot::default(), &view, self.overlay.config());
        let actual = observe(&mut self.overlay).await?;
        let uplink = actual.uplink.name.clone();
        let adds = Plan {
            adds: plan(&wanted, &actual).adds,
            removes: Vec::new(),
        };
        for (op, error) in apply(&mut self.overlay, &adds).await.failed {
            tracing::warn!(%op, "overlay: {error}");
        }
        Ok(uplink)
    }

    pub(super) async fn adds(&mut self, target: &Target, status: &Status) {
        let wanted = desired(&target.snapshot, &target.view, self.overlay.config());
        self.removes.clear();
        self.failures.clear();
        let unchanged = self.settled.as_ref() == Some(&wanted);
        self.warm_bare6(target).await;
        if unchanged && !target.full && !target.disturbed {
            self.wanted = Some(wanted);
            return;
        }
        self.failures.extend(wanted.problems.iter().map(ToString::to_string));
        let trusted = self.settled.as_ref().filter(|_| !target.full && !target.disturbed);
        if let Some(plan) = trusted.and_then(|before| change(before, &wanted)) {
            self.small(plan).await;
        } else {
            self.look(&wanted, unchanged, target, status).await;
        }
        // The agent takes what it is told for what holds: not before it does.
        if self.failures.len() <= wanted.problems.len() {
            self.tell_networks(target);
        }
        self.wanted = Some(wanted);
    }

    /// A change of what the kernel holds already; of the peers only those that come are made warm.
    async fn small(&mut self, plan: Plan) {
        let come = plan.adds.iter().filter_map(|op| match op {
            Op::Add(Object::Fdb { node, .. }) => Some(IpAddr::V4(*node)),
            _ => None,
        });
        let come: BTreeSet<IpAddr> = come.collect();
        self.removes = plan.removes;
        let adds = Plan {
            adds: plan.adds,
            removes: Vec::new(),
        };
        self.carry_out(&adds).await;
        self.warm_these(come).await;
    }

    async fn warm_these(&mut self, nodes: BTreeSet<IpAddr>) {
        let nodes: Vec<IpAddr> = nodes.into_iter().collect();
        for error in warm(&mut self.overlay, &nodes).await {
            tracing::debug!("overlay: {error}");
        }
    }

    /// Backends of nodes without Revere that come are made warm at once; the rest when its time has come.
    async fn warm_bare6(&mut self, target: &Target) {
        let now = self.bare6(target);
        let come = now.difference(&self.bare6).copied().collect();
        self.bare6 = now;
        self.warm_these(come).await;
    }

    /// Everything that the kernel lacks or has too much.
    async fn look(&mut self, wanted: &Desired, unchanged: bool, target: &Target, status: &Status) {
        match observe(&mut self.overlay).await {
            Ok(actual) => {
                let plan = plan(wanted, &actual);
                if unchanged {
                    let ops = plan.adds.len() + plan.removes.len();
                    let repairs = status.metrics.repairs.get_or_create_owned(&PlaneName::Overlay.label());
                    repairs.inc_by(u64::try_from(ops).unwrap_or(u64::MAX));
                }
                self.removes = plan.removes;
                let adds = Plan {
                    adds: plan.adds,
                    removes: Vec::new(),
                };
                self.carry_out(&adds).await;
                self.warm(target).await;
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    pub(super) async fn removes(&mut self) -> Vec<String> {
        if !self.removes.is_empty() {
            let removes = Plan {
                adds: Vec::new(),
                removes: std::mem::take(&mut self.removes),
            };
            self.carry_out(&removes).await;
        }
        // What a node is refused for stays wrong until its facts change: no reason to look again and again.
        let problems = self.wanted.as_ref().map_or(0, |wanted| wanted.problems.len());
        self.settled = self.wanted.take().filter(|_| self.failures.len() <= problems);
        self.failures.clone()
    }

    pub(super) async fn warm(&mut self, target: &Target) {
        let own = target.view.ip;
        let peers = target.snapshot.nodes.values().map(|node| node.ip);
        let peers = peers.filter(|ip| *ip != own).map(IpAddr::V4);
        self.warm_these(peers.chain(self.bare6(target)).collect()).await;
    }

    /// IPv6 addresses of backends on nodes without Revere: packets go there by the uplinks' own routes.
    fn bare6(&self, target: &Target) -> BTreeSet<IpAddr> {
        if self.bare.is_empty() {
            return BTreeSet::new();
        }
        let services = target.snapshot.services.values();
        let backends = services.flat_map(|service| &service.backends);
        let bare = |ip| self.bare.iter().any(|net: &Ipv4Net| net.contains(ip));
        backends
            .filter(|backend| backend.addr.is_ipv6() && bare(backend.agent_ip))
            .map(|backend| backend.addr)
            .collect()
    }

    async fn carry_out(&mut self, plan: &Plan) {
        if plan.is_empty() {
            return;
        }
        let report = apply(&mut self.overlay, plan).await;
        self.failures
            .extend(report.failed.iter().map(|(op, error)| format!("{op}: {error}")));
    }
}
