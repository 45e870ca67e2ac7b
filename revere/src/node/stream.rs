//! Follows the task stream of whichever master leads, for ever.
//!
//! Time here is monotonic only: a clock that jumps neither ends a stream nor makes data look younger.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use model::{AgentInfo, TaskEvent};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::masters::Masters;
use super::status::Status;
use crate::mesos::client::{ApiError, Client, Subscription};
use crate::mesos::decode::{DecodeError, Encoding, Message, Reject, RejectKind, decode_as};
use crate::mesos::pack::UnpackError;
use crate::metrics::Kind;
use crate::recordio::{Decoder, RecordError};

/// Heartbeats that may be missed.
const MISSED_HEARTBEATS: u32 = 3;

/// Longest wait for a host name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// How long things may take.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// For the first record: a large cluster's state takes a master a while.
    pub(super) start: Duration,
    /// Heartbeat intervals that are believed; one told outside of them counts as the nearest inside, so that neither a
    /// master that promises next to none nor one that promises more than it sends decides when its silence is noticed.
    pub(super) heartbeats: RangeInclusive<Duration>,
    /// For one record, however steadily its bytes trickle in.
    pub(super) record: Duration,
    /// A stream that stood so long was a good one: the next wait is short again.
    pub(super) steady: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(15),
            heartbeats: Duration::from_secs(1)..=Duration::from_secs(30),
            record: Duration::from_secs(120),
            steady: Duration::from_secs(10),
        }
    }
}

/// Why the stream could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the connection to the master failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the task stream is unreadable: {0}")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the task stream was silent for {0:?}")]
    Silent(Duration),
    #[error("a record of the task stream was not whole after {0:?}")]
    Slow(Duration),
    #[error("the master closed the task stream")]
    Ended,
    #[error("another master leads now")]
    Moved,
    #[error("the node is stopping")]
    Stopping,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) masters: Masters,
    /// Which of them is asked first, counted around.
    pub(super) first: usize,
    /// What of the stream this node has, as a master told it; empty before that.
    pub(super) position: String,
    pub(super) client: Client,
    pub(super) max_record: usize,
    pub(super) patience: Patience,
    pub(super) events: mpsc::Sender<TaskEvent>,
    pub(super) status: Arc<Status>,
}

impl Follower {
    /// Connects, follows, and starts again with the next master after each failure.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut turn = self.first;
        loop {
            let known = self.masters.borrow_and_update().clone();
            if known.is_empty() {
                self.status.stream_down("no leading master is known yet");
                if self.masters.changed().await.is_err() {
                    // Nobody will ever tell one.
                    return std::future::pending().await;
                }
                continue;
            }
            let master = &known[turn % known.len()];
            turn = turn.wrapping_add(1);
            let mut began = None;
            let error = self.follow_while_it_leads(master, &mut began).await;
            match error {
                StreamError::Stopping => return,
                StreamError::Moved => {
                    turn = 0;
                    self.status.stream_down(&error.to_string());
                    tracing::info!(%master, "{error}");
                    continue;
                }
                _ => {}
            }
            if began.is_some_and(|began: Instant| began.elapsed() >= self.patience.steady) {
                backoff = Backoff::default();
            }
            self.status.stream_down(&error.to_string());
            let wait = backoff.next();
            tracing::warn!(%master, ?wait, "{error}; trying again");
            sleep(wait).await;
        }
    }

    /// Follows one master until it fails, or until another is known to lead.
    async fn follow_while_it_leads(&mut self, master: &str, began: &mut Option<Instant>) -> StreamError {
        let mut masters = self.masters.clone();
        let moved = async {
            loop {
                if masters.changed().await.is_err() {
                    // A given list never changes.
                    std::future::pending::<()>().await;
                }
                if masters
                    .borrow_and_update()
                    .first()
                    .is_some_and(|leader| leader != master)
                {
                    return StreamError::Moved;
                }
            }
        };
        tokio::select! {
            ended = self.follow(master, began) => match ended {
                Err(error) => error,
                Ok(never) => match never {},
            },
            error = moved => error,
        }
    }

    async fn follow(
        &mut self,
        master: &str,
        began: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible, StreamError> {
        let Subscription {
            leader,
            encoding,
            mut body,
            mut unpacker,
        } = self.client.subscribe_at(master, Some(&self.position)).await?;
        let mut decoder = Decoder::new(self.max_record);
        let mut silence = self.patience.start;
        // When the last whole record was there; nothing less counts as a sign of life for ever.
        let mut whole = Instant::now();
        let mut heard = whole;
        loop {
            let slow = whole + self.patience.record;
            let mut data = match timeout_at((heard + silence).min(slow), body.frame()).await {
                Err(_) if Instant::now() >= slow => return Err(StreamError::Slow(self.patience.record)),
                Err(_) => return Err(StreamError::Silent(silence)),
                Ok(Some(frame)) => match frame?.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
                Ok(None) => {
                    decoder.finish()?;
                    return Err(StreamError::Ended);
                }
            };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.status.metrics.stream_bytes.inc_by(length);
            heard = Instant::now();
            loop {
                let part = unpacker.part(&mut data)?;
                if part.is_empty() {
                    break;
                }
                decoder.push(&part);
                while let Some(record) = decoder.next_record()? {
                    if let Some(heartbeat) = self.take(encoding, &record, &leader).await? {
                        let (shortest, longest) = self.patience.heartbeats.clone().into_inner();
                        silence = heartbeat.clamp(shortest, longest) * MISSED_HEARTBEATS;
                        began.get_or_insert_with(Instant::now);
                    }
                    whole = Instant::now();
                    heard = whole;
                }
            }
        }
    }

    /// One record; returns the heartbeat interval if the stream begins with it.
    async fn take(&mut self, encoding: Encoding, record: &[u8], leader: &str) -> Result<Option<Duration>, StreamError> {
        let decoded = decode_as(encoding, record)?;
        note_rejects(&self.status, &decoded.rejects);
        let (event, heartbeat) = match decoded.message {
            Message::Subscribed(mut state, heartbeat) => {
                join_all(state.agents.iter_mut().map(resolve)).await;
                // Whoever tells it anew may tell no positions.
                self.position.clear();
                (Some(TaskEvent::Snapshot(state)), Some(heartbeat))
            }
            Message::Event(TaskEvent::AgentAdded(mut agent)) => {
                resolve(&mut agent).await;
                (Some(TaskEvent::AgentAdded(agent)), None)
            }
            Message::Event(event) => (Some(event), None),
            Message::Resumed(heartbeat) => {
                self.status.metrics.stream_resumed.inc();
                (None, Some(heartbeat))
            }
            Message::Position(position) => {
                self.position = position;
                (None, None)
            }
            Message::Heartbeat | Message::Other(_) => (None, None),
        };
        if let Some(event) = event {
            self.events.send(event).await.map_err(|_| StreamError::Stopping)?;
        }
        if heartbeat.is_some() {
            tracing::info!(master = leader, "task stream begins");
            self.status.stream_up(leader);
        }
        self.status.stream_alive();
        Ok(heartbeat)
    }
}

/// Follows these masters for ever as a node does, without anything else of one: for figures.
pub(crate) async fn follow(
    masters: Vec<String>,
    first: usize,
    client: Client,
    max_record: usize,
    events: mpsc::Sender<TaskEvent>,
) {
    let follower = Follower {
        // A list that never changes.
        masters: tokio::sync::watch::channel(masters).1,
        first,
        position: String::new(),
        client,
        max_record,
        patience: Patience::default(),
        events,
        status: Arc::new(Status::new()),
    };
    follower.run().await;
}

/// Counts and logs what was left out.
pub(super) fn note_rejects(status: &Status, rejects: &[Reject]) {
    for reject in rejects {
        let kind = Kind {
            kind: reject.kind.as_str(),
        };
        status.metrics.decode_rejects.get_or_create(&kind).inc();
        if reject.kind == RejectKind::Event {
            // A newer master has more of them; the counter is enough.
            tracing::debug!(kind = kind.kind, "left out of the task stream: {}", reject.what);
        } else {
            tracing::warn!(kind = kind.kind, "left out of the task stream: {}", reject.what);
        }
    }
}

/// Looks an agent's host name up unless it is an address; what the agent's pid told stays if that fails.
pub(super) async fn resolve(agent: &mut AgentInfo) {
    if agent.hostname.parse::<Ipv4Addr>().is_ok() {
        return;
    }
    let lookup = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((agent.hostname.as_str(), 0))).await;
    let found = lookup.ok().and_then(Result::ok).and_then(|mut addrs| {
        addrs.find_map(|addr| match addr.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    });
    agent.ip = found.or(agent.ip);
}

/// Any number: nodes that begin at different masters of their list spread themselves over them, as each serves the stream.
pub(super) fn any_place() -> usize {
    usize::try_from(RandomState::new().hash_one(0)).unwrap_or(0)
}

/// Waits that double, with jitter so that a thousand nodes do not come at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    step: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            step: FIRST_BACKOFF,
            longest: MAX_BACKOFF,
        }
    }
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub(super) fn between(first: Duration, longest: Duration) -> Self {
        Self { step: first, longest }
    }

    /// The next wait: the current step plus up to half of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.longest);
        // The standard library's random hash seed is the only randomness needed here.
        let percent = u32::try_from(RandomState::new().hash_one(0) % 50).unwrap_or(0);
        step + step * percent / 100
    }
}

#[cfg(test)]
#[path = "stream/tests.rs"]
mod tests;
