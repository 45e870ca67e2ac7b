//! Health checks, readiness checks and the unreachable strategy of an app, as written and as checked.

use std::collections::BTreeSet;
use std::time::Duration;

/// An entry of `healthChecks` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthCheckSpec {
    /// `protocol`, default HTTP.
    pub protocol: Option<String>,
    /// `path`, default `/`.
    pub path: Option<String>,
    /// `port`, the number itself.
    pub port: Option<i64>,
    /// `portIndex`, the place in the app's ports.
    pub port_index: Option<i64>,
    /// `command.value`.
    pub command: Option<String>,
    /// `gracePeriodSeconds`, default 300.
    pub grace_period_seconds: Option<i64>,
    /// `intervalSeconds`, default 60.
    pub interval_seconds: Option<i64>,
    /// `timeoutSeconds`, default 20.
    pub timeout_seconds: Option<i64>,
    /// `maxConsecutiveFailures`, default 3.
    pub max_consecutive_failures: Option<i64>,
    /// `delaySeconds`, default 15; only for checks of Mesos' kinds.
    pub delay_seconds: Option<i64>,
    /// `ipProtocol`, default IPv4.
    pub ip_protocol: Option<String>,
    /// `ignoreHttp1xx`, default false.
    pub ignore_http_1xx: bool,
}

/// An entry of `readinessChecks` as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadinessCheckSpec {
    /// `name`, default `readinessCheck`.
    pub name: Option<String>,
    /// `protocol`, default HTTP.
    pub protocol: Option<String>,
    /// `path`, default `/`.
    pub path: Option<String>,
    /// `portName`, default `http-api`.
    pub port_name: Option<String>,
    /// `intervalSeconds`, default 30.
    pub interval_seconds: Option<i64>,
    /// `timeoutSeconds`, default 10.
    pub timeout_seconds: Option<i64>,
    /// `httpStatusCodesForReady`, default `[200]`.
    pub ready_codes: Option<Vec<i64>>,
    /// `preserveLastResponse`, default false.
    pub preserve_last_response: bool,
}

/// `unreachableStrategy` as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableSpec {
    /// The text `disabled`.
    Disabled,
    /// The two times in seconds, default 0 each.
    After {
        /// `inactiveAfterSeconds`.
        inactive: i64,
        /// `expungeAfterSeconds`.
        expunge: i64,
    },
}

/// The network protocols of a health check. Marathon ran the first three itself; here all are run by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckProtocol {
    /// A GET to the task's address.
    Http,
    /// The same over TLS.
    Https,
    /// A connection to the task's address.
    Tcp,
    /// A GET to the loopback address inside the task's network namespace.
    MesosHttp,
    /// The same over TLS.
    MesosHttps,
    /// A connection to the loopback address inside the task's network namespace.
    MesosTcp,
}

impl CheckProtocol {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Http,
        Self::Https,
        Self::Tcp,
        Self::MesosHttp,
        Self::MesosHttps,
        Self::MesosTcp,
    ];

    /// Marathon's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tcp => "TCP",
            Self::MesosHttp => "MESOS_HTTP",
            Self::MesosHttps => "MESOS_HTTPS",
            Self::MesosTcp => "MESOS_TCP",
        }
    }

    /// The protocol of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == text)
    }

    /// Whether Mesos ran it inside the task's network namespace.
    pub fn is_mesos(self) -> bool {
        matches!(self, Self::MesosHttp | Self::MesosHttps | Self::MesosTcp)
    }

    /// Whether it asks for a path.
    pub fn is_http(self) -> bool {
        !matches!(self, Self::Tcp | Self::MesosTcp)
    }
}

/// The port that a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckPort {
    /// The app's port in that place.
    Index(u32),
    /// That number.
    Number(u16),
}

/// IP version of a check to the loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    /// 127.0.0.1
    V4,
    /// ::1
    V6,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckTarget {
    /// `COMMAND`: a shell command in the task's namespaces.
    Command(String),
    /// All others.
    Network {
        /// Which.
        protocol: CheckProtocol,
        /// Where.
        port: CheckPort,
        /// Path and query; `/` where the protocol has none.
        path: String,
        /// IP version.
        family: IpFamily,
        /// Whether answers of 100 to 199 are passed over.
        ignore_1xx: bool,
    },
}

/// A checked entry of `healthChecks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppHealthCheck {
    /// What is asked.
    pub target: CheckTarget,
    /// `gracePeriodSeconds`.
    pub grace: Duration,
    /// `intervalSeconds`.
    pub interval: Duration,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// `maxConsecutiveFailures`; 0 is never.
    pub max_failures: u32,
    /// `delaySeconds`.
    pub delay: Duration,
}

/// A checked entry of `readinessChecks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppReadinessCheck {
    /// Its name.
    pub name: String,
    /// In the clear or over TLS.
    pub scheme: model::Scheme,
    /// Path and query.
    pub path: String,
    /// Name of one of the app's ports.
    pub port_name: String,
    /// `intervalSeconds`.
    pub interval: Duration,
    /// `timeoutSeconds`.
    pub timeout: Duration,
    /// `httpStatusCodesForReady`.
    pub ready_codes: BTreeSet<u16>,
    /// `preserveLastResponse`.
    pub keep_response: bool,
}

/// What becomes of an instance whose agent is unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableStrategy {
    /// It is waited for, and not replaced meanwhile.
    Disabled,
    /// It is replaced, then forgotten; should it come back afterwards, it is ended.
    Replace {
        /// From its loss to the launch of another one in its place.
        inactive_after: Duration,
        /// From its loss until it is forgotten.
        expunge_after: Duration,
    },
}

impl Default for UnreachableStrategy {
    /// Marathon's: both at once.
    fn default() -> Self {
        Self::Replace {
            inactive_after: Duration::ZERO,
            expunge_after: Duration::ZERO,
        }
    }
}
