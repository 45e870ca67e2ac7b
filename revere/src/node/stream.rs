//! Follows the task stream of whichever master leads, for ever.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use model::{AgentInfo, TaskEvent};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::status::Status;
use crate::mesos::decode::{DecodeError, Message, decode};
use crate::metrics::Kind;
use crate::recordio::{Decoder, RecordError};

/// Largest record: the state of a very large cluster fits, a forged length does not fill the memory.
const MAX_RECORD: usize = 256 * 1024 * 1024;

/// Redirects followed in a row; leadership changes need one.
const MAX_REDIRECTS: usize = 4;

/// Longest wait for connection, answer and first record.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// Heartbeats that may be missed.
const MISSED_HEARTBEATS: u32 = 3;

/// Longest wait for a host name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Why the stream could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("master address `{0}` is wrong: write http://host:port")]
    Address(String),
    #[error("cannot reach the master at {0}: {1}")]
    Tcp(String, std::io::Error),
    #[error("the master at {0} gave no answer in time")]
    Timeout(String),
    #[error("the connection to the master failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the master at {0} answers {1} to SUBSCRIBE")]
    Status(String, StatusCode),
    #[error("masters redirect to each other without end, last to {0}")]
    Redirects(String),
    #[error("the master at {0} redirects without saying where to")]
    NoLocation(String),
    #[error("the task stream is unreadable: {0}")]
    Record(#[from] RecordError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the task stream was silent for {0:?}")]
    Silent(Duration),
    #[error("the master closed the task stream")]
    Ended,
    #[error("the node is stopping")]
    Stopping,
}

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) masters: Vec<String>,
    pub(super) events: mpsc::Sender<TaskEvent>,
    pub(super) status: Arc<Status>,
}

impl Follower {
    /// Connects, follows, and starts again with the next master after each failure.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        for master in self.masters.iter().cycle() {
            let error = match self.follow(master, &mut backoff).await {
                Err(StreamError::Stopping) => return,
                Err(error) => error,
                Ok(never) => match never {},
            };
            self.status.stream_down(&error.to_string());
            let wait = backoff.next();
            tracing::warn!(%master, ?wait, "{error}; trying again");
            sleep(wait).await;
        }
    }

    async fn follow(&self, master: &str, backoff: &mut Backoff) -> Result<std::convert::Infallible, StreamError> {
        let (leader, response) = timeout(START_TIMEOUT, subscribe(master))
            .await
            .map_err(|_| StreamError::Timeout(master.to_owned()))??;
        let mut body = response.into_body();
        let mut decoder = Decoder::new(MAX_RECORD);
        let mut patience = START_TIMEOUT;
        loop {
            while let Some(record) = decoder.next_record()? {
                if let Some(heartbeat) = self.take(&record, &leader).await? {
                    patience = heartbeat * MISSED_HEARTBEATS;
                    *backoff = Backoff::default();
                }
            }
            match timeout(patience, body.frame()).await {
                Err(_) => return Err(StreamError::Silent(patience)),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        decoder.push(&data);
                    }
                }
                Ok(None) => {
                    decoder.finish()?;
                    return Err(StreamError::Ended);
                }
            }
        }
    }

    /// One record; returns the heartbeat interval if the stream begins with it.
    async fn take(&self, record: &[u8], leader: &str) -> Result<Option<Duration>, StreamError> {
        let decoded = decode(record)?;
        for reject in &decoded.rejects {
            let kind = Kind {
                kind: reject.kind.as_str(),
            };
            self.status.metrics.decode_rejects.get_or_create(&kind).inc();
            tracing::warn!(kind = kind.kind, "left out of the task stream: {}", reject.what);
        }
        let (event, heartbeat) = match decoded.message {
            Message::Subscribed(mut state, heartbeat) => {
                join_all(state.agents.iter_mut().map(resolve)).await;
                (Some(TaskEvent::Snapshot(state)), Some(heartbeat))
            }
            Message::Event(TaskEvent::AgentAdded(mut agent)) => {
                resolve(&mut agent).await;
                (Some(TaskEvent::AgentAdded(agent)), None)
            }
            Message::Event(event) => (Some(event), None),
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

/// Opens the stream at `master` or wherever it redirects to.
async fn subscribe(master: &str) -> Result<(String, Response<Incoming>), StreamError> {
    let mut url = format!("{master}/api/v1");
    for _ in 0..=MAX_REDIRECTS {
        let uri: Uri = url.parse().map_err(|_| StreamError::Address(url.clone()))?;
        let authority = uri.authority().ok_or_else(|| StreamError::Address(url.clone()))?;
        let host = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let response = post(&host, uri.path()).await?;
        match response.status() {
            StatusCode::OK => return Ok((host, response)),
            StatusCode::TEMPORARY_REDIRECT => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                url = redirected(location.ok_or(StreamError::NoLocation(host))?);
            }
            status => return Err(StreamError::Status(host, status)),
        }
    }
    Err(StreamError::Redirects(url))
}

/// Mesos sends `//host:port/path`; a bare host means the same path.
fn redirected(location: &str) -> String {
    let url = match location.strip_prefix("//") {
        Some(rest) => format!("http://{rest}"),
        None => location.to_owned(),
    };
    match url.strip_prefix("http://") {
        Some(rest) if !rest.trim_end_matches('/').contains('/') => {
            format!("http://{}/api/v1", rest.trim_end_matches('/'))
        }
        _ => url,
    }
}

async fn post(host: &str, path: &str) -> Result<Response<Incoming>, StreamError> {
    let stream = TcpStream::connect(host)
        .await
        .map_err(|error| StreamError::Tcp(host.to_owned(), error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the response's body.
    tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from_static(br#"{"type":"SUBSCRIBE"}"#)))
        .map_err(|_| StreamError::Address(host.to_owned()))?;
    Ok(sender.send_request(request).await?)
}

/// Looks an agent's host name up unless it is an address; what the agent's pid told stays if that fails.
async fn resolve(agent: &mut AgentInfo) {
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

/// Waits that double, with jitter so that a thousand nodes do not come at the same moment.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_BACKOFF)
    }
}

impl Backoff {
    /// The next wait: the current step plus up to half of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.0;
        self.0 = (step * 2).min(MAX_BACKOFF);
        // The standard library's random hash seed is the only randomness needed here.
        let percent = u32::try_from(RandomState::new().hash_one(0) % 50).unwrap_or(0);
        step + step * percent / 100
    }
}

#[cfg(test)]
#[path = "stream/tests.rs"]
mod tests;
