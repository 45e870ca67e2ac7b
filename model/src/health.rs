//! Checks of a task: what is asked of it, how often, and what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{Command, LaunchSpec, TaskState, TaskStatus};

/// Scheme of an HTTP check. Certificates are not verified, as neither Marathon nor Mesos did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// Where a network check connects, seen from inside the task's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckAddress {
    /// The task's own address, the agent's for the host network: what Marathon's own checks asked.
    Task,
    /// 127.0.0.1, as Mesos' checks do.
    LoopbackV4,
    /// ::1.
    LoopbackV6,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A command in the task's namespaces, as its user: status 0 is well.
    Command(Command),
    /// A GET: status 200 to 399 is well.
    Http {
        /// In the clear or over TLS.
        scheme: Scheme,
        /// Where.
        at: CheckAddress,
        /// As bound inside the task's namespace.
        port: u16,
        /// Path and query, with its leading slash.
        path: String,
        /// An answer of 100 to 199 says nothing instead of counting as a failure.
        ignore_1xx: bool,
    },
    /// A connection: being accepted is well.
    Tcp {
        /// Where.
        at: CheckAddress,
        /// As bound inside the task's namespace.
        port: u16,
    },
}

/// One health check of a task. The agent runs it and tells results; who ends an unhealthy task is the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From the task's start to the first check.
    pub delay: Duration,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// A check without a result by then has failed.
    pub timeout: Duration,
    /// From the task's start: until then failures before the first success do not count.
    pub grace: Duration,
    /// So many failures in a row and the task is replaced; 0 is never.
    pub max_failures: u32,
}

/// A question asked while an app is being deployed: may the update go on past this instance?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadinessCheck {
    /// Its name, shown with its result.
    pub name: String,
    /// In the clear or over TLS.
    pub scheme: Scheme,
    /// As bound inside the task's namespace.
    pub port: u16,
    /// Path and query, with its leading slash.
    pub path: String,
    /// From the end of one check to the next.
    pub interval: Duration,
    /// A check without an answer by then says not ready.
    pub timeout: Duration,
    /// HTTP status codes that say ready.
    pub ready_codes: BTreeSet<u16>,
    /// Whether the last answer is kept and shown.
    pub keep_response: bool,
}

/// All checks of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskChecks {
    /// While it runs.
    pub health: Vec<HealthCheck>,
    /// From its start until it was ready once.
    pub readiness: Vec<ReadinessCheck>,
}

/// What came of one health check so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckResult {
    /// The verdict; `None` before the first that counts.
    pub alive: Option<bool>,
    /// Failures in a row that count.
    pub failures: u32,
    /// Unix time in milliseconds of the first success.
    pub first_success_ms: Option<u64>,
    /// Of the newest success when this was told.
    pub last_success_ms: Option<u64>,
    /// Of the newest failure when this was told.
    pub last_failure_ms: Option<u64>,
    /// Why it failed last, for people.
    pub cause: Option<String>,
}

/// An HTTP answer, cut to what is worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckResponse {
    /// Status code.
    pub status: u16,
    /// `Content-Type`, empty if it had none.
    pub content_type: String,
    /// The beginning of the body.
    pub body: String,
}

/// What came of one readiness check so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadinessResult {
    /// Whether it was ever answered with a code that says ready.
    pub ready: bool,
    /// The last answer, if it is to be kept.
    pub response: Option<CheckResponse>,
}

/// What came of a task's checks, in the order of [`TaskChecks`]; empty before the first result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckResults {
    /// Of health checks.
    pub health: Vec<CheckResult>,
    /// Of readiness checks.
    pub readiness: Vec<ReadinessResult>,
}

impl CheckResults {
    /// All health checks together: dead if one is, alive if all are, else unknown. `None` without checks.
    pub fn healthy(&self) -> Option<bool> {
        if self.health.iter().any(|result| result.alive == Some(false)) {
            return Some(false);
        }
        let alive = |result: &CheckResult| result.alive == Some(true);
        (!self.health.is_empty() && self.health.iter().all(alive)).then_some(true)
    }
}

impl LaunchSpec {
    /// Whether a task in that status takes requests as far as anybody knows: RUNNING, and healthy where that is checked.
    pub fn serves(&self, status: &TaskStatus) -> bool {
        status.state == TaskState::Running && status.healthy.unwrap_or(self.checks.health.is_empty())
    }

    /// Whether every readiness check was answered once with a code that says ready.
    pub fn was_ready(&self, status: &TaskStatus) -> bool {
        let ready = status.checks.readiness.iter().filter(|result| result.ready).count();
        ready == self.checks.readiness.len()
    }

    /// The first health check that has failed as often as its definition allows, by its index.
    pub fn exhausted(&self, results: &CheckResults) -> Option<usize> {
        self.checks
            .health
            .iter()
            .zip(&results.health)
            .position(|(check, result)| check.max_failures > 0 && result.failures >= check.max_failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(alive: &[Option<bool>]) -> CheckResults {
        let one = |alive: &Option<bool>| CheckResult {
            alive: *alive,
            ..CheckResult::default()
        };
        CheckResults {
            health: alive.iter().map(one).collect(),
            readiness: Vec::new(),
        }
    }

    #[test]
    fn one_dead_check_decides_and_an_open_one_keeps_it_open() {
        for (alive, wanted) in [
            (&[][..], None),
            (&[None], None),
            (&[Some(true)], Some(true)),
            (&[Some(true), None], None),
            (&[Some(true), Some(true)], Some(true)),
            (&[None, Some(false)], Some(false)),
            (&[Some(true), Some(false)], Some(false)),
        ] {
            assert_eq!(results(alive).healthy(), wanted, "{alive:?}");
        }
    }
}
