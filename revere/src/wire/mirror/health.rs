//! Mirrors of health checks, readiness checks and what came of them.

use std::collections::BTreeSet;
use std::time::Duration;

use bincode::{Decode, Encode};
use model::{
    CheckAddress, CheckResponse, CheckResult, CheckResults, Command, HealthCheck, Probe, ReadinessCheck,
    ReadinessResult, Scheme, TaskChecks,
};
use scheduler::{
    AppHealthCheck, AppReadinessCheck, CheckPort, CheckProtocol, CheckTarget, IpFamily, UnreachableStrategy,
};

use super::super::{Wire, WireError};
use super::{list, unlist};

#[derive(Debug, Encode, Decode)]
pub(super) enum AddressMirror {
    Task,
    LoopbackV4,
    LoopbackV6,
}

#[derive(Debug, Encode, Decode)]
pub(super) enum ProbeMirror {
    Command(<Command as Wire>::Mirror),
    Http {
        tls: bool,
        at: AddressMirror,
        port: u16,
        path: String,
        ignore_1xx: bool,
    },
    Tcp {
        at: AddressMirror,
        port: u16,
    },
}

impl From<CheckAddress> for AddressMirror {
    fn from(at: CheckAddress) -> Self {
        match at {
            CheckAddress::Task => Self::Task,
            CheckAddress::LoopbackV4 => Self::LoopbackV4,
            CheckAddress::LoopbackV6 => Self::LoopbackV6,
        }
    }
}

impl From<AddressMirror> for CheckAddress {
    fn from(at: AddressMirror) -> Self {
        match at {
            AddressMirror::Task => Self::Task,
            AddressMirror::LoopbackV4 => Self::LoopbackV4,
            AddressMirror::LoopbackV6 => Self::LoopbackV6,
        }
    }
}

fn scheme(tls: bool) -> Scheme {
    if tls { Scheme::Https } else { Scheme::Http }
}

impl ProbeMirror {
    fn new(probe: &Probe) -> Self {
        match probe {
            Probe::Command(command) => Self::Command(command.to_mirror()),
            Probe::Http {
                scheme,
                at,
                port,
                path,
                ignore_1xx,
            } => Self::Http {
                tls: *scheme == Scheme::Https,
                at: (*at).into(),
                port: *port,
                path: path.clone(),
                ignore_1xx: *ignore_1xx,
            },
            Probe::Tcp { at, port } => Self::Tcp {
                at: (*at).into(),
                port: *port,
            },
        }
    }

    fn probe(self) -> Result<Probe, WireError> {
        Ok(match self {
            Self::Command(command) => Probe::Command(Command::from_mirror(command)?),
            Self::Http {
                tls,
                at,
                port,
                path,
                ignore_1xx,
            } => Probe::Http {
                scheme: scheme(tls),
                at: at.into(),
                port,
                path,
                ignore_1xx,
            },
            Self::Tcp { at, port } => Probe::Tcp { at: at.into(), port },
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct HealthCheckMirror {
    probe: ProbeMirror,
    delay: Duration,
    interval: Duration,
    timeout: Duration,
    grace: Duration,
    max_failures: u32,
}

impl Wire for HealthCheck {
    type Mirror = HealthCheckMirror;

    fn to_mirror(&self) -> HealthCheckMirror {
        HealthCheckMirror {
            probe: ProbeMirror::new(&self.probe),
            delay: self.delay,
            interval: self.interval,
            timeout: self.timeout,
            grace: self.grace,
            max_failures: self.max_failures,
        }
    }

    fn from_mirror(mirror: HealthCheckMirror) -> Result<Self, WireError> {
        Ok(Self {
            probe: mirror.probe.probe()?,
            delay: mirror.delay,
            interval: mirror.interval,
            timeout: mirror.timeout,
            grace: mirror.grace,
            max_failures: mirror.max_failures,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct ReadinessCheckMirror {
    name: String,
    tls: bool,
    port: u16,
    path: String,
    interval: Duration,
    timeout: Duration,
    ready_codes: BTreeSet<u16>,
    keep_response: bool,
}

impl Wire for ReadinessCheck {
    type Mirror = ReadinessCheckMirror;

    fn to_mirror(&self) -> ReadinessCheckMirror {
        ReadinessCheckMirror {
            name: self.name.clone(),
            tls: self.scheme == Scheme::Https,
            port: self.port,
            path: self.path.clone(),
            interval: self.interval,
            timeout: self.timeout,
            ready_codes: self.ready_codes.clone(),
            keep_response: self.keep_response,
        }
    }

    fn from_mirror(mirror: ReadinessCheckMirror) -> Result<Self, WireError> {
        Ok(Self {
            name: mirror.name,
            scheme: scheme(mirror.tls),
            port: mirror.port,
            path: mirror.path,
            interval: mirror.interval,
            timeout: mirror.timeout,
            ready_codes: mirror.ready_codes,
            keep_response: mirror.keep_response,
        })
    }
}

impl Wire for TaskChecks {
    type Mirror = (Vec<HealthCheckMirror>, Vec<ReadinessCheckMirror>);

    fn to_mirror(&self) -> Self::Mirror {
        (list(&self.health), list(&self.readiness))
    }

    fn from_mirror((health, readiness): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self {
            health: unlist(health)?,
            readiness: unlist(readiness)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct ResultMirror {
    alive: Option<bool>,
    failures: u32,
    first_success_ms: Option<u64>,
    last_success_ms: Option<u64>,
    last_failure_ms: Option<u64>,
    cause: Option<String>,
}

impl Wire for CheckResult {
    type Mirror = ResultMirror;

    fn to_mirror(&self) -> ResultMirror {
        ResultMirror {
            alive: self.alive,
            failures: self.failures,
            first_success_ms: self.first_success_ms,
            last_success_ms: self.last_success_ms,
            last_failure_ms: self.last_failure_ms,
            cause: self.cause.clone(),
        }
    }

    fn from_mirror(mirror: ResultMirror) -> Result<Self, WireError> {
        Ok(Self {
            alive: mirror.alive,
            failures: mirror.failures,
            first_success_ms: mirror.first_success_ms,
            last_success_ms: mirror.last_success_ms,
            last_failure_ms: mirror.last_failure_ms,
            cause: mirror.cause,
        })
    }
}

impl Wire for ReadinessResult {
    /// Ready, and the last answer: status, content type, body.
    type Mirror = (bool, Option<(u16, String, String)>);

    fn to_mirror(&self) -> Self::Mirror {
        let response = self.response.clone();
        (
            self.ready,
            response.map(|response| (response.status, response.content_type, response.body)),
        )
    }

    fn from_mirror((ready, response): Self::Mirror) -> Result<Self, WireError> {
        let response = response.map(|(status, content_type, body)| CheckResponse {
            status,
            content_type,
            body,
        });
        Ok(Self { ready, response })
    }
}

impl Wire for CheckResults {
    type Mirror = (Vec<ResultMirror>, Vec<<ReadinessResult as Wire>::Mirror>);

    fn to_mirror(&self) -> Self::Mirror {
        (list(&self.health), list(&self.readiness))
    }

    fn from_mirror((health, readiness): Self::Mirror) -> Result<Self, WireError> {
        Ok(Self {
            health: unlist(health)?,
            readiness: unlist(readiness)?,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub(super) enum PortMirror {
    Index(u32),
    Number(u16),
}

#[derive(Debug, Encode, Decode)]
pub(super) enum TargetMirror {
    Command(String),
    Network {
        /// Marathon's name of the protocol.
        protocol: String,
        port: PortMirror,
        path: String,
        v6: bool,
        ignore_1xx: bool,
    },
}

impl TargetMirror {
    fn new(target: &CheckTarget) -> Self {
        match target {
            CheckTarget::Command(text) => Self::Command(text.clone()),
            CheckTarget::Network {
                protocol,
                port,
                path,
                family,
                ignore_1xx,
            } => Self::Network {
                protocol: protocol.as_str().to_owned(),
                port: match port {
                    CheckPort::Index(index) => PortMirror::Index(*index),
                    CheckPort::Number(number) => PortMirror::Number(*number),
                },
                path: path.clone(),
                v6: *family == IpFamily::V6,
                ignore_1xx: *ignore_1xx,
            },
        }
    }

    fn target(self) -> Result<CheckTarget, WireError> {
        Ok(match self {
            Self::Command(text) => CheckTarget::Command(text),
            Self::Network {
                protocol,
                port,
                path,
                v6,
                ignore_1xx,
            } => CheckTarget::Network {
                protocol: CheckProtocol::parse(&protocol).ok_or_else(|| WireError::Field {
                    field: "protocol of a health check",
                    reason: format!("`{protocol}` is none"),
                })?,
                port: match port {
                    PortMirror::Index(index) => CheckPort::Index(index),
                    PortMirror::Number(number) => CheckPort::Number(number),
                },
                path,
                family: if v6 { IpFamily::V6 } else { IpFamily::V4 },
                ignore_1xx,
            },
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct AppHealthCheckMirror {
    target: TargetMirror,
    grace: Duration,
    interval: Duration,
    timeout: Duration,
    max_failures: u32,
    delay: Duration,
}

impl Wire for AppHealthCheck {
    type Mirror = AppHealthCheckMirror;

    fn to_mirror(&self) -> AppHealthCheckMirror {
        AppHealthCheckMirror {
            target: TargetMirror::new(&self.target),
            grace: self.grace,
            interval: self.interval,
            timeout: self.timeout,
            max_failures: self.max_failures,
            delay: self.delay,
        }
    }

    fn from_mirror(mirror: AppHealthCheckMirror) -> Result<Self, WireError> {
        Ok(Self {
            target: mirror.target.target()?,
            grace: mirror.grace,
            interval: mirror.interval,
            timeout: mirror.timeout,
            max_failures: mirror.max_failures,
            delay: mirror.delay,
        })
    }
}

#[derive(Debug, Encode, Decode)]
pub struct AppReadinessCheckMirror {
    name: String,
    tls: bool,
    path: String,
    port_name: String,
    interval: Duration,
    timeout: Duration,
    ready_codes: BTreeSet<u16>,
    keep_response: bool,
}

impl Wire for AppReadinessCheck {
    type Mirror = AppReadinessCheckMirror;

    fn to_mirror(&self) -> AppReadinessCheckMirror {
        AppReadinessCheckMirror {
            name: self.name.clone(),
            tls: self.scheme == Scheme::Https,
            path: self.path.clone(),
            port_name: self.port_name.clone(),
            interval: self.interval,
            timeout: self.timeout,
            ready_codes: self.ready_codes.clone(),
            keep_response: self.keep_response,
        }
    }

    fn from_mirror(mirror: AppReadinessCheckMirror) -> Result<Self, WireError> {
        Ok(Self {
            name: mirror.name,
            scheme: scheme(mirror.tls),
            path: mirror.path,
            port_name: mirror.port_name,
            interval: mirror.interval,
            timeout: mirror.timeout,
            ready_codes: mirror.ready_codes,
            keep_response: mirror.keep_response,
        })
    }
}

/// What apps of before had.
#[derive(Debug, Encode, Decode)]
pub enum UnreachableMirror {
    Disabled,
    Replace(Duration, Duration),
}

impl Default for UnreachableMirror {
    fn default() -> Self {
        UnreachableStrategy::default().to_mirror()
    }
}

impl Wire for UnreachableStrategy {
    type Mirror = UnreachableMirror;

    fn to_mirror(&self) -> UnreachableMirror {
        match self {
            Self::Disabled => UnreachableMirror::Disabled,
            Self::Replace {
                inactive_after,
                expunge_after,
            } => UnreachableMirror::Replace(*inactive_after, *expunge_after),
        }
    }

    fn from_mirror(mirror: UnreachableMirror) -> Result<Self, WireError> {
        Ok(match mirror {
            UnreachableMirror::Disabled => Self::Disabled,
            UnreachableMirror::Replace(inactive_after, expunge_after) => Self::Replace {
                inactive_after,
                expunge_after,
            },
        })
    }
}
