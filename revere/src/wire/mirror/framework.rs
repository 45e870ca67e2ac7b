//! Mirrors of frameworks and their tasks, as the master stores them.

use std::time::Duration;

use bincode::{Decode, Encode};
use model::{AgentId, FrameworkId, KillPolicy, LaunchSpec, TaskId, TaskStatus};
use scheduler::{
    AgentOrder, Amounts, Capability, Drain, FrameworkRecord, FrameworkSpec, FrameworkTaskRecord, Holding, Machine,
    Maintenance, PendingUpdate, Quota, Timestamp, Unavailability, UpdateId, Window,
};

use super::super::since::{Since, Version};
use super::super::{Wire, WireError};
use super::{list, unlist};

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct FrameworkMirror {
    id: String,
    user: String,
    name: String,
    failover_timeout: Duration,
    checkpoint: bool,
    roles: Vec<String>,
    hostname: String,
    principal: Option<String>,
    webui_url: Option<String>,
    capabilities: Vec<String>,
    labels: Vec<(String, String)>,
    registered_at: u64,
    reregistered_at: Option<u64>,
    removed_at: Option<u64>,
}

impl Wire for FrameworkRecord {
    type Mirror = FrameworkMirror;

    fn to_mirror(&self) -> FrameworkMirror {
        let spec = self.spec.clone();
        FrameworkMirror {
            id: self.id.as_str().to_owned(),
            user: spec.user,
            name: spec.name,
            failover_timeout: spec.failover_timeout,
            checkpoint: spec.checkpoint,
            roles: spec.roles,
            hostname: spec.hostname,
            principal: spec.principal,
            webui_url: spec.webui_url,
            capabilities: spec.capabilities.iter().map(|one| one.as_str().to_owned()).collect(),
            labels: spec.labels,
            registered_at: self.registered_at.0,
            reregistered_at: self.reregistered_at.map(|at| at.0),
            removed_at: self.removed_at.map(|at| at.0),
        }
    }

    fn from_mirror(mirror: FrameworkMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: FrameworkId::new(mirror.id),
            spec: FrameworkSpec {
                user: mirror.user,
                name: mirror.name,
                failover_timeout: mirror.failover_timeout,
                checkpoint: mirror.checkpoint,
                roles: mirror.roles,
                hostname: mirror.hostname,
                principal: mirror.principal,
                webui_url: mirror.webui_url,
                // One that this release does not know is none that it could make use of.
                capabilities: mirror
                    .capabilities
                    .iter()
                    .filter_map(|one| Capability::parse(one))
                    .collect(),
                labels: mirror.labels,
            },
            registered_at: Timestamp(mirror.registered_at),
            reregistered_at: mirror.reregistered_at.map(Timestamp),
            removed_at: mirror.removed_at.map(Timestamp),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct FrameworkTaskMirror {
    task: String,
    name: String,
    has_discovery: bool,
    agent: String,
    role: String,
    spec: <LaunchSpec as Wire>::Mirror,
    status: <TaskStatus as Wire>::Mirror,
    launched_at: u64,
    kill: Option<<KillPolicy as Wire>::Mirror>,
    unreachable_since: Option<u64>,
    pending: Vec<(u128, <TaskStatus as Wire>::Mirror)>,
    from: Since<6, Vec<<Holding as Wire>::Mirror>>,
}

impl Wire for FrameworkTaskRecord {
    type Mirror = FrameworkTaskMirror;

    fn to_mirror(&self) -> FrameworkTaskMirror {
        FrameworkTaskMirror {
            task: self.task.as_str().to_owned(),
            name: self.name.clone(),
            has_discovery: self.has_discovery,
            agent: self.agent.as_str().to_owned(),
            role: self.role.clone(),
            spec: self.spec.to_mirror(),
            status: self.status.to_mirror(),
            launched_at: self.launched_at.0,
            kill: self.kill.map(|kill| kill.to_mirror()),
            unreachable_since: self.unreachable_since.map(|at| at.0),
            pending: self
                .pending
                .iter()
                .map(|one| (one.id.0, one.status.to_mirror()))
                .collect(),
            from: Since(list(&self.from)),
        }
    }

    fn from_mirror(mirror: FrameworkTaskMirror) -> Result<Self, WireError> {
        let pending = |(id, status)| -> Result<PendingUpdate, WireError> {
            Ok(PendingUpdate {
                id: UpdateId(id),
                status: TaskStatus::from_mirror(status)?,
            })
        };
        Ok(Self {
            task: TaskId::new(mirror.task),
            name: mirror.name,
            has_discovery: mirror.has_discovery,
            agent: AgentId::new(mirror.agent),
            role: mirror.role,
            from: unlist(mirror.from.0)?,
            spec: LaunchSpec::from_mirror(mirror.spec)?,
            status: TaskStatus::from_mirror(mirror.status)?,
            launched_at: Timestamp(mirror.launched_at),
            kill: mirror.kill.map(KillPolicy::from_mirror).transpose()?,
            unreachable_since: mirror.unreachable_since.map(Timestamp),
            pending: mirror.pending.into_iter().map(pending).collect::<Result<_, _>>()?,
        })
    }
}

/// An agent and what operators said of it.
pub(crate) struct OrderOf(pub(crate) AgentId, pub(crate) AgentOrder);

impl Wire for OrderOf {
    /// (agent, deactivated, drain: (longest grace, mark gone), gone)
    type Mirror = (String, bool, Option<(Option<Duration>, bool)>, bool);

    fn to_mirror(&self) -> Self::Mirror {
        let drain = self.1.drain.as_ref().map(|drain| (drain.max_grace, drain.mark_gone));
        (self.0.as_str().to_owned(), self.1.deactivated, drain, self.1.gone)
    }

    fn from_mirror((agent, deactivated, drain, gone): Self::Mirror) -> Result<Self, WireError> {
        let drain = drain.map(|(max_grace, mark_gone)| Drain { max_grace, mark_gone });
        let order = AgentOrder {
            deactivated,
            drain,
            gone,
        };
        Ok(Self(AgentId::new(agent), order))
    }
}

type AmountsMirror = (Option<u64>, Option<u64>, Option<u64>);

impl Wire for Quota {
    /// (role, guarantees, limits), each of cpus, mem and disk.
    type Mirror = (String, AmountsMirror, AmountsMirror);

    fn to_mirror(&self) -> Self::Mirror {
        let amounts = |one: &Amounts| (one.cpus_milli, one.mem_mb, one.disk_mb);
        (self.role.clone(), amounts(&self.guarantees), amounts(&self.limits))
    }

    fn from_mirror((role, guarantees, limits): Self::Mirror) -> Result<Self, WireError> {
        let amounts = |(cpus_milli, mem_mb, disk_mb)| Amounts {
            cpus_milli,
            mem_mb,
            disk_mb,
        };
        Ok(Self {
            role,
            guarantees: amounts(guarantees),
            limits: amounts(limits),
        })
    }
}

type MachineMirror = (String, String);

fn machine((hostname, ip): MachineMirror) -> Machine {
    Machine { hostname, ip }
}

impl Wire for Maintenance {
    /// (windows: (machines, start, duration), machines that are down)
    type Mirror = (Vec<(Vec<MachineMirror>, u64, Option<u64>)>, Vec<MachineMirror>);

    fn to_mirror(&self) -> Self::Mirror {
        let named = |one: &Machine| (one.hostname.clone(), one.ip.clone());
        let windows = self.windows.iter().map(|window| {
            let planned = window.unavailability;
            let machines = window.machines.iter().map(named).collect();
            (machines, planned.start_ns, planned.duration_ns)
        });
        (windows.collect(), self.down.iter().map(named).collect())
    }

    fn from_mirror((windows, down): Self::Mirror) -> Result<Self, WireError> {
        let window = |(machines, start_ns, duration_ns): (Vec<MachineMirror>, _, _)| Window {
            machines: machines.into_iter().map(machine).collect(),
            unavailability: Unavailability { start_ns, duration_ns },
        };
        Ok(Self {
            windows: windows.into_iter().map(window).collect(),
            down: down.into_iter().map(machine).collect(),
        })
    }
}

/// A role and what it weighs.
pub(crate) struct WeightOf(pub(crate) String, pub(crate) f64);

impl Wire for WeightOf {
    type Mirror = (String, f64);

    fn to_mirror(&self) -> Self::Mirror {
        (self.0.clone(), self.1)
    }

    fn from_mirror((role, weight): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self(role, weight))
    }
}
