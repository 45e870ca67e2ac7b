//! What an agent needs to start and to end a task.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Container, Fetch, FrameworkId, PodPart, PortMapping, TaskChecks, TaskId, TaskPort};

/// How a task's process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `/bin/sh -c TEXT`.
    Shell(String),
    /// Executed directly; the first element is the program. With an image these follow its entrypoint, and none at all
    /// means its own command.
    Argv(Vec<String>),
}

/// Scalar resources of a task or an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU (Mesos keeps three decimals).
    pub cpus_milli: u64,
    /// MiB of memory.
    pub mem_mb: u64,
    /// MiB of disk.
    pub disk_mb: u64,
}

impl Resources {
    /// Whether `other` fits into what is left here.
    pub fn holds(&self, other: &Self) -> bool {
        self.cpus_milli >= other.cpus_milli && self.mem_mb >= other.mem_mb && self.disk_mb >= other.disk_mb
    }

    /// The sum, saturating.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.saturating_add(other.cpus_milli),
            mem_mb: self.mem_mb.saturating_add(other.mem_mb),
            disk_mb: self.disk_mb.saturating_add(other.disk_mb),
        }
    }

    /// The difference, not below zero.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self {
            cpus_milli: self.cpus_milli.saturating_sub(other.cpus_milli),
            mem_mb: self.mem_mb.saturating_sub(other.mem_mb),
            disk_mb: self.disk_mb.saturating_sub(other.disk_mb),
        }
    }
}

/// The network a task lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskNetwork {
    /// The agent's own network namespace.
    Host,
    /// An own namespace with one veth and an address of the node's subnet on the named network
    /// (Marathon's `container` mode, and `container/bridge` under the name `bridge`).
    Container {
        /// Network name, for example `dcos`.
        name: String,
    },
}

/// When the agent reports a started process as RUNNING.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyRule {
    /// As soon as the process exists.
    AtStart,
    /// When all these TCP ports listen inside the task's network namespace. After `within` the task is reported
    /// RUNNING but unhealthy, and healthy once they listen.
    WhenListening {
        /// TCP ports, as bound inside the task's namespace.
        ports: Vec<u16>,
        /// How long to stay in STARTING.
        within: Duration,
    },
}

/// How a task is ended: announce, let connections drain, ask, then insist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillPolicy {
    /// Time in TASK_KILLING before SIGTERM, for every node to take the task out of rotation.
    pub drain: Duration,
    /// Time between SIGTERM and SIGKILL (Mesos: 3 s).
    pub grace: Duration,
}

/// Everything an agent needs to start one task. Complete: the agent adds only what it alone can know
/// (`HOST`, sandbox paths).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchSpec {
    /// Task id; a second launch of the same id is ignored.
    pub task: TaskId,
    /// Task name (Marathon's `/a/b` is `b.a`).
    pub name: String,
    /// Owning framework.
    pub framework: FrameworkId,
    /// What to run.
    pub command: Command,
    /// Unix user to run as; the agent's own when absent.
    pub user: Option<String>,
    /// Its root directory, mounts and limits of what it may do.
    pub container: Container,
    /// What is brought into its sandbox first, in order.
    pub fetch: Vec<Fetch>,
    /// The whole environment but for what only the agent knows.
    pub env: BTreeMap<String, String>,
    /// Limits.
    pub resources: Resources,
    /// Host or own network namespace.
    pub network: TaskNetwork,
    /// DiscoveryInfo ports with their labels.
    pub ports: Vec<TaskPort>,
    /// Host ports that lead into the container.
    pub mappings: Vec<PortMapping>,
    /// Host ports taken from the agent's `ports` resource, in order.
    pub host_ports: Vec<u16>,
    /// Task labels.
    pub labels: BTreeMap<String, String>,
    /// When it counts as RUNNING.
    pub ready: ReadyRule,
    /// What it is asked while it runs.
    pub checks: TaskChecks,
    /// How it is ended when no other policy is given.
    pub kill: KillPolicy,
    /// The pod's instance that it is a part of, if it is.
    pub pod: Option<Box<PodPart>>,
}
