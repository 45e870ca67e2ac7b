//! The form of a launch and of a status on disk: serde mirrors of the model's types, with a version.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use model::{
    Command, Fetch, FrameworkId, KillPolicy, LaunchSpec, PortMapping, PortScope, Protocol, ReadyRule, Reason,
    Resources, TaskId, TaskNetwork, TaskPort, TaskState, TaskStatus,
};
use serde::{Deserialize, Serialize};

use crate::plan::VERSION;

mod container;
mod health;
mod pod;

use container::{ContainerFile, FetchFile};
use health::{ChecksFile, ResultsFile};
use pod::PodFile;

/// [`LaunchSpec`] on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpecFile {
    version: u32,
    task: String,
    name: String,
    framework: String,
    command: CommandFile,
    user: Option<String>,
    env: BTreeMap<String, String>,
    cpus_milli: u64,
    mem_mb: u64,
    disk_mb: u64,
    /// Name of the container network, none for the host's.
    network: Option<String>,
    ports: Vec<PortFile>,
    mappings: Vec<MappingFile>,
    host_ports: Vec<u16>,
    labels: BTreeMap<String, String>,
    ready: ReadyFile,
    kill_drain: Duration,
    kill_grace: Duration,
    #[serde(default)]
    checks: ChecksFile,
    /// Absent in the files of earlier builds.
    #[serde(default)]
    container: ContainerFile,
    #[serde(default)]
    fetch: Vec<FetchFile>,
    #[serde(default)]
    pod: Option<PodFile>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CommandFile {
    Shell(String),
    Argv(Vec<String>),
}

#[derive(Debug, Serialize, Deserialize)]
struct PortFile {
    number: u16,
    name: Option<String>,
    udp: bool,
    container: bool,
    labels: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct MappingFile {
    host_port: u16,
    container_port: u16,
    udp: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReadyFile {
    AtStart,
    WhenListening { ports: Vec<u16>, within: Duration },
}

/// [`TaskStatus`] on disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StatusFile {
    version: u32,
    state: String,
    healthy: Option<bool>,
    addresses: Vec<IpAddr>,
    message: Option<String>,
    timestamp_ms: u64,
    #[serde(default)]
    checks: ResultsFile,
    #[serde(default)]
    reason: Option<String>,
}

/// Why a file of the right form has no meaning.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("it is of version {0}, this agent reads version {VERSION}")]
    Version(u32),
    #[error("`{0}` is no task state")]
    State(String),
    #[error("its container has a wrong parameter: {0}")]
    Parameter(#[from] model::ParameterError),
}

impl From<&LaunchSpec> for SpecFile {
    fn from(spec: &LaunchSpec) -> Self {
        Self {
            version: VERSION,
            task: spec.task.as_str().to_owned(),
            name: spec.name.clone(),
            framework: spec.framework.as_str().to_owned(),
            command: CommandFile::from(&spec.command),
            user: spec.user.clone(),
            env: spec.env.clone(),
            cpus_milli: spec.resources.cpus_milli,
            mem_mb: spec.resources.mem_mb,
            disk_mb: spec.resources.disk_mb,
            network: match &spec.network {
                TaskNetwork::Host => None,
                TaskNetwork::Container { name } => Some(name.clone()),
            },
            ports: spec.ports.iter().map(PortFile::from).collect(),
            mappings: spec.mappings.iter().map(MappingFile::from).collect(),
            host_ports: spec.host_ports.clone(),
            labels: spec.labels.clone(),
            ready: match &spec.ready {
                ReadyRule::AtStart => ReadyFile::AtStart,
                ReadyRule::WhenListening { ports, within } => ReadyFile::WhenListening {
                    ports: ports.clone(),
                    within: *within,
                },
            },
            kill_drain: spec.kill.drain,
            kill_grace: spec.kill.grace,
            checks: ChecksFile::from(&spec.checks),
            container: (&spec.container).into(),
            fetch: spec.fetch.iter().map(FetchFile::from).collect(),
            pod: spec.pod.as_deref().map(PodFile::from),
        }
    }
}

impl From<&Command> for CommandFile {
    fn from(command: &Command) -> Self {
        match command {
            Command::Shell(text) => Self::Shell(text.clone()),
            Command::Argv(argv) => Self::Argv(argv.clone()),
        }
    }
}

impl From<CommandFile> for Command {
    fn from(file: CommandFile) -> Self {
        match file {
            CommandFile::Shell(text) => Self::Shell(text),
            CommandFile::Argv(argv) => Self::Argv(argv),
        }
    }
}

impl TryFrom<SpecFile> for LaunchSpec {
    type Error = SpecError;

    fn try_from(file: SpecFile) -> Result<Self, SpecError> {
        if file.version != VERSION {
            return Err(SpecError::Version(file.version));
        }
        Ok(Self {
            task: TaskId::new(file.task),
            name: file.name,
            framework: FrameworkId::new(file.framework),
            command: file.command.into(),
            user: file.user,
            container: file.container.try_into()?,
            fetch: file.fetch.into_iter().map(Fetch::from).collect(),
            env: file.env,
            resources: Resources {
                cpus_milli: file.cpus_milli,
                mem_mb: file.mem_mb,
                disk_mb: file.disk_mb,
            },
            network: file
                .network
                .map_or(TaskNetwork::Host, |name| TaskNetwork::Container { name }),
            ports: file.ports.into_iter().map(TaskPort::from).collect(),
            mappings: file.mappings.into_iter().map(PortMapping::from).collect(),
            host_ports: file.host_ports,
            labels: file.labels,
            ready: match file.ready {
                ReadyFile::AtStart => ReadyRule::AtStart,
                ReadyFile::WhenListening { ports, within } => ReadyRule::WhenListening { ports, within },
            },
            checks: file.checks.into(),
            kill: KillPolicy {
                drain: file.kill_drain,
                grace: file.kill_grace,
            },
            pod: file.pod.map(Into::into),
        })
    }
}

impl From<&TaskPort> for PortFile {
    fn from(port: &TaskPort) -> Self {
        Self {
            number: port.number,
            name: port.name.clone(),
            udp: port.protocol == Protocol::Udp,
            container: port.scope == PortScope::Container,
            labels: port.labels.clone(),
        }
    }
}

impl From<PortFile> for TaskPort {
    fn from(file: PortFile) -> Self {
        Self {
            number: file.number,
            name: file.name,
            protocol: protocol(file.udp),
            scope: if file.container {
                PortScope::Container
            } else {
                PortScope::Host
            },
            labels: file.labels,
        }
    }
}

impl From<&PortMapping> for MappingFile {
    fn from(mapping: &PortMapping) -> Self {
        Self {
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            udp: mapping.protocol == Protocol::Udp,
        }
    }
}

impl From<MappingFile> for PortMapping {
    fn from(file: MappingFile) -> Self {
        Self {
            host_port: file.host_port,
            container_port: file.container_port,
            protocol: protocol(file.udp),
        }
    }
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

impl From<&TaskStatus> for StatusFile {
    fn from(status: &TaskStatus) -> Self {
        Self {
            version: VERSION,
            state: status.state.as_str().to_owned(),
            healthy: status.healthy,
            addresses: status.addresses.clone(),
            message: status.message.clone(),
            timestamp_ms: status.timestamp_ms,
            checks: ResultsFile::from(&*status.checks),
            reason: status.reason.map(|reason| reason.as_str().to_owned()),
        }
    }
}

impl TryFrom<StatusFile> for TaskStatus {
    type Error = SpecError;

    fn try_from(file: StatusFile) -> Result<Self, SpecError> {
        if file.version != VERSION {
            return Err(SpecError::Version(file.version));
        }
        Ok(Self {
            state: TaskState::parse(&file.state).ok_or(SpecError::State(file.state))?,
            reason: file.reason.as_deref().and_then(Reason::parse),
            healthy: file.healthy,
            addresses: file.addresses,
            message: file.message,
            checks: Box::new(file.checks.into()),
            timestamp_ms: file.timestamp_ms,
        })
    }
}

#[cfg(test)]
pub(crate) use tests::spec as sample;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn spec() -> LaunchSpec {
        LaunchSpec {
            task: TaskId::new("web.instance-1.app.1"),
            name: "web".to_owned(),
            framework: FrameworkId::new("f-0000"),
            command: Command::Argv(vec!["/bin/echo".to_owned(), "a b".to_owned()]),
            user: Some("nobody".to_owned()),
            container: container::sample(),
            fetch: container::sample_fetch(),
            env: [("PORT0".to_owned(), "31000".to_owned())].into(),
            resources: Resources {
                cpus_milli: 100,
                mem_mb: 32,
                disk_mb: 1,
            },
            network: TaskNetwork::Container {
                name: "dcos".to_owned(),
            },
            ports: vec![TaskPort {
                number: 5555,
                name: Some("http".to_owned()),
                protocol: Protocol::Udp,
                scope: PortScope::Container,
                labels: vec![("VIP_0".to_owned(), "/web:80".to_owned())],
            }],
            mappings: vec![PortMapping {
                host_port: 31000,
                container_port: 80,
                protocol: Protocol::Tcp,
            }],
            host_ports: vec![31000],
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ready: ReadyRule::WhenListening {
                ports: vec![80],
                within: Duration::from_millis(1500),
            },
            checks: health::tests::checks(),
            kill: KillPolicy {
                drain: Duration::from_secs(1),
                grace: Duration::from_secs(3),
            },
            pod: Some(pod::sample()),
        }
    }

    #[test]
    fn a_launch_survives_the_disk() {
        let json = serde_json::to_string(&SpecFile::from(&spec())).expect("writes");
        let file: SpecFile = serde_json::from_str(&json).expect("reads");
        assert_eq!(LaunchSpec::try_from(file).expect("has a meaning"), spec());
        let newer = json.replacen("\"version\":1", "\"version\":9", 1);
        let file: SpecFile = serde_json::from_str(&newer).expect("reads");
        assert!(matches!(LaunchSpec::try_from(file), Err(SpecError::Version(9))));
    }

    #[test]
    fn files_of_before_have_no_checks() {
        let mut file = serde_json::to_value(SpecFile::from(&spec())).expect("writes");
        file.as_object_mut().expect("an object").remove("checks");
        let file: SpecFile = serde_json::from_value(file).expect("reads");
        assert!(
            LaunchSpec::try_from(file)
                .expect("has a meaning")
                .checks
                .health
                .is_empty()
        );
    }

    #[test]
    fn a_status_survives_the_disk() {
        for state in TaskState::ALL {
            let status = TaskStatus {
                state,
                reason: Some(Reason::ContainerLaunchFailed),
                healthy: Some(false),
                addresses: vec![IpAddr::from([9, 0, 1, 2])],
                message: Some("port 80".to_owned()),
                checks: Box::new(health::tests::results()),
                timestamp_ms: 7,
            };
            let json = serde_json::to_string(&StatusFile::from(&status)).expect("writes");
            let file: StatusFile = serde_json::from_str(&json).expect("reads");
            assert_eq!(TaskStatus::try_from(file).expect("has a meaning"), status);
        }
    }
}
