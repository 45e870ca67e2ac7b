//! What a load run says afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

/// Failures listed one by one; above this they are only counted, so that a dead service does not fill memory.
const MAX_LISTED: usize = 10_000;

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name gave no address.
    Dns,
    /// The connection was refused.
    ConnectRefused,
    /// No answer to the connection attempt in time.
    ConnectTimeout,
    /// The connection could not be made for another reason (no route, unreachable).
    ConnectFailed,
    /// The connection broke before the whole answer was there.
    Reset,
    /// Connected, but no whole answer in time.
    AnswerTimeout,
    /// An answer that is not 200 or not HTTP.
    BadAnswer,
}

impl FailureKind {
    /// The word in JSON and timelines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::Reset => "reset",
            Self::AnswerTimeout => "answer_timeout",
            Self::BadAnswer => "bad_answer",
        }
    }
}

/// One failed request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// When it started, Unix time in milliseconds.
    pub at_ms: f64,
    /// When it had failed, Unix time in milliseconds.
    pub failed_ms: f64,
    /// How.
    pub kind: FailureKind,
    /// The instance behind the connection, when an earlier answer on it told.
    pub backend: Option<String>,
    /// This end of that connection.
    pub local: Option<SocketAddr>,
    /// When that was opened, Unix time in milliseconds.
    pub opened_ms: Option<f64>,
    /// The error's own words.
    pub detail: String,
}

/// One request, as a worker reports it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) start_us: u64,
    pub(super) end_us: u64,
    /// The instance, or what went wrong.
    pub(super) result: Result<String, (FailureKind, String)>,
    /// Instance that earlier answers on this connection came from.
    pub(super) earlier: Option<String>,
    /// This end of that connection, and when it was opened.
    pub(super) end: Option<(Option<SocketAddr>, u64)>,
}

/// The whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Requests made.
    pub total: u64,
    /// Answered with 200.
    pub ok: u64,
    /// Not answered so. Never tried again.
    pub failed: u64,
    /// Answers per instance.
    pub by_instance: BTreeMap<String, u64>,
    /// Failures per kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Median latency of answered requests, microseconds.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Slowest.
    pub max_us: u64,
    /// Start of the run, Unix time in milliseconds.
    pub started_ms: f64,
    /// Length of the run in seconds.
    pub seconds: f64,
    /// Instance to the start (Unix time in milliseconds) of the last request that reached it.
    pub last_seen: BTreeMap<String, f64>,
    /// Failed requests, the first of them if there are very many.
    pub failures: Vec<Failure>,
    /// Connections kept open, for --hold and --keep-alive.
    pub connections: u64,
    /// Kept connections that broke: anything but a close that the server announced in its last answer.
    pub broken: u64,
    /// Kept connections that the server closed in order.
    pub closed: u64,
}

/// Adds outcomes up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    report: Report,
    latencies_us: Vec<u32>,
}

/// Microseconds as fractional milliseconds; exact for any date in this millennium.
#[allow(
    clippy::cast_precision_loss,
    reason = "Unix time in microseconds is below 2^53 until the year 2255"
)]
pub(super) fn fractional_ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let report = &mut self.report;
        report.total += 1;
        match &outcome.result {
            Ok(instance) => {
                report.ok += 1;
                *report.by_instance.entry(instance.clone()).or_default() += 1;
                let start = fractional_ms(outcome.start_us);
                let seen = report.last_seen.entry(instance.clone()).or_insert(start);
                *seen = seen.max(start);
                let latency = outcome.end_us.saturating_sub(outcome.start_us);
                self.latencies_us.push(u32::try_from(latency).unwrap_or(u32::MAX));
            }
            Err((kind, detail)) => {
                report.failed += 1;
                *report.by_kind.entry(kind.as_str()).or_default() += 1;
                if report.failures.len() < MAX_LISTED {
                    report.failures.push(Failure {
                        at_ms: fractional_ms(outcome.start_us),
                        failed_ms: fractional_ms(outcome.end_us),
                        kind: *kind,
                        backend: outcome.earlier.clone(),
                        local: outcome.end.and_then(|(local, _)| local),
                        opened_ms: outcome.end.map(|(_, opened_us)| fractional_ms(opened_us)),
                        detail: detail.clone(),
                    });
                }
            }
        }
    }

    pub(super) fn total(&self) -> (u64, u64) {
        (self.report.total, self.report.failed)
    }

    pub(super) fn finish(mut self, started_us: u64, ended_us: u64) -> Report {
        self.latencies_us.sort_unstable();
        let at = |percent: usize| -> u64 {
            let rank = (self.latencies_us.len() * percent).div_ceil(100).saturating_sub(1);
            self.latencies_us.get(rank).copied().map_or(0, u64::from)
        };
        let mut report = self.report;
        (report.p50_us, report.p99_us, report.max_us) = (at(50), at(99), at(100));
        report.started_ms = fractional_ms(started_us);
        report.seconds = fractional_ms(ended_us.saturating_sub(started_us)) / 1000.0;
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} requests in {:.1} s: {} ok, {} failed; latency p50 {} us, p99 {} us",
            self.total, self.seconds, self.ok, self.failed, self.p50_us, self.p99_us
        )?;
        if self.connections > 0 {
            writeln!(
                f,
                "{} kept connections: {} broken, {} closed by the server in order",
                self.connections, self.broken, self.closed
            )?;
        }
        for (instance, count) in &self.by_instance {
            let share = 100.0 * fractional_ms(*count) / fractional_ms(self.ok.max(1));
            writeln!(f, "  {share:5.1} %  {count:>8}  {instance}")?;
        }
        for (kind, count) in &self.by_kind {
            writeln!(f, "  failed   {count:>8}  {kind}")?;
        }
        Ok(())
    }
}
