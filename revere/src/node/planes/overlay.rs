//! The overlay as a plane of the node: looks at the kernel only when the wanted state changed, or to check.

use std::net::Ipv4Addr;

use agent::Agent;
use model::{NodeView, Snapshot};
use overlay::{Desired, Op, Overlay, Plan, apply, desired, observe, plan, warm};

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
}

impl OverlayPlane {
    pub(in crate::node) fn new(overlay: Overlay) -> Self {
        Self {
            overlay,
            settled: None,
            wanted: None,
            removes: Vec::new(),
            failures: Vec::new(),
            agent: None,
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
        if unchanged && !target.full && !target.disturbed {
            self.wanted = Some(wanted);
            return;
        }
        self.failures.extend(wanted.problems.iter().map(ToString::to_string));
        match observe(&mut self.overlay).await {
            Ok(actual) => {
                let plan = plan(&wanted, &actual);
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
        // The agent takes what it is told for what holds: not before it does.
        if self.failures.len() <= wanted.problems.len() {
            self.tell_networks(target);
        }
        self.wanted = Some(wanted);
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
        let peers: Vec<Ipv4Addr> = target
            .snapshot
            .nodes
            .values()
            .map(|node| node.ip)
            .filter(|ip| *ip != own)
            .collect();
        for error in warm(&mut self.overlay, &peers).await {
            tracing::debug!("overlay: {error}");
        }
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
