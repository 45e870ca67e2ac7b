//! Mirrors of the model's types.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use bincode::{Decode, Encode};
use model::{
    AgentId, AgentInfo, CheckResults, Command, Container, FrameworkId, FrameworkInfo, Ipv4Net, KillPolicy, LaunchSpec,
    Network, PodPart, PortMapping, PortScope, Protocol, ReadyRule, Reason, Resources, StateSnapshot, Task, TaskChecks,
    TaskId, TaskNetwork, TaskPort, TaskState, TaskStatus,
};

use super::super::since::{Since, Version};
use super::super::{Wire, WireError};
use super::container::{ContainerMirror, FetchMirror};
use super::{list, unlist};

type Map = BTreeMap<String, String>;

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct StatusMirror {
    state: String,
    healthy: Option<bool>,
    addresses: Vec<IpAddr>,
    message: Option<String>,
    timestamp_ms: u64,
    checks: Since<2, <CheckResults as Wire>::Mirror>,
    reason: Since<3, Option<String>>,
}

impl Wire for TaskStatus {
    type Mirror = StatusMirror;

    fn to_mirror(&self) -> StatusMirror {
        StatusMirror {
            state: self.state.as_str().to_owned(),
            healthy: self.healthy,
            addresses: self.addresses.clone(),
            message: self.message.clone(),
            timestamp_ms: self.timestamp_ms,
            checks: Since(self.checks.to_mirror()),
            reason: Since(self.reason.map(|reason| reason.as_str().to_owned())),
        }
    }

    fn from_mirror(mirror: StatusMirror) -> Result<Self, WireError> {
        let reason = || format!("`{}` is none", mirror.state);
        let state = TaskState::parse(&mirror.state).ok_or_else(|| WireError::Field {
            field: "task state",
            reason: reason(),
        })?;
        Ok(Self {
            state,
            // One that this release does not know is no reason to refuse the status.
            reason: mirror.reason.0.as_deref().and_then(Reason::parse),
            healthy: mirror.healthy,
            addresses: mirror.addresses,
            message: mirror.message,
            checks: Box::new(CheckResults::from_mirror(mirror.checks.0)?),
            timestamp_ms: mirror.timestamp_ms,
        })
    }
}

/// Types whose mirror is the tuple or number of their fields.
macro_rules! plain {
    ($name:ty, $mirror:ty, |$value:ident| $to:expr, |$back:ident| $from:expr) => {
        impl Wire for $name {
            type Mirror = $mirror;

            fn to_mirror(&self) -> Self::Mirror {
                let $value = self;
                $to
            }

            fn from_mirror($back: Self::Mirror) -> Result<Self, WireError> {
                Ok($from)
            }
        }
    };
}

plain!(
    Resources,
    (u64, u64, u64),
    |r| (r.cpus_milli, r.mem_mb, r.disk_mb),
    |m| Self {
        cpus_milli: m.0,
        mem_mb: m.1,
        disk_mb: m.2
    }
);
plain!(KillPolicy, (Duration, Duration), |k| (k.drain, k.grace), |m| Self {
    drain: m.0,
    grace: m.1
});
plain!(
    PortMapping,
    (u16, u16, u8),
    |p| (p.host_port, p.container_port, p.protocol.to_mirror()),
    |m| Self {
        host_port: m.0,
        container_port: m.1,
        protocol: Protocol::from_mirror(m.2)?
    }
);

impl Wire for Protocol {
    /// The IANA number.
    type Mirror = u8;

    fn to_mirror(&self) -> u8 {
        self.number()
    }

    fn from_mirror(mirror: u8) -> Result<Self, WireError> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|protocol| protocol.number() == mirror)
            .ok_or_else(|| WireError::Field {
                field: "protocol",
                reason: format!("{mirror} is neither TCP nor UDP"),
            })
    }
}

impl Wire for Ipv4Net {
    type Mirror = (u32, u8);

    fn to_mirror(&self) -> (u32, u8) {
        (self.network().into(), self.prefix())
    }

    fn from_mirror((network, prefix): (u32, u8)) -> Result<Self, WireError> {
        Self::new(network.into(), prefix).map_err(|error| WireError::Field {
            field: "IPv4 prefix",
            reason: error.to_string(),
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct PortMirror {
    number: u16,
    name: Option<String>,
    protocol: u8,
    container: bool,
    labels: Vec<(String, String)>,
}

impl Wire for TaskPort {
    type Mirror = PortMirror;

    fn to_mirror(&self) -> PortMirror {
        PortMirror {
            number: self.number,
            name: self.name.clone(),
            protocol: self.protocol.to_mirror(),
            container: self.scope == PortScope::Container,
            labels: self.labels.clone(),
        }
    }

    fn from_mirror(mirror: PortMirror) -> Result<Self, WireError> {
        Ok(Self {
            number: mirror.number,
            name: mirror.name,
            protocol: Protocol::from_mirror(mirror.protocol)?,
            scope: if mirror.container {
                PortScope::Container
            } else {
                PortScope::Host
            },
            labels: mirror.labels,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub enum CommandMirror {
    Shell(String),
    Argv(Vec<String>),
}

impl Wire for Command {
    type Mirror = CommandMirror;

    fn to_mirror(&self) -> CommandMirror {
        match self {
            Self::Shell(text) => CommandMirror::Shell(text.clone()),
            Self::Argv(words) => CommandMirror::Argv(words.clone()),
        }
    }

    fn from_mirror(mirror: CommandMirror) -> Result<Self, WireError> {
        Ok(match mirror {
            CommandMirror::Shell(text) => Self::Shell(text),
            CommandMirror::Argv(words) => Self::Argv(words),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct LaunchMirror {
    task: String,
    name: String,
    framework: String,
    command: CommandMirror,
    user: Option<String>,
    env: Map,
    resources: (u64, u64, u64),
    /// Network name of a container; `None` is the host's.
    network: Option<String>,
    ports: Vec<PortMirror>,
    mappings: Vec<(u16, u16, u8)>,
    host_ports: Vec<u16>,
    labels: Map,
    /// Ports and time of [`ReadyRule::WhenListening`].
    listening: Option<(Vec<u16>, Duration)>,
    kill: (Duration, Duration),
    checks: Since<2, <TaskChecks as Wire>::Mirror>,
    container: Since<3, ContainerMirror>,
    fetch: Since<3, Vec<FetchMirror>>,
    pod: Since<4, Option<<PodPart as Wire>::Mirror>>,
}

impl Wire for LaunchSpec {
    type Mirror = LaunchMirror;

    fn to_mirror(&self) -> LaunchMirror {
        LaunchMirror {
            task: self.task.as_str().to_owned(),
            name: self.name.clone(),
            framework: self.framework.as_str().to_owned(),
            command: self.command.to_mirror(),
            user: self.user.clone(),
            env: self.env.clone(),
            resources: self.resources.to_mirror(),
            network: match &self.network {
                TaskNetwork::Host => None,
                TaskNetwork::Container { name } => Some(name.clone()),
            },
            ports: list(&self.ports),
            mappings: list(&self.mappings),
            host_ports: self.host_ports.clone(),
            labels: self.labels.clone(),
            listening: match &self.ready {
                ReadyRule::AtStart => None,
                ReadyRule::WhenListening { ports, within } => Some((ports.clone(), *within)),
            },
            kill: self.kill.to_mirror(),
            checks: Since(self.checks.to_mirror()),
            container: Since(self.container.to_mirror()),
            fetch: Since(list(&self.fetch)),
            pod: Since(self.pod.as_ref().map(|pod| pod.to_mirror())),
        }
    }

    fn from_mirror(mirror: LaunchMirror) -> Result<Self, WireError> {
        Ok(Self {
            task: TaskId::new(mirror.task),
            name: mirror.name,
            framework: FrameworkId::new(mirror.framework),
            command: Command::from_mirror(mirror.command)?,
            user: mirror.user,
            container: Container::from_mirror(mirror.container.0)?,
            fetch: unlist(mirror.fetch.0)?,
            pod: mirror.pod.0.map(PodPart::from_mirror).transpose()?.map(Box::new),
            env: mirror.env,
            resources: Resources::from_mirror(mirror.resources)?,
            network: match mirror.network {
                None => TaskNetwork::Host,
                Some(name) => TaskNetwork::Container { name },
            },
            ports: unlist(mirror.ports)?,
            mappings: unlist(mirror.mappings)?,
            host_ports: mirror.host_ports,
            labels: mirror.labels,
            ready: match mirror.listening {
                None => ReadyRule::AtStart,
                Some((ports, within)) => ReadyRule::WhenListening { ports, within },
            },
            checks: TaskChecks::from_mirror(mirror.checks.0)?,
            kill: KillPolicy::from_mirror(mirror.kill)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct TaskMirror {
    id: String,
    name: String,
    framework: String,
    agent: String,
    status: StatusMirror,
    has_health_check: bool,
    has_discovery: bool,
    ports: Vec<PortMirror>,
    mappings: Vec<(u16, u16, u8)>,
    host_ports: Vec<u16>,
    labels: Map,
}

impl Wire for Task {
    type Mirror = TaskMirror;

    fn to_mirror(&self) -> TaskMirror {
        TaskMirror {
            id: self.id.as_str().to_owned(),
            name: self.name.clone(),
            framework: self.framework.as_str().to_owned(),
            agent: self.agent.as_str().to_owned(),
            status: self.status.to_mirror(),
            has_health_check: self.has_health_check,
            has_discovery: self.has_discovery,
            ports: list(&self.ports),
            mappings: list(&self.mappings),
            host_ports: self.host_ports.clone(),
            labels: self.labels.clone(),
        }
    }

    fn from_mirror(mirror: TaskMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: TaskId::new(mirror.id),
            name: mirror.name,
            framework: FrameworkId::new(mirror.framework),
            agent: AgentId::new(mirror.agent),
            status: TaskStatus::from_mirror(mirror.status)?,
            has_health_check: mirror.has_health_check,
            has_discovery: mirror.has_discovery,
            ports: unlist(mirror.ports)?,
            mappings: unlist(mirror.mappings)?,
            host_ports: mirror.host_ports,
            labels: mirror.labels,
        })
    }
}

impl Wire for Network {
    /// As agents' attributes have it.
    type Mirror = String;

    fn to_mirror(&self) -> String {
        self.to_string()
    }

    fn from_mirror(text: String) -> Result<Self, WireError> {
        text.parse().map_err(|error: model::NetworkTextError| WireError::Field {
            field: "network",
            reason: error.to_string(),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct AgentMirror {
    id: String,
    hostname: String,
    ip: Option<u32>,
    port: Option<u16>,
    subnet: Option<(u32, u8)>,
    attributes: Map,
    networks: Since<5, Vec<String>>,
}

impl Wire for AgentInfo {
    type Mirror = AgentMirror;

    fn to_mirror(&self) -> AgentMirror {
        AgentMirror {
            id: self.id.as_str().to_owned(),
            hostname: self.hostname.clone(),
            ip: self.ip.map(u32::from),
            port: self.port,
            subnet: self.subnet.map(|net| net.to_mirror()),
            attributes: self.attributes.clone(),
            networks: Since(list(&self.networks)),
        }
    }

    fn from_mirror(mirror: AgentMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: AgentId::new(mirror.id),
            hostname: mirror.hostname,
            ip: mirror.ip.map(Into::into),
            port: mirror.port,
            subnet: mirror.subnet.map(Ipv4Net::from_mirror).transpose()?,
            networks: unlist(mirror.networks.0)?.into(),
            attributes: mirror.attributes,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct FrameworkMirror {
    id: String,
    name: String,
    ip: Option<String>,
    port: Option<u16>,
}

impl Wire for FrameworkInfo {
    type Mirror = FrameworkMirror;

    fn to_mirror(&self) -> FrameworkMirror {
        FrameworkMirror {
            id: self.id.as_str().to_owned(),
            name: self.name.clone(),
            ip: self.ip.map(|ip| ip.to_string()),
            port: self.port,
        }
    }

    fn from_mirror(mirror: FrameworkMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: FrameworkId::new(mirror.id),
            name: mirror.name,
            // Text that is no address is no reason to throw the picture away.
            ip: mirror.ip.and_then(|ip| ip.parse().ok()),
            port: mirror.port,
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct StateMirror {
    agents: Vec<AgentMirror>,
    recovered_agents: Vec<String>,
    frameworks: Vec<FrameworkMirror>,
    tasks: Vec<TaskMirror>,
}

impl Wire for StateSnapshot {
    type Mirror = StateMirror;

    fn to_mirror(&self) -> StateMirror {
        StateMirror {
            agents: list(&self.agents),
            recovered_agents: self.recovered_agents.iter().map(|id| id.as_str().to_owned()).collect(),
            frameworks: list(&self.frameworks),
            tasks: list(&self.tasks),
        }
    }

    fn from_mirror(mirror: StateMirror) -> Result<Self, WireError> {
        Ok(Self {
            agents: unlist(mirror.agents)?,
            recovered_agents: mirror.recovered_agents.into_iter().map(AgentId::new).collect(),
            frameworks: unlist(mirror.frameworks)?,
            tasks: unlist(mirror.tasks)?,
        })
    }
}
