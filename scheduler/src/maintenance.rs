//! Maintenance: when machines are expected to be away, and which are taken out of service now.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{AgentRecord, Timestamp};

/// A machine as operators name it: by its host name, its address, or both. What is empty says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine {
    /// Host name, in lower case.
    pub hostname: String,
    /// Address.
    pub ip: String,
}

impl Machine {
    /// Whether an agent is on it.
    pub fn is_of(&self, agent: &AgentRecord) -> bool {
        let same = |named: &str, own: &str| named.is_empty() || named.eq_ignore_ascii_case(own);
        same(&self.hostname, &agent.hostname) && same(&self.ip, &agent.ip.to_string())
    }

    /// Whether it is named at all.
    pub fn is_named(&self) -> bool {
        !self.hostname.is_empty() || !self.ip.is_empty()
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.hostname.as_str(), self.ip.as_str()) {
            (name, "") => f.write_str(name),
            ("", ip) => f.write_str(ip),
            (name, ip) => write!(f, "{name} ({ip})"),
        }
    }
}

/// When machines are expected to be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailability {
    /// From when on, in nanoseconds since 1970.
    pub start_ns: u64,
    /// For how long; for ever where nothing is said.
    pub duration_ns: Option<u64>,
}

impl Unavailability {
    /// From when on.
    pub fn start(&self) -> Timestamp {
        Timestamp(self.start_ns / 1_000_000)
    }

    /// Until when.
    pub fn end(&self) -> Option<Timestamp> {
        let lasts = Duration::from_nanos(self.duration_ns?);
        Some(self.start().after(lasts))
    }

    /// Whether it is now.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.start() <= now && self.end().is_none_or(|end| now < end)
    }
}

/// Machines that are away at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which.
    pub machines: Vec<Machine>,
    /// When.
    pub unavailability: Unavailability,
}

/// All that operators said of maintenance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// What is planned, machines that are out of service included.
    pub windows: Vec<Window>,
    /// Out of service now.
    pub down: BTreeSet<Machine>,
}

impl Maintenance {
    /// Every machine of the plan.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.windows.iter().flat_map(|window| &window.machines)
    }

    /// When an agent's machine is expected to be away.
    pub fn of(&self, agent: &AgentRecord) -> Option<Unavailability> {
        let mut windows = self.windows.iter();
        let window = windows.find(|window| window.machines.iter().any(|one| one.is_of(agent)));
        window.map(|window| window.unavailability)
    }

    /// Whether an agent's machine is out of service.
    pub fn is_down(&self, agent: &AgentRecord) -> bool {
        self.down.iter().any(|machine| machine.is_of(agent))
    }
}

/// What an operator says of maintenance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MaintenanceCall {
    /// The whole plan, in place of the one before.
    Schedule(Vec<Window>),
    /// These go out of service.
    Start(Vec<Machine>),
    /// These are back, and no longer planned.
    Stop(Vec<Machine>),
}
