//! A recorded stream served as a master would: each subscriber hears it from the start, at its own pace or faster.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

use super::Tape;
use crate::mesos::decode::Encoding;
use crate::mesos::protobuf;
use crate::recordio;

/// Between heartbeats once the file is at its end: short enough for every interval that a master may have told.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    tape: Tape,
    speed: Speed,
}

/// How fast the file's clock runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Speed {
    /// So many times as fast as it was.
    Times(f64),
    /// Without waiting.
    AtOnce,
}

impl Speed {
    fn when(self, began: Instant, at: Duration) -> Instant {
        match self {
            Self::AtOnce => began,
            Self::Times(factor) => {
                let scaled = Duration::try_from_secs_f64(at.as_secs_f64() / factor).unwrap_or(Duration::MAX);
                began.checked_add(scaled).unwrap_or(began)
            }
        }
    }
}

/// Serves until the listener fails.
pub(super) async fn serve(listener: TcpListener, tape: Tape, speed: Speed) -> std::io::Result<()> {
    let shared = Arc::new(Shared { tape, speed });
    let router = Router::new()
        .route("/api/v1", post(call))
        .route("/master/api/v1", post(call))
        .with_state(shared);
    axum::serve(listener, router).await
}

async fn call(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let told = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let call: Option<Value> = match told.and_then(Encoding::of) {
        Some(Encoding::Json) => serde_json::from_slice(&body).ok(),
        Some(Encoding::Protobuf) => protobuf::to_json(&protobuf::CALL, &body, &mut Vec::new()).ok(),
        None => None,
    };
    if call.is_none_or(|call| call["type"] != "SUBSCRIBE") {
        return (StatusCode::NOT_IMPLEMENTED, "a recorded stream only knows SUBSCRIBE").into_response();
    }
    let encoding = shared.tape.header.encoding;
    let began = Instant::now();
    let records = stream::unfold((shared, 0usize), move |(shared, index)| async move {
        let bytes = match shared.tape.said.get(index) {
            Some(said) => {
                sleep_until(shared.speed.when(began, said.at)).await;
                recordio::encode(&said.record)
            }
            None => {
                tokio::time::sleep(HEARTBEAT).await;
                heartbeat(encoding)
            }
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (shared, index + 1)))
    });
    let kind = HeaderValue::from_static(encoding.content_type());
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(records)).into_response()
}

fn heartbeat(encoding: Encoding) -> Bytes {
    let value = json!({"type": "HEARTBEAT"});
    match encoding {
        Encoding::Json => recordio::encode(value.to_string().as_bytes()),
        Encoding::Protobuf => recordio::encode(&protobuf::from_json(&protobuf::EVENT, &value)),
    }
}
