//! Mirrors of what the master stores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use model::{AgentId, Command, Container, FrameworkId, Ipv4Net, LaunchSpec, Protocol, Resources, TaskStatus};
use scheduler::{
    AgentRecord, App, AppHealthCheck, AppId, AppPort, AppReadinessCheck, Backoff, Constraint, Domain, InstanceId,
    InstanceRecord, Member, NetworkMode, Operator, Pod, Residency, Timestamp, ToldShare, UnreachableStrategy,
    UpgradeStrategy,
};

use super::super::since::{Since, Version};
use super::super::{Wire, WireError};
use super::container::{ContainerMirror, FetchMirror};
use super::{list, unlist};

type Map = BTreeMap<String, String>;

impl Wire for FrameworkId {
    type Mirror = String;

    fn to_mirror(&self) -> String {
        self.as_str().to_owned()
    }

    fn from_mirror(mirror: String) -> Result<Self, WireError> {
        Ok(Self::new(mirror))
    }
}

pub(super) fn app_id(text: &str) -> Result<AppId, WireError> {
    AppId::parse(text).map_err(|_| WireError::Field {
        field: "app id",
        reason: format!("`{text}` is none"),
    })
}

#[derive(Debug, Encode, Decode)]
pub struct PortMirror {
    port: u16,
    host_port: Option<u16>,
    service_port: u16,
    protocols: Vec<u8>,
    name: Option<String>,
    labels: Map,
}

impl Wire for AppPort {
    type Mirror = PortMirror;

    fn to_mirror(&self) -> PortMirror {
        PortMirror {
            port: self.port,
            host_port: self.host_port,
            service_port: self.service_port,
            protocols: list(&self.protocols),
            name: self.name.clone(),
            labels: self.labels.clone(),
        }
    }

    fn from_mirror(mirror: PortMirror) -> Result<Self, WireError> {
        Ok(Self {
            port: mirror.port,
            host_port: mirror.host_port,
            service_port: mirror.service_port,
            protocols: unlist::<Protocol>(mirror.protocols)?,
            name: mirror.name,
            labels: mirror.labels,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub(super) enum OperatorMirror {
    Unique,
    Cluster,
    GroupBy,
    MaxPer,
    Is,
    Like,
    Unlike,
}

#[derive(Debug, Encode, Decode)]
pub struct ConstraintMirror {
    field: String,
    operator: OperatorMirror,
    value: Option<String>,
}

impl Wire for Constraint {
    type Mirror = ConstraintMirror;

    fn to_mirror(&self) -> ConstraintMirror {
        let operator = match self.operator {
            Operator::Unique => OperatorMirror::Unique,
            Operator::Cluster => OperatorMirror::Cluster,
            Operator::GroupBy => OperatorMirror::GroupBy,
            Operator::MaxPer => OperatorMirror::MaxPer,
            Operator::Is => OperatorMirror::Is,
            Operator::Like => OperatorMirror::Like,
            Operator::Unlike => OperatorMirror::Unlike,
        };
        ConstraintMirror {
            field: self.field.clone(),
            operator,
            value: self.value.clone(),
        }
    }

    fn from_mirror(mirror: ConstraintMirror) -> Result<Self, WireError> {
        let operator = match mirror.operator {
            OperatorMirror::Unique => Operator::Unique,
            OperatorMirror::Cluster => Operator::Cluster,
            OperatorMirror::GroupBy => Operator::GroupBy,
            OperatorMirror::MaxPer => Operator::MaxPer,
            OperatorMirror::Is => Operator::Is,
            OperatorMirror::Like => Operator::Like,
            OperatorMirror::Unlike => Operator::Unlike,
        };
        Ok(Self {
            field: mirror.field,
            operator,
            value: mirror.value,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub(super) enum NetworkMirror {
    Host,
    Bridge,
    Container(String),
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct AppMirror {
    id: String,
    command: <Command as Wire>::Mirror,
    resources: (u64, u64, u64),
    instances: u32,
    env: Map,
    labels: Map,
    user: Option<String>,
    network: NetworkMirror,
    ports: Vec<PortMirror>,
    require_ports: bool,
    constraints: Vec<ConstraintMirror>,
    dependencies: Since<3, Vec<String>>,
    accepted_roles: Since<3, Vec<String>>,
    backoff: (Duration, f64, Duration),
    kill_grace: Option<Duration>,
    kill_youngest_first: bool,
    /// (minimumHealthCapacity, maximumOverCapacity)
    upgrade_strategy: (f64, f64),
    version: u64,
    last_config_change: u64,
    health_checks: Since<2, Vec<<AppHealthCheck as Wire>::Mirror>>,
    readiness_checks: Since<2, Vec<<AppReadinessCheck as Wire>::Mirror>>,
    unreachable: Since<2, <UnreachableStrategy as Wire>::Mirror>,
    container: Since<3, ContainerMirror>,
    fetch: Since<3, Vec<FetchMirror>>,
    residency: Since<4, Option<u64>>,
    pod: Since<4, Option<<Pod as Wire>::Mirror>>,
}

impl Wire for App {
    type Mirror = AppMirror;

    fn to_mirror(&self) -> AppMirror {
        AppMirror {
            id: self.id.as_str().to_owned(),
            command: self.command.to_mirror(),
            resources: self.resources.to_mirror(),
            instances: self.instances,
            env: self.env.clone(),
            labels: self.labels.clone(),
            user: self.user.clone(),
            network: match &self.network {
                NetworkMode::Host => NetworkMirror::Host,
                NetworkMode::Bridge => NetworkMirror::Bridge,
                NetworkMode::Container(name) => NetworkMirror::Container(name.clone()),
            },
            ports: list(&self.ports),
            require_ports: self.require_ports,
            constraints: list(&self.constraints),
            dependencies: Since(self.dependencies.clone()),
            accepted_roles: Since(self.accepted_roles.clone()),
            backoff: (self.backoff.initial, self.backoff.factor, self.backoff.max),
            kill_grace: self.kill_grace,
            kill_youngest_first: self.kill_youngest_first,
            upgrade_strategy: (
                self.upgrade_strategy.minimum_health_capacity,
                self.upgrade_strategy.maximum_over_capacity,
            ),
            version: self.version.0,
            last_config_change: self.last_config_change.0,
            health_checks: Since(list(&self.health_checks)),
            readiness_checks: Since(list(&self.readiness_checks)),
            unreachable: Since(self.unreachable.to_mirror()),
            container: Since(self.container.to_mirror()),
            fetch: Since(list(&self.fetch)),
            residency: Since(self.residency.map(|residency| residency.escalation_seconds)),
            pod: Since(self.pod.as_ref().map(|pod| pod.to_mirror())),
        }
    }

    fn from_mirror(mirror: AppMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: app_id(&mirror.id)?,
            command: Command::from_mirror(mirror.command)?,
            resources: Resources::from_mirror(mirror.resources)?,
            instances: mirror.instances,
            env: mirror.env,
            labels: mirror.labels,
            user: mirror.user,
            container: Container::from_mirror(mirror.container.0)?,
            fetch: unlist(mirror.fetch.0)?,
            network: match mirror.network {
                NetworkMirror::Host => NetworkMode::Host,
                NetworkMirror::Bridge => NetworkMode::Bridge,
                NetworkMirror::Container(name) => NetworkMode::Container(name),
            },
            ports: unlist(mirror.ports)?,
            require_ports: mirror.require_ports,
            constraints: unlist(mirror.constraints)?,
            dependencies: mirror.dependencies.0,
            // None is what an app of an earlier version has.
            accepted_roles: match mirror.accepted_roles.0 {
                roles if roles.is_empty() => vec!["*".to_owned()],
                roles => roles,
            },
            backoff: Backoff {
                initial: mirror.backoff.0,
                factor: mirror.backoff.1,
                max: mirror.backoff.2,
            },
            kill_grace: mirror.kill_grace,
            kill_youngest_first: mirror.kill_youngest_first,
            upgrade_strategy: UpgradeStrategy {
                minimum_health_capacity: mirror.upgrade_strategy.0,
                maximum_over_capacity: mirror.upgrade_strategy.1,
            },
            health_checks: unlist(mirror.health_checks.0)?,
            readiness_checks: unlist(mirror.readiness_checks.0)?,
            unreachable: UnreachableStrategy::from_mirror(mirror.unreachable.0)?,
            residency: (mirror.residency.0).map(|escalation_seconds| Residency { escalation_seconds }),
            pod: mirror.pod.0.map(Pod::from_mirror).transpose()?.map(Box::new),
            version: Timestamp(mirror.version),
            last_config_change: Timestamp(mirror.last_config_change),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct AgentMirror {
    id: String,
    hostname: String,
    ip: u32,
    http_port: u16,
    resources: (u64, u64, u64),
    ports: Vec<(u16, u16)>,
    attributes: Map,
    domain: Since<3, Option<<Domain as Wire>::Mirror>>,
    subnet: Option<(u32, u8)>,
}

impl Wire for AgentRecord {
    type Mirror = AgentMirror;

    fn to_mirror(&self) -> AgentMirror {
        AgentMirror {
            id: self.id.as_str().to_owned(),
            hostname: self.hostname.clone(),
            ip: self.ip.into(),
            http_port: self.http_port,
            resources: self.resources.to_mirror(),
            ports: self.ports.clone(),
            attributes: self.attributes.clone(),
            domain: Since(Some(self.domain.to_mirror())),
            subnet: self.subnet.map(|net| net.to_mirror()),
        }
    }

    fn from_mirror(mirror: AgentMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: AgentId::new(mirror.id),
            hostname: mirror.hostname,
            ip: mirror.ip.into(),
            http_port: mirror.http_port,
            resources: Resources::from_mirror(mirror.resources)?,
            ports: mirror.ports,
            attributes: mirror.attributes,
            domain: mirror
                .domain
                .0
                .map(Domain::from_mirror)
                .transpose()?
                .unwrap_or_default(),
            subnet: mirror.subnet.map(Ipv4Net::from_mirror).transpose()?,
            networks: Default::default(),
        })
    }
}

#[derive(Debug, Encode, Decode)]
#[bincode(decode_context = "Version")]
pub struct InstanceMirror {
    id: String,
    app: String,
    version: u64,
    config: Since<3, u64>,
    agent: String,
    spec: <LaunchSpec as Wire>::Mirror,
    service_ports: Vec<u16>,
    status: <TaskStatus as Wire>::Mirror,
    staged_at: u64,
    started_at: Option<u64>,
    unwanted: bool,
    unreachable_since: Since<2, Option<u64>>,
    members: Since<4, Vec<<Member as Wire>::Mirror>>,
}

impl Wire for InstanceRecord {
    type Mirror = InstanceMirror;

    fn to_mirror(&self) -> InstanceMirror {
        InstanceMirror {
            id: self.id.0.clone(),
            app: self.app.as_str().to_owned(),
            version: self.version.0,
            config: Since(self.config.0),
            agent: self.agent.as_str().to_owned(),
            spec: self.spec.to_mirror(),
            service_ports: self.service_ports.clone(),
            status: self.status.to_mirror(),
            staged_at: self.staged_at.0,
            started_at: self.started_at.map(|time| time.0),
            unwanted: self.unwanted,
            unreachable_since: Since(self.unreachable_since.map(|time| time.0)),
            members: Since(list(&self.members)),
        }
    }

    fn from_mirror(mirror: InstanceMirror) -> Result<Self, WireError> {
        Ok(Self {
            id: InstanceId(mirror.id),
            app: app_id(&mirror.app)?,
            version: Timestamp(mirror.version),
            config: Timestamp(mirror.config.0),
            agent: AgentId::new(mirror.agent),
            spec: Arc::new(LaunchSpec::from_mirror(mirror.spec)?),
            service_ports: mirror.service_ports,
            status: TaskStatus::from_mirror(mirror.status)?,
            staged_at: Timestamp(mirror.staged_at),
            started_at: mirror.started_at.map(Timestamp),
            unwanted: mirror.unwanted,
            unreachable_since: mirror.unreachable_since.0.map(Timestamp),
            members: unlist(mirror.members.0)?,
        })
    }
}

/// An app and what the stream tells of its share.
pub(crate) struct ShareOf(pub(crate) AppId, pub(crate) ToldShare);

impl Wire for ShareOf {
    type Mirror = (String, u16, u64);

    fn to_mirror(&self) -> Self::Mirror {
        (self.0.as_str().to_owned(), self.1.share, self.1.since.0)
    }

    fn from_mirror((app, share, since): Self::Mirror) -> Result<Self, WireError> {
        let since = Timestamp(since);
        Ok(Self(app_id(&app)?, ToldShare { share, since }))
    }
}
