//! Mesos' scheduler API v1: the stream that a framework subscribes to, and its calls.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use model::FrameworkId;
use scheduler::{FrameworkCall, FrameworkEvent, FrameworkRefusal, FrameworkSpec, StreamId};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use super::App;
use super::mesos::{Answer, check, gone, read};
use crate::master::handle::{Gone, Handle, Input};
use crate::master::streams::STREAM_QUEUE;
use crate::mesos::decode::{Encoding, SchedulerCall, scheduler_call};
use crate::mesos::encode;
use crate::recordio;

/// The header that ties a framework's calls to its stream.
const STREAM_ID: HeaderName = HeaderName::from_static("mesos-stream-id");

fn bad(text: impl Into<String>) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, text.into())
}

/// `POST /api/v1/scheduler`.
pub(super) async fn call(State(app): State<App>, method: Method, headers: HeaderMap, body: Bytes) -> Answer {
    let transport = check(&method, &headers)?;
    if transport.request != Encoding::Json || transport.answer != Encoding::Json {
        let text = "revere's scheduler API takes and answers application/json, not protobuf";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()));
    }
    let value = read(transport.request, &body)?;
    let named = headers.get(STREAM_ID).map(|id| id.to_str().unwrap_or_default());
    match scheduler_call(&value).map_err(bad)? {
        SchedulerCall::Subscribe { id, spec, suppressed } => {
            if named.is_some() {
                return Err(bad("Subscribe calls should not include the 'Mesos-Stream-Id' header"));
            }
            match spec {
                Ok(spec) => subscribe(&app, (id, spec, suppressed)).await,
                Err(why) => Ok(refused(why)),
            }
        }
        SchedulerCall::Call(framework, call) => {
            let stream =
                named.ok_or_else(|| bad("All non-subscribe calls should include the 'Mesos-Stream-Id' header"))?;
            // One that is no id of ours is no framework's.
            let stream = parse(stream).unwrap_or(StreamId(0));
            let status = if matches!(call, FrameworkCall::Update(..)) {
                StatusCode::OK
            } else {
                StatusCode::ACCEPTED
            };
            ask(&app.handle, framework, stream, call).await?;
            Ok(status.into_response())
        }
        SchedulerCall::NotCarriedOut(kind) => Err((
            StatusCode::NOT_IMPLEMENTED,
            format!("{kind} is not carried out by revere"),
        )),
    }
}

fn parse(text: &str) -> Option<StreamId> {
    let id = StreamId(u128::from_str_radix(&text.replace('-', ""), 16).ok()?);
    (id.to_string() == text).then_some(id)
}

async fn ask(
    handle: &Handle,
    framework: FrameworkId,
    stream: StreamId,
    call: FrameworkCall,
) -> Result<(), (StatusCode, String)> {
    let (answer, reply) = oneshot::channel();
    let input = Input::Framework {
        framework,
        stream,
        call,
        answer,
    };
    handle.send(input).await.map_err(gone)?;
    let reply = reply.await.unwrap_or(Err(Gone::Ended)).map_err(gone)?;
    reply.map_err(|refusal| {
        let status = match refusal {
            FrameworkRefusal::NotSubscribed => StatusCode::FORBIDDEN,
            FrameworkRefusal::Unknown | FrameworkRefusal::WrongStream(_) | FrameworkRefusal::Invalid(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        (status, refusal.to_string())
    })
}

fn record(value: &Value) -> Bytes {
    recordio::encode(value.to_string().as_bytes())
}

/// One framework's stream.
struct Subscriber {
    first: VecDeque<Bytes>,
    events: mpsc::Receiver<FrameworkEvent>,
    master: Value,
    heartbeat: Interval,
    shutdown: CancellationToken,
    /// Tells of the end when it is dropped.
    _end: End,
}

struct End {
    handle: Handle,
    stream: StreamId,
}

impl Drop for End {
    fn drop(&mut self) {
        let (handle, stream) = (self.handle.clone(), self.stream);
        // Without a runtime the master is ending too.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { handle.send(Input::StreamEnd(stream)).await });
        }
    }
}

impl Subscriber {
    /// The next record, or the end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(first) = self.first.pop_front() {
            return Some((Ok(first), self));
        }
        let value = tokio::select! {
            () = self.shutdown.cancelled() => return None,
            event = self.events.recv() => {
                let event = event?;
                if matches!(event, FrameworkEvent::Subscribed(_)) {
                    self.first.push_back(record(&encode::heartbeat()));
                }
                encode::framework_event(&event, &self.master)?
            }
            _ = self.heartbeat.tick() => encode::heartbeat(),
        };
        Some((Ok(record(&value)), self))
    }
}

type Joining = (Option<FrameworkId>, FrameworkSpec, Vec<String>);

async fn subscribe(app: &App, (id, spec, suppressed): Joining) -> Answer {
    let (sender, events) = mpsc::channel(STREAM_QUEUE);
    let (answer, reply) = oneshot::channel();
    let input = Input::Subscribe {
        framework: id,
        spec: Box::new(spec),
        suppressed,
        sender,
        answer,
    };
    app.handle.send(input).await.map_err(gone)?;
    let stream = match reply.await.unwrap_or(Err(Gone::Ended)).map_err(gone)? {
        Ok(subscription) => subscription.stream,
        Err(why) => return Ok(refused(why)),
    };
    let period = Duration::from_secs_f64(encode::HEARTBEAT_SECONDS);
    let subscriber = Subscriber {
        first: VecDeque::new(),
        events,
        master: encode::master_info(&app.address, app.port),
        heartbeat: tokio::time::interval_at(tokio::time::Instant::now() + period, period),
        shutdown: app.shutdown.clone(),
        _end: End {
            handle: app.handle.clone(),
            stream,
        },
    };
    let body = Body::from_stream(stream::unfold(subscriber, Subscriber::next));
    let mut response = ([(header::CONTENT_TYPE, Encoding::Json.content_type())], body).into_response();
    if let Ok(id) = HeaderValue::from_str(&stream.to_string()) {
        response.headers_mut().insert(STREAM_ID, id);
    }
    Ok(response)
}

/// A stream of nothing but the reason why there is none.
fn refused(why: String) -> Response {
    let event = encode::framework_event(&FrameworkEvent::Error(why), &json!({})).unwrap_or_default();
    let body = record(&event);
    ([(header::CONTENT_TYPE, Encoding::Json.content_type())], body).into_response()
}
