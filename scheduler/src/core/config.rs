//! The core's settings and where their defaults come from.

use std::net::Ipv4Addr;
use std::time::Duration;

use model::Ipv4Net;

/// Settings of a [`crate::Scheduler`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Framework name; VIP and task names end in it (`marathon`, as on DC/OS).
    pub framework_name: String,
    /// Text before `-S<n>` in agent ids and before `-0000` in the framework id; one per cluster.
    pub cluster: String,
    /// Network of `container` mode when none is named (Marathon's `--default_network_name`; DC/OS: `dcos`).
    pub default_network: String,
    /// Block that agents get their overlay subnets from (DC/OS: 9.0.0.0/8), or `None` for no overlay.
    pub overlay: Option<Ipv4Net>,
    /// Prefix length of an agent's subnet (DC/OS: 24).
    pub overlay_prefix: u8,
    /// Silence after which an agent counts as unreachable (Mesos: 15 s x 5).
    pub agent_timeout: Duration,
    /// Silence after which an agent's tasks take no new connections where others can; zero is never.
    pub suspect_after: Duration,
    /// Share of the agents in percent that may be given up at the usual pace within `reregister_timeout`; one always may.
    pub loss_share_percent: u8,
    /// Shortest time between two agents that are given up (DC/OS: 100 a minute).
    pub loss_pause: Duration,
    /// The same beyond that share: then it is more likely the master that is cut off.
    pub loss_pause_beyond: Duration,
    /// How long agents may take to come back after a restart of the master (Mesos `agent_reregister_timeout`).
    pub reregister_timeout: Duration,
    /// How long an unreachable agent's id and subnet are remembered (Mesos `registry_max_agent_age`).
    pub forget_agent: Duration,
    /// Interval of repeating a Launch or Kill without answer (Mesos status update retry and Marathon kill retry: 10 s).
    pub retry: Duration,
    /// How long a task with TCP VIP ports may stay STARTING before it counts as unhealthy.
    pub ready_within: Duration,
    /// Time in KILLING before SIGTERM for tasks with a VIP: nodes learn within about 1 s.
    pub drain: Duration,
    /// Time from SIGTERM to SIGKILL where the app says nothing (Mesos executors: 3 s).
    pub grace: Duration,
    /// How long an offer to a framework stays out; zero is for ever (DC/OS `MESOS_OFFER_TIMEOUT`: 2 min).
    pub offer_timeout: Duration,
    /// Service ports given where the user wrote 0, both ends included (Marathon `--local_port_min/max`).
    pub service_ports: (u16, u16),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            framework_name: "marathon".to_owned(),
            cluster: "revere".to_owned(),
            default_network: "dcos".to_owned(),
            overlay: Ipv4Net::new(Ipv4Addr::new(9, 0, 0, 0), 8).ok(),
            overlay_prefix: 24,
            agent_timeout: Duration::from_secs(75),
            suspect_after: Duration::from_secs(3),
            loss_share_percent: 50,
            loss_pause: Duration::from_millis(600),
            loss_pause_beyond: Duration::from_secs(60),
            reregister_timeout: Duration::from_secs(600),
            forget_agent: Duration::from_secs(14 * 24 * 3600),
            retry: Duration::from_secs(10),
            ready_within: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            grace: Duration::from_secs(3),
            offer_timeout: Duration::from_secs(120),
            service_ports: (10_000, 20_000),
        }
    }
}
