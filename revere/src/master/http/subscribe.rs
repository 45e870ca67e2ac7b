//! `SUBSCRIBE` of the operator API: the task stream, from nothing or from where a reader was.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse as _;
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::time::Interval;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::App;
use super::mesos::{Answer, gone};
use crate::master::begin::Turn;
use crate::master::core::{Core, Followed};
use crate::master::gathered::{Form, Gathered, HEARTBEAT};
use crate::master::handle::Gone;
use crate::mesos::decode::Encoding;
use crate::mesos::{encode, pack};

/// A node that waits for its first records is told that often that it is not forgotten: it gives a silent master up after 15 s.
const WAITS: Duration = Duration::from_secs(5);
/// Longest wait for this master's copy to be where a reader was with another's.
const CATCH_UP: Duration = Duration::from_secs(10);

type Over = Pin<Box<WaitForCancellationFutureOwned>>;

/// One subscriber's stream.
struct Subscriber {
    /// Taken from the end.
    first: Vec<Bytes>,
    form: Form,
    events: Followed,
    /// Until it has what it begins with.
    turn: Option<Turn>,
    heartbeat: Interval,
    /// Put down once: thousands who wait anew for each event would wait for each other.
    over: Over,
}

impl Subscriber {
    /// The next records, or the end: of the master, or of a subscriber that lags too far behind.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        if let Some(first) = self.first.pop() {
            return Some((Ok(first), self));
        }
        self.turn = None;
        loop {
            let bytes = tokio::select! {
                () = &mut self.over => return None,
                event = self.events.recv() => match event {
                    Ok(event) => event.take(self.form),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "a subscriber reads too slowly and is dropped");
                        return None;
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                _ = self.heartbeat.tick() => HEARTBEAT.told(self.form),
            };
            // A position alone is nothing to who cannot come back.
            if !bytes.is_empty() {
                return Some((Ok(bytes), self));
            }
        }
    }
}

/// How a subscriber wants to be told. Positions are told in JSON only, and only who asks for them is sent anything packed: no
/// client of Mesos expects that of a stream.
fn form(encoding: Encoding, headers: &HeaderMap) -> Form {
    if encoding != Encoding::Json || !headers.contains_key(encode::POSITION_HEADER) {
        return Form::Plain(encoding);
    }
    let accept = headers.get(header::ACCEPT_ENCODING);
    let mut accepted = accept
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default()
        .split(',');
    match accepted.any(|one| one.trim() == pack::CODING) {
        true => Form::Packed,
        false => Form::Placed,
    }
}

/// What of it is not made yet the first of many readers makes, which takes a while; the others wait for that.
async fn told(pieces: Vec<Arc<Gathered>>, form: Form) -> Result<Vec<Bytes>, Gone> {
    let made = pieces.iter().all(|one| one.is_made(form));
    let told = move || pieces.iter().map(|one| one.told(form)).collect();
    match made {
        true => Ok(told()),
        false => tokio::task::spawn_blocking(told).await.map_err(|_| Gone::Ended),
    }
}

/// A subscriber once it has what it begins with.
async fn begin(app: App, form: Form, position: Option<String>) -> Result<Subscriber, Gone> {
    let resumed = match position {
        Some(position) => resume(&app, &position).await?,
        None => None,
    };
    let (begins, events) = match resumed {
        Some(resumed) => resumed,
        None => {
            let (state, events) = app.beginners.begin(form).await?;
            (vec![state], events)
        }
    };
    let turn = app.beginners.turn().await;
    let mut first = told(begins, form).await?;
    // A heartbeat follows at once.
    first.push(HEARTBEAT.told(form));
    first.retain(|bytes| !bytes.is_empty());
    first.reverse();
    let period = Duration::from_secs_f64(encode::HEARTBEAT_SECONDS);
    Ok(Subscriber {
        first,
        form,
        events,
        turn: Some(turn),
        heartbeat: tokio::time::interval_at(tokio::time::Instant::now() + period, period),
        over: over(&app),
    })
}

fn over(app: &App) -> Over {
    Box::pin(app.shutdown.clone().cancelled_owned())
}

/// What a reader missed who was at a position, if it is known here. Another master's copy may have been further than this one,
/// which will be there in a moment.
async fn resume(app: &App, position: &str) -> Result<Option<(Vec<Arc<Gathered>>, Followed)>, Gone> {
    let at = position.to_owned();
    let look = move |core: &mut Core| core.resume(&at).ok_or_else(|| core.ahead(&at));
    match (app.handle.follow(look.clone()).await?, &app.leadership) {
        (Ok(resumed), _) => Ok(Some(resumed)),
        (Err(Some(revision)), Some(leadership)) => {
            leadership.copy_reaches(revision, CATCH_UP).await;
            Ok(app.handle.follow(look).await?.ok())
        }
        _ => Ok(None),
    }
}

/// A stream before and after it has something to tell.
enum Stream {
    Begins(Beginning),
    Goes(Box<Subscriber>),
}

struct Beginning {
    begins: Pin<Box<dyn Future<Output = Result<Subscriber, Gone>> + Send>>,
    /// What stands before all records.
    head: Bytes,
    form: Form,
    over: Over,
}

impl Beginning {
    /// What is told before the first records, or who tells those. `None`: there will be none.
    async fn next(&mut self) -> Option<Result<Bytes, Subscriber>> {
        if !self.head.is_empty() {
            return Some(Ok(std::mem::take(&mut self.head)));
        }
        tokio::select! {
            () = &mut self.over => None,
            begun = &mut self.begins => match begun {
                Ok(subscriber) => Some(Err(subscriber)),
                Err(error) => {
                    tracing::warn!("a subscriber is sent away: {error}");
                    None
                }
            },
            () = tokio::time::sleep(WAITS) => Some(Ok(HEARTBEAT.told(self.form))),
        }
    }
}

impl Stream {
    /// The next records. Who waits for the first ones hears that it does.
    async fn next(self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let subscriber = match self {
            Self::Goes(subscriber) => *subscriber,
            Self::Begins(mut beginning) => match beginning.next().await? {
                Ok(bytes) => return Some((Ok(bytes), Self::Begins(beginning))),
                Err(subscriber) => subscriber,
            },
        };
        let (bytes, subscriber) = subscriber.next().await?;
        Some((bytes, Self::Goes(Box::new(subscriber))))
    }
}

/// Answers `SUBSCRIBE`.
pub(super) async fn subscribe(app: &App, encoding: Encoding, headers: &HeaderMap) -> Answer {
    let form = form(encoding, headers);
    // Who takes none cannot come back.
    let position = headers
        .get(encode::POSITION_HEADER)
        .and_then(|value| value.to_str().ok());
    let position = position.filter(|position| !position.is_empty() && !matches!(form, Form::Plain(_)));
    let begins = Box::pin(begin(app.clone(), form, position.map(str::to_owned)));
    let stream = match form {
        // Its client may know nothing that comes before a state, and expects a refusal as an answer.
        Form::Plain(_) => Stream::Goes(Box::new(begins.await.map_err(gone)?)),
        Form::Placed | Form::Packed => Stream::Begins(Beginning {
            begins,
            head: match form {
                Form::Packed => Bytes::from_static(&pack::HEAD),
                _ => Bytes::new(),
            },
            form,
            over: over(app),
        }),
    };
    let body = Body::from_stream(stream::unfold(stream, Stream::next));
    let kind = HeaderValue::from_static(form.encoding().content_type());
    let mut response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    if form == Form::Packed {
        let coding = HeaderValue::from_static(pack::CODING);
        response.headers_mut().insert(header::CONTENT_ENCODING, coding);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_positions_is_told_packed() {
        let told = |encoding, position: bool, accepted: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if position {
                headers.insert(encode::POSITION_HEADER, HeaderValue::from_static(""));
            }
            accepted.map(|value| headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value)));
            form(encoding, &headers)
        };
        let (json, protobuf) = (Encoding::Json, Encoding::Protobuf);
        // Many clients accept it of any answer without a thought of streams.
        assert_eq!(told(json, false, Some("gzip, deflate")), Form::Plain(json));
        assert_eq!(told(protobuf, true, Some("deflate")), Form::Plain(protobuf));
        assert_eq!(told(json, true, None), Form::Placed);
        assert_eq!(told(json, true, Some("gzip")), Form::Placed);
        assert_eq!(told(json, true, Some("gzip, deflate")), Form::Packed);
    }
}
