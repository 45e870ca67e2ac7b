//! DNS over HTTPS (RFC 8484), by HTTP/2 or HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use data_encoding::BASE64URL_NOPAD;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::handler::Shared;
use crate::respond::{Transport, respond};
use crate::stream::IDLE;
use crate::wire::MAX_MESSAGE;

/// The path of RFC 8484's examples, which clients try first.
const PATH: &str = "/dns-query";
const MESSAGE: &str = "application/dns-message";
/// Questions of one connection that may wait for their answers at once, as by TCP.
const MAX_STREAMS: u32 = 32;

/// Answers what comes by one connection until its client ends it or asks nothing for a while.
pub(crate) async fn serve<S>(shared: &Arc<Shared>, stream: S, from: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Instant::now();
    let asked = Arc::new(AtomicU64::new(0));
    let service = service_fn(|request| {
        asked.store(began.elapsed().as_secs(), Ordering::Relaxed);
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(answer(&shared, request, from).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, client = %from, "a DNS-over-HTTPS connection broke");
                }
                return;
            }
            () = sleep(IDLE) => {
                let idle = began.elapsed().as_secs().saturating_sub(asked.load(Ordering::Relaxed));
                if idle >= IDLE.as_secs() {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(IDLE, connection.as_mut()).await;
                    return;
                }
            }
        }
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
    let message = match question(request).await {
        Ok(message) => message,
        Err(status) => return plain(status),
    };
    let Some(answer) = respond(shared, message, from, Transport::Stream).await else {
        return plain(StatusCode::BAD_REQUEST);
    };
    let age = least_ttl(&answer).map(|ttl| HeaderValue::from_str(&format!("max-age={ttl}")));
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE));
    headers.insert(
        CACHE_CONTROL,
        age.and_then(Result::ok).unwrap_or(HeaderValue::from_static("no-store")),
    );
    response
}

/// The message in a request, or why there is none.
async fn question(request: Request<Incoming>) -> Result<Vec<u8>, StatusCode> {
    if request.uri().path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    if request.method() == Method::GET {
        let query = request.uri().query().unwrap_or_default();
        let text = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
        let message = text.and_then(|text| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).ok());
        return message.ok_or(StatusCode::BAD_REQUEST);
    }
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.headers().get(CONTENT_TYPE).is_none_or(|kind| kind != MESSAGE) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let body = Limited::new(request.into_body(), MAX_MESSAGE).collect();
    match timeout(IDLE, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// How long the whole answer holds: as long as its shortest-lived record, or as its SOA says for one without records.
fn least_ttl(answer: &[u8]) -> Option<u32> {
    let message = Message::from_vec(answer).ok()?;
    let negative = message.authorities.iter().map(|record| match &record.data {
        RData::SOA(soa) => record.ttl.min(soa.minimum),
        _ => record.ttl,
    });
    message.answers.iter().map(|record| record.ttl).chain(negative).min()
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
