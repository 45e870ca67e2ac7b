//! The checks of one task: when each is asked, what its answers come to, and which of that is worth telling.

mod answer;
mod command;
mod fold;
mod http;
mod probe;
mod socket;
mod tls;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use model::{CheckResults, LaunchSpec, Probe, TaskNetwork};
use tokio::time::{sleep, timeout};

use crate::agent::Shared;
use crate::clock::now_ms;
use crate::plan::RunPlan;
use crate::store::{PID, PLAN, TaskDir};
pub(crate) use answer::{Answer, Reply};

/// Checks of this node that may run at once. More would not be faster on the machines they run on, and a node whose tasks
/// all hang must not hold more sockets and processes than this for them.
pub(crate) const AT_ONCE: usize = 64;

/// Where a task's checks go.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The task's directory, for commands.
    pub(crate) dir: PathBuf,
    /// Its network namespace, none for the host's.
    pub(crate) netns: Option<PathBuf>,
    /// Its address.
    pub(crate) address: Ipv4Addr,
}

/// One of a task's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Health(usize),
    Readiness(usize),
}

type Asking<'a> = Pin<Box<dyn Future<Output = (Which, Answer)> + Send + 'a>>;

/// The checks of a task that runs.
pub(crate) struct Checks<'a> {
    shared: &'a Shared,
    spec: &'a LaunchSpec,
    place: Place,
    /// When the task's process started.
    started_ms: u64,
    results: CheckResults,
    /// One for each check that goes on.
    asking: FuturesUnordered<Asking<'a>>,
}

impl<'a> Checks<'a> {
    /// Takes up the checks; `results` is what is known from before a restart of the daemon. To be driven by
    /// [`next`](Self::next).
    pub(crate) fn new(shared: &'a Shared, spec: &'a LaunchSpec, dir: &TaskDir, mut results: CheckResults) -> Self {
        let (health, readiness) = (spec.checks.health.len(), spec.checks.readiness.len());
        results.health.resize_with(health, Default::default);
        results.readiness.resize_with(readiness, Default::default);
        let checks = Self {
            shared,
            spec,
            place: place(shared, spec, dir),
            started_ms: started_ms(dir),
            results,
            asking: FuturesUnordered::new(),
        };
        for index in 0..health {
            let wait = checks.first(index);
            checks.ask(Which::Health(index), wait);
        }
        for index in 0..readiness {
            if !checks.results.readiness.get(index).is_some_and(|result| result.ready) {
                checks.ask(Which::Readiness(index), Duration::ZERO);
            }
        }
        checks
    }

    /// The next results that say something new. Never returns for a task without checks. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> &CheckResults {
        loop {
            let Some((which, answer)) = self.asking.next().await else {
                return std::future::pending().await;
            };
            if self.take(which, answer) {
                return &self.results;
            }
        }
    }

    /// The time to the first question: the delay since the task's start, or the interval since the last answer.
    fn first(&self, index: usize) -> Duration {
        let (Some(check), Some(result)) = (self.spec.checks.health.get(index), self.results.health.get(index)) else {
            return Duration::ZERO;
        };
        let (since, pause) = match result.last_success_ms.max(result.last_failure_ms) {
            Some(last) => (last, check.interval),
            None => (self.started_ms, check.delay),
        };
        pause.saturating_sub(Duration::from_millis(now_ms().saturating_sub(since)))
    }

    fn ask(&self, which: Which, wait: Duration) {
        let (spec, shared, place) = (self.spec, self.shared, self.place.clone());
        self.asking.push(Box::pin(async move {
            sleep(wait).await;
            // The semaphore is never closed; without a permit the check goes on all the same.
            let _permit = shared.check_permits.acquire().await;
            (which, ask(spec, which, &shared.config.runner, &place).await)
        }));
    }

    /// Adds an answer to the results and asks again; whether that is news.
    fn take(&mut self, which: Which, answer: Answer) -> bool {
        let (news, again) = match which {
            Which::Health(index) => {
                let (Some(check), Some(result)) =
                    (self.spec.checks.health.get(index), self.results.health.get_mut(index))
                else {
                    return false;
                };
                let before = result.clone();
                let grace_ms = u64::try_from(check.grace.as_millis()).unwrap_or(u64::MAX);
                let now = now_ms();
                let grace = now < self.started_ms.saturating_add(grace_ms);
                fold::health(result, &answer, now, grace);
                (fold::is_news(check, &before, result), Some(check.interval))
            }
            Which::Readiness(index) => {
                let (Some(check), Some(result)) = (
                    self.spec.checks.readiness.get(index),
                    self.results.readiness.get_mut(index),
                ) else {
                    return false;
                };
                let before = result.clone();
                fold::readiness(check, result, &answer);
                (
                    fold::is_ready_news(&before, result),
                    (!result.ready).then_some(check.interval),
                )
            }
        };
        if let Some(pause) = again {
            self.ask(which, pause);
        }
        news
    }
}

/// What to tell people about unhealthy results.
pub(crate) fn message(results: &CheckResults) -> Option<String> {
    let dead = |result: &model::CheckResult| result.alive == Some(false);
    let (number, result) = results.health.iter().enumerate().find(|(_, result)| dead(result))?;
    let cause = result.cause.as_deref().unwrap_or("it failed");
    Some(format!(
        "health check {number} failed {} times in a row: {cause}",
        result.failures
    ))
}

async fn ask(spec: &LaunchSpec, which: Which, runner: &[std::ffi::OsString], place: &Place) -> Answer {
    let (asked, limit) = match which {
        Which::Health(index) => {
            let Some(check) = spec.checks.health.get(index) else {
                return Answer::Silent;
            };
            let asked = match &check.probe {
                Probe::Command(_) => timeout(check.timeout, command::run(runner, &place.dir, index)).await,
                probe => timeout(check.timeout, probe::health(probe, place)).await,
            };
            (asked, check.timeout)
        }
        Which::Readiness(index) => {
            let Some(check) = spec.checks.readiness.get(index) else {
                return Answer::Silent;
            };
            (
                timeout(check.timeout, probe::readiness(check, place)).await,
                check.timeout,
            )
        }
    };
    asked.unwrap_or_else(|_| Answer::Dead(format!("no result within {} s", limit.as_secs_f64())))
}

fn place(shared: &Shared, spec: &LaunchSpec, dir: &TaskDir) -> Place {
    let network = match spec.network {
        TaskNetwork::Host => None,
        TaskNetwork::Container { .. } => dir.read::<RunPlan>(PLAN).ok().flatten().and_then(|plan| plan.network),
    };
    Place {
        dir: dir.path().to_owned(),
        address: network.as_ref().map_or(shared.config.ip, |network| network.address),
        netns: network.map(|network| network.netns),
    }
}

/// When the task's process was noted, which survives the daemon.
fn started_ms(dir: &TaskDir) -> u64 {
    let noted = std::fs::metadata(dir.file(PID)).and_then(|file| file.modified()).ok();
    let since = noted.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .unwrap_or_else(now_ms)
}
