//! The run itself: workers that take turns, and one place that adds up.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::http::{Connection, Failed, Target};
use super::report::{Outcome, Tally};
use super::{LoadArgs, LoadError, Report};
use crate::demo::unix_us;

/// Outcomes on their way to the tally; a full queue slows the workers, never loses one.
const OUTCOMES: usize = 4096;

/// Connections held when --connections is absent.
const DEFAULT_HELD: u32 = 10;

/// How a worker uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// One per request.
    New,
    /// One, kept.
    Keep,
    /// One, kept, with one request per second.
    Hold,
}

#[derive(Debug)]
struct Shared {
    target: Target,
    mode: Mode,
    start: Instant,
    deadline: Option<Instant>,
    requests: u64,
    rate: Option<f64>,
    issued: AtomicU64,
    broken: AtomicU64,
    closed: AtomicU64,
}

impl Shared {
    fn new(args: &LoadArgs) -> Result<Self, LoadError> {
        let positive = |option: &'static str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => Err(LoadError::Number { option }),
            other => Ok(other),
        };
        let start = Instant::now();
        let seconds = positive("seconds", args.seconds)?;
        Ok(Self {
            target: Target::parse(&args.url, args.dns, Duration::from_millis(args.timeout_ms))?,
            mode: match (args.hold, args.keep_alive) {
                (true, _) => Mode::Hold,
                (false, true) => Mode::Keep,
                (false, false) => Mode::New,
            },
            start,
            deadline: seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .and_then(|time| start.checked_add(time)),
            requests: args.requests.unwrap_or(u64::MAX),
            rate: positive("rate", args.rate)?,
            issued: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            closed: AtomicU64::new(0),
        })
    }

    /// The time of the next request of the worker that asks, or `None` when the run is over.
    fn ticket(&self, not_before: Instant) -> Option<Instant> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let due = match self.rate {
            Some(rate) => self.start + Duration::from_secs_f64(super::report::fractional_ms(number) * 1000.0 / rate),
            None => not_before,
        };
        let over = number >= self.requests
            || self
                .deadline
                .is_some_and(|deadline| due.max(Instant::now()) >= deadline);
        (!over).then_some(due)
    }
}

/// Runs the load and adds everything up.
pub async fn measure(args: LoadArgs) -> Result<Report, LoadError> {
    let mut timeline = args.timeline.clone().map(Timeline::create).transpose()?;
    let shared = Arc::new(Shared::new(&args)?);
    let count = match shared.mode {
        Mode::Hold => args.connections.map_or(DEFAULT_HELD, std::num::NonZeroU32::get),
        Mode::New | Mode::Keep => args.concurrency.get(),
    };
    let started_us = unix_us();
    let (send, mut outcomes) = mpsc::channel(OUTCOMES);
    let mut workers = JoinSet::new();
    for index in 0..count {
        // Held connections spread their requests over the second.
        let offset = if shared.mode == Mode::Hold {
            Duration::from_secs(1) * index / count
        } else {
            Duration::ZERO
        };
        workers.spawn(worker(Arc::clone(&shared), shared.start + offset, send.clone()));
    }
    drop(send);
    let mut tally = Tally::default();
    let mut progress = interval(Duration::from_secs(1));
    progress.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let show = std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            outcome = outcomes.recv() => match outcome {
                Some(outcome) => {
                    if let Some(timeline) = &mut timeline {
                        timeline.add(&outcome)?;
                    }
                    tally.add(&outcome);
                }
                None => break,
            },
            _ = progress.tick(), if show => {
                let (total, failed) = tally.total();
                eprint!("\r{total} requests, {failed} failed");
            }
        }
    }
    if show {
        eprintln!();
    }
    if let Some(timeline) = &mut timeline {
        timeline.flush()?;
    }
    let mut report = tally.finish(started_us, unix_us());
    report.connections = if shared.mode == Mode::New { 0 } else { u64::from(count) };
    report.broken = shared.broken.load(Ordering::Relaxed);
    report.closed = shared.closed.load(Ordering::Relaxed);
    Ok(report)
}

async fn worker(shared: Arc<Shared>, mut next: Instant, outcomes: mpsc::Sender<Outcome>) {
    let mut kept: Option<Connection> = None;
    while let Some(due) = shared.ticket(next) {
        sleep_until(due).await;
        if shared.mode == Mode::Hold {
            next = due + Duration::from_secs(1);
        }
        if kept.as_ref().is_some_and(Connection::is_closed) {
            shared.broken.fetch_add(1, Ordering::Relaxed);
            kept = None;
        }
        let start_us = unix_us();
        let earlier = kept.as_ref().and_then(|connection| connection.instance.clone());
        let end = kept.as_ref().map(|connection| (connection.local, connection.opened_us));
        let result = request(&shared, &mut kept).await;
        let outcome = Outcome {
            start_us,
            end_us: unix_us(),
            result,
            earlier,
            end,
        };
        if outcomes.send(outcome).await.is_err() {
            return;
        }
    }
}

/// One request; leaves the connection in `kept` if it can be used again.
async fn request(shared: &Shared, kept: &mut Option<Connection>) -> Result<String, Failed> {
    let was_kept = kept.is_some();
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => shared.target.connect().await?,
    };
    match connection.request(&shared.target, shared.mode == Mode::New).await {
        Ok(answer) => {
            if shared.mode != Mode::New {
                if answer.last {
                    shared.closed.fetch_add(1, Ordering::Relaxed);
                } else {
                    *kept = Some(connection);
                }
            }
            Ok(answer.instance)
        }
        Err(failed) => {
            if was_kept {
                shared.broken.fetch_add(1, Ordering::Relaxed);
            }
            Err(failed)
        }
    }
}

/// The file with one line per request.
#[derive(Debug)]
struct Timeline {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Timeline {
    fn create(path: PathBuf) -> Result<Self, LoadError> {
        match File::create(&path) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(LoadError::Timeline { path, source }),
        }
    }

    fn add(&mut self, outcome: &Outcome) -> Result<(), LoadError> {
        let (word, instance) = match &outcome.result {
            Ok(instance) => ("ok", instance.as_str()),
            Err((kind, _)) => (kind.as_str(), outcome.earlier.as_deref().unwrap_or("-")),
        };
        writeln!(self.file, "{} {} {word} {instance}", outcome.start_us, outcome.end_us)
            .map_err(|source| self.error(source))
    }

    fn flush(&mut self) -> Result<(), LoadError> {
        self.file.flush().map_err(|source| self.error(source))
    }

    fn error(&self, source: std::io::Error) -> LoadError {
        LoadError::Timeline {
            path: self.path.clone(),
            source,
        }
    }
}
