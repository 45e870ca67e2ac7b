//! Mirrors of the messages and of what they carry from the scheduler's border.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use model::{AgentId, Ipv4Net, KillPolicy, LaunchSpec, Resources, SecretValue, TaskId, TaskStatus};
use scheduler::{Domain, InstanceId, Registered, Registration, ReportedTask, TakenNet};

use super::super::since::Version;
use super::super::{AgentMessage, MasterMessage, Wire, WireError};
use super::{list, unlist};

impl Wire for ReportedTask {
    type Mirror = (<LaunchSpec as Wire>::Mirror, <TaskStatus as Wire>::Mirror);

    fn to_mirror(&self) -> Self::Mirror {
        (self.spec.to_mirror(), self.status.to_mirror())
    }

    fn from_mirror((spec, status): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self {
            spec: LaunchSpec::from_mirror(spec)?,
            status: TaskStatus::from_mirror(status)?,
        })
    }
}

impl Wire for Domain {
    /// (region, zone, role)
    type Mirror = (Option<String>, Option<String>, String);

    fn to_mirror(&self) -> Self::Mirror {
        (self.region.clone(), self.zone.clone(), self.role.clone())
    }

    fn from_mirror((region, zone, role): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self { region, zone, role })
    }
}

impl Wire for TakenNet {
    type Mirror = (<Ipv4Net as Wire>::Mirror, String);

    fn to_mirror(&self) -> Self::Mirror {
        (self.net.to_mirror(), self.by.clone())
    }

    fn from_mirror((net, by): Self::Mirror) -> Result<Self, WireError> {
        let net = Ipv4Net::from_mirror(net)?;
        Ok(Self { net, by })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct RegistrationMirror {
    agent: Option<String>,
    hostname: String,
    ip: u32,
    http_port: u16,
    resources: <Resources as Wire>::Mirror,
    ports: Vec<(u16, u16)>,
    attributes: BTreeMap<String, String>,
    domain: <Domain as Wire>::Mirror,
    taken: Vec<<TakenNet as Wire>::Mirror>,
    tasks: Vec<<ReportedTask as Wire>::Mirror>,
}

impl Wire for Registration {
    type Mirror = RegistrationMirror;

    fn to_mirror(&self) -> RegistrationMirror {
        RegistrationMirror {
            agent: self.agent.as_ref().map(|id| id.as_str().to_owned()),
            hostname: self.hostname.clone(),
            ip: self.ip.into(),
            http_port: self.http_port,
            resources: self.resources.to_mirror(),
            ports: self.ports.clone(),
            attributes: self.attributes.clone(),
            domain: self.domain.to_mirror(),
            taken: list(&self.taken),
            tasks: list(&self.tasks),
        }
    }

    fn from_mirror(mirror: RegistrationMirror) -> Result<Self, WireError> {
        Ok(Self {
            agent: mirror.agent.map(AgentId::new),
            hostname: mirror.hostname,
            ip: mirror.ip.into(),
            http_port: mirror.http_port,
            resources: Resources::from_mirror(mirror.resources)?,
            ports: mirror.ports,
            attributes: mirror.attributes,
            domain: Domain::from_mirror(mirror.domain)?,
            taken: unlist(mirror.taken)?,
            tasks: unlist(mirror.tasks)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct RegisteredMirror {
    agent: String,
    subnet: Option<<Ipv4Net as Wire>::Mirror>,
    unknown: Vec<String>,
}

impl Wire for Registered {
    type Mirror = RegisteredMirror;

    fn to_mirror(&self) -> RegisteredMirror {
        RegisteredMirror {
            agent: self.agent.as_str().to_owned(),
            subnet: self.subnet.map(|net| net.to_mirror()),
            unknown: self.unknown.iter().map(|id| id.as_str().to_owned()).collect(),
        }
    }

    fn from_mirror(mirror: RegisteredMirror) -> Result<Self, WireError> {
        Ok(Self {
            agent: AgentId::new(mirror.agent),
            subnet: mirror.subnet.map(Ipv4Net::from_mirror).transpose()?,
            unknown: mirror.unknown.into_iter().map(TaskId::new).collect(),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub enum AgentMessageMirror {
    Register(Box<RegistrationMirror>),
    Status {
        sequence: u64,
        task: String,
        status: <TaskStatus as Wire>::Mirror,
    },
    Heartbeat,
    VolumesGone(String),
}

impl Wire for AgentMessage {
    type Mirror = AgentMessageMirror;

    fn to_mirror(&self) -> AgentMessageMirror {
        match self {
            Self::Register(registration) => AgentMessageMirror::Register(Box::new(registration.to_mirror())),
            Self::Status { sequence, task, status } => AgentMessageMirror::Status {
                sequence: *sequence,
                task: task.as_str().to_owned(),
                status: status.to_mirror(),
            },
            Self::Heartbeat => AgentMessageMirror::Heartbeat,
            Self::VolumesGone(owner) => AgentMessageMirror::VolumesGone(owner.0.clone()),
        }
    }

    fn from_mirror(mirror: AgentMessageMirror) -> Result<Self, WireError> {
        Ok(match mirror {
            AgentMessageMirror::Register(registration) => {
                Self::Register(Box::new(Registration::from_mirror(*registration)?))
            }
            AgentMessageMirror::Status { sequence, task, status } => Self::Status {
                sequence,
                task: TaskId::new(task),
                status: TaskStatus::from_mirror(status)?,
            },
            AgentMessageMirror::Heartbeat => Self::Heartbeat,
            AgentMessageMirror::VolumesGone(owner) => Self::VolumesGone(InstanceId(owner)),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub enum MasterMessageMirror {
    Registered(RegisteredMirror),
    Launch(Box<<LaunchSpec as Wire>::Mirror>),
    Kill {
        task: String,
        policy: <KillPolicy as Wire>::Mirror,
    },
    Ack {
        sequence: u64,
    },
    Refused(String),
    Heartbeat,
    RemoveVolumes(String),
    Secrets {
        task: String,
        values: Vec<(String, Vec<u8>)>,
    },
    LaunchPod(Vec<<LaunchSpec as Wire>::Mirror>),
}

impl Wire for MasterMessage {
    type Mirror = MasterMessageMirror;

    fn to_mirror(&self) -> MasterMessageMirror {
        match self {
            Self::Registered(registered) => MasterMessageMirror::Registered(registered.to_mirror()),
            Self::Launch(spec) => MasterMessageMirror::Launch(Box::new(spec.to_mirror())),
            Self::Kill { task, policy } => MasterMessageMirror::Kill {
                task: task.as_str().to_owned(),
                policy: policy.to_mirror(),
            },
            Self::Ack { sequence } => MasterMessageMirror::Ack { sequence: *sequence },
            Self::Refused(reason) => MasterMessageMirror::Refused(reason.clone()),
            Self::Heartbeat => MasterMessageMirror::Heartbeat,
            Self::RemoveVolumes(owner) => MasterMessageMirror::RemoveVolumes(owner.0.clone()),
            Self::Secrets { task, values } => MasterMessageMirror::Secrets {
                task: task.as_str().to_owned(),
                values: (values.iter())
                    .map(|(path, value)| (path.clone(), value.expose().to_vec()))
                    .collect(),
            },
            Self::LaunchPod(specs) => MasterMessageMirror::LaunchPod(list(specs)),
        }
    }

    fn from_mirror(mirror: MasterMessageMirror) -> Result<Self, WireError> {
        Ok(match mirror {
            MasterMessageMirror::Registered(registered) => Self::Registered(Registered::from_mirror(registered)?),
            MasterMessageMirror::Launch(spec) => Self::Launch(Box::new(LaunchSpec::from_mirror(*spec)?)),
            MasterMessageMirror::Kill { task, policy } => Self::Kill {
                task: TaskId::new(task),
                policy: KillPolicy::from_mirror(policy)?,
            },
            MasterMessageMirror::Ack { sequence } => Self::Ack { sequence },
            MasterMessageMirror::Refused(reason) => Self::Refused(reason),
            MasterMessageMirror::Heartbeat => Self::Heartbeat,
            MasterMessageMirror::RemoveVolumes(owner) => Self::RemoveVolumes(InstanceId(owner)),
            MasterMessageMirror::Secrets { task, values } => Self::Secrets {
                task: TaskId::new(task),
                values: (values.into_iter())
                    .map(|(path, value)| (path, SecretValue::new(value)))
                    .collect(),
            },
            MasterMessageMirror::LaunchPod(specs) => Self::LaunchPod(unlist(specs)?),
        })
    }
}
