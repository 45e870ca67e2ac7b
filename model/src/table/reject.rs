//! What of the stream had to be left out, and why.

use std::collections::BTreeMap;

use super::TaskKey;
use crate::AgentId;

/// Why one thing of the stream was left out. One malformed thing never costs its neighbours anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// A `VIP*` label of a port whose value is no VIP.
    VipLabel,
    /// A task label `VIP_PORT<index>` that is no VIP of one of the task's host ports.
    VipPortLabel,
    /// A backend without an address of a family the VIP can use.
    NoAddress,
    /// An agent whose host name is no address and could not be resolved.
    UnresolvedAgent,
    /// The range of named VIP addresses is full.
    OutOfAddresses,
    /// Names that are written differently and come out the same once cleaned: they are one service.
    NameClash,
    /// A `revere.weight` that is none.
    OptionWeight,
    /// A `revere.affinity` that is not known.
    OptionAffinity,
    /// A `revere.max-rate` or `revere.max-connections` that is no limit.
    OptionLimit,
    /// A `revere.allow` that is no list of prefixes.
    OptionAllow,
    /// A `revere.reset` that is neither true nor false.
    OptionReset,
    /// A `revere.*` label that nothing reads.
    OptionUnknown,
}

impl RejectReason {
    /// All reasons, for counters that start at zero.
    pub const ALL: [Self; 12] = [
        Self::VipLabel,
        Self::VipPortLabel,
        Self::NoAddress,
        Self::UnresolvedAgent,
        Self::OutOfAddresses,
        Self::NameClash,
        Self::OptionWeight,
        Self::OptionAffinity,
        Self::OptionLimit,
        Self::OptionAllow,
        Self::OptionReset,
        Self::OptionUnknown,
    ];

    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VipLabel => "vip_label",
            Self::VipPortLabel => "vip_port_label",
            Self::NoAddress => "no_address",
            Self::UnresolvedAgent => "unresolved_agent",
            Self::OutOfAddresses => "out_of_addresses",
            Self::NameClash => "name_clash",
            Self::OptionWeight => "option_weight",
            Self::OptionAffinity => "option_affinity",
            Self::OptionLimit => "option_limit",
            Self::OptionAllow => "option_allow",
            Self::OptionReset => "option_reset",
            Self::OptionUnknown => "option_unknown",
        }
    }
}

/// What was left out and why, for logs and counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The class.
    pub reason: RejectReason,
    /// A sentence for people, naming the thing.
    pub what: String,
}

/// What single tasks and agents left out, by which.
#[derive(Clone, Debug, Default)]
pub(super) struct Rejects {
    tasks: BTreeMap<TaskKey, Vec<Rejected>>,
    agents: BTreeMap<AgentId, Rejected>,
}

impl Rejects {
    /// Replaces what a task left out.
    pub(super) fn of_task(&mut self, task: &TaskKey, rejected: &[Rejected]) {
        if rejected.is_empty() {
            self.tasks.remove(task);
        } else {
            self.tasks.insert(task.clone(), rejected.to_vec());
        }
    }

    /// Replaces what an agent left out.
    pub(super) fn of_agent(&mut self, agent: &AgentId, rejected: Option<Rejected>) {
        match rejected {
            Some(rejected) => self.agents.insert(agent.clone(), rejected),
            None => self.agents.remove(agent),
        };
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Rejected> {
        self.agents.values().chain(self.tasks.values().flatten())
    }
}
