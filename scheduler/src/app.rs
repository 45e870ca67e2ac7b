//! Marathon apps: [`AppSpec`] is what a user wrote, [`App`] is what was checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::{Command, Container, Fetch, Protocol, Resources};

use crate::{
    AppHealthCheck, AppReadinessCheck, HealthCheckSpec, Pod, PodSpec, ReadinessCheckSpec, Residency, Timestamp,
    UnreachableSpec, UnreachableStrategy,
};

/// An absolute app id, `/group/name`, every segment valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub(crate) Arc<str>);

impl AppId {
    /// The id with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing wrong with a definition, in the form of Marathon's `details`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path in the JSON object, for example `/portDefinitions(0)/port`.
    pub path: String,
    /// What is wrong and what would be right.
    pub errors: Vec<String>,
}

impl Fault {
    /// A fault with one error.
    pub fn new(path: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            errors: vec![error.into()],
        }
    }
}

/// A port as written: an entry of `portDefinitions` (host network) or of `container.portMappings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// `port` or `containerPort`.
    pub port: i64,
    /// `hostPort`; only for mappings.
    pub host_port: Option<i64>,
    /// `servicePort`; only for mappings (a port definition's `port` is its service port).
    pub service_port: Option<i64>,
    /// `tcp`, `udp` or `udp,tcp`; Marathon's default is `tcp`.
    pub protocol: Option<String>,
    /// Unique in the app.
    pub name: Option<String>,
    /// `VIP_0` and others.
    pub labels: BTreeMap<String, String>,
}

/// `container` as written, without its port mappings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// `type`, default MESOS.
    pub kind: Option<String>,
    /// `docker.image`.
    pub image: Option<String>,
    /// `docker.forcePullImage`.
    pub force_pull: bool,
    /// `docker.privileged`.
    pub privileged: bool,
    /// `docker.parameters`: (key, value).
    pub parameters: Vec<(String, String)>,
    /// `docker.pullConfig.secret`.
    pub pull_secret: Option<String>,
    /// `volumes`.
    pub volumes: Vec<VolumeSpec>,
    /// `linuxInfo.seccomp.profileName`.
    pub seccomp_profile: Option<String>,
    /// `linuxInfo.seccomp.unconfined`.
    pub seccomp_unconfined: bool,
    /// `linuxInfo.ipcInfo.mode`.
    pub ipc_mode: Option<String>,
    /// `linuxInfo.ipcInfo.shmSize`, in MiB.
    pub shm_size: Option<i64>,
}

/// A volume as written. One that is neither of the node nor known is in [`AppSpec::unsupported`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// `containerPath`.
    pub container_path: String,
    /// `hostPath`.
    pub host_path: String,
    /// `mode`, default RW.
    pub mode: Option<String>,
    /// `persistent`: then there is no `hostPath`.
    pub persistent: Option<PersistentSpec>,
    /// `secret`: its name among the definition's secrets; then there is no `hostPath`.
    pub secret: Option<String>,
}

/// `persistent` of a volume as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersistentSpec {
    /// `type`, default root.
    pub kind: Option<String>,
    /// `size` in MiB.
    pub size: Option<i64>,
    /// `maxSize` in MiB.
    pub max_size: Option<i64>,
    /// Whether `constraints` has any.
    pub constrained: bool,
    /// `profileName`.
    pub profile: Option<String>,
}

/// `residency` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResidencySpec {
    /// `relaunchEscalationTimeoutSeconds`.
    pub escalation_seconds: Option<i64>,
    /// `taskLostBehavior`.
    pub lost_behavior: Option<String>,
}

/// An entry of `fetch` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchSpec {
    /// `uri`.
    pub uri: String,
    /// `extract`, default true.
    pub extract: Option<bool>,
    /// `executable`.
    pub executable: bool,
    /// `cache`.
    pub cache: bool,
    /// `destPath`.
    pub dest: Option<String>,
}

/// An app as written, with every supported field optional and no rule applied. The JSON reader in `revere` fills it and
/// refuses fields of the wrong JSON type; [`App::from_spec`] applies defaults and rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppSpec {
    /// `id`.
    pub id: String,
    /// `cmd`.
    pub cmd: Option<String>,
    /// `args`.
    pub args: Option<Vec<String>>,
    /// `cpus`, default 1.0.
    pub cpus: Option<f64>,
    /// `mem` in MiB, default 128.
    pub mem: Option<f64>,
    /// `disk` in MiB, default 0.
    pub disk: Option<f64>,
    /// `instances`, default 1.
    pub instances: Option<i64>,
    /// `env`, plain values.
    pub env: BTreeMap<String, String>,
    /// `secrets`: path in the store by name.
    pub secrets: BTreeMap<String, String>,
    /// `env` with `{"secret": NAME}`: name of a secret by variable.
    pub secret_env: BTreeMap<String, String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// `user`.
    pub user: Option<String>,
    /// `container`, but for its port mappings.
    pub container: ContainerSpec,
    /// `fetch`, or `uris` of old clients.
    pub fetch: Vec<FetchSpec>,
    /// `networks`: (mode, name).
    pub networks: Vec<(String, Option<String>)>,
    /// `portDefinitions`; `None` means absent (one default port), empty means no port.
    pub port_definitions: Option<Vec<PortSpec>>,
    /// `container.portMappings`.
    pub port_mappings: Option<Vec<PortSpec>>,
    /// `requirePorts`.
    pub require_ports: bool,
    /// `constraints`, lists of two or three strings.
    pub constraints: Vec<Vec<String>>,
    /// `backoffSeconds`, default 1.
    pub backoff_seconds: Option<f64>,
    /// `backoffFactor`, default 1.15.
    pub backoff_factor: Option<f64>,
    /// `maxLaunchDelaySeconds`, default 300.
    pub max_launch_delay_seconds: Option<f64>,
    /// `taskKillGracePeriodSeconds`.
    pub task_kill_grace_period_seconds: Option<f64>,
    /// `killSelection`.
    pub kill_selection: Option<String>,
    /// `upgradeStrategy`: (minimumHealthCapacity, maximumOverCapacity).
    pub upgrade_strategy: Option<(f64, f64)>,
    /// `dependencies`, relative ones as written.
    pub dependencies: Vec<String>,
    /// `acceptedResourceRoles`, default `*`.
    pub accepted_roles: Option<Vec<String>>,
    /// `healthChecks`.
    pub health_checks: Vec<HealthCheckSpec>,
    /// `readinessChecks`.
    pub readiness_checks: Vec<ReadinessCheckSpec>,
    /// `unreachableStrategy`.
    pub unreachable_strategy: Option<UnreachableSpec>,
    /// `residency`.
    pub residency: Option<ResidencySpec>,
    /// Fields of Marathon's schema that this version does not carry out (`volumes`, `fetch`,
    /// `container.docker`, ...), by path. Each is refused with a sentence: silence would be a promise.
    pub unsupported: Vec<String>,
    /// What else there is if this is a pod: then the fields above that its containers have are theirs, and are not read here.
    pub pod: Option<Box<PodSpec>>,
}

/// The network mode of a checked app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The agent's.
    Host,
    /// `container/bridge`: an own namespace, reached through host ports.
    Bridge,
    /// `container`: an own address on the named network.
    Container(String),
}

/// A checked port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPort {
    /// Requested port: for host mode the service port (and the host port with `requirePorts`), for mappings the
    /// container port, 0 = same as the host port.
    pub port: u16,
    /// For mappings: `None` = no host port, `Some(0)` = any from the offer.
    pub host_port: Option<u16>,
    /// Service port; the core gives one from 10000-20000 where the user wrote 0.
    pub service_port: u16,
    /// Each protocol the port serves, in Marathon's spelling order.
    pub protocols: Vec<Protocol>,
    /// Declared name.
    pub name: Option<String>,
    /// Labels, `VIP*` among them.
    pub labels: BTreeMap<String, String>,
}

/// Operators of placement constraints (section 3.5 of the reference) that the core carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// No two instances with the same value.
    Unique,
    /// All instances with the given value, or with that of the first.
    Cluster,
    /// Even spread over values.
    GroupBy,
    /// At most n instances per value.
    MaxPer,
    /// Literal equality.
    Is,
    /// The whole value matches a regular expression.
    Like,
    /// It does not, or the agent has no such value.
    Unlike,
}

/// A checked constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// `hostname`, `@hostname`, `@region`, `@zone` or an attribute's name.
    pub field: String,
    /// The operator.
    pub operator: Operator,
    /// Its value, where it takes one.
    pub value: Option<String>,
}

/// Delay between launches after failures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// After the first failure.
    pub initial: Duration,
    /// Multiplied on each further one.
    pub factor: f64,
    /// Never longer.
    pub max: Duration,
}

/// Marathon's `upgradeStrategy`, kept and shown; scaling does not use it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpgradeStrategy {
    /// 0 to 1.
    pub minimum_health_capacity: f64,
    /// 0 to 1.
    pub maximum_over_capacity: f64,
}

/// A checked app, every default applied.
#[derive(Clone, Debug, PartialEq)]
pub struct App {
    /// Absolute id.
    pub id: AppId,
    /// What to run.
    pub command: Command,
    /// Per instance.
    pub resources: Resources,
    /// Wanted instances.
    pub instances: u32,
    /// User environment, applied last.
    pub env: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Unix user.
    pub user: Option<String>,
    /// Image, volumes, privileges.
    pub container: Container,
    /// What is fetched before it starts.
    pub fetch: Vec<Fetch>,
    /// Network.
    pub network: NetworkMode,
    /// Ports in declared order.
    pub ports: Vec<AppPort>,
    /// Take exactly the requested host ports.
    pub require_ports: bool,
    /// Placement constraints.
    pub constraints: Vec<Constraint>,
    /// Absolute ids of apps and groups that must run before this app changes.
    pub dependencies: Vec<String>,
    /// Roles of agents it may run on; never empty.
    pub accepted_roles: Vec<String>,
    /// Relaunch delay.
    pub backoff: Backoff,
    /// `taskKillGracePeriodSeconds`, if given.
    pub kill_grace: Option<Duration>,
    /// Whether scaling down ends the youngest instances first (Marathon's default) or the oldest.
    pub kill_youngest_first: bool,
    /// Kept and shown.
    pub upgrade_strategy: UpgradeStrategy,
    /// Run on every instance.
    pub health_checks: Vec<AppHealthCheck>,
    /// Run on new instances until each was ready once.
    pub readiness_checks: Vec<AppReadinessCheck>,
    /// What becomes of instances on a lost agent.
    pub unreachable: UnreachableStrategy,
    /// How its instances live with their volumes; there exactly when they have some.
    pub residency: Option<Residency>,
    /// What an instance consists of where this is a pod. `resources` and `ports` are then those of the whole instance; what to
    /// run, with what image and checks, its containers say.
    pub pod: Option<Box<Pod>>,
    /// Time of the last change; Marathon's `version`.
    pub version: Timestamp,
    /// Time of the last change other than of `instances`.
    pub last_config_change: Timestamp,
}
