//! The form of checks and of their results on disk; absent in files of agents that knew none.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{
    CheckAddress, CheckResponse, CheckResult, CheckResults, HealthCheck, Probe, ReadinessCheck, ReadinessResult,
    Scheme, TaskChecks,
};
use serde::{Deserialize, Serialize};

use super::CommandFile;

/// [`TaskChecks`] on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ChecksFile {
    health: Vec<HealthFile>,
    readiness: Vec<ReadinessFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HealthFile {
    probe: ProbeFile,
    delay: Duration,
    interval: Duration,
    timeout: Duration,
    grace: Duration,
    max_failures: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProbeFile {
    Command(CommandFile),
    Http {
        tls: bool,
        at: AddressFile,
        port: u16,
        path: String,
        ignore_1xx: bool,
    },
    Tcp {
        at: AddressFile,
        port: u16,
    },
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AddressFile {
    Task,
    LoopbackV4,
    LoopbackV6,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReadinessFile {
    name: String,
    tls: bool,
    port: u16,
    path: String,
    interval: Duration,
    timeout: Duration,
    ready_codes: BTreeSet<u16>,
    keep_response: bool,
}

/// [`CheckResults`] on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ResultsFile {
    health: Vec<ResultFile>,
    readiness: Vec<ReadyFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ResultFile {
    alive: Option<bool>,
    failures: u32,
    first_success_ms: Option<u64>,
    last_success_ms: Option<u64>,
    last_failure_ms: Option<u64>,
    cause: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReadyFile {
    ready: bool,
    /// Status, content type, body.
    response: Option<(u16, String, String)>,
}

fn scheme(tls: bool) -> Scheme {
    if tls { Scheme::Https } else { Scheme::Http }
}

impl From<&TaskChecks> for ChecksFile {
    fn from(checks: &TaskChecks) -> Self {
        Self {
            health: checks.health.iter().map(HealthFile::from).collect(),
            readiness: checks.readiness.iter().map(ReadinessFile::from).collect(),
        }
    }
}

impl From<ChecksFile> for TaskChecks {
    fn from(file: ChecksFile) -> Self {
        Self {
            health: file.health.into_iter().map(HealthCheck::from).collect(),
            readiness: file.readiness.into_iter().map(ReadinessCheck::from).collect(),
        }
    }
}

impl From<&HealthCheck> for HealthFile {
    fn from(check: &HealthCheck) -> Self {
        Self {
            probe: ProbeFile::from(&check.probe),
            delay: check.delay,
            interval: check.interval,
            timeout: check.timeout,
            grace: check.grace,
            max_failures: check.max_failures,
        }
    }
}

impl From<HealthFile> for HealthCheck {
    fn from(file: HealthFile) -> Self {
        Self {
            probe: Probe::from(file.probe),
            delay: file.delay,
            interval: file.interval,
            timeout: file.timeout,
            grace: file.grace,
            max_failures: file.max_failures,
        }
    }
}

impl From<&Probe> for ProbeFile {
    fn from(probe: &Probe) -> Self {
        match probe {
            Probe::Command(command) => Self::Command(CommandFile::from(command)),
            Probe::Http {
                scheme,
                at,
                port,
                path,
                ignore_1xx,
            } => Self::Http {
                tls: *scheme == Scheme::Https,
                at: AddressFile::from(*at),
                port: *port,
                path: path.clone(),
                ignore_1xx: *ignore_1xx,
            },
            Probe::Tcp { at, port } => Self::Tcp {
                at: AddressFile::from(*at),
                port: *port,
            },
        }
    }
}

impl From<ProbeFile> for Probe {
    fn from(file: ProbeFile) -> Self {
        match file {
            ProbeFile::Command(command) => Self::Command(command.into()),
            ProbeFile::Http {
                tls,
                at,
                port,
                path,
                ignore_1xx,
            } => Self::Http {
                scheme: scheme(tls),
                at: at.into(),
                port,
                path,
                ignore_1xx,
            },
            ProbeFile::Tcp { at, port } => Self::Tcp { at: at.into(), port },
        }
    }
}

impl From<CheckAddress> for AddressFile {
    fn from(at: CheckAddress) -> Self {
        match at {
            CheckAddress::Task => Self::Task,
            CheckAddress::LoopbackV4 => Self::LoopbackV4,
            CheckAddress::LoopbackV6 => Self::LoopbackV6,
        }
    }
}

impl From<AddressFile> for CheckAddress {
    fn from(file: AddressFile) -> Self {
        match file {
            AddressFile::Task => Self::Task,
            AddressFile::LoopbackV4 => Self::LoopbackV4,
            AddressFile::LoopbackV6 => Self::LoopbackV6,
        }
    }
}

impl From<&ReadinessCheck> for ReadinessFile {
    fn from(check: &ReadinessCheck) -> Self {
        Self {
            name: check.name.clone(),
            tls: check.scheme == Scheme::Https,
            port: check.port,
            path: check.path.clone(),
            interval: check.interval,
            timeout: check.timeout,
            ready_codes: check.ready_codes.clone(),
            keep_response: check.keep_response,
        }
    }
}

impl From<ReadinessFile> for ReadinessCheck {
    fn from(file: ReadinessFile) -> Self {
        Self {
            name: file.name,
            scheme: scheme(file.tls),
            port: file.port,
            path: file.path,
            interval: file.interval,
            timeout: file.timeout,
            ready_codes: file.ready_codes,
            keep_response: file.keep_response,
        }
    }
}

impl From<&CheckResults> for ResultsFile {
    fn from(results: &CheckResults) -> Self {
        let health = |result: &CheckResult| ResultFile {
            alive: result.alive,
            failures: result.failures,
            first_success_ms: result.first_success_ms,
            last_success_ms: result.last_success_ms,
            last_failure_ms: result.last_failure_ms,
            cause: result.cause.clone(),
        };
        let readiness = |result: &ReadinessResult| ReadyFile {
            ready: result.ready,
            response: result
                .response
                .clone()
                .map(|response| (response.status, response.content_type, response.body)),
        };
        Self {
            health: results.health.iter().map(health).collect(),
            readiness: results.readiness.iter().map(readiness).collect(),
        }
    }
}

impl From<ResultsFile> for CheckResults {
    fn from(file: ResultsFile) -> Self {
        let health = |result: ResultFile| CheckResult {
            alive: result.alive,
            failures: result.failures,
            first_success_ms: result.first_success_ms,
            last_success_ms: result.last_success_ms,
            last_failure_ms: result.last_failure_ms,
            cause: result.cause,
        };
        let readiness = |result: ReadyFile| ReadinessResult {
            ready: result.ready,
            response: result.response.map(|(status, content_type, body)| CheckResponse {
                status,
                content_type,
                body,
            }),
        };
        Self {
            health: file.health.into_iter().map(health).collect(),
            readiness: file.readiness.into_iter().map(readiness).collect(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::spec) fn checks() -> TaskChecks {
        let second = Duration::from_secs(1);
        let health = |probe| HealthCheck {
            probe,
            delay: second,
            interval: 2 * second,
            timeout: 3 * second,
            grace: 4 * second,
            max_failures: 5,
        };
        let http = |scheme| Probe::Http {
            scheme,
            at: CheckAddress::LoopbackV6,
            port: 80,
            path: "/up".to_owned(),
            ignore_1xx: true,
        };
        let tcp = |at| Probe::Tcp { at, port: 81 };
        TaskChecks {
            health: vec![
                health(Probe::Command(model::Command::Shell("true".to_owned()))),
                health(http(Scheme::Https)),
                health(http(Scheme::Http)),
                health(tcp(CheckAddress::Task)),
                health(tcp(CheckAddress::LoopbackV4)),
            ],
            readiness: vec![ReadinessCheck {
                name: "r".to_owned(),
                scheme: Scheme::Https,
                port: 82,
                path: "/ready".to_owned(),
                interval: second,
                timeout: second,
                ready_codes: [200, 204].into(),
                keep_response: true,
            }],
        }
    }

    pub(in crate::spec) fn results() -> CheckResults {
        CheckResults {
            health: vec![CheckResult {
                alive: Some(false),
                failures: 2,
                first_success_ms: Some(1),
                last_success_ms: Some(2),
                last_failure_ms: Some(3),
                cause: Some("refused".to_owned()),
            }],
            readiness: vec![ReadinessResult {
                ready: false,
                response: Some(CheckResponse {
                    status: 503,
                    content_type: "text/plain".to_owned(),
                    body: "warming".to_owned(),
                }),
            }],
        }
    }
}
