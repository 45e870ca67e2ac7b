//! `GET /v2/events`: Marathon's event stream.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use tokio::sync::broadcast;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::super::App;
use super::super::answer::Refusal;
use super::super::query::Query;
use super::{Answer, Origin};
use crate::master::events::Told;
use crate::master::handle::{Handle, Hearers};
use crate::master::marathon::event::OWN_TYPES;

/// A comment goes out this often, so that proxies and clients see that the stream lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// One reader's stream.
struct Follower {
    first: VecDeque<Bytes>,
    wanted: Wanted,
    /// All up to here it has seen.
    seen: u64,
    events: broadcast::Receiver<Arc<Told>>,
    keep_alive: Interval,
    shutdown: CancellationToken,
    /// Tells of the end when it is dropped.
    _end: End,
}

struct End {
    handle: Handle,
    address: String,
}

impl Drop for End {
    fn drop(&mut self) {
        self.handle.tell(
            Hearers::Own,
            "event_stream_detached",
            json!({"remoteAddress": self.address}),
        );
    }
}

/// What of all events a reader is told.
struct Wanted {
    /// None are all of Marathon's.
    types: BTreeSet<String>,
    /// Those that Marathon does not have as well.
    own: bool,
}

impl Wanted {
    fn has(&self, told: &Told) -> bool {
        if self.types.is_empty() {
            self.own || !OWN_TYPES.contains(&told.kind.as_str())
        } else {
            self.types.contains(&told.kind)
        }
    }
}

impl Follower {
    /// The next frame, or the end: of the master, or of a reader that lags too far behind.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(first) = self.first.pop_front() {
            return Some((Ok(first), self));
        }
        let bytes = loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                told = self.events.recv() => match told {
                    Ok(told) if !told.is_seen(self.seen) && self.wanted.has(&told) => break told.frame.clone(),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "a reader of events is too slow and is closed");
                        return None;
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.keep_alive.tick() => break Bytes::from_static(b":\r\n\r\n"),
            }
        };
        Some((Ok(bytes), self))
    }
}

/// `GET /v2/events`.
pub(in super::super) async fn events(
    State(app): State<App>,
    origin: Origin,
    query: Query,
    headers: HeaderMap,
) -> Answer {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if !text("accept").unwrap_or_default().contains("text/event-stream") {
        return Err(Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "this is a stream of events: ask for it with the header `Accept: text/event-stream`",
        ));
    }
    let wanted = Wanted {
        types: query.all("event_type").map(str::to_owned).collect(),
        own: query.flag("own"),
    };
    let last_seen = text("last-event-id").map(str::to_owned);
    let reader = app
        .handle
        .look(move |core| core.told.follow(last_seen.as_deref()))
        .await?;
    app.handle.tell(
        Hearers::Own,
        "event_stream_attached",
        json!({"remoteAddress": origin.ip}),
    );
    let mut first = VecDeque::new();
    // Headers go out with the first bytes.
    first.push_back(Bytes::from_static(b":\r\n\r\n"));
    if reader.gap {
        let comment = b": events before these are no longer kept; read /v2/apps anew\r\n\r\n";
        first.push_back(Bytes::from_static(comment));
    }
    let missed = reader.missed.iter().filter(|told| wanted.has(told));
    first.extend(missed.map(|told| told.frame.clone()));
    let follower = Follower {
        first,
        wanted,
        seen: reader.seen,
        events: reader.events,
        keep_alive: tokio::time::interval_at(tokio::time::Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
        shutdown: app.shutdown.clone(),
        _end: End {
            handle: app.handle.clone(),
            address: origin.ip,
        },
    };
    Ok(stream_of(follower))
}

fn stream_of(follower: Follower) -> Response {
    let body = Body::from_stream(stream::unfold(follower, Follower::next));
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        (header::CACHE_CONTROL.as_str(), "no-cache"),
        // Proxies would gather events otherwise.
        ("x-accel-buffering", "no"),
    ];
    (headers, body).into_response()
}
